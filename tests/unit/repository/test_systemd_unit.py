"""contrib/systemd/colo@.service: what a pair depends on is in it; systemd itself reads it, where there is one."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from pycolo.cli import colo
from pycolo.proxy.line import parse_line
from support.commands import commands_of
from support.configs import EXAMPLE

UNITS = Path(__file__).resolve().parents[3] / "contrib" / "systemd"
UNIT = UNITS / "colo@.service"
PROXY = UNITS / "colo-proxy@.service"


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


@pytest.fixture
def unit() -> configparser.ConfigParser:
    return read(UNIT)


@pytest.fixture
def proxy() -> configparser.ConfigParser:
    return read(PROXY)


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|min)?", text).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit == "min" else 1)


def test_it_starts_a_command_that_exists(unit):
    env, *words = shlex.split(unit["Service"]["ExecStart"].replace("%i", "vm1"))
    assert (env, words[0]) == ("/usr/bin/env", "colo")
    command = commands_of(colo)[words[1]]
    context = command.make_context(words[1], words[2:])
    assert str(context.params["path"]) == "/etc/colo/vm1.toml"


def test_its_directories_are_those_of_the_documented_file(unit):
    service = unit["Service"]
    assert f"/run/{service['RuntimeDirectory']}".replace("%i", EXAMPLE["pair"]) == EXAMPLE["qemu"]["directory"]
    assert f"/var/lib/{service['StateDirectory']}".replace("%i", EXAMPLE["pair"]) == EXAMPLE["state"]


def test_the_guest_outlives_its_node(unit):
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["OOMPolicy"] == "continue"


def test_the_node_is_watched_and_started_again(unit):
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"], service["Restart"]) == ("notify", "main", "on-failure")
    assert seconds(service["WatchdogSec"]) >= 2
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["RestartPreventExitStatus"].split() == ["2", "3"], "usage, fenced: see docs/exit-codes.md"


def test_the_node_may_do_no_more_than_it_needs(unit):
    service = unit["Service"]
    capabilities = set(service["CapabilityBoundingSet"].split())
    assert {"CAP_NET_ADMIN", "CAP_NET_RAW"} <= capabilities
    assert not capabilities & {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_SETUID"}
    assert "AF_NETLINK" in service["RestrictAddressFamilies"], "network.serve runs ip(8)"
    for option in ("NoNewPrivileges", "ProtectHome", "ProtectKernelModules", "LockPersonality", "RestrictSUIDSGID"):
        assert service[option] == "yes"


def test_every_option_is_given_once_but_lists():
    given = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if matched := re.match(r"(\w+)=(.*)", line):
            given[matched[1]].append(matched[2])
    assert {name for name, values in given.items() if len(values) > 1} == {"DeviceAllow"}
    assert set(given["DeviceAllow"]) == {"/dev/kvm rw", "/dev/net/tun rw", "/dev/vhost-net rw"}


# ── the proxy ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_proxys_example_is_a_line_that_it_takes(proxy):
    head = PROXY.read_text(encoding="utf-8").partition("[Unit]")[0].replace("\n# ", "\n")
    options = shlex.split(re.search(r"OPTIONS=((?:.*\\\n)*.*)", head)[1].replace("\\\n", " "))
    parse_line(tuple(options))
    paths = re.findall(r"path=([^,]+)/", " ".join(options))
    assert {f"/run/{proxy['Service']['RuntimeDirectory']}".replace("%i", "vm1")} == set(paths)
    assert proxy["Service"]["EnvironmentFile"] == "/etc/colo/%i.proxy"
    assert shlex.split(proxy["Service"]["ExecStart"]) == ["/usr/bin/env", "colo", "proxy", "$OPTIONS"]


def test_the_proxy_is_an_ordinary_user_whose_group_may_use_its_sockets(proxy):
    service = proxy["Service"]
    user = re.search(r"^u (\w+) ", (UNITS / "colo.sysusers").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert (service["User"], service["Group"], EXAMPLE["control"]["group"]) == (user, user, user)
    assert service["CapabilityBoundingSet"] == ""
    assert (service["RuntimeDirectoryMode"], service["UMask"]) == ("0750", "0007")


@pytest.mark.parametrize("path", [UNIT, PROXY], ids=lambda path: path.name)
def test_systemd_reads_it_without_a_word(path):
    if shutil.which("systemd-analyze") is None:
        return  # what it would say is a bonus: the tests above need no systemd
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "notice"},
    )
    about_it = [line for line in done.stderr.splitlines() if path.name.partition("@")[0] + "@" in line]
    assert about_it == []
