"""What a node remembers of its divergences: the last ones with bytes, more connections without, both bounded."""

from ipaddress import IPv4Address

from pycolo.compare.difference import Difference, ReportDifference, on_card
from pycolo.compare.kinds import DifferenceKind
from pycolo.conntrack.key import ConnectionKey
from pycolo.node.divergences import CONNECTIONS_KEPT, KEPT, Divergences


def report(port: int | None, kind: DifferenceKind = DifferenceKind.PAYLOAD) -> ReportDifference:
    key = None
    if port is not None:
        key = ConnectionKey(6, IPv4Address(2), IPv4Address(0x0A000000 + (port >> 16)), 80, port & 0xFFFF)
    return ReportDifference(Difference(kind, key, 1, 0, b"a", 0, b"b", 0))


def test_of_each_connection_the_latest_is_kept():
    divergences = Divergences("report")
    divergences.note([report(1), report(2), report(1, DifferenceKind.FIN)])
    answer = divergences.answer()
    assert answer["total"] == 3
    assert [(each["connection"][-4:], each["kind"]) for each in answer["connections"]] == [
        ("0.0:2"[-4:], "payload"),
        ("0.0:1"[-4:], "fin"),
    ]


def test_both_lists_are_bounded_and_keep_the_last():
    divergences = Divergences("report")
    divergences.note(report(port) for port in range(CONNECTIONS_KEPT + 10))
    answer = divergences.answer()
    assert len(answer["divergences"]) == KEPT
    assert len(answer["connections"]) == CONNECTIONS_KEPT
    assert answer["total"] == CONNECTIONS_KEPT + 10
    assert answer["connections"][-1]["connection"].endswith(f":{CONNECTIONS_KEPT + 9}")


def test_what_is_no_single_connection_s_is_counted_alone():
    divergences = Divergences("report")
    divergences.note([report(None, DifferenceKind.TABLE_FULL)])
    assert divergences.answer()["connections"] == []
    assert divergences.answer()["total"] == 1


def test_of_several_cards_each_divergence_says_which():
    divergences = Divergences("report")
    divergences.note([report(1), *on_card("hn1", [report(2)])])
    answer = divergences.answer()
    for name in ("divergences", "connections"):
        assert [each["card"] for each in answer[name]] == [None, "hn1"]
    assert " on hn1: " in answer["divergences"][1]["text"]
