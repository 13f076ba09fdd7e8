"""The resource agent against a stand-in for the node: every action in every state ends in time, with the right code."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from pycolo.arbiters import resourceagent
from pycolo.arbiters.resourceagent import (
    CONFIGURED,
    FAILED_PROMOTED,
    GENERIC,
    INSTALLED,
    NOT_RUNNING,
    PROMOTED,
    SUCCESS,
    UNIMPLEMENTED,
)
from pycolo.cli.resourceagent import resource_agent

LIMIT_MS = 20_000
"""Of Pacemaker's for an action: a node that answers, on a busy machine, answers within a half of it."""

SHORT_MS = 3_000
"""Where it is waited for, because the node does not answer."""

NODE = """#!{python} -IS
import json, os, socket, sys, time
folder = {folder!r}
says = lambda: json.load(open(folder + "/says"))
if says().get("start") == "exit":
    sys.exit("no such tap")
path = folder + "/control.sock"
if os.path.exists(path):
    os.unlink(path)
if says().get("start") == "deaf":
    time.sleep(600)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(8)
while True:
    connection, _ = server.accept()
    request = json.loads(connection.makefile().readline())
    with open(folder + "/asked", "a") as file:
        file.write(json.dumps(request) + "\\n")
    word = says().get(request["action"], "unpromoted")
    if word == "hang":
        time.sleep(600)
    if word == "gone":
        os._exit(3)
    answer = {{"error": word}} if " " in word else {{"role": word, "score": 100}}
    connection.sendall(json.dumps(answer).encode() + b"\\n")
    connection.close()
"""


class Host:
    """One host of a cluster, whose `colo` is the stand-in."""

    def __init__(self, folder):
        self.folder = folder
        self.limit_ms = LIMIT_MS
        self.says()
        for name in ("attrd_updater", "crm_attribute"):
            self.write(name, f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n')
        self.program = self.write("colo", NODE.format(python=sys.executable, folder=str(folder)))
        self.config = folder / "vm1.toml"
        self.config.touch()

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def says(self, **words):
        """What the node answers to each action: a role, a refusal (words), or that it hangs or is gone."""
        (self.folder / "says").write_text(json.dumps(words))

    def run(self, action, *, interval="2000", **given):
        """The exit code; what was written is in `errors`."""
        parameters = {
            "config": self.config,
            "program": self.program,
            "control": self.folder / "control.sock",
            "log": self.folder / "log",
            "CRM_meta_timeout": self.limit_ms,
            "CRM_meta_interval": interval,
        } | given
        environment = {
            "PATH": f"{self.folder}:/usr/bin:/bin",
            "HA_RSCTMP": str(self.folder),
            "OCF_RESOURCE_INSTANCE": "vm1:0",
            **{f"OCF_RESKEY_{name}": str(value) for name, value in parameters.items()},
        }
        words = [sys.executable, "-IS", resourceagent.__file__, action]
        begun = time.monotonic()
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30, check=False)
        self.took_s = time.monotonic() - begun
        self.errors, self.output = ended.stderr, ended.stdout
        return ended.returncode

    def begin(self, **words):
        """Start the node, and let it behave like this from then on."""
        self.says()
        assert self.run("start", CRM_meta_timeout=LIMIT_MS) == SUCCESS, self.errors
        self.says(**words)

    @property
    def pid(self):
        path = self.folder / "colo-vm1.pid"
        return int(path.read_text().split()[0]) if path.exists() else 0

    @property
    def lives(self):
        return bool(self.pid and resourceagent.started_at(self.pid))

    @property
    def asked(self):
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


DELETED = "attrd_updater -n master-vm1 -D -d 0"


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    if host.lives:
        os.kill(host.pid, signal.SIGKILL)


def kill_node(host):
    os.kill(host.pid, signal.SIGKILL)
    while host.lives:
        time.sleep(0.01)


def remove_socket(host):
    (host.folder / "control.sock").unlink()


STATES = {
    # state: (what the node says to anything, what happens to it)
    "unpromoted": ({}, None),
    "promoted": ({"monitor": "promoted", "promote": "promoted"}, None),
    "empty": ({"monitor": "failed", "promote": "not in step"}, None),
    "hangs": (dict.fromkeys(("monitor", "promote", "demote", "stop", "notify"), "hang"), None),
    "refuses": (dict.fromkeys(("monitor", "promote", "demote", "stop", "notify"), "the arbiter is manual"), None),
    "dead": ({}, kill_node),
    "deaf": ({}, remove_socket),
}
CODES = {
    # state: monitor, promote, demote, notify, stop
    "unpromoted": (SUCCESS, SUCCESS, SUCCESS, SUCCESS, SUCCESS),
    "promoted": (PROMOTED, SUCCESS, SUCCESS, SUCCESS, SUCCESS),
    "empty": (FAILED_PROMOTED, GENERIC, SUCCESS, SUCCESS, SUCCESS),
    "hangs": (GENERIC, GENERIC, NOT_RUNNING, SUCCESS, SUCCESS),
    "refuses": (CONFIGURED, GENERIC, NOT_RUNNING, SUCCESS, SUCCESS),
    "dead": (NOT_RUNNING, NOT_RUNNING, NOT_RUNNING, SUCCESS, SUCCESS),
    "deaf": (GENERIC, GENERIC, NOT_RUNNING, SUCCESS, SUCCESS),
}
ACTIONS = ("monitor", "promote", "demote", "notify", "stop")


@pytest.mark.parametrize("state", STATES)
def test_every_action_in_every_state(host, state):
    words, happens = STATES[state]
    if state in ("hangs", "deaf"):
        host.limit_ms = SHORT_MS
    given = {"CRM_meta_notify_type": "post", "CRM_meta_notify_operation": "stop", "CRM_meta_notify_stop_uname": "b"}
    for action, code in zip(ACTIONS, CODES[state], strict=True):
        if not host.lives:
            host.begin(**words)
            if happens is not None:
                happens(host)
        assert host.run(action, **given) == code, f"{action}: {host.errors}"
        assert host.took_s < 20
        if action in ("demote", "stop") and code == NOT_RUNNING:
            assert not host.lives, "a node that does not say that it is demoted must be dead"
        if code not in (SUCCESS, PROMOTED, FAILED_PROMOTED, NOT_RUNNING):
            assert "ocf-exit-reason:" in host.errors or action == "promote"
    assert not host.lives
    assert host.run("monitor") == NOT_RUNNING
    assert host.run("stop") == SUCCESS


def test_a_score_is_deleted_before_a_node_is_stopped_and_when_it_is_found_dead(host):
    host.begin()
    assert host.calls == ["crm_attribute -t crm_config -n stonith-enabled -G -q"]
    kill_node(host)
    assert host.run("monitor", interval="0") == NOT_RUNNING  # a probe: nothing was promoted here
    assert DELETED not in host.calls
    host.run("monitor")
    assert host.calls[-1] == DELETED
    host.begin(stop="hang")
    (host.folder / "calls").unlink()
    host.limit_ms = SHORT_MS
    host.run("stop")
    assert host.calls[0] == DELETED


STAT = "7 (a) name) {state} 1 7 7 0 -1 0 0 0 0 0 {user} {kernel} 0 0 20 0 1 0 99"


@pytest.mark.parametrize(
    ("state", "runs", "hangs"),
    [("S", False, True), ("T", False, True), ("S", True, False), ("R", False, False), ("D", False, False)],
)
def test_a_node_hangs_whose_main_thread_could_run_and_does_not(tmp_path, monkeypatch, state, runs, hangs):
    """A loaded host's node waits for the processor or for a disk; that is no reason to kill it."""
    clock, stat = [100.0], tmp_path / "stat"
    monkeypatch.setattr(resourceagent.time, "monotonic", lambda: clock[0])
    watch = resourceagent.Watch()
    watch._path = str(stat)
    seen = []
    for step in range(int(resourceagent.HANG_S / resourceagent.LOOK_S) + 2):
        stat.write_text(STAT.format(state=state, user=4 + step * runs, kernel=5))
        seen.append(watch.hangs())
        clock[0] += resourceagent.LOOK_S
    assert seen[-1] is hangs
    assert not any(seen[:-3])
    stat.unlink()
    assert not watch.hangs()


def test_a_probe_says_so_to_the_node(host):
    host.begin()
    host.run("monitor", interval="0")
    host.run("monitor", interval="3000")
    assert [request["probe"] for request in host.asked[-2:]] == [True, False]


def test_only_what_the_node_needs_of_notifications_reaches_it(host):
    host.begin()
    names = {"CRM_meta_notify_stop_uname": "b c", "CRM_meta_notify_start_uname": "d"}
    for when, operation in (("pre", "stop"), ("post", "stop"), ("pre", "start"), ("post", "promote")):
        given = {"CRM_meta_notify_type": when, "CRM_meta_notify_operation": operation}
        assert host.run("notify", **given, **names) == SUCCESS
    told = [request for request in host.asked if request["action"] == "notify"]
    assert [request.get("stopped") or request.get("started") for request in told] == [["b", "c"], ["d"]]


def test_a_node_that_is_stopped_hears_which_others_are(host):
    host.begin()
    host.run("stop", CRM_meta_notify_stop_uname="a b")
    assert [request["stopping"] for request in host.asked if request["action"] == "stop"] == [["a", "b"]]


def test_a_host_without_the_software_runs_nothing_and_cannot_start_it(host):
    absent = {"program": "/nonexistent/colo", "config": "/nonexistent/vm1.toml"}
    assert host.run("monitor", interval="0", **absent) == NOT_RUNNING
    assert host.run("stop", **absent) == SUCCESS
    assert host.run("start", **absent) == INSTALLED
    assert host.run("validate-all", **absent) == INSTALLED


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, SUCCESS),
        ({"config": "", "arguments": "primary --listen a:1"}, SUCCESS),
        ({"arguments": "primary"}, CONFIGURED),
        ({"config": ""}, CONFIGURED),
        ({"control": "control.sock"}, CONFIGURED),
        ({"config": "/nonexistent"}, INSTALLED),
        ({"program": "/etc/passwd"}, INSTALLED),
    ],
)
def test_what_is_configured_is_checked(host, given, code):
    assert host.run("validate-all", **given) == code
    assert ("ocf-exit-reason:" in host.errors) is (code != SUCCESS)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ({"start": "exit"}, GENERIC, "ended at once"),
        ({"start": "deaf"}, GENERIC, "does not answer"),
        ({"monitor": "the arbiter of this node is manual"}, CONFIGURED, "manual"),
    ],
)
def test_a_start_that_fails_leaves_nothing_behind(host, words, code, text):
    host.says(**words)
    if words == {"start": "deaf"}:
        host.limit_ms = SHORT_MS
    assert host.run("start") == code
    assert text in host.errors
    assert not host.lives


def test_a_node_is_not_started_in_a_cluster_that_does_not_fence(host):
    host.write("crm_attribute", "#!/bin/sh\necho false\n")
    assert host.run("start") == CONFIGURED
    assert "stonith-enabled" in host.errors


def test_a_node_that_runs_is_not_started_again(host):
    host.begin()
    pid = host.pid
    host.begin()
    assert host.pid == pid


def test_a_number_that_is_another_processs_now_is_not_the_node(host):
    (host.folder / "colo-vm1.pid").write_text(f"{os.getpid()} 1\n")
    assert host.run("monitor") == NOT_RUNNING
    assert host.run("stop") == SUCCESS


def test_a_node_that_ends_while_it_answers_is_not_running(host):
    host.begin(promote="gone", stop="gone")
    assert host.run("promote") == NOT_RUNNING
    host.begin(stop="gone")
    assert host.run("stop") == SUCCESS


def test_the_meta_data_names_every_action_and_parameter(host):
    assert host.run("meta-data") == SUCCESS
    root = ET.fromstring(host.output)
    actions = {action.get("name") for action in root.findall("./actions/action")}
    assert actions == resourceagent.ACTIONS.keys() - {"status"}
    assert {parameter.get("name") for parameter in root.findall("./parameters/parameter")} == {
        "config",
        "arguments",
        "control",
        "program",
        "log",
    }
    assert all(text is not None and text.text for text in chain(root.iter("longdesc"), root.iter("shortdesc")))


def test_colo_says_where_the_agent_is():
    said = CliRunner().invoke(resource_agent).output
    assert Path(said.strip()).read_text().startswith("#!/usr/bin/python3 -IS\n")


def test_an_action_that_there_is_not(host):
    assert host.run("reload") == UNIMPLEMENTED
    assert host.run("usage") == SUCCESS
