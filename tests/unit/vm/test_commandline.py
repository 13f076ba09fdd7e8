"""`colo qemu-args`: what it prints, and a real QEMU with it, frame by frame."""

import contextlib
import json
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.peers import Channel
from pycolo import cli
from pycolo.config import PairConfig, parse
from pycolo.link.hello import Role
from pycolo.vm.commandline import CHARDEVS, FILTERS, qemu_arguments, start_arguments
from support.configs import changed, example

PATIENCE_S = 30


@pytest.fixture
def colo(monkeypatch, capfd):
    """Runs `colo …` in this process; (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["colo", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capfd.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return run


def config_in(folder: str, **changes: object) -> PairConfig:
    places = {"qemu.qmp": f"{folder}/qmp.sock", "qemu.yank": f"{folder}/yank.sock", "qemu.directory": folder}
    return parse(changed({**places, **changes}).encode(), "vm.toml")


# ── the arguments ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_shell_reads_the_same_arguments_as_json_has(colo, tmp_path: Path):
    path = tmp_path / "vm.toml"
    path.write_text(changed({"qemu.directory": "/run/a b'c", "qemu.qmp": "/run/a, b"}))
    code, out, _ = colo("qemu-args", "--config", path)
    assert code == 0
    lines = out.splitlines()
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert not lines[-1].endswith("\\")
    assert all(line.startswith("-") for line in lines)
    words = json.loads(colo("qemu-args", "--config", path, "--json")[1])
    assert shlex.split(out.replace("\\\n", " ")) == words
    assert "unix:/run/a,, b,server=on,wait=off" in words, "QEMU wants a comma twice"


def test_the_role_is_the_files_unless_another_is_given(colo, tmp_path: Path):
    path = tmp_path / "vm.toml"
    for own in Role:
        path.write_text(changed({"role": own.value}))
        for asked in (None, *Role):
            option = ("--role", asked.value) if asked else ()
            words = json.loads(colo("qemu-args", "--config", path, "--json", *option)[1])
            assert ("-incoming" in words) == ((asked or own) is Role.SECONDARY)


def test_the_primary_and_the_secondary_have_the_same_wiring():
    config = parse(example().encode(), "vm.toml")
    primary, secondary = (qemu_arguments(config, role) for role in Role)
    assert [word for word in secondary if word not in ("-incoming", "defer")] == primary
    assert start_arguments(config, Role.SECONDARY) == [*start_arguments(config, Role.PRIMARY), "-incoming", "defer"]


def test_without_a_yank_socket_there_is_one_qmp_socket():
    config = parse(changed({"qemu.yank": None}).encode(), "vm.toml")
    assert qemu_arguments(config, Role.PRIMARY).count("-qmp") == 1


def test_what_takes_frames_out_comes_before_what_puts_them_in():
    """In the order in which QEMU runs the filters: tx along the list, rx against it."""
    for queue, in_order in (("tx", FILTERS), ("rx", FILTERS[::-1])):
        directions = ["outdev" if one.outdev else "indev" for one in in_order if one.queue == queue]
        assert directions == ["outdev", "indev"]


def test_every_chardev_has_one_filter_and_a_socket_that_fits():
    used = [one.indev or one.outdev for one in FILTERS]
    assert sorted(filter(None, used)) == sorted(chardev.id for chardev in CHARDEVS)
    longest = config_in("/" + "x" * 82).qemu.directory
    assert all(len(str(chardev.path(longest)).encode()) <= 107 for chardev in CHARDEVS)


# ── with a real QEMU ────────────────────────────────────────────────────────────────────────────────────────


class Udp:
    """One end of a netdev: each datagram is a frame."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.qemu_port = probe.getsockname()[1]

    def netdev(self, name: str) -> str:
        return f"socket,id={name},udp=127.0.0.1:{self.port},localaddr=127.0.0.1:{self.qemu_port}"

    def send(self, frame: bytes) -> None:
        self.sock.sendto(frame, ("127.0.0.1", self.qemu_port))

    def read(self, seconds: float) -> bytes | None:
        self.sock.settimeout(seconds)
        try:
            return self.sock.recv(1 << 16)
        except TimeoutError:
            return None


@contextlib.contextmanager
def qemu(folder: str, role: Role, lan: Udp, guest: Udp) -> Iterator[dict[str, Channel]]:
    """A QEMU without a guest: its netdev hn0 leads to `lan`, and over a hub to `guest`; the four chardevs' other ends.

    The arguments stand behind the netdev, as in a real command line.
    """
    config = config_in(folder)
    netdevs = ["-netdev", lan.netdev("hn0"), "-netdev", guest.netdev("card")]
    netdevs += [word for name in ("hn0", "card") for word in ("-netdev", f"hubport,id=h-{name},hubid=0,netdev={name}")]
    command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-nographic", "-monitor", "none", *netdevs]
    with (Path(folder) / "log").open("wb") as log, contextlib.ExitStack() as undo:
        process = subprocess.Popen(
            [*command, *qemu_arguments(config, role)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        undo.callback(process.wait, PATIENCE_S)
        undo.callback(process.kill)
        ends = {}
        for chardev in CHARDEVS:
            ends[chardev.id] = connected(chardev.path(Path(folder)), process, Path(folder) / "log")
            undo.callback(ends[chardev.id].close)
        yield ends


def connected(path: Path, process: subprocess.Popen, log: Path) -> Channel:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Channel(path, 0, 0)
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until_s, f"no socket {path.name}: {log.read_text()}"
            time.sleep(0.01)


@pytest.fixture
def ends():
    lan, guest = Udp(), Udp()
    yield lan, guest
    lan.sock.close()
    guest.sock.close()


def frame(tag: bytes) -> bytes:
    return (b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56" + b"\x88\xb5" + tag).ljust(60, b"\0")


@pytest.mark.slow
@pytest.mark.qemu
def test_frames_go_round_through_the_node_and_nowhere_else(ends):
    lan, guest = ends
    with tempfile.TemporaryDirectory(prefix="colo-") as folder, qemu(folder, Role.PRIMARY, lan, guest) as node:
        walks = [
            (lan, "colo-lan-in", "colo-guest-out", guest),
            (guest, "colo-guest-in", "colo-lan-out", lan),
        ]
        for source, to_node, from_node, destination in walks:
            taken_out(source, node[to_node])
            node[from_node].send(frame(b"made by the node"))
            assert destination.read(PATIENCE_S) == frame(b"made by the node"), f"{from_node} puts frames in"
        # What comes now comes after whatever had gone astray before: nothing had.
        for source, to_node, _, _ in walks:
            source.send(frame(b"last"))
            while (found := node[to_node].read(PATIENCE_S)) != frame(b"last"):
                assert found == frame(b"first"), f"{to_node} takes out what the node has put in"
        for place in (lan, guest):
            assert place.read(0.2) is None, "a frame went past the node"


def taken_out(source: Udp, node: Channel) -> None:
    """Frames of `source` arrive at the node. QEMU drops what comes before it has accepted the connection."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        source.send(frame(b"first"))
        if (found := node.read(0.2)) is not None:
            assert found == frame(b"first")
            return
        assert time.monotonic() < until_s, f"{node.path.name} takes no frame out"


@pytest.mark.qemu
@pytest.mark.parametrize("role", Role)
def test_qemu_has_everything_that_was_printed(ends, role: Role):
    with tempfile.TemporaryDirectory(prefix="colo-") as folder, qemu(folder, role, *ends):
        for name in ("qmp.sock", "yank.sock"):
            with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rw") as lines:
                sock.settimeout(PATIENCE_S)
                sock.connect(f"{folder}/{name}")

                def ask(command: str, lines=lines, **arguments: str) -> object:
                    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                    lines.flush()
                    while True:
                        answer = json.loads(lines.readline())
                        assert "error" not in answer
                        if "return" in answer:
                            return answer["return"]

                ask("qmp_capabilities")
                objects = {entry["name"] for entry in ask("qom-list", path="/objects")}
                assert {one.id for one in FILTERS} <= objects
                chardevs = {entry["label"] for entry in ask("query-chardev")}
                assert {chardev.id for chardev in CHARDEVS} <= chardevs
                status = ask("query-status")["status"]
                assert (status == "inmigrate") == (role is Role.SECONDARY)
