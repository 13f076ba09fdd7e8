"""Pacemaker: whether it could permit a takeover, or manages a pair that asks another arbiter."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from pycolo.arbiters.pacemakertools import output, read_status
from pycolo.check.rivals import is_file_of
from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.errors import PeerError
from pycolo.failover.pacemaker import PeerHost, Seen

_NAME: Final = "arbiter"
_PROVIDER: Final = "pycolo"
_TOOL: Final = "cibadmin"


async def cluster_items(config: PairConfig) -> list[Item]:
    """The arbiter is `pacemaker`: what its cluster would answer."""
    node = config.arbiter.node or ""
    try:
        status = await output("crm_mon", "--one-shot", "--output-as=xml")
        quorum = await output("corosync-quorumtool", "-s", codes=(0, 1))
        seen = read_status(status, quorum, node, "")
    except PeerError as error:
        return [warning(_NAME, f"the cluster cannot be asked: {error}: start it on this host (pcs cluster start)")]
    found = list(_faults(seen, node))
    return found or [ok(_NAME, f"pacemaker: the cluster is quorate and fences; {node} is {seen.peer.value}")]


def _faults(seen: Seen, node: str) -> Iterator[Item]:
    if seen.peer is PeerHost.UNKNOWN:
        yield refused("arbiter.node", f"the cluster has no node {node}: write the other host's name, see crm_node -l")
    elif seen.peer is not PeerHost.ONLINE:
        yield warning(_NAME, f"pacemaker: {node} is {seen.peer.value}: start the cluster there")
    if not seen.fences:
        yield refused(_NAME, "pacemaker: stonith-enabled is false, so nothing is ever permitted: set up fencing")
    if not seen.is_quorate:
        yield warning(_NAME, "pacemaker: this host's part of the cluster has no quorum, so nothing is permitted")
    if seen.is_maintained:
        yield warning(_NAME, "pacemaker: in maintenance mode it starts and stops nothing: end that when done")


async def managed_items(config: PairConfig) -> list[Item]:
    """The arbiter is another one: does Pacemaker start nodes of this pair all the same?"""
    if shutil.which(_TOOL) is None:
        return []
    try:
        text = await output(_TOOL, "--query", "--scope", "resources")
    except PeerError:  # no cluster runs here
        return []
    resources = [name for name, path in managed_files(text) if is_file_of(path, config)]
    return [
        refused(
            "other managers",
            f"Pacemaker's resource {name} starts this node, and [arbiter] kind is {config.arbiter.kind}: "
            'write kind = "pacemaker", or remove the resource',
        )
        for name in resources
    ]


def managed_files(text: str) -> Iterator[tuple[str, Path]]:
    """Resources of the agent ocf:pycolo:colo and the file that each names, from the XML of the cluster's resources."""
    try:
        root = ET.fromstring(text)  # noqa: S314 - a program of this host has made it
    except ET.ParseError:
        return
    for primitive in root.iter("primitive"):
        if primitive.get("provider") == _PROVIDER:
            for pair in primitive.iter("nvpair"):
                if pair.get("name") == "config":
                    yield primitive.get("id", ""), Path(pair.get("value", ""))
