"""Machines on which something is missing: one line names the call or the device, and what to do. Nothing is begun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(120)]

COLO = f"{sys.executable} -m pycolo"
PRIMARY = "primary --listen 127.0.0.1:0 --insecure --lan tap:x --guest tap:y"
AS_ROOT_OF_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]

A_CHROOT = """
mount -t tmpfs none "$PLACE" && mkdir "$PLACE/r" && cd "$PLACE/r"
for entry in /*; do
    if [ -L "$entry" ]; then
        cp -P "$entry" .
    elif [ -d "$entry" ] && [ "$entry" != /proc ]; then
        mkdir ".$entry" && mount --rbind "$entry" ".$entry"
    fi
done
mkdir -p proc
"""
"""A root that is no mount point, with everything of this one's in it but /proc."""

WITHOUT_RIGHTS = f"""
echo 0 > /proc/sys/user/max_user_namespaces
exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin {COLO}"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"{A_CHROOT} exec chroot . {COLO} demo --no-report", ["mount /proc first"]),
        (
            f"{A_CHROOT} mount --rbind /proc proc; exec chroot . {COLO} demo --no-report",
            ["mount --make-rprivate /: Invalid argument", "a plain chroot", "mount --bind DIR DIR before chroot DIR"],
        ),
        (
            f"{WITHOUT_RIGHTS} demo --no-report",
            ["unshare(user, mount, net): ", "root has no CAP_SYS_ADMIN here", "sysctl user.max_user_namespaces"],
        ),
        (
            f"{WITHOUT_RIGHTS} lab qemu --scenario rest",
            ["unshare(user, mount, net): ", "root has no CAP_SYS_ADMIN here"],
        ),
        (
            f"mount -t tmpfs none /dev/net; exec {COLO} demo --no-report --nic tap",
            ["--nic tap: /dev/net/tun: No such file or directory", "modprobe tun", "--nic veth"],
        ),
        (
            f"mount -t tmpfs none /dev/net; exec {COLO} {PRIMARY}",
            ["--lan tap:x: /dev/net/tun: No such file or directory", "modprobe tun"],
        ),
    ],
    ids=["chroot-no-proc", "chroot", "demo-no-rights", "qemu-no-rights", "demo-no-tun", "primary-no-tun"],
)
def test_what_is_missing_is_named_in_one_line(script: str, said: list[str], tmp_path: Path) -> None:
    place = tmp_path / "root"
    place.mkdir()
    done = subprocess.run(
        [*AS_ROOT_OF_A_NAMESPACE, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PLACE": str(place), "TMPDIR": "/tmp"},
        cwd="/",
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("colo: ")
    assert done.stderr.count("\n") == 1
    assert [words for words in said if words not in done.stderr] == [], done.stderr
    assert "run it as root" not in done.stderr, "it was root"


def test_without_a_tun_device_the_demo_says_what_it_took_and_why(tmp_path: Path) -> None:
    script = f"mount -t tmpfs none /dev/net; exec {COLO} demo --seconds 3 --sessions 3 --no-report"
    done = subprocess.run(
        [*AS_ROOT_OF_A_NAMESPACE, "sh", "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert "behind veth pairs (/dev/net/tun: No such file or directory)" in done.stdout.splitlines()[0]
    # It came to a verdict. Which one is for other tests: a veth pair's small buffers stop a transfer on a busy machine.
    assert done.returncode in {0, 1}, done.stderr
    assert "a new connection" in done.stdout
