"""`--hold`: a run stops before its kill, and after it, and follows commands.

This module answers the user's queries: state, divergences, how to get inside. The run itself kills, fails over and
ends.
"""

from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final, TextIO

from pycolo.errors import PycoloError
from pycolo.node.control import ask
from pycolo.node.sidebyside import divergence_lines
from pycolo_lab.causes import NOT_PROTECTED, common_cause
from pycolo_lab.facts import NodeStatus
from pycolo_lab.processes import Host, Process
from pycolo_lab.prompt import END, FAILOVER, KILL, Answer, Prompt
from pycolo_lab.stage import Stage

SHOWN_DIVERGENCES: Final = 3
ASK_S: Final = 1.0

GUEST_NAMESPACES: Final = "--mount --net --pid --uts --ipc"
NETWORK: Final = "--mount --net"

_COUNTERS: Final = ("compared", "released", "held", "divergences", "rewritten")


class Hold:
    """The prompt of a run on `stage`. `more`: lines for the status; `out`: the user's terminal."""

    def __init__(self, stage: Stage, *, as_root: bool, more: Callable[[], list[str]], out: TextIO) -> None:
        self._stage = stage
        self._user = "" if as_root else " --user --preserve-credentials"
        self._more = more
        self._shell: Process | None = None
        self._is_dead = False
        self._prompt = Prompt(self._answers(), out)
        self.rooms: dict[str, int] = {}
        """Process 1 of a guest that has processes of its own, by its server's name."""
        self.last_divergences: dict[str, Any] | None = None
        """Of a primary that has died."""

    def open(self, what: str) -> None:
        """From here on commands are read."""
        client = self._stage.topology.client
        # It is only there to be entered.
        self._shell = self._stage.processes.start("shell", Host.CLIENT, client, ["sleep", "infinity"])
        self._prompt.open([f"held before the kill: {what}", *self._ways_in()])

    def command(self) -> str | None:
        """KILL, FAILOVER or END, once one of them was given."""
        return self._prompt.look()

    def killed(self) -> None:
        """The run has killed host A."""
        self._is_dead = True
        self._prompt.done("")

    def failed_over(self) -> None:
        """The run has told host B to serve."""
        self._prompt.done("")

    def is_over(self, kill: Callable[[], None]) -> bool:
        """After the fault: execute commands; returns whether to end. `kill`: host A, if it is alive."""
        command = self._prompt.look()
        if command == KILL and not self._is_dead:
            kill()
            self.killed()
        elif command == KILL:
            self._prompt.done("host A is dead already")
        elif command == FAILOVER:
            self._prompt.done(self.failover())
        return command == END

    def _answers(self) -> dict[str, Answer]:
        return {
            "status": Answer("the state of both nodes and of the clients", self._status),
            "divergences": Answer("where the two guests' answers differed, byte by byte", self._divergences),
            "shell": Answer("how to get into the client, the guests and the hosts", self._ways_in),
        }

    def _ways_in(self) -> list[str]:
        """A command for each place, to be typed in another terminal."""
        places = [("client", self._shell, NETWORK)]
        places += [(f"guest {letter.upper()}", self._named(f"server-{letter}"), NETWORK) for letter in "ab"]
        places += [("host A", self._named("primary"), NETWORK), ("host B", self._named("secondary"), NETWORK)]
        lines = ["In another terminal, as the same user:"]
        for name, process, namespaces in places:
            if process is None or process.exit_code() is not None:
                lines.append(f"  {name:<8} gone")
                continue
            room = self.rooms.get(process.name)
            pid, what = (process.pid, namespaces) if room is None else (room, GUEST_NAMESPACES)
            lines.append(f"  {name:<8} nsenter --target {pid}{self._user} {what}")
        sockets = ", ".join(str(self._stage.control_socket(role)) for role in self._stage.probes)
        return [*lines, f"The nodes' control sockets, as seen from there: {sockets}"]

    def failover(self) -> str:
        """Tell host B's node to serve. Returns its answer."""
        try:
            answer = ask(self._stage.control_socket("secondary"), {"command": "failover"}, timeout_s=ASK_S)
        except PycoloError as error:
            return str(error)
        return f"host B's node: {answer.get('state')}, term {answer.get('term')}"

    def remember_divergences(self, timeout_s: float) -> dict[str, Any] | None:
        """Ask the primary for the last time."""
        try:
            self.last_divergences = ask(
                self._stage.control_socket("primary"), {"command": "divergences"}, timeout_s=timeout_s
            )
        except PycoloError:
            return None
        return self.last_divergences

    def _named(self, name: str) -> Process | None:
        return self._stage.processes.named(name)

    def _status(self) -> list[str]:
        for probe in self._stage.probes.values():
            probe.poll()
        primary = self._stage.probes.get("primary")
        return [
            f"  host A   {_in_words(primary.status) if primary else 'dead, or retired'}",
            f"  host B   {_in_words(self._stage.probes['secondary'].status)}",
            *(f"  {line}" for line in self._more()),
        ]

    def _divergences(self) -> list[str]:
        found = self.last_divergences
        if "primary" in self._stage.probes:
            found = self.remember_divergences(ASK_S)
        if found is None:
            return ["  host A's node does not answer"]
        if not found["total"]:
            return ["  none: both guests have given the same answers so far"]
        lines = [f"  {found['total']} reported, {len(found['connections'])} connections; the last ones:"]
        for divergence in found["divergences"][-SHOWN_DIVERGENCES:]:
            lines += [*divergence_lines(divergence, monotonic_ns()), f"  usually: {common_cause(divergence)}", ""]
        return [*lines, NOT_PROTECTED]


def _in_words(status: NodeStatus | None) -> str:
    if status is None:
        return "starting"
    counters = ", ".join(f"{status.counters[name]:,} {name}" for name in _COUNTERS if status.counters.get(name))
    return f"{status.role} {status.state}" + (f": {counters}" if counters else "")
