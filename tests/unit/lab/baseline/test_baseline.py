"""The baseline: bulk clients that are cheap and still notice what is wrong, and numbers that fit together."""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab import guest_server
from pycolo_lab.baseline import client, protocol, server, wording
from pycolo_lab.baseline.facts import Answered, Arm, Load
from pycolo_lab.baseline.protocol import SAMPLE_BYTES, STRETCH_BYTES, Pattern, Sampler
from pycolo_lab.baseline.runner import processor_ns
from pycolo_lab.baseline.summary import measure_baseline
from pycolo_lab.facts import RunFacts
from pycolo_lab.guest_server import PATTERN_BYTES, pattern
from pycolo_lab.options import LabOptions
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.verdict import judge
from support.labfacts import sound_facts, with_baseline
from support.nodes import wait_for
from support.ports import unused_port

SEED = 3
CONTENT = pattern(SEED)
PIECES = st.lists(st.integers(1, 3 * STRETCH_BYTES), max_size=12)


class Wire:
    """A connection's receiving end that gives what it is told to, in pieces of any size."""

    def __init__(self, content: bytes, seed: int = 0) -> None:
        self._content = content
        self._position = 0
        self._sizes = random.Random(seed)

    def recv_into(self, buffer: bytearray, wanted: int, flags: int = 0) -> int:
        received = min(wanted, self._sizes.randint(1, 1 << 18), len(self._content) - self._position)
        if not flags & socket.MSG_TRUNC:
            buffer[:received] = self._content[self._position : self._position + received]
        self._position += received
        return received


def stream(size: int) -> bytes:
    return (CONTENT[:PATTERN_BYTES] * (size // PATTERN_BYTES + 1))[:size]


def received(wire: Wire, size: int) -> Sampler:
    sampler = Sampler(CONTENT)
    while sampler.position < size:
        sampler.receive(wire, size - sampler.position)  # type: ignore[arg-type]
    return sampler


@given(PIECES, st.integers(0, 99))
def test_both_ends_come_to_the_same_check_whatever_the_pieces(pieces: list[int], seed: int) -> None:
    out, sent = Pattern(CONTENT), 0
    for size in pieces:
        sent += size
        out.sent(size)
    into = received(Wire(stream(sent), seed), sent)
    assert (into.check, into.checked) == (out.check, out.checked)
    assert into.checked == sum(min(SAMPLE_BYTES, sent - start) for start in range(0, sent, STRETCH_BYTES))


@given(st.integers(0, 2 * STRETCH_BYTES), st.integers(1, 5000), st.booleans(), st.integers(0, 99))
def test_what_is_lost_or_doubled_anywhere_is_noticed(at: int, count: int, is_lost: bool, seed: int) -> None:
    size = 4 * STRETCH_BYTES
    whole = stream(size + count)
    bad = whole[:at] + whole[at + count :] if is_lost else whole[: at + count] + whole[at:]
    with pytest.raises(ValueError, match="wrong content within"):
        received(Wire(bad, seed), size)


# ── the clients against the server ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def board(tmp_path: Path) -> Scoreboard:
    return Scoreboard(tmp_path / "board")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Call it with the content that the server has."""
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(client, "PORT", listener.getsockname()[1])

        def begin(content: bytes) -> None:
            def accept_one() -> None:
                server.serve(listener.accept()[0], content)

            thread = threading.Thread(target=accept_one, daemon=True)
            thread.start()
            stack.callback(thread.join, 20)

        yield begin


def run_until(board: Scoreboard, kind: str, enough: Callable[[], bool]) -> "client.BulkResult":
    def ask_for_the_end() -> None:
        with contextlib.suppress(AssertionError):  # it ends all the same, and too early
            wait_for(enough, "something to move")
        board[Slot.FINISH] = 1

    thread = threading.Thread(target=ask_for_the_end)
    thread.start()
    try:
        return client.run(kind, "127.0.0.1", board, SEED, 20.0)
    finally:
        board[Slot.FINISH] = 1
        thread.join()


@pytest.mark.parametrize(("kind", "slot"), [("download", Slot.DOWNLOAD_BYTES), ("upload", Slot.UPLOAD_BYTES)])
def test_a_transfer_ends_when_asked_with_all_that_it_asked_for(
    serving: Callable[[bytes], None], board: Scoreboard, kind: str, slot: Slot
) -> None:
    serving(CONTENT)
    result = run_until(board, kind, lambda: board[slot] > 3 * client.PIECE_BYTES)
    assert result.error is None
    assert result.bytes % client.PIECE_BYTES == 0
    assert result.bytes >= 3 * client.PIECE_BYTES
    assert result.checked_bytes == result.bytes // STRETCH_BYTES * SAMPLE_BYTES


@pytest.mark.parametrize("kind", ["download", "upload"])
def test_other_content_is_noticed(serving: Callable[[bytes], None], board: Scoreboard, kind: str) -> None:
    serving(pattern(SEED + 1))
    result = client.run(kind, "127.0.0.1", board, SEED, 20.0)  # it ends without being asked
    assert result.error is not None
    assert result.checked_bytes == 0


def test_questions_are_answered(
    serving: Callable[[bytes], None], board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(CONTENT)
    seen = []

    def answered(*times: int) -> Answered:
        seen.append(times)
        return Answered(*times)

    monkeypatch.setattr(client, "Answered", answered)
    result = run_until(board, "ask", lambda: len(seen) >= 3)
    assert result.error is None
    assert len(result.answers) >= 3
    assert all(answered.took_ns > 0 for answered in result.answers)


def test_nothing_there_to_connect_to_is_an_error(board: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PORT", unused_port())
    assert client.run("ask", "127.0.0.1", board, SEED, 5.0).error == "Connection refused"


def test_processor_time_is_this_process_s_own() -> None:
    before = time.process_time_ns()
    told = processor_ns(os.getpid())
    assert before <= told <= time.process_time_ns()


def test_two_ports_never_meet() -> None:
    assert protocol.PORT != guest_server.PORT


# ── numbers and words ───────────────────────────────────────────────────────────────────────────────────────


def facts_with_baseline() -> RunFacts:
    facts = sound_facts()
    with_baseline(facts)
    return facts


def test_without_a_baseline_there_is_none() -> None:
    assert judge(sound_facts(), LabOptions()).baseline is None


def test_the_numbers_fit_together() -> None:
    facts = facts_with_baseline()
    found = judge(facts, LabOptions()).baseline
    assert found is not None
    assert found.download.protected.megabytes_per_second == 50
    assert found.upload.protected.megabytes_per_second == 30
    assert found.both.bridge.megabytes_per_second == 20 * 80
    for load in (found.download, found.upload, found.both):
        assert load.percent_of_uncompared == 50
        assert load.percent_of_bridge == 5
        assert load.bridge.added_us_p50 == 0
        assert load.protected.answer_us_p50 == 2000
        assert load.protected.added_us_p50 == 1900
        for place in (load.bridge, load.uncompared, load.protected):
            moved = place.megabytes_per_second
            assert moved == place.download_megabytes_per_second + place.upload_megabytes_per_second
            assert place.processor_seconds_per_gigabyte
            spent = place.processor_seconds_per_gigabyte.values()
            assert all(each == pytest.approx(1000 / moved / place.seconds, rel=0.01) for each in spent)


def test_nothing_that_moved_is_no_division() -> None:
    facts = facts_with_baseline()
    for each in facts.baseline:
        each.download_bytes = each.upload_bytes = 0
        each.answers_ns = []
    found = measure_baseline(facts.baseline)
    assert found.both.percent_of_bridge is None
    assert found.both.protected.processor_seconds_per_gigabyte is None
    assert found.both.protected.added_us_p50 is None
    assert len(wording.lines(found, None)) > len(Arm) * len(Load)


@pytest.mark.parametrize("columns", [40, 60, 79, 80, 200, None])
def test_every_cell_is_told_on_every_width(columns: int | None) -> None:
    found = measure_baseline(facts_with_baseline().baseline)
    lines = wording.lines(found, columns)
    if columns is not None:
        assert max(map(len, lines)) <= columns
    said = " ".join(" ".join(lines).split())
    for row in wording.table(found):
        assert len(row.cells) in (0, len(wording.HEAD))
        assert row.label in said
        for cell in row.cells:
            assert cell in said or cell == wording.ABSENT
