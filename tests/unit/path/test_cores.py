"""The two cores as shells make them: with keys that no stranger knows, and all counters under one name each."""

from pycolo.path.cores import comparator_counters, new_comparator, new_rewriter, rewriter_counters

SMALL = {"connections_max": 64}


def test_no_two_tables_have_one_key(monkeypatch):
    keys = []
    for module_class in ("Comparator", "Rewriter"):
        monkeypatch.setattr(f"pycolo.path.cores.{module_class}", lambda key, **_: keys.append(key) or Unused())
    for _ in range(8):
        new_comparator()
        new_rewriter(keeps_copies=False)
    assert len(set(keys)) == 16
    assert max(keys).bit_length() > 100, "128 bits, nearly always"


class Unused:
    keeps_copies = True


def test_a_rewriter_keeps_copies_where_it_may_take_over():
    assert new_rewriter(keeps_copies=True, **SMALL).keeps_copies
    assert not new_rewriter(keeps_copies=False, **SMALL).keeps_copies


def test_new_cores_have_counted_nothing():
    for counters in (
        comparator_counters(new_comparator(**SMALL)),
        rewriter_counters(new_rewriter(keeps_copies=True, **SMALL)),
    ):
        assert {"evicted_idle", "evicted_closed", "evicted_half_open", "evicted_lru"} <= counters.keys()
        assert {name: count for name, count in counters.items() if count} == {}
    assert "refused_full" in comparator_counters(new_comparator(**SMALL))
