"""The cluster of both hosts: its files before the first start, its resources, what it says."""

import shutil
import time
from importlib.resources import files
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from pycolo.arbiters import resourceagent
from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Look
from pycolo_lab.pacemaker.hosts import GROUP, USER, ClusterHost

UP_S: Final = 90.0
POLL_S: Final = 0.1

RESOURCE: Final = "vm1"

COROSYNC: Final = """totem {{
  version: 2
  cluster_name: lab
  transport: knet
  crypto_cipher: none
  crypto_hash: none
  token: {token}
}}
nodelist {{
  node {{
    ring0_addr: {a}
    name: a
    nodeid: 1
  }}
  node {{
    ring0_addr: {b}
    name: b
    nodeid: 2
  }}
}}
quorum {{
  provider: corosync_votequorum
  two_node: 1
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

CIB: Final = """<cib validate-with="pacemaker-3.9" epoch="1" num_updates="0" admin_epoch="0"><configuration>
<crm_config><cluster_property_set id="cib-bootstrap-options">
<nvpair id="o1" name="dc-deadtime" value="2s"/><nvpair id="o2" name="stonith-enabled" value="true"/>
<nvpair id="o3" name="stonith-timeout" value="20s"/><nvpair id="o4" name="priority-fencing-delay" value="2s"/>
</cluster_property_set></crm_config><nodes/><resources/><constraints/></configuration><status/></cib>
"""
"""Before the first start: without dc-deadtime a cluster takes twenty seconds to begin."""

RESOURCES: Final = """primitive power stonith:fence_lab \
  params pcmk_host_list="a b" pcmk_host_check=static-list op monitor interval=60s timeout=20s
primitive {resource} ocf:pycolo:colo \
  params config=/run/lab/vm.toml control=/run/lab/control.sock log=/run/lab/node.log program={program} \
  op start interval=0 timeout=40s op stop interval=0 timeout=60s \
  op promote interval=0 timeout=40s op demote interval=0 timeout=40s \
  op monitor interval=2s role=Promoted timeout=20s op monitor interval=3s role=Unpromoted timeout=20s
clone {resource}-clone {resource} \
  meta promotable=true promoted-max=1 clone-max=2 clone-node-max=1 notify=true interleave=true priority=10
rsc_defaults migration-threshold=5 failure-timeout=30s
"""
"""As the recipe in docs/pacemaker.md."""


def write_shared(directory: Path, switch: Path) -> None:
    """What both hosts get of the agents."""
    agent = directory / "resource.d" / "pycolo" / "colo"
    fence = directory / "sbin" / "fence_lab"
    for path, source in ((agent, Path(resourceagent.__file__)), (fence, Path(str(files(__package__)) + "/fence_lab"))):
        path.parent.mkdir(parents=True)
        shutil.copyfile(source, path)
        path.chmod(0o755)
    fence.with_name("fence_lab.socket").write_text(f"{switch}\n")


def write_disk(host: ClusterHost, addresses: dict[str, str], token_ms: int) -> None:
    """A host's files before its first start."""
    root = host.directory / "root"
    configuration = root / "etc/corosync/corosync.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(COROSYNC.format(token=token_ms, **addresses))
    cib = root / "var/lib/pacemaker/cib/cib.xml"
    cib.parent.mkdir(parents=True)
    cib.write_text(CIB)
    cib.chmod(0o600)
    shutil.chown(cib, USER, GROUP)


class Cluster:
    """Both hosts' cluster, asked on whichever of them is on."""

    def __init__(self, hosts: dict[str, ClusterHost], look: Look) -> None:
        self._hosts = hosts
        self._look = look

    def run(self, *words: str) -> str:
        """A command on the first host whose cluster answers; empty when none does."""
        for host in self._hosts.values():
            if (said := host.run(*words)) or host.run("crmadmin", "-N", "-q"):
                return said
        return ""

    def configure(self, program: Path) -> None:
        """Create the fence device and the clone."""
        text = RESOURCES.format(resource=RESOURCE, program=program)
        host = self._hosts["a"]
        path = host.directory / "resources.crm"
        path.write_text(text)
        host.run("crm", "-F", "configure", "load", "update", "/run/lab/resources.crm")
        if RESOURCE not in host.run("crm", "configure", "show"):
            raise LabError("Pacemaker does not take the resources")

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
