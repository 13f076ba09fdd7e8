"""`colo status` and `colo explain` of a node with a QEMU of its own, once and again and again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest

from pycolo.cli import target
from pycolo.cli.explain import explanation, why_none
from pycolo.cli.ordering import order_lines
from pycolo.cli.status import size, status_lines
from pycolo.cli.target import printable
from pycolo.cli.watch import CLEAR_BELOW, HOME, screen
from pycolo.node.sidebyside import divergence_lines, side_by_side
from support.asked import STATUS, answering
from support.configs import changed
from support.statuses import pace, spacing, vm_status


async def answer(_: dict) -> dict:
    return STATUS


# ── the view ────────────────────────────────────────────────────────────────────────────────────────────────


def test_status_says_first_what_blocks_a_takeover():
    blocked = "taking over: serve failed: network.serve: ip: exit code 1; no br0"
    assert status_lines({**STATUS, "state": "taking-over", "blocked": blocked})[1] == blocked


def test_status_has_what_matters():
    difference = "tcp 10.0.0.9:80 > 10.0.0.7:51234: the streams differ at sequence number 1000"
    numbers = "pause 6.2 ms; released 12 frames, 3.4 KiB; discarded 3"
    assert status_lines(STATUS) == [
        "primary of pair vm1: protected for 93.4 s, term 2, epoch 7",
        "other node: control link to 10.0.0.2:9000; arbiter manual: the other node is not suspected",
        "QEMU of this host: version 7.2.22, running, COLO primary, process 123",
        "QEMU of the other: version 7.2.22, paused, COLO secondary",
        "in progress: take-over, step yank (done: fence, stop)",
        "held now: 3 packets, 4.5 KiB; connections: 12",
        "packets were held for p50 100 µs, p99 200 µs, at most 300 µs",
        "checkpoints: 4 (divergence 3, periodic 1), aborted 1; now idle",
        "asked for: periodic",
        "pause: median 6.1 ms, p99 9.0 ms, at most 9.1 ms",
        "  2026-11-23T14:59:50.000Z epoch 6 aborted: the secondary is gone; released 0 frames, 0 B; periodic",
        f"  2026-11-23T15:00:00.123Z epoch 7 committed; {numbers}; divergence: {difference}",
        f"divergence: {difference}",
    ]


def test_warnings_stay_and_say_whether_they_were_overridden():
    note = {"code": "tcg", "text": "it deadlocks", "where": "this host", "overridden": False}
    assert "warning (this host): it deadlocks" in status_lines(vm_status(warnings=[note]))
    overridden = status_lines(vm_status(warnings=[note | {"overridden": True}]))
    assert "overridden by --force (this host): it deadlocks" in overridden


def test_a_pause_target_is_held_or_the_figures_say_why_not():
    lines = status_lines(vm_status())
    assert "pause target 100 ms: held, 11.4 MiB/s change, 429.2 MiB/s are copied" in lines
    why = "the pause target of 100 ms is not held: 3 of the last 9 pauses were longer"
    checkpoint = vm_status()["checkpoint"]
    told = status_lines(vm_status(checkpoint=checkpoint | {"pace": pace(is_held=False, why=why)}))
    assert told[told.index(why) + 1].startswith("pause target 100 ms: not held")
    unknown = pace(change_bytes_per_s=None, copy_bytes_per_s=None)
    assert "pause target 100 ms: held" in status_lines(vm_status(checkpoint=checkpoint | {"pace": unknown}))
    for silent in (pace(of=0), pace(interval_ms=None)):
        lines = status_lines(vm_status(checkpoint=checkpoint | {"pace": silent}))
        assert not any("pause target" in line for line in lines)


PARTS = {
    "stop-secondary": 2.1,
    "drain": 0.4,
    "stop-primary": 0.3,
    "begin": 0.1,
    "write": 1.5,
    "link": 0.2,
    "disks": 0.0,
    "receive": 0.5,
    "load": 2.04,
    "commit": 0.6,
    "resume": 0.3,
}


def test_the_parts_of_checkpoints_are_told_before_and_in_the_pause():
    told = status_lines(vm_status(checkpoint=vm_status()["checkpoint"] | {"parts_ms": PARTS}))
    assert (
        "parts, median ms: stop secondary 2.1, drain 0.4, stop primary 0.3; paused: begin 0.1, write 1.5, link 0.2, "
        "disks 0.0, receive 0.5, load 2.0, commit 0.6, resume 0.3"
    ) in told


def test_the_distance_between_checkpoints_has_its_reason():
    why = spacing()["why"]
    assert why in status_lines(vm_status())
    unknown = vm_status()["checkpoint"] | {"spacing": spacing(of=0)}
    assert why not in status_lines(vm_status(checkpoint=unknown))


def test_a_guest_that_ought_to_be_protected_and_is_not():
    protection = {"wished": True, "unprotected_ms": 12_340, "failures": 2, "why": "vm1: no QEMU"}
    line = "unprotected for 12.3 s, 2 failed attempts: vm1: no QEMU"
    assert line in status_lines(vm_status(state="linked", protection=protection))
    assert line not in status_lines(vm_status(state="linked", protection=protection | {"wished": False}))


@pytest.mark.parametrize("automatic", [True, False])
def test_what_begins_only_by_command_is_not_said_to_begin_by_itself(automatic):
    protection = {"wished": True, "automatic": automatic, "unprotected_ms": 1000, "failures": 0, "why": "by itself"}
    line = "unprotected for 1.0 s: only `colo protect` gives the guest a secondary: protect.automatic is false"
    assert (line in status_lines(vm_status(state="linked", protection=protection))) is not automatic
    for other in ({"state": "waiting"}, {"state": "linked", "role": "secondary"}):
        assert "unprotected for 1.0 s: by itself" in status_lines(vm_status(**other, protection=protection))
    failed = protection | {"failures": 1, "why": "vm1: no QEMU"}
    told = "\n".join(status_lines(vm_status(state="linked", protection=failed)))
    assert "1 failed attempt: vm1: no QEMU" in told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"counters": {"compared_bytes": 2048}}, "2.0 KiB of both guests' payload were equal"),
        ({"state": "degraded"}, "nothing was compared yet"),
        ({"state": "alone"}, "this node is alone, and compares nothing without a secondary"),
        ({"role": "secondary"}, "ask that one"),
    ],
)
def test_explain_of_an_idle_pair_says_why_there_is_nothing(changed, said):
    line = why_none({**STATUS, "counters": {}, **changed})
    assert said in line
    assert "\n" not in line


HEALTH = {
    "verdict": "well",
    "why": "",
    "age_ms": 400,
    "window_ms": 10_000,
    "compared_bytes": 2048,
    "uncompared_bytes": 0,
    "allowed_bytes": 7,
}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "health: well; payload was seen 0.4 s ago; in 10 s 2.0 KiB compared, 0 B not, 7 B may pass"),
        (
            {"verdict": "degraded", "why": "100%", "uncompared_bytes": 9},
            "health: degraded: 100%; payload was seen 0.4 s ago; in 10 s 2.0 KiB compared, 9 B not, 7 B may pass",
        ),
        (
            {"verdict": "no traffic yet", "age_ms": None, "compared_bytes": 0},
            "health: no traffic yet; in 10 s 0 B compared, 0 B not, 7 B may pass",
        ),
    ],
)
def test_the_health_of_a_pair_is_a_line(changed, line):
    assert line in status_lines({**STATUS, "health": {**HEALTH, **changed}})
    assert not [other for other in status_lines({**STATUS, "health": None}) if other.startswith("health")]


def test_a_node_that_has_nothing_yet():
    bare = {
        **STATUS,
        "vm": {"qmp": "absent", "version": "", "status": None, "colo": None, "pid": None},
        "other_vm": None,
        "checkpoint": {
            "phase": "idle",
            "epoch": 0,
            "pending": [],
            "count": {},
            "aborted": 0,
            "pause_ms": None,
            "last": [],
        },
        "plan": None,
        "peer": None,
        "hold_us": None,
        "divergences": [],
        "counters": {},
    }
    assert status_lines(bare)[1:] == [
        "other node: none; arbiter manual: the other node is not suspected",
        "QEMU of this host: absent",
        "QEMU of the other: unknown",
        "checkpoints: 0, aborted 0; now idle",
    ]


def test_a_node_without_a_qemu_of_its_own_has_its_counters():
    plain = {key: value for key, value in STATUS.items() if key not in ("vm", "other_vm", "checkpoint", "plan")}
    lines = status_lines(plain)
    assert lines[0] == "primary of pair vm1: protected for 93.4 s, term 2"
    assert any(re.fullmatch(r"  lan_frames +5", line) for line in lines)


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_sizes(octets: int, shown: str):
    assert size(octets) == shown


def test_what_a_terminal_would_obey_is_not_printed():
    assert printable("a\x1b[2Jb\r\n") == "a\ufffd[2Jb\ufffd\ufffd"


# ── which node ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_configuration_names_the_socket(colo, tmp_path: Path):
    (tmp_path / "vm.toml").write_text(changed({"control.socket": f"{tmp_path}/c"}))
    with answering(tmp_path / "c", answer):
        code, out, _ = colo("status", "--config", tmp_path / "vm.toml")
        assert code == 0
        assert out.startswith("primary of pair vm1: protected")
        assert json.loads(colo("status", "--config", tmp_path / "vm.toml", "--json")[1]) == STATUS
        assert json.loads(colo("status", "--control", tmp_path / "c", "--json")[1]) == STATUS


def test_a_name_is_that_of_a_file_of_the_unit(colo, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(target, "FILES", tmp_path)
    (tmp_path / "vm1.toml").write_text(changed({"control.socket": f"{tmp_path}/c"}))
    with answering(tmp_path / "c", answer):
        assert colo("status", "vm1")[0] == 0
    code, _, error = colo("status", "vm2")
    assert (code, f"{tmp_path}/vm2.toml: expected a file" in error) == (1, True)


@pytest.mark.parametrize("command", ["status", "explain", "protect", "unprotect", "checkpoint", "failover"])
def test_one_node_has_to_be_named(colo, tmp_path: Path, command: str):
    for arguments in (
        (),
        ("--config", tmp_path / "x", "--control", tmp_path / "y"),
        ("vm1", "--control", tmp_path / "y"),
    ):
        code, _, error = colo(command, *arguments)
        assert code == 2
        assert "NAME of /etc/colo/NAME.toml, or --config FILE, or --control PATH" in error
    code, _, error = colo(command, "./vm1.toml")
    assert (code, "is a path: --config ./vm1.toml" in error) == (2, True)
    code, out, error = colo(command, "--config", tmp_path / "x")
    assert (code, out) == (1, "")
    assert error == f"colo: {tmp_path}/x: expected a file in TOML, found nothing there\n"
    code, out, error = colo(command, "--control", tmp_path / "y")
    assert (code, out) == (1, "")
    why = "no node answers there (No such file or directory): start the node, or correct the path"
    assert error == f"colo: {tmp_path}/y: {why}\n"


# ── again and again ─────────────────────────────────────────────────────────────────────────────────────────


def watching(path: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pycolo", "status", "--control", str(path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_watching_without_a_terminal_is_block_after_block_until_ctrl_c(tmp_path: Path):
    with answering(tmp_path / "c", answer), watching(tmp_path / "c", "--watch=0.1") as process:
        assert process.stdout is not None
        blocks = 0
        while blocks < 3:
            line = process.stdout.readline()
            assert line
            assert "\x1b" not in line
            blocks += line == "\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert (process.returncode, error) == (0, "")


def test_watching_as_json_is_a_line_each_time(tmp_path: Path):
    with answering(tmp_path / "c", answer), watching(tmp_path / "c", "--json", "--watch=0.1") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert [json.loads(line) for line in lines if line != "\n"] == [STATUS, STATUS]


def test_a_node_that_is_away_is_looked_for_again(tmp_path: Path):
    with watching(tmp_path / "c", "--watch=0.1") as process:
        assert process.stdout is not None
        assert "no node answers there" in process.stdout.readline()
        with answering(tmp_path / "c", answer):
            until_s = time.monotonic() + 60
            while "protected" not in process.stdout.readline():
                assert time.monotonic() < until_s
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_watching_on_a_terminal_draws_over_what_was_there(tmp_path: Path):
    leader, follower = os.openpty()
    with answering(tmp_path / "c", answer):
        process = subprocess.Popen(
            [sys.executable, "-m", "pycolo", "status", "--control", str(tmp_path / "c"), "--watch=0.1"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        seen, until_s = "", time.monotonic() + 60
        while seen.count(HOME) < 4:
            assert time.monotonic() < until_s
            seen += os.read(leader, 1 << 16).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    os.close(leader)
    assert seen.count("\x1b[2J") == 1, "cleared once, then drawn over"
    assert "Aborted" not in seen


def test_what_does_not_fit_the_terminal_is_left_out():
    drawn = screen(["abcdef", "b", "c"], os.terminal_size((4, 3)))
    assert drawn == f"{HOME}abcd\x1b[K\nb\x1b[K\n{CLEAR_BELOW}"


# ── explain ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_explain_shows_both_sides_and_the_checkpoints():
    finding = "the pause target of 100 ms is not held: the figures"
    assert list(explanation([], [], 0, finding)) == [finding]
    last = STATUS["checkpoint"]["last"]
    assert list(explanation([], last, 0, finding, {"spacing": spacing()}))[-2:] == [spacing()["why"], finding]
    assert list(explanation([], last, 0, None, {"parts_ms": PARTS}))[-1].startswith("parts, median ms: stop secondary")
    lines = list(explanation(STATUS["divergences"], last, 3_200_000_000))
    connection = "tcp 10.0.0.9:80 > 10.0.0.7:51234"
    assert lines[:5] == [
        f"{connection}: the streams differ at sequence number 1000",
        f"  kind payload, connection {connection}, sequence number 1000, 3.2 s ago",
        "         primary                                secondary",
        "     -8   44 61 74 65 3a 20 31 30  Date: 10      44 61 74 65 3a 20 31 30  Date: 10",
        "     +0  [3a]32 37 0d 0a           :27..     ≠  [3b]32 37 0d 0a           ;27..",
    ]
    assert lines[5:7] == ["", "checkpoints"]
    assert len(lines) == 9


def test_what_the_documentation_shows_is_what_explain_prints():
    page = (Path(__file__).resolve().parents[3] / "docs" / "operate.md").read_text(encoding="utf-8")
    for line in list(divergence_lines(STATUS["divergences"][0], 3_200_000_000)):
        assert f"\n    {line}\n" in page


def test_a_time_out_has_one_side_and_no_mark():
    divergence = {
        **STATUS["divergences"][0],
        "kind": "timeout",
        "waited_ms": 500,
        "secondary": "",
        "secondary_index": 0,
    }
    lines = list(divergence_lines(divergence, 0))
    assert "waited 500 ms" in lines[1]
    assert not any("≠" in line or "[" in line for line in lines)


def test_a_divergence_of_one_of_several_cards():
    divergence = {**STATUS["divergences"][0], "card": "hn1"}
    assert "card hn1, connection" in list(divergence_lines(divergence, 0))[1]


def test_each_of_several_cards_has_a_line():
    counters = {"held": 3, "connections": 2, "compared_bytes": 2048, "divergences": 1}
    cards = [
        {"card": "hn0", "mode": "comparing", "counters": counters},
        {"card": "hn1", "mode": "serving", "counters": {"connections": 4}},
    ]
    lines = [line for line in status_lines(vm_status(cards=cards)) if line.startswith("  card ")]
    assert lines == [
        "  card hn0: comparing, compared 2.0 KiB, packets held: 3, divergences: 1, connections: 2",
        "  card hn1: serving, connections: 4",
    ]


def test_a_divergence_of_no_single_connection():
    divergence = {**STATUS["divergences"][0], "connection": None, "primary": "", "secondary": "", "kind": "queue_full"}
    assert len(list(divergence_lines(divergence, 0))) == 2


@pytest.mark.parametrize("before", [0, 1, 7, 8, 32])
@pytest.mark.parametrize("other_before", [0, 5, 32])
def test_every_byte_is_shown_once_and_the_first_different_ones_in_brackets(before: int, other_before: int):
    primary = bytes(range(0x41, 0x41 + before)) + b"\x01" + b"tail of the primary"
    secondary = bytes(range(0x41, 0x41 + other_before)) + b"\x02" + b"tail"
    rows = list(side_by_side(primary, before, secondary, other_before))[1:]
    assert sum(row.count("[01]") for row in rows) == 1
    assert sum(row.count("[02]") for row in rows) == 1
    (row,) = [row for row in rows if "[01]" in row]
    assert "[02]" in row
    assert "≠" in row
    left = bytes.fromhex("".join(re.sub(r"[\[\] ]", "", row[8:34]) for row in rows))
    assert left == primary


ORDERED = {
    "port": 6379,
    "mode": "auto",
    "is_ordered": True,
    "width": 4,
    "mirrored": "when given",
    "limit_ms": 20,
    "differences": 7,
    "requests": 4800,
    "rounds": 1300,
    "blocked": 12,
    "limited": 3,
    "why": "nothing differs",
    "waited_mean_us": 2000,
    "waited_max_us": 31000,
}


def test_a_port_that_is_not_ordered_says_why():
    assert list(order_lines([ORDERED | {"is_ordered": False, "card": "hn1"}])) == [
        "port 6379 on hn1: not ordered: nothing differs"
    ]


def test_explain_asks_the_node(colo, tmp_path: Path):
    many = deepcopy(STATUS)
    many["divergences"] = [{**STATUS["divergences"][0], "text": f"number {i}"} for i in range(9)]
    many["order"] = [ORDERED]

    async def answer_many(_: dict) -> dict:
        return many

    with answering(tmp_path / "c", answer_many):
        code, out, _ = colo("explain", "--control", tmp_path / "c", "--last", "2")
        assert code == 0
        assert re.findall(r"^number \d$", out, flags=re.MULTILINE) == ["number 7", "number 8"]
        assert "port 6379: 4 requests at once, mirrored when given: nothing differs\n" in out
        assert "4800 requests have waited 2.0 ms on average, 31.0 ms at most" in out
        _, shown, _ = colo("status", "--control", tmp_path / "c")
        assert "port 6379: 4 requests at once, mirrored when given\n" in shown
        found = json.loads(colo("explain", "--control", tmp_path / "c", "--json", "--last", "1")[1])
    assert found == {
        "divergences": many["divergences"][-1:],
        "checkpoints": many["checkpoint"]["last"][-1:],
        "spacing": many["checkpoint"].get("spacing"),
        "parts_ms": None,
        "disks": [],
        "order": [ORDERED],
        "masks": many.get("masks", {}),
        "bypassed": many.get("bypassed", {}),
    }


def test_nothing_to_explain(colo, tmp_path: Path):
    async def answer_plain(_: dict) -> dict:
        return {**STATUS, "divergences": [], "checkpoint": None}

    with answering(tmp_path / "c", answer_plain):
        assert colo("explain", "--control", tmp_path / "c")[:2] == (
            0,
            "no divergence so far: nothing was compared yet; let a client ask the guest something\n",
        )


def test_what_the_file_lets_differ_or_pass_is_shown():
    """Of those tables that something was for."""
    lines = status_lines(vm_status(bypassed={"1": {"packets": 3, "bytes": 5000}, "2": {"packets": 0, "bytes": 0}}))
    assert "mask date: 12 B differed in 7 matches, and were not compared" in lines
    assert "bypass 1: 3 packets with 4.9 KiB passed uncompared" in lines
    assert not any(line.startswith("bypass 2") for line in lines)


def test_masked_bytes_are_marked_and_do_not_look_like_the_difference():
    divergence = {
        "text": "the streams differ",
        "kind": "payload",
        "primary": b"Date: 59\r\n2".hex(),
        "primary_index": 10,
        "secondary": b"Date: 59\r\n3".hex(),
        "secondary_index": 10,
        "masked": [-4, -3],
    }
    *_, far, near, at, legend = divergence_lines(divergence, 0)
    assert (far.count("≠"), near.count("≠"), at.count("≠")) == (0, 0, 1)
    assert near.count("** **") == 1, "the secondary's only: the primary's are what the client has"
    assert "35 39" in near.split("**")[0]
    assert "[32]" in at
    assert "[33]" in at
    assert legend == "  **: this byte differed as well, and a mask let it"
