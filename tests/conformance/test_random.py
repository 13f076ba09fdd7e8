"""Random traffic within what QEMU gets right: QEMU's colo-compare and ours do the same.

Within it are, for a few connections at once:

* TCP, begun by equal SYN|ACKs: in each round both sides send the same chunk of a stream, in order, each cut as it
  likes, with the same ack, which grows from round to round; or both a pure ACK; at the end both a FIN.
* UDP, ICMP and other protocols: one packet of each side per round, with the same IP header.
* In some rounds one byte of the secondary's differs. Both ask for a checkpoint, and it is made before the next round.
* ARP, which passes.

A side sends all of a round before the other begins. Of packets without payload the secondary's comes first: QEMU lets
the primary's go for any packet of the secondary's, used up or not.

Outside of it, and in the tables of intended differences instead: sequence numbers that wrap, retransmissions, holes,
acks or windows that differ, two datagrams of a connection at once, what QEMU does not compare (flags, options, VLAN,
IPv6, fragments), and how often QEMU asks for one checkpoint.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.frames import Arp, Connection, Frame, Icmp, Ip, Tcp, Udp
from conformance.lockstep import Pool, new_connection
from conformance.peers import ANSWER_SECONDS, CHECKPOINT_DONE, Compare, Program

pytestmark = pytest.mark.qemu

EXAMPLES = 60
CONNECTIONS = 3
GRE, SCTP = 47, 132


class Kind(Enum):
    """What a connection is made of."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    GRE = "gre"
    SCTP = "sctp"
    ARP = "arp"


@dataclass(frozen=True)
class Round:
    """Both sides send `data` on connection `index`; `flipped`: which byte of the secondary's differs, if any.

    `primary_cuts`, `secondary_cuts`: where TCP cuts it; without data it sends a pure ACK.
    """

    index: int
    data: bytes
    primary_cuts: tuple[int, ...]
    secondary_cuts: tuple[int, ...]
    flipped: int | None
    secondary_first: bool


@dataclass
class Talk:
    """One connection as it stands; both sides' next numbers are the same."""

    kind: Kind
    connection: Connection
    seq: int
    ack: int = 5000

    def begin(self) -> list[Frame]:
        return [Tcp(self.seq - 1, flags="SA", ack=self.ack)] if self.kind is Kind.TCP else []

    def end(self) -> list[Frame]:
        return [Tcp(self.seq, flags="FA", ack=self.ack)] if self.kind is Kind.TCP else []

    def frames(self, data: bytes, cuts: tuple[int, ...]) -> list[Frame]:
        match self.kind:
            case Kind.TCP:
                edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
                return [
                    Tcp(self.seq + start, data[start:end], ack=self.ack) for start, end in itertools.pairwise(edges)
                ]
            case Kind.UDP:
                return [Udp(data)]
            case Kind.ICMP:
                return [Icmp(data)]
            case Kind.GRE:
                return [Ip(GRE, b"same" + data)]
            case Kind.SCTP:
                return [Ip(SCTP, b"same" + data)]
            case Kind.ARP:
                return [Arp()]

    def hears(self) -> None:
        """The client has sent something: what both sides send next acknowledges it."""
        self.ack += 7


CUTS = st.lists(st.integers(1, 63), max_size=4).map(tuple)
ROUNDS = st.builds(
    Round,
    index=st.integers(0, CONNECTIONS - 1),
    data=st.binary(max_size=64),
    primary_cuts=CUTS,
    secondary_cuts=CUTS,
    flipped=st.none() | st.none() | st.integers(0, 63),
    secondary_first=st.booleans(),
)
KINDS = st.sampled_from([Kind.TCP] * 3 + list(Kind))
SEQ = st.integers(1, 2**31)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@given(
    kinds=st.lists(KINDS, min_size=CONNECTIONS, max_size=CONNECTIONS),
    seqs=st.lists(SEQ, min_size=CONNECTIONS, max_size=CONNECTIONS),
    rounds=st.lists(ROUNDS, max_size=8),
)
@settings(max_examples=EXAMPLES)
def test_the_same_comes_out_of_both(pool: Pool, kinds: list[Kind], seqs: list[int], rounds: list[Round]):
    talks = [Talk(kind, new_connection(), seq) for kind, seq in zip(kinds, seqs, strict=True)]
    with pool.compare(Program.QEMU) as qemu, pool.compare(Program.COLO) as colo:
        both = Both(qemu, colo, [talk.connection for talk in talks])
        for talk in talks:
            both.send(talk.connection, talk.begin(), talk.begin(), secondary_first=False)
        for round_ in rounds:
            talk = talks[round_.index]
            talk.hears()
            other = different(round_.data, round_.flipped)
            both.send(
                talk.connection,
                talk.frames(round_.data, round_.primary_cuts),
                talk.frames(other, round_.secondary_cuts),
                secondary_first=round_.secondary_first or not round_.data,
            )
            talk.seq += len(round_.data)
        for talk in talks:
            talk.hears()
            both.send(talk.connection, talk.end(), talk.end(), secondary_first=True)


def different(data: bytes, flipped: int | None) -> bytes:
    if flipped is None or not data:
        return data
    at = flipped % len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class Both:
    """QEMU's and ours, fed alike: what QEMU does is what ours must do."""

    def __init__(self, qemu: Compare, colo: Compare, connections: list[Connection]) -> None:
        self._qemu, self._colo = qemu, colo
        self._connections = connections

    def send(
        self, connection: Connection, primary: list[Frame], secondary: list[Frame], *, secondary_first: bool
    ) -> None:
        """One round; a checkpoint that was asked for is made."""
        sides = [("sec", secondary), ("pri", primary)] if secondary_first else [("pri", primary), ("sec", secondary)]
        asked = 0
        for side, frames in sides:
            asked += self._feed(side, [frame.on(connection) for frame in frames])
        if asked:
            assert self._by_connection(self._colo.tell(CHECKPOINT_DONE)[0]) == self._by_connection(
                self._qemu.tell(CHECKPOINT_DONE)[0]
            )

    def _feed(self, side: str, frames: list[bytes]) -> bool:
        """Whether a checkpoint was asked for. Ours takes its time for datagrams, in case they come in another order."""
        expected, expected_asks = self._qemu.feed(side, *frames)
        released, asks = self._colo.feed(side, *frames)
        until = time.monotonic() + ANSWER_SECONDS
        while bool(asks) < bool(expected_asks) and time.monotonic() < until:
            time.sleep(0.005)
            more, asked = self._colo.settle()
            released += more
            asks += asked
        assert self._by_connection(released) == self._by_connection(expected)
        assert bool(asks) == bool(expected_asks)
        return bool(asks)

    def _by_connection(self, released: list[bytes]) -> dict[Connection, list[bytes]]:
        """Of each connection in order; connections do not wait for one another."""
        found: dict[Connection, list[bytes]] = {connection: [] for connection in self._connections}
        for octets in released:
            # The client's address: the IP destination, or ARP's target.
            address = octets[38:42] if octets[12:14] == b"\x08\x06" else octets[30:34]
            found[next(each for each in self._connections if each.client_octets == address)].append(octets)
        return found
