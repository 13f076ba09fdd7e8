"""Figures of a run: what moved under protection and what moved after the kill are never mixed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab import sessions
from pycolo_lab.facts import Pause, RunFacts, Sample, Takeover, TransferResult
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.summary import Summary, TransferSummary, measure, stand_still
from pycolo_lab.verdict import judge
from pycolo_lab.wording import rows
from support.labfacts import KILL, MS, S, sound_facts

TICK = 5 * MS


def run_with(before: int, after: int, *, still_ms: tuple[int, int], ends_ms: int) -> RunFacts:
    """A download that starts 2 s before the kill: bytes per millisecond before and after it stood still."""
    start, end = (KILL + at * MS for at in still_ms)
    facts = sound_facts()
    first, last = KILL - 2 * S, KILL + ends_ms * MS

    def moved(at: int) -> int:
        return (max(0, min(at, start) - first) * before + max(0, min(at, last) - end) * after) // MS

    facts.samples = [Sample(at, moved(at), 0, 0) for at in range(first - S, last + S, TICK)]
    assert facts.kill
    facts.kill.download_bytes = moved(KILL)
    facts.download = TransferResult(
        started_ns=first, ended_ns=last, bytes=moved(last), pauses=[Pause(start, end)], error=None
    )
    return facts


def download_of(facts: RunFacts) -> TransferSummary:
    found = measure(facts, LabOptions()).download
    assert found
    return found


@given(
    before=st.integers(1, 1_000_000),
    after=st.integers(0, 1_000_000),
    start_ms=st.integers(-4, 100),
    end_ms=st.integers(152, 900),
    ends_ms=st.integers(1000, 4000),
)
def test_each_phase_has_its_own_bytes_seconds_and_rate(
    before: int, after: int, start_ms: int, end_ms: int, ends_ms: int
) -> None:
    facts = run_with(before, after, still_ms=(start_ms, end_ms), ends_ms=ends_ms)
    found = download_of(facts)
    assert found.protected.bytes == before * (2000 + start_ms), "what trickled in after the kill had been compared"
    assert found.protected.bytes + found.after_kill.bytes == found.bytes
    still_s = (end_ms - start_ms) / 1000
    assert found.protected.seconds + still_s + found.after_kill.seconds == pytest.approx(found.seconds, abs=0.01)
    assert found.protected.megabytes_per_second == pytest.approx(before / 1000, abs=0.06)
    assert found.after_kill.megabytes_per_second == pytest.approx(after / 1000, abs=0.06)


def test_a_transfer_that_never_moved_again_has_no_rate_after_the_kill() -> None:
    facts = run_with(1000, 0, still_ms=(0, 3000), ends_ms=3000)
    assert facts.download
    facts.download.error = "no progress for 3 s"
    found = download_of(facts)
    assert (found.after_kill.bytes, found.after_kill.megabytes_per_second, found.after_kill.seconds) == (0, 0, 0)


def test_a_transfer_that_had_ended_before_the_kill_was_all_protected() -> None:
    facts = run_with(1000, 0, still_ms=(-1000, -1000), ends_ms=-1000)
    assert facts.download
    facts.download.pauses = []
    found = download_of(facts)
    assert (found.protected.bytes, found.protected.seconds, found.after_kill.bytes) == (1_000_000, 1.0, 0)
    assert found.after_kill.seconds == 0


def test_it_stood_still_when_neither_host_served_not_when_it_paused_later() -> None:
    around, later = Pause(KILL + 4 * MS, KILL + 160 * MS), Pause(KILL + 900 * MS, KILL + 1200 * MS)
    assert stand_still([around, later], KILL, KILL + 151 * MS) == around
    assert stand_still([around, later], KILL, None) == later, "the longest, where the takeover's moment is not known"
    assert stand_still([], KILL, KILL + 151 * MS) == Pause(KILL, KILL)


def test_no_rate_mixes_the_two() -> None:
    found = msgspec.to_builtins(judge(sound_facts(), LabOptions()))
    for transfer in (found["download"], found["upload"]):
        assert not [name for name in transfer if "per_second" in name]
        assert (
            set(transfer["protected"])
            == set(transfer["after_kill"])
            == {
                "bytes",
                "seconds",
                "megabytes_per_second",
            }
        )
    assert found["sessions"]["protected"] == {"answers": 250, "ms_p50": 0.9, "ms_p99": 4.0}
    assert found["sessions"]["after_kill"] == {"answers": 310, "ms_p50": 0.4, "ms_p99": 1.0}


def test_the_summary_survives_json() -> None:
    summary = judge(sound_facts(), LabOptions())
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


@pytest.mark.parametrize("what", ["download", "upload", "an answer"])
def test_the_headline_tells_the_two_apart(what: str) -> None:
    labels = [label for label, _ in rows(judge(sound_facts(), LabOptions()))]
    assert labels.index(f"{what}, protected") + 1 == labels.index(f"{what}, after the kill")
    control = [label for label, _ in rows(judge(sound_facts(), LabOptions(control=Control.COMPARE)))]
    assert f"{what}, before the kill" in control, "what a control leaves out protects nothing"
    assert f"{what}, protected" not in control


def test_a_takeover_before_the_kill_says_nothing_about_where_it_stood_still() -> None:
    facts = run_with(1000, 2000, still_ms=(0, 200), ends_ms=1000)
    assert facts.secondary
    facts.secondary.takeover = Takeover(KILL - S, KILL - S, KILL - S)
    assert download_of(facts).after_kill.seconds == pytest.approx(0.8)


@given(st.lists(st.integers(0, 10**10), max_size=300))
def test_latencies_are_ones_that_were_seen(waited: list[int]) -> None:
    found = sessions.latency(waited)
    assert found.answers == len(waited)
    seen = {each // 1000 for each in waited} or {0}
    assert {found.p50_us, found.p99_us} <= seen
    assert found.p50_us <= found.p99_us
