"""filter-rewriter: QEMU's and ours do the same, or differ as the table says."""

import struct
from collections.abc import Iterator

import pytest

from conformance import rewriter_cases
from conformance.differences import difference
from conformance.frames import Connection
from conformance.lockstep import Pool, new_connection, title
from conformance.peers import Program, Rewriter
from conformance.rewriter_cases import Case

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@pytest.mark.rule("R1", "R2")
@pytest.mark.parametrize("program", Program, ids=str)
@pytest.mark.parametrize("tested", rewriter_cases.CASES, ids=title)
def test_what_comes_out(tested: Case, program: Program, pool: Pool):
    connection = new_connection()
    with pool.rewriter(program, tested.vnet_len) as peer:
        for number, step in enumerate(tested.steps, 1):
            assert performed(peer, step, tested, connection) == step.by(program), f"step {number} of {tested.name}"


@pytest.mark.rule("C10")
@difference("rewriter-table-full")
@pytest.mark.parametrize("program", Program, ids=str)
def test_many_connections_that_are_never_completed(program: Program):
    """QEMU clears its table of 16384 connections whole, and open ones are not translated any more."""
    connection, data = new_connection(), rewriter_cases.guest(201, b"world")
    with Rewriter(program) as peer:
        for step in rewriter_cases.HANDSHAKE:
            peer.feed(step.side, *(frame.on(connection) for frame in step.frames))
        for first in range(0, SYNS, 500):
            peer.feed("cin", *map(syn_of, range(first, first + 500)))
        expected = data if program is Program.QEMU else rewriter_cases.guest(101, b"world")
        assert peer.feed("sin", data.on(connection)) == ([], [expected.on(connection)])


SYNS = 17_000
_SYN = rewriter_cases.client(0xFFFF, flags="S", identification=0xFFFF).on(Connection(150 << 16))


def syn_of(number: int) -> bytes:
    """A SYN of client `number`, with right checksums: what the address gains, another field loses."""
    octets = bytearray(_SYN)
    for at, value in ((18, 0xFFFF - number), (28, number), (40, 0xFFFF - number)):
        struct.pack_into(">H", octets, at, value)
    return bytes(octets)


def performed(
    peer: Rewriter, step: rewriter_cases.Step, tested: Case, connection: Connection
) -> rewriter_cases.Out | tuple[list[object], list[object]]:
    """What came out, in the words of the case where it has them."""
    if step.side == "checkpoint":
        peer.checkpoint()
        return rewriter_cases.Out()
    known = {
        frame.on(connection): frame
        for each in tested.steps
        for frame in (*each.frames, *each.qemu.guest, *each.qemu.client, *each.colo.guest, *each.colo.client)
    }
    guest, client = peer.feed(step.side, *(frame.on(connection) for frame in step.frames))
    return rewriter_cases.Out(
        tuple(known.get(octets, octets.hex()) for octets in guest),
        tuple(known.get(octets, octets.hex()) for octets in client),
    )
