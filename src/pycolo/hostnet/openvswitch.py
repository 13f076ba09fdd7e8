"""Ports of Open vSwitch, by `ovs-vsctl`: what a port has, and one transaction that puts another in its place."""

import json
import subprocess
from collections.abc import Sequence
from shutil import which
from typing import Any, Final

import msgspec

from pycolo.errors import ConnectError
from pycolo.hostnet.facts import SwitchPlace

PROGRAM: Final = "ovs-vsctl"
_TIMEOUT_S: Final = 10
"""ovs-vsctl waits until ovs-vswitchd has done what it was told: milliseconds, unless that hangs."""

_PORT_COLUMNS: Final = (
    "tag", "trunks", "vlan_mode", "cvlans", "protected", "qos", "other_config", "external_ids",
)  # fmt: skip
_INTERFACE_COLUMNS: Final = (
    "ofport_request", "ingress_policing_rate", "ingress_policing_burst", "lldp", "other_config", "external_ids",
)  # fmt: skip


class _Answer(msgspec.Struct):
    """What ovs-vsctl prints with --format=json."""

    headings: list[str]
    data: list[list[Any]]


def is_installed() -> bool:
    """Whether this host has `ovs-vsctl`."""
    return which(PROGRAM) is not None


def is_bridge(name: str) -> bool:
    """Whether Open vSwitch has a bridge of this name; False also when it does not run."""
    return is_installed() and _run(["br-exists", name]).returncode == 0


def find_place(name: str) -> SwitchPlace | None:
    """Where an interface is a port of Open vSwitch; None when it is none, or Open vSwitch does not run here."""
    if not is_installed():
        return None
    found = _run(["iface-to-br", name])
    if found.returncode != 0:
        return None
    port = _run(["port-to-br", name])
    if port.returncode != 0:
        raise ConnectError(f"{name}: it is one of several interfaces of an Open vSwitch bond, which pycolo cannot move")
    interface = _record("Interface", name, (*_INTERFACE_COLUMNS, "ofport", "type"))
    kind = interface.pop("type", "")
    if kind not in ("", "system"):
        raise ConnectError(f"{name}: an Open vSwitch interface of type {kind}, which is no guest's tap")
    number = interface.pop("ofport", "")
    if number.isdigit() and int(number) > 0:
        interface.setdefault("ofport_request", number)  # flows say where frames come from by this number
    return SwitchPlace(found.stdout.strip(), _record("Port", name, _PORT_COLUMNS), interface)


def swap(out: str | None, into: str | None, place: SwitchPlace) -> None:
    """In one transaction: `out` is no port of the bridge any longer, and `into` is one with the place's settings."""
    words = swap_words(out, into, place)
    if not words:
        return
    done = _run(words)
    if done.returncode != 0:
        raise ConnectError(f"{place.where}: {PROGRAM} {' '.join(words)}: {_last_line(done.stderr)}")


def swap_words(out: str | None, into: str | None, place: SwitchPlace) -> list[str]:
    """The arguments of `ovs-vsctl` for `swap`."""
    words: list[str] = []
    if out is not None:
        words += ["--", "--if-exists", "del-port", place.bridge, out]
    if into is not None:
        words += ["--", "--may-exist", "add-port", place.bridge, into]
        for table, columns in (("Port", place.port), ("Interface", place.interface)):
            if columns:
                words += ["--", "set", table, into, *(f"{column}={value}" for column, value in columns.items())]
    return words[1:]


def _record(table: str, name: str, columns: Sequence[str]) -> dict[str, str]:
    """Columns that have a value, as `ovs-vsctl set` takes them."""
    line = ["--format=json", f"--columns={','.join(columns)}", "find", table, f"name={json.dumps(name)}"]
    done = _run(line)
    try:
        if done.returncode != 0:
            raise ConnectError(f"{name}: {PROGRAM} {' '.join(line)}: {_last_line(done.stderr)}")
        answer = msgspec.json.decode(done.stdout, type=_Answer)
        row = answer.data[0]
    except (msgspec.MsgspecError, IndexError) as error:
        raise ConnectError(f"{name}: {PROGRAM} says nothing usable about this port") from error
    shown = {column: written(value) for column, value in zip(answer.headings, row, strict=False)}
    return {column: value for column, value in shown.items() if value not in ("", "[]", "{}", "0", "false", '""')}


def written(value: Any) -> str:
    """A value of OVSDB's JSON as `ovs-vsctl` takes it."""
    match value:
        case ["set", [*items]]:
            return "[" + ",".join(map(written, items)) + "]"
        case ["map", [*items]]:
            return "{" + ",".join(f"{written(key)}={written(inner)}" for key, inner in items) + "}"
        case ["uuid", str() as name]:
            return name
        case bool():
            return str(value).lower()
        case str():
            return value if value.isalnum() else json.dumps(value)
        case _:
            return str(value)


def _run(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    line = [PROGRAM, f"--timeout={_TIMEOUT_S}", *words]
    try:
        return subprocess.run(
            line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S + 2, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConnectError(f"{PROGRAM}: no answer within {_TIMEOUT_S} s: does ovs-vswitchd run?") from error
    except OSError as error:
        raise ConnectError(f"{PROGRAM}: {error.strerror or error}") from error


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "it failed and said nothing"
