"""Ports of Open vSwitch: what a port has, and one transaction that puts another in its place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pycolo.errors import ConnectError
from pycolo.hostnet.facts import SwitchPlace
from pycolo.hostnet.ovsdb import Database, Row, socket_path

_PORT_COLUMNS: Final = (
    "tag", "trunks", "vlan_mode", "cvlans", "protected", "qos", "other_config", "external_ids",
)  # fmt: skip
_INTERFACE_COLUMNS: Final = (
    "ofport_request", "ingress_policing_rate", "ingress_policing_burst", "lldp", "other_config", "external_ids",
)  # fmt: skip
_DEFAULTS: Final = (["set", []], ["map", []], 0, False, "")


def is_bridge(name: str) -> bool:
    """Whether Open vSwitch has a bridge of this name; False also when it does not run."""
    if not socket_path().exists():
        return False
    with Database() as database:
        return bool(database.select("Bridge", [["name", "==", name]], ["name"]))


def find_place(name: str) -> SwitchPlace | None:
    """Where an interface is a port of Open vSwitch; None when it is none, or Open vSwitch does not run here."""
    if not socket_path().exists():
        return None
    with Database() as database:
        interface = _row(database, "Interface", name, (*_INTERFACE_COLUMNS, "_uuid", "ofport", "type"))
        if interface is None:
            return None
        port = _row(database, "Port", name, (*_PORT_COLUMNS, "_uuid", "interfaces"))
        if port is None or port["interfaces"] != interface["_uuid"]:
            raise ConnectError(f"{name}: one of several interfaces of an Open vSwitch bond, which cannot be moved")
        if interface["type"] not in ("", "system"):
            raise ConnectError(
                f"{name}: an Open vSwitch interface of type {interface['type']}, which is no guest's tap"
            )
        bridges = database.select("Bridge", [["ports", "includes", port["_uuid"]]], ["name"])
        if not bridges:
            return None
    settings = _chosen(interface, _INTERFACE_COLUMNS)
    if isinstance(interface["ofport"], int) and interface["ofport"] > 0:
        settings.setdefault("ofport_request", interface["ofport"])  # flows say by this number where frames come from
    return SwitchPlace(bridges[0]["name"], _chosen(port, _PORT_COLUMNS), settings)


@contextmanager
def swapping(out: str | None, into: str | None, place: SwitchPlace) -> Iterator[Callable[[], None]]:
    """A call that does, in one transaction: `out` is no port of the bridge any longer, `into` is one with the place's
    settings. All that it needs to know was asked before.
    """
    with Database(place.where) as database:
        operations: list[Row] = []
        if out is not None and (port := _row(database, "Port", out, ("_uuid",))) is not None:
            operations.append(_ports(place.bridge, "delete", port["_uuid"]))
        if into is not None and _row(database, "Port", into, ("_uuid",)) is None:
            operations += _insertion(into, place)
        yield lambda: database.change(operations) if operations else None


def _insertion(name: str, place: SwitchPlace) -> list[Row]:
    interface = {"name": name, **place.interface}
    port = {"name": name, "interfaces": ["named-uuid", "interface"], **place.port}
    return [
        # Without the bridge the transaction would do nothing, and say that it has.
        {
            "op": "wait",
            "timeout": 0,
            "table": "Bridge",
            "where": [["name", "==", place.bridge]],
            "columns": ["name"],
            "until": "==",
            "rows": [{"name": place.bridge}],
        },
        {"op": "insert", "table": "Interface", "row": interface, "uuid-name": "interface"},
        {"op": "insert", "table": "Port", "row": port, "uuid-name": "port"},
        _ports(place.bridge, "insert", ["named-uuid", "port"]),
    ]


def _ports(bridge: str, change: str, port: list[str]) -> Row:
    return {
        "op": "mutate",
        "table": "Bridge",
        "where": [["name", "==", bridge]],
        "mutations": [["ports", change, ["set", [port]]]],
    }


def _row(database: Database, table: str, name: str, columns: tuple[str, ...]) -> Row | None:
    rows = database.select(table, [["name", "==", name]], list(columns))
    return rows[0] if rows else None


def _chosen(row: Row, columns: tuple[str, ...]) -> dict[str, Any]:
    """Columns that have another value than a new row."""
    return {column: row[column] for column in columns if row[column] not in _DEFAULTS}
