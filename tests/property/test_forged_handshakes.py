"""Law (R1): what a stranger sends into a handshake changes nothing that the honest client can notice.

He knows the client's number, and so can complete a handshake; the guest's he does not know. The primary's node knows
what its own guest has sent: it withholds from the secondary what that guest turns down.
"""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from support.referee import Judged
from support.segments import Tcp, frame, read, timestamps
from support.traces import Rewriting

CLIENT_ISN, PRIMARY_ISN, SECONDARY_ISN = 700, 0xFFFFFFF0, 0x12345678
OFFSET = (SECONDARY_ISN - PRIMARY_ISN) % 2**32
EXAMPLES = settings(max_examples=60)
PATIENCE_MS = 2 * (limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS)


class Guest:
    """RFC 9293 section 3.10.7, from LISTEN: what a guest says to segments of one client. It answers data with data.

    `takes_payload`: on a SYN, too (RFC 7413); it answers that when the handshake is complete.
    """

    def __init__(self, isn: int, *, takes_payload: bool = False) -> None:
        self.isn = isn
        self.takes_payload = takes_payload
        self.early = b""
        self.due: int | None = None
        self.sent = 0  # behind the SYN
        self.is_established = False

    def take(self, segment: Tcp) -> list[Tcp]:
        if "S" in segment.flags:
            if self.due is None:
                self.early = segment.data if self.takes_payload else b""
                self.due = segment.seq + 1 + len(self.early)
            return [Tcp(self.isn, "SA", ack=self.due, options=timestamps(self.isn))] if not self.is_established else []
        if self.due is None or (not self.is_established and (segment.ack - self.isn) % 2**32 != 1):
            return [Tcp(segment.ack, "R", window=0)]  # LISTEN, SYN-RECEIVED: not acceptable
        known = (self.due - segment.seq) % 2**32
        if known > len(segment.data) or not 0 < (segment.ack - self.isn) % 2**32 <= self.sent + 1:
            return [self._says("A")]
        said = self.early + segment.data[known:]
        self.is_established, self.early, self.due = True, b"", segment.end
        return [self._says("PA", said[::-1])] if said else [self._says("A")] if known else []

    def _says(self, flags: str, data: bytes = b"") -> Tcp:
        said = Tcp(self.isn + 1 + self.sent, flags, data, self.due or 0, options=timestamps(self.isn))
        self.sent += len(data)
        return said


class Pair:
    """Both guests, the link between their nodes, and an honest client."""

    def __init__(self, *, withholds: bool = True, take_payload: tuple[bool, bool] = (False, False)) -> None:
        self.comparing = Judged()
        self.rewriting = Rewriting()
        self.primary = Guest(PRIMARY_ISN, takes_payload=take_payload[0])
        self.secondary = Guest(SECONDARY_ISN, takes_payload=take_payload[1])
        self.link: list[bytes] = []  # mirrored, not yet at the secondary
        self.ring: list[Tcp] = []  # given to the primary's guest, not answered yet
        self.withholds = withholds
        self.heard: list[Tcp] = []

    def client(self, *segments: Tcp) -> None:
        """Frames from the LAN come to the primary's node."""
        for segment in segments:
            if self.comparing.client(frame(segment)) or not self.withholds:
                self.link.append(frame(segment))
        self.ring += segments

    def primary_answers(self) -> None:
        for segment in self.ring:
            self.comparing.primary(*self.primary.take(segment))
        self.ring.clear()
        self.hear()

    def secondary_answers(self) -> None:
        link, self.link = self.link, []
        for octets in link:
            waiting = self.rewriting.client(octets)
            while waiting:
                answers = [each for given in waiting for each in self.secondary.take(read(given))]
                for answer in answers:
                    self.comparing.secondary(*self.rewriting.guest(answer))
                waiting = self.rewriting.to_guest()
        self.hear()

    def both_answer(self) -> None:
        self.primary_answers()
        self.secondary_answers()

    def hear(self) -> None:
        self.heard += self.comparing.out()

    def wait(self, ms: float) -> None:
        self.comparing.wait(ms)
        self.rewriting.now_ms = self.comparing.now_ms
        self.hear()


def honest(at: int, data: bytes = b"", ack: int = 0) -> Tcp:
    flags, options = "PA" if data else "A", timestamps(9, PRIMARY_ISN)
    return Tcp(CLIENT_ISN + 1 + at, flags, data, PRIMARY_ISN + 1 + ack, options=options, from_client=True)


SYN = Tcp(CLIENT_ISN, "S", options=timestamps(9), from_client=True)
ACKS = st.sampled_from([0, 1, 2, 100, -100, 1 << 20, 1 << 31]) | st.integers(1, 2**32 - 1)
LIE = st.builds(
    lambda at, ack, flags, data: Tcp(
        CLIENT_ISN + 1 + at,
        flags,
        data,
        PRIMARY_ISN + 1 + (ack % 2**32 or 5),
        options=timestamps(9, 1),
        from_client=True,
    ),
    at=st.sampled_from([0, 0, 0, 1, 5, 60_000, -1]),
    ack=ACKS,
    flags=st.sampled_from(["A", "A", "PA", "FA"]),
    data=st.sampled_from([b"", b"lie"]),
)
LIES = st.lists(LIE, max_size=3)
ORDER = st.lists(st.sampled_from(["primary_answers", "secondary_answers"]), max_size=3)


@pytest.mark.rule("R1")
@EXAMPLES
@given(lies=st.tuples(LIES, LIES, LIES, LIES), orders=st.tuples(ORDER, ORDER, ORDER, ORDER), seed=st.integers(0, 2**32))
def test_an_honest_client_notices_nothing(lies, orders, seed):
    pair = Pair()
    dice = random.Random(seed)

    def stranger(number: int) -> None:
        for lie, step in zip([*lies[number], None], [*orders[number], None, None, None], strict=False):
            if lie is not None:
                pair.client(lie)
            if step is not None and dice.random() < 0.7:
                getattr(pair, step)()

    pair.client(SYN)
    stranger(0)
    pair.both_answer()
    stranger(1)
    assert [(each.flags, each.seq) for each in pair.heard if "S" in each.flags] == [("SA", PRIMARY_ISN)]
    pair.client(honest(0))
    stranger(2)
    pair.both_answer()
    assert pair.rewriting.offsets() == (2, OFFSET, OFFSET)
    said, got = b"question", 0
    for at in range(0, 40, len(said)):
        pair.client(honest(at, said, ack=got))
        pair.both_answer()
        got += len(said)
    stranger(3)
    pair.both_answer()
    pair.wait(PATIENCE_MS)
    assert pair.comparing.commands() == [], "a lie was taken for a difference"
    assert b"".join(each.data for each in pair.heard) == said[::-1] * 5
    assert not [each for each in pair.heard if "R" in each.flags]
    assert pair.secondary.due == pair.primary.due == CLIENT_ISN + 1 + 40


@pytest.mark.rule("R1")
def test_mirrored_lies_break_the_law():
    """The negative control: the secondary's guest alone accepts what completes a handshake."""
    pair = Pair(withholds=False)
    pair.client(SYN)
    pair.both_answer()
    pair.client(dataclasses.replace(honest(0), ack=4711), honest(0))
    pair.both_answer()
    pair.client(honest(0, b"question"))
    pair.both_answer()
    pair.wait(PATIENCE_MS)
    assert pair.rewriting.offsets() != (2, OFFSET, OFFSET)
    assert pair.comparing.commands() != []


@pytest.mark.rule("R1")
@pytest.mark.parametrize("data", [b"", b"lie"])
def test_what_is_answered_before_the_guest_has_is_withheld(data):
    """The secondary may be the faster one: then its rewriter would already learn from it."""
    pair = Pair()
    pair.client(SYN)
    pair.secondary_answers()
    pair.client(dataclasses.replace(honest(0, data), ack=4711))
    assert pair.link == []
    pair.client(honest(0))
    assert pair.link == [], "no client has heard an answer yet"
    pair.primary_answers()
    pair.client(honest(0))
    assert pair.link == [frame(honest(0))]
    pair.both_answer()
    assert pair.rewriting.offsets() == (2, OFFSET, OFFSET)


@pytest.mark.rule("R1")
@pytest.mark.parametrize("order", ["both_answer", "secondary_answers"])
@pytest.mark.parametrize("takes", [(False, False), (True, True), (True, False), (False, True)], ids=str)
def test_an_old_fast_open_cookie(takes, order):
    """The client begins where the SYN|ACK says that it has to; no guest misses a byte, none is answered twice."""
    pair = Pair(take_payload=takes)
    pair.client(dataclasses.replace(SYN, data=b"question"))
    getattr(pair, order)()
    pair.both_answer()
    (syn_ack,) = pair.heard
    begins = syn_ack.ack - CLIENT_ISN - 1
    assert begins == (8 if all(takes) else 0)
    pair.client(honest(begins, b"question"[begins:]))
    pair.both_answer()
    assert pair.rewriting.offsets() == (2, OFFSET, OFFSET)
    pair.client(honest(8, b"more", ack=8))
    pair.both_answer()
    pair.wait(PATIENCE_MS)
    assert pair.comparing.commands() == []
    assert b"".join(each.data for each in pair.heard) == b"noitseuq" + b"erom"
    assert max(each.ack for each in pair.heard) == CLIENT_ISN + 13
