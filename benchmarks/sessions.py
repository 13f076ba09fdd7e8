"""One peer under one load: the connections opened, then rounds that are measured and checked."""

import dataclasses
import statistics
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import machine
from conversations import APART, begun_alike, begun_apart, of_clients, of_guest, of_replica
from engine import Outlet, Source, drive, latencies
from loads import Cycle, Traffic, cycle
from machine import Cores
from peers import Peer, Shape, running

WARM_S: Final = 1.0
"""Until memory has been touched; in the first tenths of a second the kernel zeroes pages."""

TRIES: Final = 4
"""How often a round is repeated when others had more than `machine.OTHERS_MAX` of a processor."""


@dataclass(frozen=True)
class Load:
    """One row of the table."""

    key: str
    title: str
    traffic: Traffic
    flows: int
    shape: Shape = field(default_factory=Shape)
    peers: tuple[str, ...] = ("qemu", "relay", "colo", "sink")


@dataclass
class Found:
    """One peer in one row. Frames of the primary (rewriter: of both ways) per second; seconds per million of them.

    `reordered`: frames that came out of their connection's order; QEMU does that, and any other may not.
    `bytes_per_connection`: resident memory that came with the handshakes, what is held in passing included;
    `opening_pause_ms`: the longest time meanwhile in which nothing came out.
    """

    peer: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    tried: int = 0
    wrong: str = ""
    reordered: int = 0
    bytes_per_connection: float = 0.0
    opening_pause_ms: float = 0.0

    @property
    def rate(self) -> float:
        return statistics.median(self.rates) if self.rates else 0.0

    @property
    def cpu_per_million(self) -> float:
        return statistics.median(self.cpu) if self.cpu else 0.0

    @property
    def is_contended(self) -> bool:
        """Whether a round was kept although others had their share."""
        return any(share > machine.OTHERS_MAX for share in self.others)


class Session:
    """A running peer with its load."""

    def __init__(self, peer: Peer, cores: Cores | None) -> None:
        self.peer = peer
        self._cores = cores
        self.sources: list[Source] = []
        self.outlets: list[Outlet] = []
        self.reordered = 0
        self.bytes_opened = 0
        self.pause_ms = 0.0

    @property
    def frames(self) -> int:
        """In one cycle: of the outlets' frames; the sink has none, and counts those of its first source."""
        if self.outlets:
            return sum(source.cycle.frames for source in self.sources[: len(self.outlets)])
        return self.sources[0].cycle.frames * (2 if self.peer.shape.kind == "rewriter" else 1)

    def opened(self, name: str, octets: bytes, sink: str | None) -> None:
        """Send frames that belong to no cycle, until they arrive."""
        loose = Cycle(0, bytearray(octets), array("Q"), array("I"), 0, 0, 0, 0)
        outlets = [Outlet(self.peer.ends[sink], loose)] if sink in self.peer.ends and sink else []
        sources = [Source(self.peer.ends[one], loose) for one in name.split("+")]
        before = self.peer.memory_bytes()
        drive(sources, outlets, 0)
        self.bytes_opened += self.peer.memory_bytes() - before
        for outlet in outlets:
            self.pause_ms = max(self.pause_ms, outlet.fields.pause_ns / 1e6)
            if outlet.fields.octets != len(octets):
                raise SystemExit(f"error: {self.peer.name}: of a handshake {outlet.fields.octets} bytes come out")

    def round(self, seconds: float) -> tuple[float, float, float, str]:
        """Frames per second, the peer's seconds per million, the share of others, and what was wrong."""
        before = machine.moment(self._cores, self.peer.cpu_s())
        took, cycles = drive(self.sources, self.outlets, seconds)
        after = machine.moment(self._cores, self.peer.cpu_s())
        frames = cycles * self.frames
        wrong = ""
        for outlet in (one.fields for one in self.outlets):
            missing = max(0, cycles * outlet.whole_per_cycle - outlet.whole)
            missing += max(0, cycles * outlet.bare_per_cycle - outlet.bare)
            if missing:
                wrong = f"{missing} of {frames} frames are missing"
            elif outlet.wrong or outlet.sum:
                wrong = f"{outlet.wrong or 'some'} of {outlet.frames} frames are not those that were sent"
            elif outlet.reordered and self.peer.name != "qemu":
                wrong = f"{outlet.reordered} of {outlet.frames} frames are not in their connection's order"
            self.reordered += outlet.reordered
        cpu = (after.peer - before.peer) / frames * 1e6
        return frames / took, cpu, machine.of_others(self._cores, before, after), wrong


Cycles = dict[str, Cycle]


def made(load: Load) -> Cycles:
    """The cycles of a row; each session copies them."""
    if load.shape.kind == "rewriter":
        return {"gin": of_guest(load.traffic, load.flows), "cin": of_clients(load.traffic, load.flows)}
    primary = of_replica(load.traffic, "primary", load.flows)
    cut = load.traffic.secondary is not None
    secondary = of_replica(load.traffic, "secondary", load.flows) if cut else primary
    return {"pri": primary, "sec": secondary}


@contextmanager
def session(
    name: str, load: Load, cycles: Cycles, cores: Cores | None, options: list[str], under: Sequence[str] = ()
) -> Iterator[Session]:
    """A peer with all connections of `load` open. `under`: a command that runs it."""
    with running(name, load.shape, cores.peer if cores else None, options, under) as peer:
        found = Session(peer, cores)
        copies = {key: dataclasses.replace(one, octets=bytearray(one.octets)) for key, one in cycles.items()}
        found.sources = [Source(peer.ends[key], one) for key, one in copies.items()]
        if load.shape.kind == "rewriter":
            for opening, is_client in begun_apart(load.traffic, load.flows):
                found.opened("cin" if is_client else "gin", opening, "gout" if is_client else "cout")
            outs = [("cout", "gin", (-APART, 0), False), ("gout", "cin", (0, APART), True)]
        else:
            if opening := begun_alike(load.traffic, load.flows):
                found.opened("pri+sec", opening, "out")
            outs = [("out", "pri", None, False)]
        if name != "sink":
            for sink, source, shifted, from_client in outs:
                passed = shifted if name not in ("relay", "relay-spin") or shifted is None else (0, 0)
                found.outlets.append(Outlet(peer.ends[sink], copies[source], load.traffic, passed, from_client))
        yield found


def compared(
    load: Load, cores: Cores | None, rounds: int, seconds: float, tries: int, options: list[str]
) -> list[Found]:
    """All peers under one load, in turns; each is warmed up before."""
    cycles = made(load)
    results = [Found(name) for name in load.peers]
    with ExitStack() as stack:
        sessions = [stack.enter_context(session(name, load, cycles, cores, options)) for name in load.peers]
        for one, result in zip(sessions, results, strict=True):
            result.bytes_per_connection, result.opening_pause_ms = one.bytes_opened / load.flows, one.pause_ms
            result.wrong = one.round(WARM_S)[3]
        for _ in range(rounds):
            for one, result in zip(sessions, results, strict=True):
                if not result.wrong:
                    _measure(one, result, seconds, tries)
                    result.reordered = one.reordered
    return results


def _measure(one: Session, result: Found, seconds: float, tries: int) -> None:
    """A round, repeated when others had their share; the quietest one is kept if none was quiet."""
    kept = None
    for _ in range(tries):
        rate, cpu, others, wrong = one.round(seconds)
        result.tried += 1
        if wrong:
            result.wrong = wrong
            return
        if kept is None or others < kept[2]:
            kept = (rate, cpu, others)
        if others <= machine.OTHERS_MAX:
            break
    assert kept
    for values, value in zip((result.rates, result.cpu, result.others), kept, strict=True):
        values.append(value)


@dataclass
class Waited:
    """Microseconds for one pair. `state`: awake, or asleep before it. `rounds`: the p50 of each."""

    peer: str
    state: str
    rounds: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.rounds)


SILENCE_US: Final = {"awake": 0, "asleep": 500}
WAITING: Final = {"awake": ("qemu", "relay-spin", "colo-spin"), "asleep": ("qemu", "relay", "colo")}
"""A relay and `colo proxy --spin` that look again before they sleep, as QEMU's iothread does, and those that do not."""


def waited(
    traffic: Traffic, cores: Cores | None, rounds: int, count: int, options: list[str], is_there: Callable[[str], bool]
) -> list[Waited]:
    """Latency of one pair in flight: back to back, and after a silence in which every peer falls asleep."""
    results = []
    for state, names in WAITING.items():
        load = Load("latency", "latency", traffic, 1, Shape())
        with ExitStack() as stack:
            found = []
            for name in filter(is_there, names):
                one = stack.enter_context(session(name, load, made(load), cores, options))
                single = Source(one.peer.ends["pri"], cycle(traffic, "primary", 1))
                single.fields.renewed = 0
                found.append((one, single, Waited(name, state)))
            for _ in range(rounds):
                for one, single, result in found:
                    ends = [one.peer.ends[key] for key in ("pri", "sec", "out")]
                    took = sorted(latencies(ends, single, count, SILENCE_US[state]))
                    if len(took) < count:
                        raise SystemExit(f"error: {one.peer.name}: a pair does not come out")
                    result.rounds.append(took[count // 2])
                    result.p99.append(took[count * 99 // 100])
                    print(".", end="", file=sys.stderr, flush=True)
            results += [result for _, _, result in found]
    return results
