"""A host of the cluster: its disk, and what is started on it."""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Final

from pycolo_lab.namespaces import Namespace
from pycolo_lab.powered import PoweredHost

USER: Final = "hacluster"
GROUP: Final = "haclient"

STOP_S: Final = 120.0

START: Final = """
corosync -f >/var/log/corosync/out 2>&1 </dev/null &
for i in $(seq 400); do corosync-cfgtool -s >/dev/null 2>&1 && break; sleep 0.05; done
PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none PCMK_fail_fast=no \
setsid pacemakerd >/var/log/pacemaker/out 2>&1 </dev/null &
"""
"""The cluster on one host, as its two services do."""

STOP: Final = """
for name in pacemakerd corosync; do
    pid=$(pidof $name) || continue
    kill $pid
    while kill -0 $pid 2>/dev/null; do sleep 0.05; done
done
"""
"""Pacemaker stops what it runs, then corosync leaves."""


def cluster_host(letter: str, namespace: Namespace, directory: Path, shared: Path) -> PoweredHost:
    """A host that is off; `directory` is its disk."""
    script = Path(str(files(__package__).joinpath("host.sh")))
    return PoweredHost(letter, namespace, directory, script, [str(shared)])


def boot(host: PoweredHost) -> None:
    """Start it, with the folders that the cluster expects on its disk."""
    for name in ("cib", "blackbox", "cores", "pengine"):
        (host.root / "var/lib/pacemaker" / name).mkdir(parents=True, exist_ok=True)
    (host.root / "var/log/pacemaker").mkdir(parents=True, exist_ok=True)
    for path in (host.root / "var/lib/pacemaker", host.root / "var/log/pacemaker"):
        for one in (path, *path.rglob("*")):
            shutil.chown(one, USER, GROUP)
    host.boot()


def start_cluster(host: PoweredHost) -> None:
    """Corosync and Pacemaker."""
    host.run("sh", "-c", START)


def stop_cluster(host: PoweredHost) -> None:
    """In order."""
    host.run("sh", "-c", STOP, timeout_s=STOP_S)
