"""One TCP connection under comparison, its handshake done: both guests have answered a client's SYN."""

from support.segments import SACK_PERMITTED, Tcp, frame, mss, read, scale, timestamps
from support.traces import Comparing

ISN = 999  # of the primary; the secondary's SYN has a number of its own
SECONDARY_ISN = 0x80000007
BASE = ISN + 1
SYN_OPTIONS = mss(1460) + SACK_PERMITTED + timestamps(7) + scale(7)


def syn_ack(isn=ISN, ack=100, options=b"", **fields):
    return Tcp(isn, "SA", ack=ack, options=options, **fields)


def established(**options):
    """A comparator with one connection whose handshake is done."""
    trace = Comparing(**options)
    trace.primary(syn_ack())
    trace.secondary(syn_ack(SECONDARY_ISN))
    assert trace.out() == [read(frame(syn_ack()))]
    return trace


def both(trace, *segments):
    trace.primary(*segments)
    trace.secondary(*segments)


def brief(segments):
    return [(segment.seq, segment.flags, segment.data) for segment in segments]
