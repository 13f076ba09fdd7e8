"""A small explicit-state model checker: breadth first, each state once, shortest counterexamples.

It knows nothing of what it checks: a model is a first state, its steps, a key that equal states share, and laws.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Broken(NamedTuple):
    """A law that does not hold, and the steps that lead there."""

    law: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        lines = "\n".join(f"  {number:2}. {step}" for number, step in enumerate(self.steps, 1))
        return f"{self.law}, after\n{lines}"


class Searched(NamedTuple):
    """`is_whole`: every state that can be reached was seen; else all up to `depth` steps, or until `states_max`."""

    broken: Broken | None
    states: int
    depth: int
    is_whole: bool


class Checker(Generic[T]):
    """`law(state)` names the law that the state breaks, or is empty."""

    def __init__(
        self,
        steps: Callable[[T], Iterable[tuple[str, T]]],
        key: Callable[[T], Hashable],
        law: Callable[[T], str],
    ) -> None:
        self._steps = steps
        self._key = key
        self._law = law

    def search(self, first: Iterable[T], depth_max: int, states_max: int = 10_000_000) -> Searched:
        """Every state up to `depth_max` steps away from one of `first`."""
        frontier = list(first)
        seen: set[T] = set()
        came_from: dict[Hashable, tuple[Hashable, str]] = {}
        for state in frontier:
            came_from.setdefault(self._key(state), (None, ""))
        for depth in range(depth_max):
            following: list[T] = []
            for state in frontier:
                here = self._key(state)
                for name, after in self._steps(state):
                    if after in seen:
                        continue  # cheaper than its key
                    seen.add(after)
                    there = self._key(after)
                    if there in came_from:
                        continue
                    came_from[there] = (here, name)
                    law = self._law(after)
                    if law:
                        return Searched(Broken(law, _way(came_from, there)), len(came_from), depth + 1, False)
                    following.append(after)
                    if len(came_from) >= states_max:
                        return Searched(None, len(came_from), depth, False)
            if not following:
                return Searched(None, len(came_from), depth, True)
            frontier = following
        return Searched(None, len(came_from), depth_max, False)


def _way(came_from: dict[Hashable, tuple[Hashable, str]], key: Hashable) -> tuple[str, ...]:
    names = []
    while True:
        key, name = came_from[key]
        if not name:
            return tuple(reversed(names))
        names.append(name)
