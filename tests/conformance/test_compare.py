"""colo-compare: QEMU's and ours do the same, or differ as the table says."""

from collections.abc import Iterator

import pytest

from conformance import compare_cases
from conformance.lockstep import Case, Pool, run, title
from conformance.peers import Program

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@pytest.mark.rule("C1", "C2", "C3", "C4", "C5")
@pytest.mark.parametrize("program", Program, ids=str)
@pytest.mark.parametrize("tested", compare_cases.CASES, ids=title)
def test_what_comes_out(tested: Case, program: Program, pool: Pool):
    with pool.compare(program, tested.vnet_len, **dict(tested.options)) as peer:
        run(tested, peer)


@pytest.mark.rule("C3")
@pytest.mark.parametrize("program", Program, ids=str)
@pytest.mark.parametrize("tested", compare_cases.IMMEDIATE, ids=title)
def test_with_ack_policy_immediate_acks_leave_as_qemu_lets_them(tested: Case, program: Program, pool: Pool):
    # The property is ours alone.
    options = {} if program is Program.QEMU else {"ack_policy": "immediate"}
    with pool.compare(program, **options) as peer:
        run(tested, peer)
