"""Sums over the last minute, hour and since the start, and their words; laws for whatever is told in whatever order."""

from ipaddress import IPv4Address

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.wait import Wait
from pycolo.conntrack.key import ConnectionKey
from pycolo.costs.ledger import BY, OVER, SHAPES_A_SECOND, Kept, Ledger
from pycolo.costs.reasons import reason_of
from pycolo.costs.services import NONE
from pycolo.costs.shapes import ShapeKind
from pycolo.costs.sums import OTHER_SHAPES, ROWS_MAX, SHAPES_MAX, Sums, Table
from pycolo.costs.words import REASONS, SHAPES, shape_words

BEGAN_S = 1_700_000_000


def key(port=80, client=40_000):
    return ConnectionKey(6, IPv4Address("10.0.0.2"), IPv4Address("10.0.0.9"), port, client)


def difference(connection=None, ours=b"aaaa", theirs=b"bbbb", kind=DifferenceKind.PAYLOAD):
    at = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
    return Difference(kind, connection or key(), 1, 0, ours, at, theirs, at)


def record(epoch=1, kind=ReasonKind.DIVERGENCE, connection=None, pause_us=20_000, outcome=Outcome.COMMITTED):
    name = str(connection) if connection else None
    return CheckpointRecord(epoch, (Reason(kind, "text", name),), 0, 0, 0, 0, outcome, pause_us=pause_us)


def wait(port=80, count=1, waited_us=50_000, octets=100):
    return Wait(key(port), count, waited_us, waited_us // count, octets)


def one_checkpoint(ledger, now_s, epoch=1, port=80, **found):
    ledger.difference(difference(key(port), **found), now_s)
    ledger.waited(epoch, [wait(port)], now_s)
    ledger.checkpoint(record(epoch, connection=key(port)), now_s)


def test_a_checkpoint_counts_for_its_port_its_connection_and_its_reason():
    ledger = Ledger(BEGAN_S)
    one_checkpoint(ledger, BEGAN_S + 1)
    for by, name in zip(BY, ("tcp port 80", str(key()), "divergence"), strict=True):
        (row,) = ledger.answer(by, "minute", BEGAN_S + 2)["rows"]
        assert row["name"] == name
        assert (row["checkpoints"], row["paused_ms"], row["differences"]) == (1, 20, 1)
        assert (row["waits"], row["waited_ms"], row["longest_wait_ms"]) == (1, 50, 50)
        assert row["uncompared_bytes"] == 100
        assert "100 % of the checkpoints" in row["words"]


@pytest.mark.parametrize("over", OVER)
def test_a_ledger_that_has_just_begun_and_one_of_an_idle_pair_answer(over):
    ledger = Ledger(BEGAN_S)
    for now_s in (BEGAN_S - 5, BEGAN_S, BEGAN_S + 86_400):
        for by in BY:
            answer = ledger.answer(by, over, now_s)
            assert answer["rows"] == []
            assert answer["others"] is None
            assert answer["total"]["checkpoints"] == 0
            assert answer["seconds"] >= 0


def test_what_is_older_than_the_window_does_not_count():
    ledger = Ledger(BEGAN_S)
    one_checkpoint(ledger, BEGAN_S)

    def counts(now_s):
        return [ledger.answer("port", over, now_s)["total"]["checkpoints"] for over in OVER]

    assert counts(BEGAN_S + 50) == [1, 1, 1]
    assert counts(BEGAN_S + 70) == [0, 1, 1]
    assert counts(BEGAN_S + 3500) == [0, 1, 1]
    assert counts(BEGAN_S + 3901) == [0, 0, 1]


def test_a_clock_that_is_set_back_hides_only_its_future():
    ledger = Ledger(BEGAN_S)
    one_checkpoint(ledger, BEGAN_S + 10_000)
    one_checkpoint(ledger, BEGAN_S + 100)
    for over, count in zip(OVER, (1, 1, 2), strict=True):
        assert ledger.answer("port", over, BEGAN_S + 101)["total"]["checkpoints"] == count


@pytest.mark.parametrize("is_record_first", [True, False])
def test_waits_belong_to_the_reason_of_their_checkpoint_whichever_comes_first(is_record_first):
    ledger = Ledger(BEGAN_S)
    facts = [
        lambda: ledger.checkpoint(record(7, ReasonKind.TIMEOUT), BEGAN_S),
        lambda: ledger.waited(7, [wait(80)], BEGAN_S),
        lambda: ledger.waited(7, [wait(443)], BEGAN_S),  # another card's
    ]
    for fact in facts if is_record_first else reversed(facts):
        fact()
    (row,) = ledger.answer("reason", "minute", BEGAN_S)["rows"]
    assert (row["name"], row["checkpoints"], row["waits"]) == ("timeout", 1, 2)


def test_an_aborted_checkpoint_has_cost_no_traffic_anything():
    ledger = Ledger(BEGAN_S)
    ledger.checkpoint(record(outcome=Outcome.ABORTED), BEGAN_S)
    assert ledger.answer("port", "start", BEGAN_S)["total"]["checkpoints"] == 0


def test_what_many_connections_waited_counts_for_their_port_and_for_no_connection():
    ledger = Ledger(BEGAN_S)
    ledger.waited(1, [wait(80, count=5), Wait(None, 2, 1000, 600, 0)], BEGAN_S)
    by_port = ledger.answer("port", "start", BEGAN_S)
    assert [(row["name"], row["waits"]) for row in by_port["rows"]] == [("tcp port 80", 5)]
    assert by_port["others"]["waits"] == 2
    by_connection = ledger.answer("connection", "start", BEGAN_S)
    assert by_connection["rows"] == []
    assert by_connection["others"]["waits"] == 7


def test_the_row_without_a_connection_says_what_it_is():
    ledger = Ledger(BEGAN_S)
    ledger.checkpoint(record(1, ReasonKind.PERIODIC), BEGAN_S)
    (row,) = ledger.answer("port", "start", BEGAN_S)["rows"]
    assert row["name"] == NONE
    assert "periodic" in row["words"]


def test_the_words_say_what_differed_most():
    ledger = Ledger(BEGAN_S)
    for number in range(9):
        one_checkpoint(ledger, BEGAN_S, number, 5432, ours=b"alice 10\nbob 20\nend", theirs=b"bob 20\nalice 10\nend")
    one_checkpoint(ledger, BEGAN_S, 9, 5432, ours=b"OK", theirs=b"NO")
    one_checkpoint(ledger, BEGAN_S, 10, 443, ours=b"\x16\x03\x03\x00\x7a\2", theirs=b"\x16\x03\x03\x00\x7b\2")
    first, second = (row["words"] for row in ledger.answer("port", "hour", BEGAN_S)["rows"])
    assert first.startswith("tcp port 5432: 91 % of the checkpoints; 90 % of what differed: the same bytes in another")
    assert "10 % of what differed: other bytes" in first
    assert second.startswith("tcp port 443: 9 % of the checkpoints; TLS, encrypted")


def test_everything_has_words():
    assert set(SHAPES) == set(ShapeKind)
    assert set(REASONS) == set(ReasonKind)
    assert "x-request-id" in shape_words("header:x-request-id")
    assert shape_words("what a later version writes:1")
    assert {reason_of(kind) for kind in DifferenceKind} <= set(ReasonKind)
    for text in (*SHAPES.values(), *REASONS.values()):
        assert "[[" not in text, "names an option that is not there"


# ── laws ────────────────────────────────────────────────────────────────────────────────────────────────────

PORTS = st.integers(1, 3 * ROWS_MAX)
FACTS = st.one_of(
    st.builds(lambda port: lambda ledger, now_s: ledger.difference(difference(key(port)), now_s), PORTS),
    st.builds(
        lambda port, epoch: lambda ledger, now_s: ledger.checkpoint(record(epoch, connection=key(port)), now_s),
        PORTS,
        st.integers(0, 200),
    ),
    st.builds(
        lambda port, epoch: lambda ledger, now_s: ledger.waited(epoch, [wait(port)], now_s),
        PORTS,
        st.integers(0, 200),
    ),
)


@settings(max_examples=30)
@given(st.lists(st.tuples(FACTS, st.integers(-4000, 4000)), max_size=150))
def test_rows_are_bounded_and_add_up(facts):
    ledger = Ledger(BEGAN_S)
    for fact, at_s in facts:
        fact(ledger, BEGAN_S + at_s)
    for over in OVER:
        for by in BY:
            answer = ledger.answer(by, over, BEGAN_S)
            assert len(answer["rows"]) <= ROWS_MAX
            rows = [*answer["rows"], *([answer["others"]] if answer["others"] else [])]
            for name in ("checkpoints", "differences") + (("waits",) if by != "reason" else ()):
                assert sum(row[name] for row in rows) == answer["total"][name]
            assert [row["checkpoints"] for row in answer["rows"]] == sorted(
                (row["checkpoints"] for row in answer["rows"]), reverse=True
            )


@settings(max_examples=30)
@given(st.lists(st.tuples(FACTS, st.integers(0, 4000)), max_size=60))
def test_what_is_kept_is_what_is_known_again(facts):
    ledger = Ledger(BEGAN_S)
    for fact, at_s in facts:
        fact(ledger, BEGAN_S + at_s)
    now_s = BEGAN_S + 4000
    kept = msgspec.json.decode(msgspec.json.encode(ledger.kept(now_s)), type=Kept)
    again = Ledger(now_s, kept)
    for by in BY:
        for over in ("hour", "start"):
            assert again.answer(by, over, now_s) == ledger.answer(by, over, now_s)


def test_the_rows_that_cost_most_survive_any_number_of_others():
    table = Table()
    table.add("much", Sums(checkpoints=3))
    for number in range(10 * ROWS_MAX):
        table.add(str(number), Sums(checkpoints=1))
    assert table.rows["much"].checkpoints == 3
    assert len(table.rows) <= 2 * ROWS_MAX
    table.trim()
    assert len(table.rows) == ROWS_MAX


@settings(max_examples=30)
@given(st.lists(st.text(alphabet="abcdefghijklmnop", min_size=1, max_size=2), max_size=60))
def test_shapes_of_a_row_are_bounded_and_add_up(names):
    sums = Sums()
    for name in names:
        sums.add(Sums(shapes={f"header:{name}": 1}))
    assert sum(sums.shapes.values()) == len(names)
    assert len(sums.shapes) <= SHAPES_MAX + 1
    assert OTHER_SHAPES in sums.shapes or len(set(names)) <= SHAPES_MAX


def test_differences_that_come_in_thousands_are_counted_and_only_some_are_looked_at():
    ledger = Ledger(BEGAN_S)
    for number in range(3 * SHAPES_A_SECOND):
        ledger.difference(difference(), BEGAN_S + number % 2)
        ledger.difference(difference(), BEGAN_S)
    (row,) = ledger.answer("port", "minute", BEGAN_S + 2)["rows"]
    assert row["differences"] == 6 * SHAPES_A_SECOND
    assert SHAPES_A_SECOND <= sum(row["shapes"].values()) <= 6 * SHAPES_A_SECOND


def test_what_is_kept_on_disk_has_a_bounded_size():
    """Whatever a guest does: 13 parts of an hour and the whole, with all rows and all shapes."""
    ledger = Ledger(BEGAN_S)
    for at_s in range(0, 3600, 300):
        for port in range(1, 2 * ROWS_MAX):
            found = difference(key(port), b"\r\nX-%016d: a" % port, b"\r\nX-%016d: b" % port)
            ledger.difference(found, BEGAN_S + at_s)
    assert len(msgspec.json.encode(ledger.kept(BEGAN_S + 3600))) < 200_000
