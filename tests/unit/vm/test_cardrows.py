"""The rows of a node with several cards: all of them, or none."""

from pathlib import Path

from pycolo.core import Rewriter
from pycolo.vm.cardrows import CardRows


def rows(place: Path, cards: int = 2) -> CardRows:
    return CardRows(place, "vm1", lambda: 3, cards)


def test_each_card_has_its_file(tmp_path: Path) -> None:
    for one in rows(tmp_path):
        one.write(Rewriter(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows", "rows-1"]
    kept = rows(tmp_path).read()
    assert kept is not None
    assert len(kept) == 2


def test_a_card_without_rows_leaves_none(tmp_path: Path) -> None:
    next(iter(rows(tmp_path))).write(Rewriter(1))
    assert rows(tmp_path).read() is None
    assert rows(tmp_path, cards=1).read() is not None


def test_what_was_discarded_is_gone(tmp_path: Path) -> None:
    for one in rows(tmp_path):
        one.write(Rewriter(1))
    rows(tmp_path).discard()
    assert rows(tmp_path).read() is None
