"""Who has waited for a checkpoint, as the comparator tells it."""

from dataclasses import dataclass

from pycolo.conntrack.key import ConnectionKey


@dataclass(frozen=True, slots=True)
class Wait:
    """`count` connections whose packets a checkpoint has released.

    `connection`: the one, or one of the same port of the guest; None: of various ports. `waited_us`: from the arrival
    of the oldest of a connection's packets to the checkpoint, all connections together. `uncompared_bytes`: payload of
    connections that had differed, from the difference on.
    """

    connection: ConnectionKey | None
    count: int
    waited_us: int
    longest_us: int
    uncompared_bytes: int
