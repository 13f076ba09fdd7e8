"""The order of requests beside its specification: each step is done by both, and both say the same."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pycolo.core import PrimaryOrder, SecondaryOrder
from pycolo.model import order as model
from support.segments import Flow, Tcp, batch, frame, unbatch, vnet_header

LIMIT_US = 20_000
FLOWS = [
    Flow(guest_port=port, client_port=client, version=version, tags=tags)
    for port, client, version, tags in (
        (6379, 5000, 4, ()),
        (6379, 5001, 4, ()),
        (6379, 5002, 6, ()),
        (6379, 5003, 4, (7,)),
        (5432, 5000, 4, ()),
        (5432, 5001, 6, (3, 9)),
        (80, 5000, 4, ()),
    )
]
ORDERED = (6379, 5432)


@dataclass(frozen=True)
class Step:
    """`what`: client, resend, ack, fin, syn, rst; answer, note (a bare ACK), end, abort; pass, sleep, freeze, stop,
    thaw, flush, give; open, early, late, narrow. `who`: a flow; `amount`: of bytes, frames, or milliseconds.
    """

    what: str
    who: int = 0
    amount: int = 1


class _Talk:
    """Frames of one connection, both ways."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.seq, self.last, self.answered = flow, 1000, (1000, b""), 1

    def client(self, what: str, amount: int) -> Tcp:
        if what == "syn":
            self.seq = (self.seq + 100_000) % (1 << 32)
        if what == "resend":
            seq, data = self.last
        else:
            # Of three kinds: numbers do not count.
            seq, data = self.seq, b"ABC"[amount % 3 :][:1].ljust(amount, b"7") if what == "client" else b""
        if what == "client":
            self.last, self.seq = (seq, data), seq + amount
        flags = {"syn": "S", "fin": "FA", "rst": "R"}.get(what, "A")
        return Tcp(seq, flags, data, ack=self.answered, flow=self.flow, from_client=True)

    def guest(self, what: str) -> Tcp:
        self.answered += 1
        flags = {"end": "FA", "abort": "R"}.get(what, "A")
        return Tcp(self.answered, flags, b"yes" if what == "answer" else b"", ack=self.seq, flow=self.flow)


class Both:
    """The two sides of one node's order, or of the other's: `is_primary`."""

    def __init__(self, *, has_vnet: bool = False, is_primary: bool = True) -> None:
        self.vnet = vnet_header() if has_vnet else b""
        self.now = 10_000_000
        self.talks = [_Talk(flow) for flow in FLOWS]
        self.core: Any = (PrimaryOrder if is_primary else SecondaryOrder)(1, has_vnet)
        self.model: Any = model.Primary() if is_primary else model.Secondary()
        self.came: list[bytes] = []
        self.gone: list[bytes] = []
        self.mirrored: list[bytes] = []
        if is_primary:
            self.core.begin()
            self.model.is_following = True

    def framed(self, frames: Iterable[bytes]) -> bytearray:
        return batch(list(frames), len(self.vnet) or None)

    def frames(self, octets: bytes) -> list[bytes]:
        return unbatch(octets, has_vnet=bool(self.vnet), keeps_vnet=True)

    def fact(self, segment: Tcp) -> model.Frame:
        flow = segment.flow
        return model.Frame(
            frame(segment, self.vnet),
            (flow.guest_port, flow.client_port, flow.version, flow.tags),
            flow.guest_port,
            len(segment.data),
            segment.seq,
            is_syn="S" in segment.flags,
            is_fin="F" in segment.flags,
            is_rst="R" in segment.flags,
            kind=model.kind_of(segment.data),
        )

    def admitted(self) -> list[bytes]:
        found = self.core.admitted
        return self.frames(bytes(found.view[found.start : found.end]))

    def agree(self) -> None:
        assert self.admitted() == [one.octets for one in self.model.admitted]
        assert self.core.deadline_us() == self.model.due_us

    def set_gate(self, port: int, width: int, *, is_early: bool = False) -> None:
        if isinstance(self.core, PrimaryOrder):
            assert self.core.set_gate(port, width, is_early, LIMIT_US, self.now)
            self.model.set_gate(port, width, is_early, LIMIT_US, self.now)
        else:
            self.core.set_gate(port, width, LIMIT_US, self.now)
            self.model.set_gate(port, width, LIMIT_US, self.now)

    def wait(self, passed_us: int) -> None:
        self.now += passed_us
        self.core.timer(self.now)
        self.model.timer(self.now)

    def settle(self) -> None:
        """Nothing more comes: all limits pass, and what is admitted is given."""
        for _ in range(100):
            self.give(1000)
            if (due := self.core.deadline_us()) is None:
                return
            self.wait(max(0, due - self.now))
        raise AssertionError("it goes on for ever")

    def give(self, count: int) -> None:
        """The guest takes so many of the admitted frames."""
        chosen, self.model.admitted = self.model.admitted[:count], self.model.admitted[count:]
        octets = self.framed(one.octets for one in chosen)
        found = self.core.admitted
        assert bytes(found.view[found.start : found.start + len(octets)]) == bytes(octets)
        self.gone += [one.octets for one in chosen]
        if isinstance(self.core, PrimaryOrder):
            now = self.core.given_frames(octets, 0, len(octets))
            assert self.frames(now) == [one.octets for one in chosen if self.model.given(one)]
            self.mirrored += self.frames(now)
        found.start += len(octets)


class BothPrimary(Both):
    """The primary's."""

    def take_ready(self) -> None:
        """What is ready is mirrored before anything else."""
        ready = [one.octets for one in self.model.ready]
        self.model.ready.clear()
        assert sum(len(one) for one in [self.framed(ready)]) == self.core.mirror.ready_bytes()
        found = self.frames(self.core.mirror.take_ready())
        assert found == ready
        self.mirrored += found

    def do(self, step: Step) -> None:
        talk = self.talks[step.who % len(FLOWS)]
        if step.what in ("client", "resend", "ack", "fin", "syn", "rst"):
            fact = self.fact(talk.client(step.what, step.amount))
            octets = self.framed([fact.octets])
            assert self.core.client_frames(octets, 0, len(octets), self.now) == len(octets)
            self.model.client(fact, self.now)
            self.came.append(fact.octets)
        elif step.what in ("answer", "note", "end", "abort"):
            fact = self.fact(talk.guest(step.what))
            octets = self.framed([fact.octets])
            end = self.core.guest_frames(octets, 0, len(octets), self.now)
            assert end == (len(octets) if self.model.guest(fact, self.now) else 0)
        elif step.what == "pass":
            self.wait(step.amount * 1000)
        elif step.what == "sleep":
            self.core.asleep(self.now)
            self.model.asleep(self.now)
        elif step.what in ("freeze", "stop"):
            self.core.freeze(self.now, step.what == "stop")
            self.model.freeze(self.now, is_stopping=step.what == "stop")
        elif step.what == "thaw":
            self.core.thaw(self.now)
            self.model.thaw(self.now)
        elif step.what == "flush":
            self.take_ready()
            found = [one for piece in self.core.mirror.flush() for one in self.frames(piece)]
            assert found == [one.octets for one in self.model.flush()]
            self.mirrored += found
        elif step.what == "give":
            self.take_ready()
            self.give(step.amount)
        else:
            width = {"open": 0, "narrow": 1}.get(step.what, 3)
            self.set_gate(ORDERED[step.who % 2], width, is_early=step.what == "early")
        self.take_ready()
        self.agree()


class BothSecondary(Both):
    """The secondary's."""

    def __init__(self, *, has_vnet: bool = False) -> None:
        super().__init__(has_vnet=has_vnet, is_primary=False)

    def do(self, step: Step) -> None:
        talk = self.talks[step.who % len(FLOWS)]
        if step.what in ("client", "resend", "ack", "fin", "syn", "rst"):
            fact = self.fact(talk.client(step.what, step.amount))
            octets = self.framed([fact.octets])
            assert self.core.mirrored_frames(octets, 0, len(octets), self.now) == len(octets)
            self.model.mirrored(fact, self.now)
            self.came.append(fact.octets)
        elif step.what in ("answer", "note", "end", "abort"):
            fact = self.fact(talk.guest(step.what))
            octets = self.framed([fact.octets])
            self.core.guest_frames(octets, 0, len(octets), self.now)
            self.model.guest(fact, self.now)
        elif step.what == "pass":
            self.wait(step.amount * 1000)
        elif step.what == "flush":
            found = self.frames(self.core.flush())
            assert found == [one.octets for one in self.model.flush()]
            self.gone += found
        elif step.what == "give":
            self.give(step.amount)
        elif step.what in ("open", "narrow", "early"):
            self.set_gate(ORDERED[step.who % 2], {"open": 0, "narrow": 1}.get(step.what, 3))
        self.agree()
