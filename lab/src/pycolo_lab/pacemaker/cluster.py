"""The cluster of the hosts: its files before the first start, its resources, what it says."""

import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from pycolo.arbiters import resourceagent
from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Look
from pycolo_lab.pacemaker import recipes
from pycolo_lab.pacemaker.hosts import GROUP, USER
from pycolo_lab.pacemaker.recipes import RESOURCE, Power, Recipe
from pycolo_lab.powered import PoweredHost

UP_S: Final = 90.0
POLL_S: Final = 0.1
IDLE_S: Final = "20s"
"""For the cluster to be done with what it is about."""

COROSYNC: Final = """totem {{
  version: 2
  cluster_name: lab
  transport: knet
  crypto_cipher: none
  crypto_hash: none
  token: {token}
}}
nodelist {{
{nodes}}}
quorum {{
  provider: corosync_votequorum
  two_node: {is_two}
}}
logging {{
  to_syslog: no
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
  timestamp: hires
}}
system {{
  sched_rr: no
  move_to_root_cgroup: no
}}
"""

NODE: Final = """  node {{
    ring0_addr: {address}
    name: {name}
    nodeid: {number}
  }}
"""

CIB: Final = """<cib validate-with="pacemaker-3.9" epoch="1" num_updates="0" admin_epoch="0"><configuration>
<crm_config><cluster_property_set id="cib-bootstrap-options">
<nvpair id="o1" name="dc-deadtime" value="2s"/><nvpair id="o2" name="stonith-enabled" value="true"/>
<nvpair id="o3" name="stonith-timeout" value="20s"/>
</cluster_property_set></crm_config><nodes/><resources/><constraints/></configuration><status/></cib>
"""
"""Before the first start: without dc-deadtime a cluster takes twenty seconds to begin."""

FAILURE_TIMEOUT: Final = "30s"
"""Shorter than in the documentation: the next fault comes soon."""


def recipe(program: Path, delay_s: int, absent: str) -> Recipe:
    """As in docs/pacemaker.md, with the laboratory's power switch and paths."""
    device = {"pcmk_host_list": "a b", "pcmk_host_check": "static-list"}
    parameters = {
        "config": "/run/lab/vm.toml",
        "control": "/run/lab/control.sock",
        "log": "/run/lab/node.log",
        "program": str(program),
    }
    properties = {"stonith-enabled": "true", "priority-fencing-delay": f"{delay_s}s"}
    return Recipe(properties, (Power("power", "fence_lab", device),), parameters, FAILURE_TIMEOUT, absent)


def write_shared(directory: Path, switch: Path) -> None:
    """What both hosts get of the agents."""
    agent = directory / "resource.d" / "pycolo" / "colo"
    fence = directory / "sbin" / "fence_lab"
    for path, source in ((agent, Path(resourceagent.__file__)), (fence, Path(str(files(__package__)) + "/fence_lab"))):
        path.parent.mkdir(parents=True)
        shutil.copyfile(source, path)
        path.chmod(0o755)
    fence.with_name("fence_lab.socket").write_text(f"{switch}\n")


def write_disk(host: PoweredHost, addresses: Mapping[str, str], token_ms: int) -> None:
    """A host's files before its first start. `addresses`: of all hosts, by their names."""
    root = host.directory / "root"
    configuration = root / "etc/corosync/corosync.conf"
    configuration.parent.mkdir(parents=True)
    numbered = enumerate(addresses.items(), start=1)
    nodes = "".join(NODE.format(address=address, name=name, number=number) for number, (name, address) in numbered)
    configuration.write_text(COROSYNC.format(token=token_ms, nodes=nodes, is_two=int(len(addresses) == 2)))
    cib = root / "var/lib/pacemaker/cib/cib.xml"
    cib.parent.mkdir(parents=True)
    cib.write_text(CIB)
    cib.chmod(0o600)
    shutil.chown(cib, USER, GROUP)


class Cluster:
    """The hosts' cluster, asked on whichever of them is on."""

    def __init__(self, hosts: dict[str, PoweredHost], look: Look) -> None:
        self._hosts = hosts
        self._look = look

    def run(self, *words: str) -> str:
        """A command on the first host whose cluster answers; empty when none does."""
        for host in self._hosts.values():
            if (said := host.run(*words)) or host.run("crmadmin", "-N", "-q"):
                return said
        return ""

    def configure(self, recipe: Recipe, tool: str) -> None:
        """Create the fence device and the clone, by `pcs` or `crm`. Raises `LabError`."""
        host = self._hosts["a"]
        words: Sequence[str]
        if tool == "pcs":
            text, words = f"set -e\n{recipes.pcs(recipe, '/run/lab/vm1.xml')}", ("sh", "/run/lab/resources.pcs")
        else:
            text, words = recipes.crm(recipe), ("crm", "-F", "configure", "load", "update", "/run/lab/resources.crm")
        (host.directory / f"resources.{tool}").write_text(text)
        host.run(*words)
        wanted, found = recipes.facts_of(recipe), recipes.facts_in(host.run("cibadmin", "-Q"), recipe)
        if wanted != found:
            raise LabError(f"{tool}: the cluster has not what was asked for: {sorted(wanted ^ found)}")

    def status(self) -> ET.Element | None:
        """What `crm_mon` says, on a host that is on."""
        for host in self._hosts.values():
            if text := host.run("crm_mon", "--one-shot", "--output-as=xml"):
                return ET.fromstring(text)  # noqa: S314 - the laboratory's own
        return None

    def roles(self) -> dict[str, str]:
        """Host -> the role of the instance there."""
        root = self.status()
        if root is None:
            return {}
        found = root.findall(f"./resources//resource[@id='{RESOURCE}']")
        return {
            node.get("name", ""): resource.get("role", "")
            for resource in found
            for node in resource.findall("node")
            if resource.get("failed") == "false"
        }

    def online(self) -> set[str]:
        """The hosts that are members."""
        root = self.status()
        nodes = root.findall("./nodes/node") if root is not None else []
        return {
            node.get("name", "") for node in nodes if node.get("online") == "true" and node.get("unclean") == "false"
        }

    def forget_failures(self) -> None:
        """Before the next fault. Not while a node is being recovered: Pacemaker 2.1.5 fails to start it then."""
        wait = ("crm_resource", "--wait", "--timeout", IDLE_S)
        self.run(*wait)
        root = self.status()
        if root is not None and root.find("./failures/failure") is not None:
            self.run("crm_resource", "-r", RESOURCE, "--cleanup")
            self.run(*wait)  # it looks at both nodes anew

    def wait(self, what: str, holds: "object", timeout_s: float = UP_S) -> None:
        """Until `holds()`; raises `LabError` that names what did not come."""
        deadline = time.monotonic() + timeout_s
        assert callable(holds)
        while not holds():
            self._look()
            if time.monotonic() > deadline:
                raise LabError(f"{what}: not within {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def wait_online(self, letters: set[str]) -> None:
        """Until these hosts are members."""
        self.wait(f"hosts {sorted(letters)} online", lambda: letters <= self.online())
