"""Which service a connection belongs to, by its name in `ConnectionKey`'s words."""

import re
from typing import Final

NONE: Final = "no connection"
"""What is due to no single connection, such as a periodic checkpoint."""

EPHEMERAL_FROM: Final = 32_768
"""Linux gives connections that it opens the ports from here on (ip_local_port_range)."""

_HOST: Final = r"(?:\[[^\]]*\]|[^\s:]+)"
_NAME: Final = re.compile(rf"(?P<proto>\S+) {_HOST}(?::(?P<ours>\d+))? > {_HOST}(?::(?P<theirs>\d+))?")


def service_of(connection: str | None) -> str:
    """`tcp port 5432`; `tcp to port 443` for a connection that the guest has opened; `icmp` without ports.

    Who has opened it is told by the numbers: the guest has if its port is an ephemeral one, and the other's is not.
    """
    found = _NAME.match(connection or "")
    if found is None:
        return NONE
    proto, ours, theirs = found["proto"], int(found["ours"] or 0), int(found["theirs"] or 0)
    if not ours and not theirs:
        return proto
    is_guests = ours >= EPHEMERAL_FROM > theirs > 0 or not ours
    return f"{proto} to port {theirs}" if is_guests else f"{proto} port {ours}"
