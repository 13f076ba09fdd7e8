"""Pacemaker's own programs, for the core of the arbiter `pacemaker` (`failover.pacemaker`)."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from xml.etree import ElementTree as ET

import structlog

from pycolo.arbiters.usercommand import run_command
from pycolo.errors import ConfigError, PeerError
from pycolo.failover.fencing import Fenced
from pycolo.failover.pacemaker import FailPeer, Look, PeerHost, Reported, Seen, Shoot
from pycolo.transport.linksetup import Address

TOOL_S: Final = 5.0
"""Time limit for one program that asks the cluster something; it takes some ten milliseconds."""

REPORT_S: Final = 1.0
"""Time limit for Pacemaker to take a report. It takes none while it elects the node that decides; much may be clear
when that is done."""

ANSWER_S: Final = 0.2
"""Time limit for the other host to answer; a round trip between two hosts of a pair takes a millisecond."""

PORTS: Final = (22, 2224)
"""Of ssh and pcs. A host that refuses the connection answers, too; these two are let through by most firewalls."""

TOLERANCE_S: Final = 5
"""A host that the cluster has fenced within this time is not fenced again."""

TAG: Final = "pycolo"
"""Names this program in the cluster's history of fencing."""

log = structlog.get_logger("colo")


def own_resource() -> str:
    """The id of the resource whose agent has started this process. Raises `ConfigError`."""
    instance = os.environ.get("OCF_RESOURCE_INSTANCE", "")
    if not instance:
        raise ConfigError("arbiter", "pacemaker only where its resource agent starts the node", "no agent")
    return instance.partition(":")[0]


class PacemakerTools:
    """`peer`: the other host's name in the cluster. `link`: where its node listens for this one's, if
    it does. `resource`: the id of the pair's resource, without an instance.

    `is_secondary()`: this node, at this moment. `timeout_s`: for a host to be fenced.
    """

    def __init__(
        self, peer: str, link: Address | None, resource: str, timeout_s: float, is_secondary: Callable[[], bool]
    ) -> None:
        self._peer = peer
        self._link = link
        self._resource = resource
        self._timeout_s = timeout_s
        self._is_secondary = is_secondary
        self._addresses: tuple[str, ...] = ()

    async def ask(self, request: Look | FailPeer | Shoot) -> Seen | Reported | Fenced:
        """Do what the core wants. Raises `PeerError` when the cluster does not answer."""
        match request:
            case Look():
                return await self._look()
            case FailPeer():
                return await self._fail_peer()
            case Shoot(limit_ms=limit_ms):
                return await self._shoot(limit_ms)

    async def score(self, score: int | None) -> None:
        """Set this node's promotion score until the host's next start; None: it has none. Raises `PeerError`."""
        value = ("-D",) if score is None else ("-U", str(score))
        await output("attrd_updater", "-n", f"master-{self._resource}", *value, "-d", "0")

    async def _look(self) -> Seen:
        status, quorum, answers, has_link = await asyncio.gather(
            output("crm_mon", "--one-shot", "--output-as=xml"),
            output("corosync-quorumtool", "-s", codes=(0, 1)),  # 1 or 0, depending on the version, with quorum
            self._answers(),
            self._has_link(),
        )
        seen = read_status(status, quorum, self._peer, self._resource)
        seen = seen._replace(answers=answers, has_link=has_link, is_secondary=self._is_secondary())
        log.debug(f"the cluster: {seen}")
        return seen

    async def _fail_peer(self) -> Reported:
        log.warning("telling Pacemaker that the other node has failed", node=self._peer)
        words = ["crm_resource", "--fail", "--resource", self._resource, "--node", self._peer]
        ended = await run_command(words, REPORT_S)
        return Reported("" if ended.exit_code == 0 else f"{words[0]} --fail: {ended}")

    async def _shoot(self, limit_ms: int | None) -> Fenced:
        limit_s = self._timeout_s if limit_ms is None else min(self._timeout_s, max(1, limit_ms // 1000))
        words = ["stonith_admin", "--reboot", self._peer, "--tag", TAG]
        words += ["--timeout", f"{limit_s:.0f}", "--tolerance", f"{TOLERANCE_S}"]
        log.warning("fencing the other host", command=words)
        ended = await run_command(words, limit_s + TOOL_S)
        return Fenced(ended.exit_code, ended.text)

    async def _has_link(self) -> bool:
        """Whether it answers over the link."""
        return self._link is not None and await _answers(self._link.host, self._link.port)

    async def _answers(self) -> bool:
        """Whether the other host's kernel answers on one of the cluster's addresses."""
        if not self._addresses:
            nodes = await output("corosync-cmapctl", "nodelist.node.")
            self._addresses = read_addresses(nodes, self._peer)
        attempts = [_answers(host, port) for host in self._addresses for port in PORTS]
        return any(await asyncio.gather(*attempts))


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


async def output(*words: str, codes: Sequence[int] = (0,), timeout_s: float = TOOL_S) -> str:
    """What a program writes. Raises `PeerError` when it fails or takes too long."""
    process: asyncio.subprocess.Process | None = None
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(timeout_s):
            written, _ = await process.communicate()
    except TimeoutError as error:
        raise PeerError(f"{words[0]}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise PeerError(f"{words[0]}: cannot be started: {error.strerror}") from error
    finally:
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    text = written.decode(errors="replace")
    if process.returncode not in codes:
        last = text.strip().splitlines()[-1:] or ["it says nothing"]
        raise PeerError(f"{words[0]}: exit code {process.returncode}: {last[0]}")
    return text


def read_status(status: str, quorum: str, peer: str, resource: str) -> Seen:
    """From the XML of `crm_mon` and the text of `corosync-quorumtool`. Raises `PeerError`."""
    try:
        root = ET.fromstring(status)  # noqa: S314 - a program of this host has made it
    except ET.ParseError as error:
        raise PeerError(f"crm_mon: its answer is no XML: {error}") from error
    options = root.find("./summary/cluster_options")
    if options is None:
        raise PeerError("crm_mon: it shows no options of the cluster")
    fields, members = dict(_fields(quorum)), read_members(quorum)
    found = root.find(f"./nodes/node[@name='{peer}']")
    instances = root.findall(f"./resources//resource[@id='{resource}']")
    managed = all(instance.get("managed") == "true" for instance in instances)
    return Seen(
        PeerHost.UNKNOWN if found is None else _host(found),
        is_quorate=fields.get("Quorate") == "Yes",
        fences=options.get("stonith-enabled") == "true",
        is_maintained=options.get("maintenance-mode") == "true" or not managed,
        has_two_votes="2Node" in fields.get("Flags", "").split(),
        is_member=found is None or not members or found.get("id") in members,
        has_node=any(_is_active(instance, peer) for instance in instances),
    )


def read_members(quorum: str) -> set[str]:
    """The numbers of the hosts that are counted, from the text of `corosync-quorumtool`."""
    _, _, rows = quorum.partition("Membership information")
    return {words[0] for line in rows.splitlines() if (words := line.split()) and words[0].isdigit()}


def _host(node: ET.Element) -> PeerHost:
    if node.get("unclean") != "false":
        return PeerHost.UNCLEAN
    return PeerHost.ONLINE if node.get("online") == "true" else PeerHost.OFF


def _is_active(instance: ET.Element, node: str) -> bool:
    """Running, or about to be."""
    is_active = instance.get("active") == "true" or instance.get("pending") is not None
    return is_active and instance.find(f"./node[@name='{node}']") is not None


def _fields(text: str) -> list[tuple[str, str]]:
    parts = [line.partition(":") for line in text.splitlines()]
    return [(name.strip(), value.strip()) for name, _, value in parts]


def read_addresses(nodes: str, name: str) -> tuple[str, ...]:
    """The addresses of the cluster node of that name, from the text of `corosync-cmapctl`."""
    keys = dict(line.split(" (", 1) for line in nodes.splitlines() if " (" in line)
    values = {key: text.partition("= ")[2].strip() for key, text in keys.items()}
    for key, value in values.items():
        node, _, field = key.rpartition(".")
        if field == "name" and value == name:
            return tuple(values[f"{node}.{ring}"] for ring in RINGS if f"{node}.{ring}" in values)
    return ()


RINGS: Final = tuple(f"ring{number}_addr" for number in range(8))
"""Corosync's links have up to eight."""
