"""The beginning of a row's connections, and what each end sends then: shared by `sessions` and `counted`."""

from collections.abc import Iterator
from typing import Final

from loads import ACK, SYN, Cycle, Ends, Traffic, cycle, handshake

PRIMARY_ISN: Final = 1000
SECONDARY_ISN: Final = 900_000
CLIENT_ISN: Final = 5000

APART: Final = SECONDARY_ISN - PRIMARY_ISN
"""The offset that a rewriter learns."""

STEPS_MIN: Final = 500
"""Size of a replica's cycle, all connections together: with few connections each sends more."""


def begun_alike(traffic: Traffic, flows: int) -> bytes:
    """Frames of each replica before its cycles, for a comparator; none for datagrams."""
    return handshake(traffic, flows, Ends(), SYN | ACK)


def of_replica(traffic: Traffic, side: str, flows: int) -> Cycle:
    """A cycle of "primary" or "secondary"."""
    return cycle(traffic, side, flows, repeat=max(1, STEPS_MIN // flows))


def begun_apart(traffic: Traffic, flows: int) -> Iterator[tuple[bytes, bool]]:
    """The handshakes as a rewriter receives them, and whether each comes from the clients."""
    for ends, flags in ((_client(traffic), SYN), (_guest(traffic), SYN | ACK), (_client(traffic), ACK)):
        yield handshake(traffic, flows, ends, flags), ends.from_client


def of_guest(traffic: Traffic, flows: int) -> Cycle:
    """A cycle of the secondary's guest, with its own numbers."""
    return cycle(traffic, "primary", flows, _guest(traffic))


def of_clients(traffic: Traffic, flows: int) -> Cycle:
    """A cycle of the clients, which know the primary's numbers."""
    return cycle(traffic, "primary", flows, _client(traffic))


def _guest(traffic: Traffic) -> Ends:
    return Ends(False, SECONDARY_ISN + 1, CLIENT_ISN + 1, sum(traffic.primary))


def _client(traffic: Traffic) -> Ends:
    return Ends(True, CLIENT_ISN + 1, PRIMARY_ISN + 1, sum(traffic.primary))
