"""Cases as data: what goes in, step by step, and what QEMU and colo do about it.

A step that both answer alike states it once (`releases=`, `asks=`). Where they differ on purpose the step says what
each does (`qemu=`, `colo=`), and the case names the difference, which has its row in docs/differences-from-qemu.md.
"""

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from conformance.frames import Connection, Frame
from conformance.peers import ANSWER_SECONDS, CHECKPOINT_DONE, Compare, Peer, Program, Rewriter

_Peer = TypeVar("_Peer", bound=Peer)

_numbers = itertools.count(1)


def new_connection(guest_port: int = 80) -> Connection:
    """A connection that no other case of this run has."""
    return Connection(next(_numbers), guest_port)


@dataclass(frozen=True)
class Did:
    """What came out of a step, and how many checkpoints were asked for."""

    releases: tuple[Frame, ...] = ()
    asks: int = 0


def did(*releases: Frame, asks: int = 0) -> Did:
    return Did(releases, asks)


NOTHING = Did()


@dataclass(frozen=True)
class Step:
    """Frames into one side ("pri", "sec"), or word that a checkpoint was made ("notify")."""

    side: str
    frames: tuple[Frame, ...]
    qemu: Did
    colo: Did

    def by(self, program: Program) -> Did:
        return self.qemu if program is Program.QEMU else self.colo


def primary(*frames: Frame, releases: tuple[Frame, ...] = (), asks: int = 0, **each: Did) -> Step:
    """The primary sends `frames`. What is expected: the same of both, or `qemu=` and `colo=`."""
    return _step("pri", frames, releases, asks, each)


def secondary(*frames: Frame, releases: tuple[Frame, ...] = (), asks: int = 0, **each: Did) -> Step:
    """The secondary sends `frames`; otherwise as `primary`."""
    return _step("sec", frames, releases, asks, each)


def checkpoint(*, releases: tuple[Frame, ...] = (), **each: Did) -> Step:
    """The peer on notify_dev says that a checkpoint was made."""
    return _step("notify", (), releases, 0, each)


def _step(side: str, frames: tuple[Frame, ...], releases: tuple[Frame, ...], asks: int, each: dict[str, Did]) -> Step:
    assert set(each) in ({"qemu", "colo"}, set()), "what both do, or what each does"
    assert not (each and (releases or asks)), "what both do, or what each does"
    both = Did(tuple(releases), asks)
    return Step(side, frames, each.get("qemu", both), each.get("colo", both))


@dataclass(frozen=True)
class Case:
    """`difference`: the name of the intended difference that the case shows; None: both do the same.

    `options`: properties of the object. `vnet_len`: with vnet headers of that length in front of the frames.
    """

    name: str
    steps: tuple[Step, ...]
    difference: str | None = None
    options: tuple[tuple[str, object], ...] = ()
    vnet_len: int | None = None

    def __post_init__(self) -> None:
        differs = any(step.qemu != step.colo for step in self.steps)
        assert differs == (self.difference is not None), f"{self.name}: a difference has a name, and only a difference"


def case(
    name: str, *steps: Step, difference: str | None = None, vnet_len: int | None = None, **options: object
) -> Case:
    return Case(name, steps, difference, tuple(sorted(options.items())), vnet_len)


def title(value: object) -> str | None:
    """For pytest's ids."""
    name = getattr(value, "name", None)
    return None if name is None else re.sub(r"[^\w.]+", "-", name)


class Pool:
    """Processes that serve one case after the other; one in which a case failed is not used again."""

    def __init__(self) -> None:
        self._peers: dict[object, Any] = {}

    @contextlib.contextmanager
    def compare(self, program: Program, vnet_len: int | None = None, **options: object) -> Iterator[Compare]:
        """A colo-compare whose queues are empty."""
        key = ("compare", program, vnet_len, *sorted(options.items()))
        with self._lent(lambda: Compare(program, vnet_len, **options), *key) as peer:
            yield peer
            peer.tell(CHECKPOINT_DONE)

    @contextlib.contextmanager
    def rewriter(self, program: Program, vnet_len: int | None = None) -> Iterator[Rewriter]:
        """A filter-rewriter."""
        with self._lent(lambda: Rewriter(program, vnet_len), "rewriter", program, vnet_len) as peer:
            yield peer

    @contextlib.contextmanager
    def _lent(self, make: Callable[[], _Peer], *key: object) -> Iterator[_Peer]:
        peer: _Peer = self._peers.pop(key, None) or make().__enter__()
        try:
            yield peer
        except BaseException:
            peer.__exit__()
            raise
        self._peers[key] = peer

    def close(self) -> None:
        for peer in self._peers.values():
            peer.__exit__()
        self._peers.clear()


def run(tested: Case, peer: Compare) -> None:
    """Each step does what the case says of this program."""
    connection = new_connection()
    for number, step in enumerate(tested.steps, 1):
        expected = step.by(peer.program)
        released, asks = perform(step, peer, connection, expected)
        where = f"{tested.name}, step {number} ({step.side} {step.frames})"
        assert named(released, tested, connection) == list(expected.releases), where
        assert asks == expected.asks, where


def perform(step: Step, peer: Compare, connection: Connection, expected: Did) -> tuple[list[bytes], int]:
    """What the step did. What is expected and has not come at once may come later: some things take their time."""
    if step.side == "notify":
        released, asks = peer.tell(CHECKPOINT_DONE)
    else:
        released, asks = peer.feed(step.side, *(frame.on(connection) for frame in step.frames))
    until = time.monotonic() + ANSWER_SECONDS
    while (len(released) < len(expected.releases) or asks < expected.asks) and time.monotonic() < until:
        time.sleep(0.005)
        more, asked = peer.settle()
        released += more
        asks += asked
    return released, asks


def named(released: list[bytes], tested: Case, connection: Connection) -> list[Frame | str]:
    """Bytes as the frames of the case that they are."""
    known: dict[bytes, Frame] = {}
    for step in tested.steps:
        for frame in (*step.frames, *step.qemu.releases, *step.colo.releases):
            known.setdefault(frame.on(connection), frame)
    return [known.get(octets, octets.hex()) for octets in released]
