"""Whether a world in which nothing more goes wrong comes to serve: the law "never none for ever while one could"."""

from typing import Final

from pycolo.failover.pairstates import State
from support.pairkey import Key, key
from support.pairworld import CONFIRMABLE, Budget, Rules, World, could_serve, runs, serves, speak, steps

ROUNDS: Final = 24
"""A round has at least one tick: the head start, an order, a restart and a few links fit in."""

_ENDS: Final = ("has recorded", "has retired", "has switched", "has synchronised")
_ROUND: Final = (
    (("goes on", "mended"), 4),
    (("starts again",), 2),
    (("reaches",), 6),
    (("loses the link",), 2),
    (_ENDS, 3),
    (("reaches",), 4),
    ((" links",), 1),
    (("reaches",), 4),
    (("asks over",), 2),
    (("reaches",), 4),
    ((*_ENDS, "deadline"), 4),
    ((" fences", "etcd grants", "etcd refuses", " asks etcd", " claims", "is answered"), 6),
    (("turns",), 2),
    (("reaches",), 4),
    (("deadline", *_ENDS), 6),
    (("tick",), 1),
)
"""What happens in a round, in this order, each so often at most."""


class Life:
    """Remembers the worlds that were seen to come alive, so that most questions are answered at once.

    `restarts` False: what is down stays down, and an operator says so.
    """

    def __init__(self, rules: Rules, *, delivers: bool, restarts: bool) -> None:
        self._rules = rules
        self._delivers = delivers
        self._restarts = restarts
        self._alive: set[Key] = set()

    def law(self, world: World) -> str:
        """Empty when the law holds."""
        if not (could_serve(world, 0) or could_serve(world, 1)):
            return ""
        if not self._restarts and not any(could_serve(world, i) and runs(world.nodes[i]) for i in (0, 1)):
            return ""
        return "" if self._comes_alive(world) else "none serves for ever, though one could"

    def _comes_alive(self, world: World) -> bool:
        world = world._replace(budget=Budget(), looked=-1, messages=world.messages if self._delivers else ())
        passed: list[Key] = []
        for _ in range(ROUNDS):
            for names, times in _ROUND:
                for _ in range(times):
                    here = key(world)
                    if here in self._alive or serves(world, 0) or serves(world, 1):
                        self._alive.update(passed, (here,))
                        return True
                    after = self._next(world, names)
                    if after is None:
                        break
                    passed.append(here)
                    world = after
        return False

    def _next(self, world: World, names: tuple[str, ...]) -> World | None:
        if names == ("starts again",) and not self._restarts:
            return self._spoken(world)
        for name, after in steps(world, self._rules):
            if any(wanted in name for wanted in names) and "never" not in name:
                return after
        return None

    def _spoken(self, world: World) -> World | None:
        needs_word = CONFIRMABLE if self._rules.arbiter in ("manual", "lease") else (State.HANDING_OVER,)
        for i in (0, 1):
            pair = world.nodes[i].pair
            if pair is not None and pair.state in needs_word and not runs(world.nodes[1 - i]):
                return speak(world, self._rules, i)
        return None
