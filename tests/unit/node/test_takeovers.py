"""What is known of a node's takeovers after its restart, whatever its disk does."""

import asyncio
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.errors import ConnectError
from pycolo.node.takeovers import BYTES_MAX, CAUSE_CHARACTERS_MAX, KEPT, Takeover, Takeovers, takeovers_file

FILE = "takeovers.json"


def one(number: int, cause: str = "the other node is fenced") -> Takeover:
    return Takeover("2026-01-02T03:04:05Z", "take-over", cause, float(number))


async def a_life(directory, *, more=()):
    """A node that is started, takes over so often, and ends; what it shows at its end."""
    takeovers = Takeovers(takeovers_file(directory))
    await takeovers.start()
    for takeover in more:
        takeovers.add(takeover)
        await asyncio.sleep(0)
    await takeovers.close()
    return list(takeovers)


def test_takeovers_outlive_restarts_and_the_last_ones_are_kept(tmp_path):
    seen = []
    for life in range(6):
        seen += [one(number) for number in range(4 * life, 4 * life + 4)]
        shown = asyncio.run(a_life(tmp_path, more=seen[-4:]))
        assert [row["took_ms"] for row in shown] == [row.took_ms for row in seen[-KEPT:]]
    assert asyncio.run(a_life(tmp_path)) == shown
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_frames_that_are_told_later_are_kept_too(tmp_path):
    async def life():
        takeovers = Takeovers(takeovers_file(tmp_path))
        await takeovers.start()
        takeovers.resent(9)
        takeovers.add(one(1))
        await asyncio.sleep(0.01)
        takeovers.resent(7)
        await takeovers.close()

    asyncio.run(life())
    assert [row["resent"] for row in asyncio.run(a_life(tmp_path))] == [7]


@given(causes=st.lists(st.text(max_size=CAUSE_CHARACTERS_MAX + 50), min_size=1, max_size=KEPT + 2))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_what_is_written_can_be_read(tmp_path, causes):
    (tmp_path / FILE).unlink(missing_ok=True)
    more = [one(number, cause.encode(errors="replace").decode()) for number, cause in enumerate(causes)]
    shown = asyncio.run(a_life(tmp_path, more=more))
    assert (tmp_path / FILE).stat().st_size <= BYTES_MAX
    assert asyncio.run(a_life(tmp_path)) == shown


def test_the_longest_file_is_within_its_limit(tmp_path):
    more = [one(number, "\U0001f4a9" * 2 * CAUSE_CHARACTERS_MAX) for number in range(KEPT)]
    shown = asyncio.run(a_life(tmp_path, more=more))
    assert asyncio.run(a_life(tmp_path)) == shown


@pytest.mark.parametrize(
    "octets",
    [b"", b"null", b"[" * 99_999, b'{"version": 2, "kept": 5}', b'{"version": 1, "kept": [5]}', b" " * (BYTES_MAX + 1)],
    ids=["empty", "null", "deep", "of another version", "of another kind", "too long"],
)
def test_a_file_that_cannot_be_used_is_named_and_is_no_reason_not_to_start(tmp_path, octets):
    (tmp_path / FILE).write_bytes(octets)
    with pytest.raises(ConnectError, match=rf"^takeovers {tmp_path}/{FILE}: [^\n]*; takeovers are listed anew$"):
        takeovers_file(tmp_path).read()
    assert [row["took_ms"] for row in asyncio.run(a_life(tmp_path, more=[one(5)]))] == [5.0]


def test_a_takeover_waits_for_no_disk_and_a_node_without_a_file_shows_it_too(tmp_path):
    async def life():
        file, disk, shown = takeovers_file(tmp_path), threading.Event(), []
        write = file.write
        file.write = lambda octets: (disk.wait(20), write(octets))  # type: ignore[method-assign, assignment, func-returns-value]
        for takeovers in (Takeovers(file), Takeovers()):
            await takeovers.start()
            for number in range(3):
                takeovers.add(one(number))
                await asyncio.sleep(0)
            shown.append(list(takeovers))
            disk.set()
            await takeovers.close()
        return shown

    kept, forgotten = asyncio.run(life())
    assert kept == forgotten == asyncio.run(a_life(tmp_path))


def test_a_disk_that_is_full_is_said(tmp_path):
    (tmp_path / FILE).mkdir()
    assert len(asyncio.run(a_life(tmp_path, more=[one(1)]))) == 1
