"""From where a disk can be resynchronised, as QEMU's dirty bitmaps say."""

from typing import Any

import pytest

from pycolo.qmp.diskbitmaps import BITS_MAX, WORK, Base, bases, bitmap_name, found_bitmaps, granularity_bytes


def bitmap(name: str, count: int, **changed: Any) -> dict[str, Any]:
    return {"name": name, "count": count, "recording": True, "busy": False, "persistent": False, **changed}


def node(name: str, *bitmaps: dict[str, Any]) -> dict[str, Any]:
    return {"node-name": name, "dirty-bitmaps": list(bitmaps)}


def both(token: str, first: int, second: int) -> list[dict[str, Any]]:
    return [bitmap(bitmap_name(token, 0), first), bitmap(bitmap_name(token, 1), second)]


def test_the_one_that_was_emptied_earlier_holds_more() -> None:
    found = found_bitmaps([node("a", *both("t", 5, 9)), node("b", *both("t", 7, 2))])
    assert bases(found, ["a", "b"]) == {"t": [Base("a", "colo-t-1", 9), Base("b", "colo-t-0", 7)]}


def test_every_disk_needs_both() -> None:
    found = found_bitmaps([node("a", *both("t", 5, 9)), node("b", bitmap("colo-t-0", 7)), {"node-name": "c"}])
    assert bases(found, ["a", "b"]) == {}
    assert bases(found, ["a", "c"]) == {}
    assert bases(found, ["c", "a"]) == {}
    assert bases(found, ["a", "gone"]) == {}
    assert list(bases(found, ["a"])) == ["t"]
    assert bases(found, []) == {}


def test_the_session_with_the_least_to_copy_comes_first() -> None:
    found = found_bitmaps([node("a", *both("old", 90, 80), *both("new", 5, 9), bitmap(WORK, 1))])
    assert list(bases(found, ["a"])) == ["new", "old"]


@pytest.mark.parametrize("fault", [{"recording": False}, {"inconsistent": True}, {"busy": True}, {"name": "a user's"}])
def test_a_bitmap_that_cannot_be_relied_on_counts_for_nothing(fault: dict[str, Any]) -> None:
    first, second = both("t", 5, 9)
    found = found_bitmaps([node("a", first, {**second, **fault})])
    assert found == {"a": {"colo-t-0": 5}}
    assert bases(found, ["a"]) == {}


def test_a_large_disk_has_coarser_bits() -> None:
    assert [granularity_bytes(size << 30) >> 10 for size in (0, 1, 256, 257, 1024)] == [64, 64, 64, 128, 256]
    assert all((size << 30) / granularity_bytes(size << 30) <= BITS_MAX for size in (300, 5000, 1 << 16))
