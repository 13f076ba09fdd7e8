"""Network namespaces for tests whose own process opens devices in them."""

import os
import subprocess

import pytest


class Namespace:
    """A process that holds a network namespace, and whose namespaces can be entered."""

    def __init__(self) -> None:
        as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *as_user, "--net", "sh", "-c", "echo ready; exec sleep 600"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self.pid = self._process.pid
        self.path = f"/proc/{self.pid}/ns/net"

    def run(self, *command: str) -> None:
        """A command in it."""
        as_user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", "--target", str(self.pid), *as_user, "--net"]
        subprocess.run([*enter, *command], check=True, capture_output=True, timeout=20)

    def add_pair(self) -> None:
        """Cards `one` and `two` with a cable, up; the kernel itself sends nothing there."""
        self.run("ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "two")
        for name in ("one", "two"):
            self.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
            self.run("ip", "link", "set", name, "up")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def made() -> Namespace:
    """A namespace, or the reason to skip."""
    if os.geteuid() != 0:
        pytest.skip("needs root in the test's own process: run it as root")
    return Namespace()
