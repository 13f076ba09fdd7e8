"""What colo-compare need not find equal (rule C7), as properties of its object.

::

    passthrough.0.protocol=udp,passthrough.0.destination.port=123
    mask.0.port=80,mask.0.pattern=Date: [^\\r\\n]{29}\\r\\n

`passthrough` has the fields of the IPFlowSpec that was proposed for QEMU (colo-passthrough-add, 2021), with the same
meaning: those that are given must all be true, the source is the guest. A comma in a pattern is doubled, as in every
value.
"""

import re
from collections.abc import Iterable
from typing import Final

from pycolo import limits
from pycolo.compare.flows import ALL_PORTS, PORT_MAX, AddressError, Flow, Network, network
from pycolo.compare.noise import Mask, tables
from pycolo.compare.patterns import PatternError
from pycolo.proxy.qemuopts import Group, OptionError, Properties

PASSTHROUGH: Final = "passthrough"
MASK: Final = "mask"

_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "dccp": 33, "udplite": 136}
_FIELDS: Final = {
    PASSTHROUGH: ("protocol", "source.host", "source.port", "destination.host", "destination.port"),
    MASK: ("port", "pattern", "name"),
}
_KEY: Final = re.compile(r"(passthrough|mask)\.(0|[1-9][0-9]{0,2})\.(.+)\Z")


def divide(group: Group) -> tuple[Group, dict[str, list[Properties]]]:
    """The properties of the object itself; and those of each numbered rule, by its kind. Raises `OptionError`."""
    own, numbered = [], dict[tuple[str, int], list[tuple[str, str | None]]]()
    for key, value in group.items:
        found = _KEY.match(key)
        if found is None:
            own.append((key, value))
        else:
            numbered.setdefault((found[1], int(found[2])), []).append((found[3], value))
    rules: dict[str, list[Properties]] = {kind: [] for kind in _FIELDS}
    for (kind, number), items in sorted(numbered.items()):
        if number != len(rules[kind]):
            raise OptionError(group.where, f"{kind}.{number}: number the rules from 0 on, without a gap")
        rules[kind].append(
            Properties(Group(group.option, f"{group.head}: {kind}.{number}", tuple(items)), _FIELDS[kind])
        )
    return Group(group.option, group.head, tuple(own)), rules


def flows(rules: Iterable[Properties]) -> tuple[Flow, ...]:
    """The connections that pass. Raises `OptionError`."""
    found = tuple(_flow(rule) for rule in rules)
    if len(found) > limits.FLOWS_MAX:
        raise OptionError(PASSTHROUGH, f"at most {limits.FLOWS_MAX} rules")
    return found


def _flow(rule: Properties) -> Flow:
    given = [name for name in _FIELDS[PASSTHROUGH] if rule.has(name)]
    name = rule.choice("protocol", "tcp", tuple(_PROTOCOLS)) if rule.has("protocol") else None
    protocol = None if name is None else _PROTOCOLS[name]
    if name in ("icmp", "icmpv6") and (rule.has("source.port") or rule.has("destination.port")):
        raise OptionError(rule.where, f"{name} has no ports")
    flow = Flow(
        protocol,
        _host(rule, "source.host"),
        _port(rule, "source.port"),
        _host(rule, "destination.host"),
        _port(rule, "destination.port"),
    )
    if not given or not flow.is_possible:
        raise OptionError(rule.where, "give one field at least, and hosts of one version of IP")
    return flow


def _host(rule: Properties, name: str) -> Network | None:
    text = rule.text(name)
    if text is None:
        return None
    try:
        return network(text)
    except AddressError as error:
        raise OptionError(rule.where, f"property '{name}' must be {error}, not '{text}'") from error
    except ValueError as error:
        raise OptionError(rule.where, f"property '{name}' must be an address or a prefix, not '{text}'") from error


def _port(rule: Properties, name: str) -> tuple[int, int]:
    if not rule.has(name):
        return ALL_PORTS
    port = rule.number(name, 0, 1, PORT_MAX)
    return port, port


def masks(rules: Iterable[Properties]) -> tuple[Mask, ...]:
    """The bytes that may differ. Raises `OptionError`."""
    found: list[Mask] = []
    for number, rule in enumerate(rules):
        rule.required("port")
        port = rule.number("port", 0, 1, PORT_MAX)
        name = rule.text("name") or str(number)
        found.append(Mask(name, rule.required("pattern"), (Flow(6, guest_ports=(port, port)),)))
        if name in [mask.name for mask in found[:-1]]:
            raise OptionError(rule.where, f"another mask is named '{name}' already")
        try:
            tables(found)
        except PatternError as error:
            what = f"property 'pattern' must have {error.expected}, at character {error.column}"
            raise OptionError(rule.where, what) from error
        except ValueError as error:
            raise OptionError(rule.where, str(error)) from error
    return tuple(found)
