"""Noise masks (C7): what may differ, what may not, and what looking costs. The property test has any patterns."""

from itertools import pairwise

import pytest

from pycolo.compare.flows import Flow
from pycolo.compare.kinds import PacketFate
from pycolo.compare.noise import Mask
from support.segments import FLOW, Tcp
from support.segments import Flow as Talk
from support.traces import Comparing

BASE = 1000
WEB = (Flow(6, guest_ports=(80, 80)),)
DATE = Mask("date", r"Date: [^\r\n]{8}\r\n", WEB)
IDENTITY = Mask("id", r"Id: [0-9a-f]{4,6};", WEB)
BEFORE, BEHIND = b"HTTP/1.1 200 OK\r\nDate: ", b"\r\nLength: 2\r\n\r\nok"
MINE, THEIRS = BEFORE + b"20:15:59" + BEHIND, BEFORE + b"20:16:00" + BEHIND


def compared(*masks, **options):
    return Comparing(masks=masks or (DATE, IDENTITY), **options)


def say(trace, side, octets, seq=BASE, cuts=(), flow=FLOW):
    """In segments that end at `cuts`."""
    edges = [0, *cuts, len(octets)]
    for start, end in pairwise(edges):
        getattr(trace, side)(Tcp(seq + start, "A", octets[start:end], ack=100, flow=flow))


def left(trace):
    return b"".join(segment.data for segment in trace.out())


def counts(trace):
    return trace.core.tcp.masks.counts()


@pytest.mark.rule("C7")
@pytest.mark.parametrize("first", ["primary", "secondary"])
def test_what_a_mask_matches_may_differ_and_the_client_gets_the_primarys(first):
    trace = compared()
    second = {"primary": "secondary", "secondary": "primary"}[first]
    for side in (first, second):
        say(trace, side, MINE if side == "primary" else THEIRS)
    assert left(trace) == MINE
    assert trace.differences() == []
    assert counts(trace) == {"date": (1, 3), "id": (0, 0)}
    trace.assert_empty()


@pytest.mark.rule("C7")
@pytest.mark.parametrize("cuts", [(), (25,), (17, 20, 28, 32), tuple(range(1, 50))])
@pytest.mark.parametrize("other_cuts", [(), (19, 27), tuple(range(2, 50, 3))])
@pytest.mark.parametrize("first", ["primary", "secondary"])
def test_it_may_be_cut_anywhere(cuts, other_cuts, first):
    trace = compared()
    if first == "primary":
        say(trace, "primary", MINE, cuts=cuts)
    say(trace, "secondary", THEIRS, cuts=other_cuts)
    if first == "secondary":
        say(trace, "primary", MINE, cuts=cuts)
    assert left(trace) == MINE
    assert trace.differences() == []


@pytest.mark.rule("C7")
@pytest.mark.parametrize("cut", [22, 26, 34])
@pytest.mark.parametrize(
    "talk", [Talk(version=6), Talk(tags=(7,)), Talk(tags=(7, 8)), Talk(version=6, tags=(7,))], ids=repr
)
def test_it_is_for_every_way_to_the_port(talk, cut):
    """Sent again and overlapping, with the cut within the match."""
    trace = compared()
    say(trace, "primary", MINE[: cut + 3], flow=talk)
    say(trace, "secondary", THEIRS[:cut], flow=talk)
    say(trace, "secondary", THEIRS[cut - 5 :], seq=BASE + cut - 5, flow=talk)
    say(trace, "primary", MINE[cut - 9 :], seq=BASE + cut - 9, flow=talk)
    assert trace.differences() == []
    assert left(trace) == MINE[: cut + 3] + MINE[cut - 9 :]
    assert counts(trace)["date"] == (1, 3)


@pytest.mark.rule("C7")
def test_the_frontier_waits_where_a_match_may_yet_end():
    trace = compared()
    say(trace, "primary", MINE)
    say(trace, "secondary", THEIRS[:30])
    assert left(trace) == b""
    assert trace.differences() == []
    say(trace, "secondary", THEIRS[30:], seq=BASE + 30)
    assert left(trace) == MINE


@pytest.mark.rule("C7")
def test_it_waits_no_longer_than_anything_else():
    trace = compared(compare_timeout_ms=10, scan_cycle_ms=10)
    say(trace, "primary", MINE[:30])
    say(trace, "secondary", THEIRS[:30])
    trace.wait(100)
    assert {difference.kind.name for difference in trace.differences()} <= {"TIMEOUT", "SECONDARY_TIMEOUT"}
    assert left(trace) == BEFORE + b"20:1", "what is equal leaves"


@pytest.mark.rule("C7")
@pytest.mark.parametrize("ends", ["primary", "secondary"])
def test_a_stream_that_ends_within_a_match_differs_at_once(ends):
    trace = compared()
    say(trace, "primary", MINE[:30])
    say(trace, "secondary", THEIRS[:30])
    getattr(trace, ends)(Tcp(BASE + 30, "FA", ack=100))
    assert [difference.kind.name for difference in trace.differences()] == ["PAYLOAD"]


@pytest.mark.rule("C7", "C5")
@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (MINE, THEIRS[:-1] + b"x"),  # behind the match
        (MINE, b"h" + THEIRS[1:]),  # in front of it
        (MINE, BEFORE + b"9:16:00" + BEHIND + b"!"),  # of another length
        (MINE, BEFORE + b"20:16:00\r\rLength: 2\r\n\r\nok"),  # no match on one side
        (MINE.replace(b"Date", b"Data"), THEIRS.replace(b"Date", b"Data")),  # none on either
        (b"Id: abcd;", b"Id: abcde;"),  # both match, at different lengths
    ],
)
def test_anything_else_is_a_difference(mine, theirs):
    trace = compared()
    say(trace, "primary", mine)
    say(trace, "secondary", theirs)
    assert [difference.kind.name for difference in trace.differences()] == ["PAYLOAD"]


@pytest.mark.rule("C7")
def test_it_is_for_its_ports_only():
    trace = compared()
    other = Talk(guest_port=81)
    say(trace, "primary", MINE, flow=other)
    say(trace, "secondary", THEIRS, flow=other)
    assert len(trace.differences()) == 1


@pytest.mark.rule("C7", "C9")
def test_what_is_sent_again_is_compared_with_what_the_client_got():
    trace = compared()
    say(trace, "primary", MINE)
    say(trace, "secondary", THEIRS)
    say(trace, "primary", MINE[20:30], seq=BASE + 20)
    say(trace, "secondary", THEIRS[10:], seq=BASE + 10)
    assert left(trace) == MINE + MINE[20:30]
    assert trace.differences() == []
    say(trace, "primary", THEIRS[20:40], seq=BASE + 20)
    assert [difference.kind.name for difference in trace.differences()] == ["PAYLOAD"], "the guest contradicts itself"


@pytest.mark.rule("C7", "C9")
def test_the_secondary_repeats_what_was_masked_and_says_more():
    trace = compared()
    say(trace, "primary", MINE)
    say(trace, "secondary", THEIRS[:33])
    say(trace, "secondary", THEIRS[20:], seq=BASE + 20)
    say(trace, "primary", MINE[20:], seq=BASE + 20)
    assert trace.differences() == []
    assert left(trace) == MINE + MINE[20:]


@pytest.mark.rule("C7")
def test_a_match_begins_in_what_the_client_has_acknowledged():
    trace = compared()
    trace.client(Tcp(99, "S", from_client=True))
    trace.primary(Tcp(BASE - 1, "SA", ack=100))
    trace.secondary(Tcp(77, "SA", ack=100))
    trace.client(Tcp(100, "A", ack=BASE, from_client=True))
    for side in ("primary", "secondary"):
        say(trace, side, BEFORE)
    trace.client(Tcp(100, "A", ack=BASE + len(BEFORE), from_client=True))
    say(trace, "primary", MINE[len(BEFORE) :], seq=BASE + len(BEFORE))
    say(trace, "secondary", THEIRS[len(BEFORE) :], seq=BASE + len(BEFORE))
    assert left(trace) == MINE
    assert trace.differences() == []


@pytest.mark.rule("C7")
def test_what_a_checkpoint_released_is_no_part_of_a_match():
    """It was never compared: whether the secondary said the same is not known."""
    trace = compared()
    for side in ("primary", "secondary"):
        say(trace, side, b"HTTP")
    say(trace, "primary", BEFORE[4:], seq=BASE + 4)
    trace.commit()
    say(trace, "primary", MINE[len(BEFORE) :], seq=BASE + len(BEFORE))
    say(trace, "secondary", THEIRS[len(BEFORE) :], seq=BASE + len(BEFORE))
    assert len(trace.differences()) == 1


# ── what it costs ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C7")
def test_without_a_difference_nothing_is_looked_at():
    trace = compared()
    for number in range(50):
        for side in ("primary", "secondary"):
            say(trace, side, MINE, seq=BASE + number * len(MINE), cuts=(20, 24))
    assert left(trace) == 50 * MINE
    assert trace.core.tcp.masks.steps == 0


HOSTILE = [
    Mask("letters", "(a?){24}(a|b){0,24}", WEB),
    Mask("pairs", "(a{1,10}){1,10}b", WEB),
    Mask("any", ".{1,300}", WEB),
]


@pytest.mark.rule("C7")
@pytest.mark.parametrize("mask", HOSTILE, ids=[mask.name for mask in HOSTILE])
@pytest.mark.parametrize("size", [1, 7, 700])
def test_time_is_linear_whatever_the_bytes_are(mask, size):
    """Each byte is looked at a few times; a frame that ends nothing, at the bytes of a longest match of either kind."""
    trace = compared(mask)
    given = 0
    while given < 7000 and not trace.core.held.checkpoint_wanted:
        say(trace, "primary", b"a" * size, seq=BASE + given)
        say(trace, "secondary", (b"a" if given // size % 2 else b"b") * size, seq=BASE + given)
        given += size
    masks = trace.core.tcp.masks
    assert masks.steps > 0
    assert masks.steps <= 8 * given + 8 * masks.longest * (2 * given // size)


@pytest.mark.rule("C7")
def test_a_stream_that_differs_everywhere_is_looked_at_a_few_times():
    """Matches that are under way at the end of one are known at the next."""
    trace = compared(Mask("any", "[ab]{1,900}", WEB))
    say(trace, "primary", b"a" * 1400)
    say(trace, "secondary", b"b" * 1400)
    assert left(trace) == b"a" * 1400
    assert trace.core.tcp.masks.steps <= 8 * 1400
    assert counts(trace) == {"any": (1400, 1400)}


# ── captures ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C7")
def test_a_capture_has_the_secondarys_packet_once_and_as_it_came():
    trace = compared()
    trace.core.held.trace.start(1 << 16)
    say(trace, "secondary", THEIRS)
    say(trace, "primary", MINE)
    found = [(packet.side, packet.fate) for packet in trace.core.held.trace.take() if packet.frame.endswith(b"ok")]
    assert sorted(found) == [(0, PacketFate.RELEASED), (1, PacketFate.MASKED)]


@pytest.mark.rule("C7", "C5")
@pytest.mark.parametrize("cuts", [(), (27,), (23, 25, 26, 29)])
def test_a_report_says_which_bytes_in_front_of_the_difference_were_masked(cuts):
    """Of the secondary's the primary's are kept there; the difference itself is shown as it is."""
    trace = compared()
    say(trace, "primary", MINE, cuts=cuts)
    say(trace, "secondary", THEIRS.replace(b"Length: 2", b"Length: 3"))
    (difference,) = trace.differences()
    at = MINE.index(b"2\r\n\r\nok")
    assert difference.seq == BASE + at
    differed = [place for place, (one, other) in enumerate(zip(MINE, THEIRS, strict=True)) if one != other]
    assert differed
    assert difference.masked_positions == [place - at for place in differed]
    assert difference.primary[difference.primary_index :][:1] == b"2"
    assert difference.secondary[difference.secondary_index :][:1] == b"3"


@pytest.mark.rule("C7", "C5")
def test_what_was_masked_long_before_is_in_no_report():
    long = b"x" * 80
    trace = compared()
    say(trace, "primary", MINE + long + b"a")
    say(trace, "secondary", THEIRS + long + b"b")
    assert [difference.masked for difference in trace.differences()] == [0]
