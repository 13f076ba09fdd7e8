"""filter-rewriter: QEMU's and ours do the same, or differ as the table says."""

from collections.abc import Iterator

import pytest

from conformance import rewriter_cases
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


@pytest.mark.parametrize("program", Program, ids=str)
@pytest.mark.parametrize("tested", rewriter_cases.CASES, ids=title)
def test_what_comes_out(tested: Case, program: Program, pool: Pool):
    connection = new_connection()
    with pool.rewriter(program, tested.vnet_len) as peer:
        for number, step in enumerate(tested.steps, 1):
            assert performed(peer, step, tested, connection) == step.by(program), f"step {number} of {tested.name}"


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
