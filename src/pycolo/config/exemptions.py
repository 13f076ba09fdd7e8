"""The tables of what need not be equal (rule C7)."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated, Final

import msgspec

from pycolo import limits
from pycolo.compare.flows import ALL_PORTS, Flow, Network
from pycolo.compare.noise import Mask, TooManyError
from pycolo.compare.noise import tables as compile_masks
from pycolo.config import flowkeys, keys
from pycolo.config.section import Section

ANY: Final = "any"

PROTOCOLS: Final = {"tcp": (6,), "udp": (17,), "icmp": (1, 58), "sctp": (132,), "esp": (50,), "gre": (47,)}
"""By the numbers of IP; ICMP has two, one for each version."""

WITH_PORTS: Final = ("tcp", "udp", "sctp")

IN: Final = "in"
OUT: Final = "out"
DIRECTIONS: Final = (IN, OUT, "both")


class BypassOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Connections that are never compared: one table for each kind, 16 at most. Everything that a table says must be
    true of a connection, in whatever VLAN it is; at least one of protocol, addresses and ports is needed.

    The primary's packets of such a connection leave at once, and the secondary's are discarded. See
    [What need not be equal](exemptions.md) for what that means for a failover.
    """

    protocol: Annotated[str, keys.choice(*PROTOCOLS, ANY)] = ANY
    """`any` with `ports` stands for those that have ports: tcp, udp and sctp."""

    addresses: Annotated[list[Network], flowkeys.networks()] = msgspec.field(default_factory=list)
    """Of the other end, not of the guest. Default: all."""

    ports: Annotated[list[flowkeys.Ports], flowkeys.ports()] = msgspec.field(default_factory=list)
    """Default: all."""

    direction: Annotated[str, keys.choice(*DIRECTIONS)] = "both"
    """Whose `ports` are: `in` the guest's own, to which clients connect; `out` those of the other end, to which the
    guest connects; `both` either.
    """

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """A table that says nothing would switch all comparing off."""
        if self.protocol == ANY and not self.addresses and not self.ports:
            yield "protocol", "at least one of protocol, addresses and ports", None
        if self.ports and self.protocol not in (*WITH_PORTS, ANY):
            yield "ports", f"no ports, which {self.protocol} does not have", self.ports
        if self.direction != "both" and not self.ports:
            yield "direction", "ports with it: it says whose they are", self.direction
        if len(self.flows()) > limits.FLOWS_MAX:
            yield "ports", f"at most {limits.FLOWS_MAX} combinations of address and port", len(self.flows())

    def flows(self) -> list[Flow]:
        """The same for the comparator."""
        names = WITH_PORTS if self.protocol == ANY and self.ports else (self.protocol,)
        protocols = [number for name in names for number in PROTOCOLS.get(name, (None,))]
        others: Sequence[Network | None] = self.addresses or [None]
        pairs = port_pairs(self.ports, self.direction)
        return [
            Flow(protocol, None, mine, other, theirs)
            for protocol, other, (mine, theirs) in product(protocols, others, pairs)
        ]


class MaskOptions(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bytes of TCP streams that may differ: one table for each pattern, 16 at most. What a pattern matches on both
    sides, at the same place and with the same length, may have other bytes there; the client gets the primary's.

    See [What need not be equal](exemptions.md#bytes-that-may-differ) for the language of the patterns, and for what the
    client then holds that the survivor of a failover does not know.
    """

    ports: Annotated[list[flowkeys.Ports], flowkeys.ports()]
    """Of the connections that are meant."""

    pattern: Annotated[str, flowkeys.pattern()]
    """A part of Python's regular expressions over bytes, without `*`, `+` and anchors; single quotes leave its `\\`
    alone.
    """

    direction: Annotated[str, keys.choice(*DIRECTIONS)] = IN
    """Whose `ports` are: `in` the guest's own, to which clients connect; `out` those of the other end, to which the
    guest connects; `both` either.
    """

    name: Annotated[str | None, keys.text("1 to 32 letters, digits, dots, dashes or underscores", r"[\w.-]{1,32}")] = (
        None
    )
    """In the status and in metrics. Default: the table's number, from 1."""


def masks(tables: Sequence[MaskOptions]) -> list[Mask]:
    """Of all tables together."""
    return [
        Mask(
            table.name or str(number),
            table.pattern,
            tuple(Flow(6, None, mine, None, theirs) for mine, theirs in port_pairs(table.ports, table.direction)),
        )
        for number, table in enumerate(tables, 1)
    ]


def contradictions(bypass: Sequence[BypassOptions], tables: Sequence[MaskOptions]) -> Iterator[tuple[str, str, object]]:
    """What is too much for the comparator, and names that are given twice."""
    if (count := len(bypass_flows(bypass))) > limits.FLOWS_MAX:
        yield "bypass", f"at most {limits.FLOWS_MAX} combinations of address and port in all tables", count
    found = masks(tables)
    if (count := sum(len(mask.flows) for mask in found)) > limits.FLOWS_MAX:
        yield "mask", f"at most {limits.FLOWS_MAX} ports and ranges in all tables", count
    try:
        compile_masks(found)
    except TooManyError as error:
        yield "mask", error.expected, error.found
    names = [mask.name for mask in found]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f"mask[{number}].name", f"another one than mask[{names.index(name)}] has", name


def never_compared(
    bypass: Sequence[BypassOptions], name: str, tables: Sequence[Sequence[flowkeys.Ports]]
) -> Iterator[tuple[str, str, object]]:
    """Services by the guest's ports that other tables, called `name`, are about, and of which nothing is compared."""
    for number, ports in enumerate(tables):
        for first, last in ports:
            if (table := _whole(bypass, first, last)) is not None:
                found = first if first == last else f"{first}-{last}"
                yield f"{name}[{number}].ports", f"ports that bypass[{table}] does not let pass uncompared", found
                break


def _whole(bypass: Sequence[BypassOptions], first: int, last: int) -> int | None:
    """The table that lets TCP with these of the guest's ports pass, whatever the client."""
    for number, table in enumerate(bypass):
        is_for_all = table.protocol in ("tcp", ANY) and not table.addresses and table.direction != OUT
        ranges = table.ports or [ALL_PORTS]
        if is_for_all and any(low <= first and last <= high for low, high in ranges):
            return number
    return None


def port_pairs(ports: Sequence[flowkeys.Ports], direction: str) -> list[tuple[flowkeys.Ports, flowkeys.Ports]]:
    """The guest's ports and the other end's, of which one is any."""
    pairs = []
    if direction != OUT or not ports:
        pairs += [(one, ALL_PORTS) for one in ports or [ALL_PORTS]]
    if direction != IN and ports:
        pairs += [(ALL_PORTS, one) for one in ports]
    return pairs


def bypass_flows(tables: Sequence[BypassOptions]) -> list[Flow]:
    """Of all tables together, each with its table's number from 1."""
    return [flow._replace(table=number) for number, table in enumerate(tables, 1) for flow in table.flows()]
