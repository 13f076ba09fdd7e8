"""The table `[[order]]`. Its docstrings are Markdown: docs/configuration.md is made of them."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec

from pycolo import limits
from pycolo.config import keys
from pycolo.config.keys import Key, WrongError
from pycolo.config.section import Section
from pycolo.order.tuner import Mode, Tuner

PORT_MAX: Final = (1 << 16) - 1


def _ports() -> Key:
    """An array of TCP ports."""
    expected = f"an array of 1 to {limits.ORDERED_PORTS_MAX} ports, such as [5432, 6379]"

    def read(value: object) -> list[int]:
        if not isinstance(value, list) or not 0 < len(value) <= limits.ORDERED_PORTS_MAX:
            raise WrongError(expected, value)
        for number, port in enumerate(value):
            if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= PORT_MAX:
                raise WrongError(f"a port from 1 to {PORT_MAX}", port, f"[{number}]")
        return list(value)

    return Key(expected, read)


class OrderOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ports whose requests are given to both guests in the same order, so that similar guests stay similar; see
    [The order of requests](order.md). Without a table all ports are in the mode `auto`, if `compare.ack_policy` is
    `commit`: other policies allow no order.
    """

    ports: Annotated[list[int], _ports()] = msgspec.field(default_factory=list)
    """TCP ports of the guest's services. Without this key: all that no other table names."""

    mode: Annotated[str, keys.choice("follow", "auto", "off")] = "auto"
    """`follow`: ordered from the start. `auto`: as soon as clients of a port wait for checkpoints more than a fifth of
    the time, or there were three mutual waits in ten seconds, as long as that helps. `off`: never.
    """

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """All ports together are not ordered from the start."""
        if self.mode == "follow" and not self.ports:
            yield "ports", 'the ports to order, since mode is "follow"', None


def contradictions(tables: Sequence[OrderOptions], ack_policy: str) -> Iterator[tuple[str, str, object]]:
    """Of all tables: each port is named once, and what is not mirrored must not be acknowledged."""
    seen: dict[int, int] = {}
    for number, table in enumerate(tables):
        if table.mode != "off" and ack_policy != "commit":
            yield f"order[{number}].mode", '"off", or compare.ack_policy = "commit" with it', table.mode
        if not table.ports and any(not other.ports for other in tables[:number]):
            yield f"order[{number}].ports", "ports: only one table is for all others", None
        for port in table.ports:
            if port in seen:
                yield f"order[{number}].ports", f"other ports than order[{seen[port]}] has", port
            seen.setdefault(port, number)


def tuner(tables: Sequence[OrderOptions], ack_policy: str) -> Tuner:
    """What these tables mean for one data path."""
    default = Mode.AUTO if ack_policy == "commit" else Mode.OFF
    modes = {port: Mode(table.mode) for table in tables for port in table.ports}
    others = next((Mode(table.mode) for table in tables if not table.ports), default)
    return Tuner(modes, others)
