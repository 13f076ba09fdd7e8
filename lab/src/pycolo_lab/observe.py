"""Watching without touching: kernel counters of a namespace, and the nodes' own account on their control
sockets."""

import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.facts import NodeStatus
from pycolo_lab.namespaces import Namespace

CLEAN: Final = ("TcpExtTSEcrRejected", "TcpExtPAWSEstab", "TcpExtBeyondWindow", "TcpOutRsts")
"""Each of these in guest B is a packet that the proxy got wrong: an echoed timestamp that the guest never
sent, one that runs backwards, data beyond the window the guest offered, and the guest's own protest against a
packet that fits no connection. In a sound run they stay at 0."""

SHOWN: Final = (
    *CLEAN,
    "TcpEstabResets",
    "TcpAttemptFails",
    "TcpPassiveOpens",
    "TcpInSegs",
    "TcpOutSegs",
    "TcpRetransSegs",
    "TcpInErrs",
    "TcpInCsumErrors",
    "TcpExtTCPTimeouts",
    "TcpExtTCPLossProbes",
    "TcpExtTCPChallengeACK",
    "TcpExtTCPSACKDiscard",
    "TcpExtTCPDSACKRecv",
    "TcpExtTCPOFOQueue",
    "TcpExtTCPAbortOnTimeout",
    "TcpExtListenDrops",
)

STATUS_BYTES_MAX: Final = 1 << 20
"""A node's answer lists its divergences; a node that sends more than this on one line is not answering us."""

ANSWER_STEP_S: Final = 0.002
"""Between two looks for an answer that is waited for."""

_REQUEST: Final = b'{"command":"status"}\n'


def parse_counters(lines: Iterable[str]) -> dict[str, int]:
    """Read /proc/net/snmp or /proc/net/netstat: pairs of lines, names and values. Named as `nstat` names
    them."""
    found: dict[str, int] = {}
    names: list[str] = []
    for line in lines:
        group, _, rest = line.partition(":")
        words = rest.split()
        if names and words and words[0].lstrip("-").isdigit():
            found.update((f"{group}{name}", int(value)) for name, value in zip(names, words, strict=False))
            names = []
        else:
            names = words
    return found


def read_counters(namespace: Namespace) -> dict[str, int]:
    """Every IP and TCP counter of the namespace's kernel."""
    found: dict[str, int] = {}
    with namespace.entered():
        for name in ("snmp", "netstat"):
            found.update(parse_counters(Path("/proc/thread-self/net", name).read_text().splitlines()))
    return found


class NodeProbe:
    """Asks a node for its status without ever waiting: `poll` now and then, `status` is the latest answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._buffer = b""
        self.status: NodeStatus | None = None

    def poll(self) -> None:
        """Take an answer that has come, and ask again. A node that is not there (yet, any more) changes
        nothing."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self._socket.connect(str(self._path))
                self._socket.send(_REQUEST)
                self._buffer = b""
            self._receive()
        except BlockingIOError:
            return
        except (OSError, msgspec.DecodeError):
            self.close()

    def _receive(self) -> None:
        assert self._socket is not None
        received = self._socket.recv(1 << 16)
        self._buffer += received
        if b"\n" in self._buffer:
            self.status = msgspec.json.decode(self._buffer.partition(b"\n")[0], type=NodeStatus)
            self.close()
        elif not received or len(self._buffer) > STATUS_BYTES_MAX:
            self.close()

    def refresh(self, timeout_s: float, rest: Callable[[float], None]) -> None:
        """Ask now and wait for the answer, for a bounded time: for the moment before a kill, and for the
        end. Without an answer the latest one stays."""
        self.close()
        before, deadline = self.status, time.monotonic() + timeout_s
        while self.status is before and time.monotonic() < deadline:
            self.poll()
            rest(ANSWER_STEP_S)

    def close(self) -> None:
        """Forget the question that is under way."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
