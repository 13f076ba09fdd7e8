"""What becomes of kept input, fact by fact; whole lives of it are in tests/simulation/test_borders.py."""

import pytest

from pycolo.border.inputs import SecondaryInput
from pycolo.errors import StateError


def held(*pieces: str) -> SecondaryInput[str]:
    """Held for the first state, with these pieces."""
    made: SecondaryInput[str] = SecondaryInput()
    made.requested()
    for piece in pieces:
        made.mirrored(piece)
    return made


def test_the_marker_divides_what_was_kept() -> None:
    found = held("a", "b")
    assert found.marked(1) == []
    found.mirrored("c")
    assert found.loaded(1) == ["a", "b"]
    assert (found.is_held, list(found.kept)) == (False, ["c"])


def test_the_marker_may_come_after_the_state() -> None:
    found = held("a")
    assert found.loaded(1) == []
    assert found.is_held
    assert found.is_loading
    found.mirrored("b")
    assert found.marked(1) == ["a", "b"]
    assert not found.is_held


def test_the_marker_of_another_epoch_divides_nothing() -> None:
    found = held("a")
    found.marked(1)
    assert found.loaded(2) == []
    assert found.is_held


def test_a_state_that_was_never_loaded_leaves_everything_to_the_survivor() -> None:
    found = held("a")
    found.marked(1)
    found.mirrored("b")
    assert found.taken_over() == []
    assert list(found.kept) == ["a", "b"]
    assert not found.is_held


def test_a_state_that_was_loaded_contains_what_was_kept() -> None:
    found = held("a")
    found.loaded(1)
    assert found.taken_over() == ["a"]
    assert list(found.kept) == []


def test_what_had_no_room_moves_the_marker() -> None:
    found = held("a", "b")
    found.marked(1)
    found.mirrored("c")
    assert found.drop_oldest() == "a"
    assert found.loaded(1) == ["b"]
    assert list(found.kept) == ["c"]


def test_the_next_checkpoint_waits_for_the_marker_of_the_last() -> None:
    found = held()
    found.loaded(1)
    with pytest.raises(StateError):
        found.requested()
    found.marked(1)
    found.requested()
    assert found.is_held


def test_a_state_cannot_be_loaded_by_a_guest_that_gets_input() -> None:
    found = held()
    found.loaded(1)
    found.marked(1)
    with pytest.raises(StateError):
        found.loaded(2)
