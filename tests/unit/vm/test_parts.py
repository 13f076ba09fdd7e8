"""Small parts of a node with a QEMU: its record, orders, the user's commands, an old QEMU."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.errors import ConfigError, ConnectError, FailoverError, LinkError
from pycolo.link.hello import Role
from pycolo.link.orders import Order, decode_order, encode_order
from pycolo.vm.hooks import run_hook
from pycolo.vm.leftover import end_leftover_qemu, end_waiting_qemus
from pycolo.vm.pathslot import together
from pycolo.vm.statefile import NodeRecord, StateFile

DEADLINE_S = 20

# ── the record ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_written_is_read_by_the_next_life(tmp_path: Path) -> None:
    first = NodeRecord(role=Role.SECONDARY)
    assert StateFile(tmp_path / "a" / "b").read(first) == first
    record = NodeRecord(role=Role.PRIMARY, term=7, epoch=1 << 40, was_protected=True, pid=12)
    StateFile(tmp_path / "a" / "b").write(record)
    assert StateFile(tmp_path / "a" / "b").read(first) == record


@pytest.mark.parametrize("octets", [b"", b"{}", b"\xff\x00", b'{"role": "king"}', b'{"role": "primary", "term": "x"}'])
def test_a_record_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "node.json").write_bytes(octets)
    with pytest.raises(ConfigError, match=r"node\.json"):
        StateFile(tmp_path).read(NodeRecord(role=Role.PRIMARY))


def test_a_state_directory_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectError, match="state"):
        StateFile(tmp_path / "file" / "below")


# ── orders between the nodes ────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=200))
def test_any_bytes_are_an_order_or_refused(octets: bytes) -> None:
    with suppress(LinkError):
        assert isinstance(decode_order(octets), Order)


def test_an_order_above_the_bound_is_refused_before_it_is_sent() -> None:
    with pytest.raises(LinkError, match="above"):
        encode_order(Order(id=1, order="x", arguments={"y": "z" * limits.ORDER_BYTES_MAX}))


# ── the user's commands ─────────────────────────────────────────────────────────────────────────────────────


def hook(*command: str) -> None:
    values = {"pair": "vm1", "peer": "10.0.0.2", "role": "primary", "term": "3"}
    asyncio.run(run_hook("network.serve", command, values))


def test_a_command_gets_its_placeholders(tmp_path: Path) -> None:
    hook("sh", "-c", 'echo "$@" > "$0"', str(tmp_path / "said"), "{pair}", "{role}", "{term}", "{peer}", "${TAP}", "{")
    assert (tmp_path / "said").read_text() == "vm1 primary 3 10.0.0.2 ${TAP} {\n"


def test_no_command_is_no_error() -> None:
    hook()


def test_a_command_that_fails_says_its_last_line() -> None:
    with pytest.raises(FailoverError, match="no such bridge"):
        hook("sh", "-c", "echo first >&2; echo no such bridge >&2; exit 3")
    with pytest.raises(FailoverError, match="exit code 4"):
        hook("sh", "-c", "exit 4")
    with pytest.raises(FailoverError, match="No such file"):
        hook("/nonexistent/program")


def test_a_command_that_says_much_and_leaves_a_child_is_one_line(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/pid; for i in $(seq 50000); do echo $i >&2; done; exit 1"
    began = time.monotonic()
    with pytest.raises(FailoverError, match=r"exit code 1; 50000$") as error:
        hook("sh", "-c", script)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 60, "the child holds stderr open"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_command_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycolo.vm.hooks.HOOK_S", 0.2)
    with pytest.raises(FailoverError, match=r"within 0\.2 s"):
        hook("sleep", "1000")


# ── an old QEMU ─────────────────────────────────────────────────────────────────────────────────────────────


def sleeper(*words: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", *words])
    # exec has closed the pipe by which Popen knows of it a moment before the new command line can be read.
    until = time.monotonic() + DEADLINE_S
    while words[-1].encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


def test_only_a_process_with_our_socket_is_killed() -> None:
    ours = sleeper("-qmp", "unix:/run/x/qmp.sock,server=on")
    other = sleeper("-qmp", "unix:/run/y/qmp.sock,server=on")
    try:
        assert end_leftover_qemu(ours.pid, b"/run/x/qmp.sock")
        assert ours.wait(DEADLINE_S) != 0
        assert not end_leftover_qemu(other.pid, b"/run/x/qmp.sock")
        assert other.poll() is None
        assert not end_leftover_qemu(ours.pid, b"/run/x/qmp.sock"), "it is gone"
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_a_qemu_that_waits_for_this_nodes_pair_is_ended_though_no_record_knows_it() -> None:
    qmp = Path("/run/waiting/qmp.sock")
    waiting = sleeper("-qmp", f"unix:{qmp},server=on", "-incoming", "defer")
    others = [sleeper("-qmp", "unix:/run/other/qmp.sock", "-incoming", "defer"), sleeper("-qmp", f"unix:{qmp}")]
    try:
        end_waiting_qemus(qmp)
        assert waiting.wait(DEADLINE_S) != 0
        assert [other.poll() for other in others] == [None, None], "another pair's, and one with a guest of its own"
    finally:
        for process in (waiting, *others):
            process.kill()
            process.wait()


# ── several cards ───────────────────────────────────────────────────────────────────────────────────────────


def card(mode: str, hold: int, **counters: int) -> dict[str, object]:
    holds = {"p50": hold, "p99": hold, "max": hold}
    return {"mode": mode, "counters": counters, "hold_us": holds, "hold_histogram": [[100, 1], [hold, 1]]}


def test_several_cards_are_one_pair_and_each_has_its_name() -> None:
    cards = {"hn0": card("comparing", 200, held=1, only_here=4), "hn1": card("alone", 900, held=2)}
    both = together(cards)
    assert both["counters"] == {"held": 3, "only_here": 4}
    assert (both["mode"], both["hold_us"]["p99"]) == ("alone", 900)
    assert both["hold_histogram"] == [[100, 2], [200, 1], [900, 1]]
    assert [(one["card"], one["mode"], one["counters"]["held"]) for one in both["cards"]] == [
        ("hn0", "comparing", 1),
        ("hn1", "alone", 2),
    ]
