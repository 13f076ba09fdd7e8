#!/usr/bin/python3 -IS
"""ocf:pycolo:colo, Pacemaker's resource agent for a node of pycolo: a promotable clone with two instances.

Promoted is the node whose guest serves, unpromoted the other one. What is decided is decided in the node; this program
starts and stops it, and passes Pacemaker's orders on to its control socket. It stands alone: it imports nothing of
pycolo, since a monitor runs every few seconds and must work, and say `not running`, where pycolo is not installed.

No action outlasts Pacemaker's time limit for it: a node that does not answer is a failure, and is killed before
this program says that it is demoted or stopped.
"""

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final, NoReturn

SUCCESS: Final = 0
GENERIC: Final = 1
UNIMPLEMENTED: Final = 3
INSTALLED: Final = 5
CONFIGURED: Final = 6
NOT_RUNNING: Final = 7
PROMOTED: Final = 8
FAILED_PROMOTED: Final = 9

CODES: Final = {"unpromoted": SUCCESS, "promoted": PROMOTED, "failed": FAILED_PROMOTED}
"""What a node says of itself, as Pacemaker's exit codes."""

ANSWER_S: Final = 4.0
"""For an answer that needs no work, and no more than half of Pacemaker's time limit."""

HANG_S: Final = 1.0
"""For a node whose main thread sleeps or is stopped while a question waits. One that waits for the processor or for a
disk has the whole time: the host is loaded."""

LOADED: Final = "RD"
"""States of such a thread in /proc: it would run if it could."""

NOTIFY_S: Final = 0.5
"""A notification needs no answer. Pacemaker runs nothing else meanwhile, not even what ends a node that hangs."""

ENDING_S: Final = 2.0
"""For a node that has closed its socket already, and is about to end by itself."""

DEMOTE_S: Final = 2.0
"""For the node to let nothing out any more: it takes milliseconds, but a takeover that is under way ends first."""

PAUSE_S: Final = 0.02

LOOK_S: Final = 0.1
"""Between two looks at whether the node hangs."""

META_DATA: Final = """<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="colo" version="1.0">
<version>1.0</version>
<longdesc lang="en">
A guest that pycolo protects: promoted on the host where it serves, unpromoted on the host where its replica runs.
To be used as a promotable clone with two instances and notify=true, in a cluster that fences.
</longdesc>
<shortdesc lang="en">Node of a pycolo pair</shortdesc>
<parameters>
<parameter name="config" unique="1" required="0">
<longdesc lang="en">The node's TOML file, the same path on both hosts; its arbiter.kind is "pacemaker".</longdesc>
<shortdesc lang="en">TOML file of `colo node`</shortdesc>
<content type="string" default=""/>
</parameter>
<parameter name="arguments" unique="0" required="0">
<longdesc lang="en">Arguments of `colo` in place of config: "primary ...", "secondary ...", with --control.</longdesc>
<shortdesc lang="en">Arguments of colo, in place of config</shortdesc>
<content type="string" default=""/>
</parameter>
<parameter name="control" unique="1" required="0">
<longdesc lang="en">Its control socket. Default: /run/colo/NAME/control.sock where config ends in NAME.toml.</longdesc>
<shortdesc lang="en">Control socket</shortdesc>
<content type="string" default=""/>
</parameter>
<parameter name="program" unique="0" required="0">
<longdesc lang="en">The program `colo`, with its path where it is not in /usr/bin.</longdesc>
<shortdesc lang="en">The program colo</shortdesc>
<content type="string" default="/usr/bin/colo"/>
</parameter>
<parameter name="log" unique="0" required="0">
<longdesc lang="en">File for the node's log lines. Default: syslog, by logger(1).</longdesc>
<shortdesc lang="en">Log file</shortdesc>
<content type="string" default=""/>
</parameter>
</parameters>
<actions>
<action name="start" timeout="40s"/>
<action name="stop" timeout="60s"/>
<action name="promote" timeout="40s"/>
<action name="demote" timeout="40s"/>
<action name="notify" timeout="20s"/>
<action name="monitor" depth="0" timeout="20s" interval="3s" role="Unpromoted"/>
<action name="monitor" depth="0" timeout="20s" interval="2s" role="Promoted"/>
<action name="meta-data" timeout="5s"/>
<action name="validate-all" timeout="20s"/>
</actions>
</resource-agent>
"""


def given(name: str, default: str = "") -> str:
    """A parameter of the resource."""
    return os.environ.get(f"OCF_RESKEY_{name}", "") or default


def meta(name: str) -> str:
    """What Pacemaker says about this call."""
    return os.environ.get(f"OCF_RESKEY_CRM_meta_{name}", "")


CONFIG: Final = given("config")
ARGUMENTS: Final = given("arguments")
PROGRAM: Final = given("program", "/usr/bin/colo")
RESOURCE: Final = os.environ.get("OCF_RESOURCE_INSTANCE", "colo").partition(":")[0]
NAME: Final = os.path.basename(CONFIG).removesuffix(".toml") or RESOURCE
CONTROL: Final = given("control", f"/run/colo/{NAME}/control.sock")
PID_FILE: Final = os.path.join(os.environ.get("HA_RSCTMP", "/run/resource-agents"), f"colo-{RESOURCE}.pid")
IS_PROBE: Final = meta("interval") in ("", "0")

STARTED: Final = time.monotonic()
LIMIT_S: Final = (int(meta("timeout")) / 1000 if meta("timeout").isdigit() else 20.0) * 0.9
"""Of Pacemaker's time limit some is kept for this program's own end."""


class NoAnswerError(Exception):
    """The node does not answer in time."""


class RefusalError(Exception):
    """The node answers that it does not do it, and why."""


def left_s() -> float:
    """Of the time limit."""
    return max(0.1, LIMIT_S - (time.monotonic() - STARTED))


def reason(text: str) -> None:
    """One line for Pacemaker's status and log."""
    print(f"ocf-exit-reason:{text}", file=sys.stderr)


def fail(code: int, text: str) -> NoReturn:
    """End with `code`, and say why."""
    reason(text)
    sys.exit(code)


# ── the node's process ──────────────────────────────────────────────────────────────────────────────────────────


def fields_of(path: str) -> list[str]:
    """The fields of a stat file in /proc, from the state on; none if there is no such process."""
    with suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(") ")[2].split()
        if fields and fields[0] not in "ZX":
            return fields
    return []


def started_at(pid: int) -> str:
    """When that process was started, in the kernel's ticks; empty when there is none."""
    fields = fields_of(f"/proc/{pid}/stat")
    return fields[19] if fields else ""


def process() -> int:
    """The node's process; 0 when there is none. The time of its start keeps a number that is used again apart."""
    with suppress(OSError, ValueError), open(PID_FILE, encoding="ascii") as file:
        pid, ticks = file.read().split()
        if started_at(int(pid)) == ticks:
            return int(pid)
    return 0


class Watch:
    """Whether the node hangs while a question waits: its main thread does not run, and could."""

    def __init__(self) -> None:
        self._path = f"/proc/{(pid := process())}/task/{pid}/stat"
        self._ran: list[str] = []
        self._since = time.monotonic()

    def hangs(self) -> bool:
        """Call this several times a second."""
        fields, now = fields_of(self._path), time.monotonic()
        ran = fields[11:13]  # the time for which it has run
        if not fields or fields[0] in LOADED or ran != self._ran:
            self._ran, self._since = ran, now
        return now - self._since >= HANG_S


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether the process ends in time."""
    ticks, until = started_at(pid), time.monotonic() + seconds
    while ticks and started_at(pid) == ticks:
        if time.monotonic() >= until:
            return False
        time.sleep(PAUSE_S)
    return True


def is_over() -> bool:
    """Whether no process of the node is left; one that listens no longer may be about to end by itself."""
    pid = process()
    return not pid or wait_for_end(pid, min(ENDING_S, LIMIT_S / 4))


def kill(pid: int) -> bool:
    """Kill it, and whether it is dead: only then does it certainly let nothing out."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if wait_for_end(pid, left_s()):
        return True
    reason(f"the node, process {pid}, cannot be killed")
    return False


def ask(action: str, seconds: float, **more: Any) -> dict[str, Any] | None:
    """The node's answer; None where no node listens. Raises `NoAnswerError`, `RefusalError`."""
    until = time.monotonic() + min(seconds, left_s())
    request = json.dumps({"command": "pacemaker", "action": action, **more}).encode() + b"\n"
    line = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(max(0.05, until - time.monotonic()))
            connection.connect(CONTROL)
            connection.sendall(request)
            while not line.endswith(b"\n"):
                if not (chunk := receive(connection, until, Watch() if action == "monitor" else None)):
                    break
                line += chunk
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    except (BlockingIOError, TimeoutError) as error:  # BlockingIOError: it has not accepted those before
        took_s = seconds - (until - time.monotonic())
        raise NoAnswerError(f"the node does not answer on {CONTROL} within {took_s:.1f} s") from error
    except OSError:  # its process has just ended
        return None
    try:
        answer = json.loads(line)
    except ValueError:
        return None if not line else refuse(f"{CONTROL}: the answer is no JSON")
    if not isinstance(answer, dict):
        refuse(f"{CONTROL}: the answer is no JSON object")
    if "error" in answer:
        refuse(str(answer["error"]))
    return answer


def receive(connection: socket.socket, until: float, watch: Watch | None) -> bytes:
    """What comes next; empty at its end. Raises `TimeoutError`, also when the node hangs."""
    while True:
        left = max(0.05, until - time.monotonic())
        connection.settimeout(left if watch is None else min(left, LOOK_S))
        try:
            return connection.recv(65536)
        except TimeoutError:
            if time.monotonic() >= until or (watch is not None and watch.hangs()):
                raise


def refuse(text: str) -> NoReturn:
    """The node refuses."""
    raise RefusalError(text)


# ── Pacemaker's tools ───────────────────────────────────────────────────────────────────────────────────────────


def tool(*words: str) -> str:
    """What the program writes; empty if it cannot be run, fails, or takes too long."""
    import subprocess  # noqa: PLC0415 - a monitor of a node that runs needs none

    with suppress(OSError, subprocess.SubprocessError):
        ended = subprocess.run(words, capture_output=True, text=True, timeout=left_s(), check=True)
        return ended.stdout.strip()
    return ""


def delete_score() -> None:
    """A dead node's score would stay, and Pacemaker would promote it for ever."""
    tool("attrd_updater", "-n", f"master-{RESOURCE}", "-D", "-d", "0")


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def look() -> int:
    """The state as an exit code."""
    try:
        answer = ask("monitor", min(ANSWER_S, LIMIT_S / 2), probe=IS_PROBE)
    except NoAnswerError as error:
        reason(str(error))
        return GENERIC
    except RefusalError as error:
        reason(str(error))
        return CONFIGURED
    if answer is not None:
        return CODES.get(str(answer.get("role")), GENERIC)
    if is_over():
        return NOT_RUNNING
    reason(f"the node runs, but does not listen on {CONTROL}")
    return GENERIC


def monitor() -> int:
    """See `look`."""
    code = look()
    if code == NOT_RUNNING and not IS_PROBE:
        delete_score()
    return code


def validate() -> int:
    """Whether the node can be started here."""
    if bool(CONFIG) == bool(ARGUMENTS):
        fail(CONFIGURED, "give either config (a node's TOML file) or arguments")
    if not os.path.isabs(CONTROL):
        fail(CONFIGURED, f"control: an absolute path, not {CONTROL}")
    if not (os.path.isfile(PROGRAM) and os.access(PROGRAM, os.X_OK)):
        fail(INSTALLED, f"{PROGRAM} is not there: install pycolo, or name the program")
    if CONFIG and not os.access(CONFIG, os.R_OK):
        fail(INSTALLED, f"{CONFIG} is not there, or cannot be read")
    return SUCCESS


def start() -> int:
    """Start the node, and wait until it answers."""
    validate()
    if tool("crm_attribute", "-t", "crm_config", "-n", "stonith-enabled", "-G", "-q") == "false":
        fail(CONFIGURED, "stonith-enabled is false: without fencing two hosts may serve the same guest")
    code = look()
    if code in (SUCCESS, PROMOTED):
        return SUCCESS
    if (pid := process()) and not kill(pid):
        return GENERIC
    os.makedirs(os.path.dirname(CONTROL), mode=0o711, exist_ok=True)
    pid = launch()
    until = time.monotonic() + left_s()
    while time.monotonic() < until:
        if not started_at(pid):
            fail(GENERIC, f"the node has ended at once: its log says why ({given('log', 'syslog')})")
        with suppress(NoAnswerError):
            try:
                if ask("monitor", ANSWER_S) is not None:
                    return SUCCESS
            except RefusalError as error:
                kill(pid)
                fail(CONFIGURED, str(error))
        time.sleep(PAUSE_S)
    kill(pid)
    fail(GENERIC, f"the node does not answer on {CONTROL} within {LIMIT_S:.0f} s")


def launch() -> int:
    """Start the node's process, with its log lines to a file or to syslog."""
    import shlex  # noqa: PLC0415 - only here
    import subprocess  # noqa: PLC0415 - only here

    words = [PROGRAM, *(["node", "--config", CONFIG] if CONFIG else shlex.split(ARGUMENTS))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCF_RESKEY_")}
    if path := given("log"):
        sink: Any = open(path, "ab")  # noqa: SIM115 - the node's from here on
    else:
        logger = ["logger", "--tag", f"colo-{RESOURCE}", "--priority", "daemon.info"]
        to_syslog = subprocess.Popen(
            logger, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        sink = to_syslog.stdin
    node = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, start_new_session=True, cwd="/"
    )
    os.makedirs(os.path.dirname(PID_FILE), exist_ok=True)
    with open(PID_FILE + ".new", "w", encoding="ascii") as file:
        file.write(f"{node.pid} {started_at(node.pid)}\n")
    os.rename(PID_FILE + ".new", PID_FILE)
    node.returncode = 0  # this program does not wait for it
    return node.pid


def stop() -> int:
    """Let the other node have the guest, if it can and is not stopped as well; then end this one."""
    delete_score()
    with suppress(NoAnswerError, RefusalError):
        ask("stop", left_s() / 3, stopping=meta("notify_stop_uname").split())
    if pid := process():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not wait_for_end(pid, left_s() / 2) and not kill(pid):
            return GENERIC
        delete_score()
    code = look()
    if code in (SUCCESS, PROMOTED):
        fail(GENERIC, f"a node that this agent has not started answers on {CONTROL}: end it")
    with suppress(OSError):
        os.unlink(PID_FILE)
    return SUCCESS


def promote() -> int:
    """The node serves, or says why it must not."""
    try:
        answer = ask("promote", left_s())
    except (NoAnswerError, RefusalError) as error:
        fail(GENERIC, str(error))
    if answer is None:
        return NOT_RUNNING if is_over() else GENERIC
    return SUCCESS


def demote() -> int:
    """The node lets nothing out any more; one that does not say so is killed. `monitor` finds one that hangs sooner."""
    why = "it runs, but does not listen"
    try:
        seconds = min(DEMOTE_S, left_s() / 2)
        if ask("monitor", seconds) is not None and ask("demote", seconds) is not None:
            return SUCCESS
    except (NoAnswerError, RefusalError) as error:
        why = str(error)
    pid = process()
    if not pid:
        return NOT_RUNNING
    reason(f"killing the node: {why}")
    return NOT_RUNNING if kill(pid) else GENERIC


def notify() -> int:
    """Tell the node that Pacemaker has stopped the other one, or is about to start it."""
    when = meta("notify_type"), meta("notify_operation")
    names = {("post", "stop"): "stopped", ("pre", "start"): "started"}
    if when in names:
        with suppress(NoAnswerError, RefusalError):
            ask("notify", NOTIFY_S, **{names[when]: meta(f"notify_{when[1]}_uname").split()})
    return SUCCESS


def show_meta_data() -> int:
    """For Pacemaker."""
    sys.stdout.write(META_DATA)
    return SUCCESS


ACTIONS: Final = {
    "start": start,
    "stop": stop,
    "promote": promote,
    "demote": demote,
    "monitor": monitor,
    "status": monitor,
    "notify": notify,
    "meta-data": show_meta_data,
    "validate-all": validate,
}


def main(arguments: list[str]) -> int:
    """Do the action; the exit code."""
    action = ACTIONS.get(arguments[0]) if len(arguments) == 1 else None
    if action is None:
        is_help = arguments in (["usage"], ["help"], ["--help"])
        print(f"usage: colo {{{'|'.join(ACTIONS)}}}", file=sys.stdout if is_help else sys.stderr)
        return SUCCESS if is_help else UNIMPLEMENTED
    return action()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
