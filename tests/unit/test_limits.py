"""Each bound of `limits` is the one that the program goes by."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

import pycolo
from pycolo import limits
from pycolo.core import Span, frame_at
from pycolo.wire.kinds import PacketKind, Refusal
from support.frames import parse

SOURCE = Path(pycolo.__file__).parent
NAMES = re.findall(r"^([A-Z][A-Z0-9_]+): Final", (SOURCE / "limits.py").read_text(encoding="utf-8"), re.MULTILINE)
SEGMENT = TCP(sport=1, dport=2, flags="A")
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}  # else scapy asks the network for a second


def product() -> str:
    """All that is compiled or run of it, without `limits` itself."""
    files = [path for path in SOURCE.rglob("*") if path.suffix in {".py", ".pyx", ".pxi"}]
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path != SOURCE / "limits.py")


def test_each_is_used_by_the_product():
    used = set(re.findall(r"\blimits\.([A-Z][A-Z0-9_]+)\b", product()))
    assert NAMES
    assert set(NAMES) - used == set()


def test_none_is_used_that_is_not_there():
    assert set(re.findall(r"\blimits\.([A-Z][A-Z0-9_]+)\b", product())) <= set(NAMES)


def test_each_has_its_reason():
    body = ast.parse((SOURCE / "limits.py").read_text(encoding="utf-8")).body
    for statement, below in pairwise(body):
        if isinstance(statement, ast.AnnAssign):
            assert isinstance(below, ast.Expr), ast.unparse(statement)
            assert isinstance(below.value, ast.Constant), ast.unparse(statement)


@pytest.mark.parametrize("tags", range(limits.VLAN_TAGS_MAX + 2))
def test_so_many_vlan_tags_are_looked_behind(tags):
    frame = Ether(**MACS)
    for tag in range(tags):
        frame /= Dot1AD(vlan=5) if tag == 0 and tags > 1 else Dot1Q(vlan=7)
    packet = parse(bytes(frame / IP(src="10.0.0.1", dst="10.0.0.2") / SEGMENT)).packet
    assert packet.kind == (PacketKind.TCP if tags <= limits.VLAN_TAGS_MAX else PacketKind.PASS)


@pytest.mark.parametrize("headers", [0, limits.IPV6_EXTENSION_HEADERS_MAX, limits.IPV6_EXTENSION_HEADERS_MAX + 1])
def test_so_many_extension_headers_are_looked_behind(headers):
    frame = Ether(**MACS) / IPv6(src="2001:db8::1", dst="2001:db8::2")
    for _ in range(headers):
        frame /= IPv6ExtHdrDestOpt()
    packet = parse(bytes(frame / SEGMENT)).packet
    assert packet.kind == (PacketKind.TCP if headers <= limits.IPV6_EXTENSION_HEADERS_MAX else PacketKind.REFUSED)


@pytest.mark.parametrize("size", [0, limits.FRAME_BYTES_MIN - 1, limits.FRAME_BYTES_MIN])
def test_a_shorter_frame_is_refused(size):
    packet = parse(bytes(size)).packet
    assert (packet.refusal == Refusal.SHORT) == (size < limits.FRAME_BYTES_MIN)


@pytest.mark.parametrize("size", range(40))
def test_a_vnet_header_has_one_of_these_lengths(size):
    stream = (100).to_bytes(4, "big") + size.to_bytes(4, "big") + bytes(100)
    found = frame_at(bytearray(stream), 0, len(stream), True, Span())
    assert found == (1 if size in limits.VNET_HEADER_BYTES else 2)
