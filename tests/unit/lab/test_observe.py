"""Kernel counters and the nodes' status."""

import json
import os
import socket
import time
from pathlib import Path

from pycolo_lab.facts import NodeStatus
from pycolo_lab.observe import CLEAN, SHOWN, NodeProbe, parse_counters

SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 2 64
Tcp: RtoAlgorithm MaxConn OutRsts
Tcp: 1 -1 7
"""


def test_counters_are_named_as_nstat_names_them() -> None:
    assert parse_counters(SNMP.splitlines()) == {
        "IpForwarding": 2,
        "IpDefaultTTL": 64,
        "TcpRtoAlgorithm": 1,
        "TcpMaxConn": -1,
        "TcpOutRsts": 7,
    }


def test_this_kernel_has_nearly_every_counter_that_is_shown() -> None:
    lines = [line for name in ("snmp", "netstat") for line in Path("/proc/net", name).read_text().splitlines()]
    missing = set(SHOWN) - set(parse_counters(lines))
    # Linux before 6.15 has neither; they then count as 0.
    assert missing <= {"TcpExtTSEcrRejected", "TcpExtBeyondWindow"}
    assert set(CLEAN) <= set(SHOWN)


def nothing_yet() -> NodeStatus | None:
    return None


class Node:
    """Answers one question on a unix socket, when told to."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "node.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()

    def answer(self, text: bytes) -> bytes:
        connection, _ = self.listener.accept()
        with connection:
            asked = connection.recv(4096)
            connection.sendall(text)
        return asked


STATUS = {
    "role": "primary",
    "state": "protected",
    "term": 1,
    "peer": {"anything": ["at", "all"]},
    "counters": {"compared": 5},
    "takeover": None,
    "hold_us": {"p50": 1, "p99": 2.5, "max": 3},
    "a key of a later version": True,
}


def test_probe_never_waits_and_takes_the_answer_when_it_is_there(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with node.listener:
        probe = NodeProbe(node.path)
        started = time.monotonic()
        for _ in range(50):
            probe.poll()
        assert time.monotonic() - started < 20, "it waited"
        assert probe.status == nothing_yet()
        line = json.dumps(STATUS).encode() + b"\n"
        assert json.loads(node.answer(line)) == {"command": "status"}
        probe.poll()
        assert probe.status is not None
        assert (probe.status.state, probe.status.counters) == ("protected", {"compared": 5})
        assert probe.status.hold_us is not None
        assert probe.status.hold_us.p99 == 2.5
        probe.close()


def test_probe_survives_a_node_that_is_gone_or_talks_nonsense(tmp_path: Path) -> None:
    probe = NodeProbe(tmp_path / "node.sock")
    probe.poll()
    node = Node(tmp_path)
    with node.listener:
        for nonsense in (b"", b"{\n", b"[]\n", b'{"role":1}\n', b"x" * 1000):
            probe.poll()
            node.answer(nonsense)
            probe.poll()
            probe.poll()
            probe.close()
            node.listener.setblocking(False)
            try:
                node.listener.accept()[0].close()
            except BlockingIOError:
                pass
            node.listener.setblocking(True)
    os.unlink(node.path)
    probe.poll()
    probe.refresh(0.1, time.sleep)
    assert probe.status is None
