"""`colo proxy` as a process: sockets that come and go, streams that break, signals, metrics, a TAP device.

What it does with frames, against QEMU itself, is in tests/conformance.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from support.frames import ethernet, framed

SECONDS = 30
QUIET_SECONDS = 0.3
COMPARE = "colo-compare,id=c0,primary_in=pri,secondary_in=sec,outdev=out,iothread=iot0"
IOTHREAD = ("-object", "iothread,id=iot0")


def datagram(text: bytes) -> bytes:
    return ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000, dport=2000) / text)


class End:
    """The other end of a chardev."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.octets = b""

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(framed(frame) for frame in frames))

    def frame(self, seconds: float = SECONDS) -> bytes | None:
        self.sock.settimeout(seconds)
        while len(self.octets) < 4 or len(self.octets) < 4 + struct.unpack_from(">I", self.octets)[0]:
            try:
                chunk = self.sock.recv(1 << 16)
            except TimeoutError:
                return None
            if not chunk:
                raise EOFError
            self.octets += chunk
        end = 4 + struct.unpack_from(">I", self.octets)[0]
        frame, self.octets = self.octets[4:end], self.octets[end:]
        return frame

    def has_ended(self) -> bool:
        self.sock.settimeout(SECONDS)
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


class Proxy:
    """A running `colo proxy`; the sockets of `server` chardevs are in `folder`."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, undo: ExitStack) -> None:
        self.process = process
        self.folder = folder
        self._undo = undo

    def connect(self, name: str) -> End:
        sock = self._undo.enter_context(socket.socket(socket.AF_UNIX))
        until = time.monotonic() + SECONDS
        while True:
            try:
                sock.connect(os.fspath(self.folder / name))
            except OSError:
                assert self.process.poll() is None, self.said()
                assert time.monotonic() < until, self.said()
                time.sleep(0.01)
            else:
                return End(sock)

    def ends(self) -> tuple[End, End, End]:
        out, pri, sec = self.connect("out"), self.connect("pri"), self.connect("sec")
        self.wait_for("c0.outdev (chardev out)", ": connected")
        return pri, sec, out

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, *words: str, times: int = 1) -> str:
        until = time.monotonic() + SECONDS
        while True:
            found = [line for line in self.said().splitlines() if all(word in line for word in words)]
            if len(found) >= times:
                return found[-1]
            assert time.monotonic() < until, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)

    def cpu_ticks(self) -> int:
        """Processor time that it has used."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(words[11]) + int(words[12])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def running(folder: Path, *words: str, prefix: tuple[str, ...] = ()) -> Iterator[Proxy]:
    with ExitStack() as undo:
        log = undo.enter_context((folder / "log").open("wb"))
        command = [*prefix, sys.executable, "-m", "pycolo", "proxy", *words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        undo.callback(process.wait)
        undo.callback(process.kill)
        yield Proxy(process, folder, undo)


def servers(folder: Path, *names: str, extra: str = ",server=on,wait=off") -> list[str]:
    return [word for name in names for word in ("-chardev", f"socket,id={name},path={folder / name}{extra}")]


def compare(folder: Path, options: str = "") -> tuple[str, ...]:
    return (*servers(folder, "pri", "sec", "out"), *IOTHREAD, "-object", COMPARE + options)


def check_passes(pri: End, sec: End, out: End, text: bytes) -> None:
    frame = datagram(text)
    sec.send(frame)
    pri.send(frame)
    assert out.frame() == frame


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_connection_may_come_back_and_a_part_of_a_frame_is_dropped_with_its_connection(tmp_path: Path):
    with running(tmp_path, *compare(tmp_path)) as proxy:
        pri, sec, out = proxy.ends()
        check_passes(pri, sec, out, b"first")
        for side, name in ((pri, "pri"), (sec, "sec")):
            side.sock.sendall(framed(datagram(b"never"))[:20])
            time.sleep(QUIET_SECONDS / 3)
            side.sock.close()
            side.__init__(proxy.connect(name).sock)  # type: ignore[misc]
            check_passes(pri, sec, out, b"after " + name.encode())
        out.sock.close()
        again = proxy.connect("out")
        proxy.wait_for("chardev out", ": connected", times=2)
        check_passes(pri, sec, again, b"at last")


def test_what_is_released_while_outdev_is_not_connected_is_lost_and_counted(tmp_path: Path):
    with running(tmp_path, *compare(tmp_path)) as proxy:
        pri, sec = proxy.connect("pri"), proxy.connect("sec")
        for side in (sec, pri):
            side.send(datagram(b"lost"))
        until = time.monotonic() + SECONDS
        while "lost_batches=1" not in proxy.said():
            assert time.monotonic() < until, proxy.said()
            proxy.process.send_signal(signal.SIGUSR1)
            time.sleep(0.05)
        out = proxy.connect("out")
        proxy.wait_for("chardev out", ": connected")
        check_passes(pri, sec, out, b"not lost")


def test_a_proxy_that_spins_does_the_same_and_sleeps_in_the_end(tmp_path: Path):
    with running(tmp_path, *compare(tmp_path), "--spin", "20000") as proxy:
        pri, sec, out = proxy.ends()
        for number in range(50):
            check_passes(pri, sec, out, b"%d" % number)
            time.sleep(0.001 * number)
        sleeping_since = proxy.cpu_ticks()
        time.sleep(1)
        assert proxy.cpu_ticks() - sleeping_since < os.sysconf("SC_CLK_TCK") / 2
        assert proxy.stop() == 0


def test_a_bad_stream_is_closed_with_its_name_and_the_others_go_on(tmp_path: Path):
    with running(tmp_path, *compare(tmp_path)) as proxy:
        pri, sec, out = proxy.ends()
        sec.send(datagram(b"kept"))
        pri.sock.sendall(framed(datagram(b"kept")) + struct.pack(">I", 70_000) + b"x")
        assert out.frame() == datagram(b"kept")
        assert pri.has_ended()
        assert "70000" in proxy.wait_for("c0.primary_in (chardev pri)", "length word")
        check_passes(proxy.connect("pri"), sec, out, b"goes on")


def test_a_server_that_waits_keeps_its_object_from_starting(tmp_path: Path):
    words = [*servers(tmp_path, "pri", "sec"), *servers(tmp_path, "out", extra=",server=on")]
    with running(tmp_path, *words, *IOTHREAD, "-object", COMPARE) as proxy:
        pri, sec = proxy.connect("pri"), proxy.connect("sec")
        for side in (sec, pri):
            side.send(datagram(b"early"))
        proxy.wait_for("c0.outdev", "waiting for a connection")
        assert proxy.connect("out").frame() == datagram(b"early")


def test_clients_connect_and_reconnect(tmp_path: Path):
    """primary_in and outdev over TCP, where we are the client."""
    with ExitStack() as undo:
        listeners = {}
        words = servers(tmp_path, "sec")
        for name, address in (("pri", "127.0.0.1"), ("out", "::1")):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listeners[name] = undo.enter_context(socket.create_server((address, 0), family=family))
            listeners[name].settimeout(SECONDS)
            port = listeners[name].getsockname()[1]
            words += ["-chardev", f"socket,id={name},host={address},port={port},reconnect-ms=50"]
        proxy = undo.enter_context(running(tmp_path, *words, *IOTHREAD, "-object", COMPARE))
        sec = proxy.connect("sec")
        for turn in range(3):
            pri, out = (End(undo.enter_context(listeners[name].accept()[0])) for name in ("pri", "out"))
            proxy.wait_for("chardev out", ": connected", times=turn + 1)
            check_passes(pri, sec, out, b"turn %d" % turn)
            pri.sock.close()
            out.sock.close()


def test_qemus_own_lines_connect_a_chardev_to_another_of_the_same_process(tmp_path: Path):
    """As in QEMU's COLO documentation: the client stands before the server that it connects to."""
    client = ["-chardev", f"socket,id=pri,path={tmp_path / 'loop'}"]
    words = [*client, *servers(tmp_path, "sec", "out", "in1", "in2", "loop2"), *servers(tmp_path, "loop")]
    rewriter = "filter-rewriter,id=r0,client_in=in1,guest_out=loop,guest_in=in2,client_out=loop2"
    with running(tmp_path, *words, *IOTHREAD, "-object", COMPARE, "-object", rewriter) as proxy:
        out, first, sec = proxy.connect("out"), proxy.connect("in1"), proxy.connect("sec")
        for name in ("out", "loop", "pri"):
            proxy.wait_for(f"chardev {name}", ": connected")
        check_passes(first, sec, out, b"through both")


def test_a_reader_that_sends_nothing_more_reads_on(tmp_path: Path):
    with running(tmp_path, *compare(tmp_path)) as proxy:
        pri, sec, out = proxy.ends()
        out.sock.shutdown(socket.SHUT_WR)
        time.sleep(QUIET_SECONDS)
        check_passes(pri, sec, out, b"still there")


# ── notify_dev ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_that_was_not_heard_is_made_again(tmp_path: Path):
    words = (*servers(tmp_path, "notify"), *compare(tmp_path, ",notify_dev=notify"))
    with running(tmp_path, *words) as proxy:
        pri, sec, out = proxy.ends()
        sec.send(datagram(b"other"))
        pri.send(datagram(b"one"))
        proxy.wait_for("divergence", "checkpoint=requested")
        for _ in range(2):
            notify = proxy.connect("notify")
            assert notify.frame() == b"DO_CHECKPOINT"
            notify.sock.close()
        notify = proxy.connect("notify")
        assert notify.frame() == b"DO_CHECKPOINT"
        assert out.frame(QUIET_SECONDS) is None
        notify.send(b"COLO_CHECKPOINT")
        assert out.frame() == datagram(b"one")
        check_passes(pri, sec, out, b"a new epoch")


@pytest.mark.parametrize(("policy", "passes"), [("hold", False), ("report", True)])
def test_without_notify_dev_a_divergence_is_logged_and_acted_on(tmp_path: Path, policy: str, passes: bool):
    with running(tmp_path, *compare(tmp_path, f",on_divergence={policy}")) as proxy:
        pri, sec, out = proxy.ends()
        sec.send(datagram(b"other"))
        pri.send(datagram(b"one"))
        assert "kind=datagram" in proxy.wait_for("divergence", "10.0.0.1:1000")
        assert out.frame(SECONDS if passes else QUIET_SECONDS) == (datagram(b"one") if passes else None)


def segment(*, to_guest: bool, **fields: Any) -> bytes:
    there, back = ("10.0.0.9", 40000), ("10.0.0.1", 80)
    (source, sport), (target, dport) = (there, back) if to_guest else (back, there)
    return ethernet(IP(src=source, dst=target) / TCP(sport=sport, dport=dport, **fields))


def test_a_rewriter_hears_of_checkpoints_too(tmp_path: Path):
    """The primary's ISN is 1000, the secondary's 5000; after the checkpoint the secondary has the primary's."""
    text = "filter-rewriter,id=r0,client_in=cin,guest_out=cout,guest_in=sin,client_out=sout,notify_dev=notify"
    with running(tmp_path, *servers(tmp_path, "cin", "cout", "sin", "sout", "notify"), "-object", text) as proxy:
        cin, cout, sin, sout, notify = (proxy.connect(name) for name in ("cin", "cout", "sin", "sout", "notify"))
        for name in ("cout", "sout", "notify"):
            proxy.wait_for(f"chardev {name}", ": connected")
        syn = segment(to_guest=True, flags="S", seq=1)
        cin.send(syn)
        assert cout.frame() == syn
        sin.send(segment(to_guest=False, flags="SA", seq=5000, ack=2))
        assert sout.frame() is not None
        cin.send(segment(to_guest=True, flags="A", seq=2, ack=1001))
        assert cout.frame() == segment(to_guest=True, flags="A", seq=2, ack=5001)
        sin.send(segment(to_guest=False, flags="A", seq=5001, ack=2))
        assert sout.frame() == segment(to_guest=False, flags="A", seq=1001, ack=2)
        notify.send(b"COLO_USERSPACE_PROXY_INIT", b"COLO_CHECKPOINT")
        assert notify.frame() == b"COLO_COMPARE_GET_XEN_INIT"
        proxy.wait_for("checkpoint committed")
        cin.send(segment(to_guest=True, flags="A", seq=2, ack=1001))
        assert cout.frame() == segment(to_guest=True, flags="A", seq=2, ack=1001)


# ── the process ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals):
    with running(tmp_path, *compare(tmp_path)) as proxy:
        pri, sec, out = proxy.ends()
        check_passes(pri, sec, out, b"x")
        assert proxy.stop(number) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]
        assert "Traceback" not in proxy.said()


def test_sigusr1_and_metrics_show_what_is_held(tmp_path: Path):
    with running(tmp_path, *compare(tmp_path), "--metrics", "127.0.0.1:0") as proxy:
        pri, _, _ = proxy.ends()
        pri.send(datagram(b"waits"))
        url = proxy.wait_for("metrics at").rpartition(" ")[2]
        until = time.monotonic() + SECONDS
        held = 'colo_proxy_held_packets{object="c0",type="colo-compare"} 1.0'
        while held not in (text := urllib.request.urlopen(url, timeout=SECONDS).read().decode()):
            assert time.monotonic() < until, text
        assert 'colo_proxy_primary_frames_total{object="c0",type="colo-compare"} 1.0' in text
        assert 'colo_proxy_stream_connected{object="c0",stream="outdev",type="colo-compare"} 1.0' in text
        proxy.process.send_signal(signal.SIGUSR1)
        line = proxy.wait_for("colo-compare c0:")
        assert "1 packets held, the oldest for " in line
        assert "connected" in proxy.wait_for("primary_in: c0.primary_in (chardev pri)")


def environment_error(folder: Path, *words: str) -> str:
    with running(folder, *words) as proxy:
        assert proxy.process.wait(SECONDS) == 1
        (line,) = proxy.said().splitlines()
        assert line.startswith("colo: ")
        return line


def test_a_path_in_use(tmp_path: Path):
    (tmp_path / "out").touch()
    line = environment_error(tmp_path, *compare(tmp_path))
    assert "c0.outdev (chardev out)" in line
    assert "in use" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]


def test_a_client_without_reconnect_must_find_its_peer(tmp_path: Path):
    words = ("-chardev", f"socket,id=pri,path={tmp_path / 'nobody'}", *servers(tmp_path, "sec", "out"))
    line = environment_error(tmp_path, *words, *IOTHREAD, "-object", COMPARE)
    assert "c0.primary_in (chardev pri)" in line
    assert "reconnect=1" in line


# ── a netdev ────────────────────────────────────────────────────────────────────────────────────────────────

ETHERTYPE = 0x88B5  # IEEE 802 local experimental: the kernel sends none of its own
IN_NAMESPACE = """
import socket, sys
port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
port.bind(("tap0", 0x88b5))
print("ready", flush=True)
for line in sys.stdin:
    port.send(bytes.fromhex(line))
    print(port.recv(65536).hex(), flush=True)
"""


@pytest.mark.tun
@pytest.mark.namespaces
def test_mirror_and_redirector_around_a_tap_device(tmp_path: Path):
    """A frame that the device receives is mirrored; what comes on the indev leaves through the device."""
    words = [*servers(tmp_path, "mirror", "back", "guest"), "-netdev", "tap,id=hn0,ifname=tap0,script=no,downscript=no"]
    for text in (
        "filter-mirror,id=m0,netdev=hn0,queue=tx,outdev=mirror",
        "filter-redirector,id=r0,netdev=hn0,queue=rx,indev=back",
        "filter-redirector,id=r1,netdev=hn0,queue=tx,outdev=guest",
        f"filter-dump,id=d0,netdev=hn0,file={tmp_path / 'first'},position=head",
        f"filter-dump,id=d1,netdev=hn0,file={tmp_path / 'last'},position=tail",
    ):
        words += ["-object", text]
    as_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    with running(tmp_path, *words, prefix=("unshare", *as_user, "--net")) as proxy:
        mirror, back, guest = proxy.connect("mirror"), proxy.connect("back"), proxy.connect("guest")
        for name in ("mirror", "guest"):
            proxy.wait_for(f"chardev {name}", ": connected")
        inside = ["nsenter", "-t", str(proxy.process.pid), *(("-U",) if as_user else ()), "-n"]
        subprocess.run([*inside, "ip", "link", "set", "tap0", "up"], check=True, timeout=SECONDS)
        client = subprocess.Popen(
            [*inside, sys.executable, "-c", IN_NAMESPACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with client:
            try:
                assert client.stdin is not None
                assert client.stdout is not None
                assert client.stdout.readline() == "ready\n"
                there, answer = (ethernet(text, ethertype=ETHERTYPE) for text in (b"to the guest", b"from the guest"))
                client.stdin.write(there.hex() + "\n")
                client.stdin.flush()
                for end in (mirror, guest):
                    while (seen := end.frame()) != there:
                        assert seen is not None
                        assert seen[12:14] == b"\x86\xdd"  # the kernel's own IPv6 multicasts
                back.send(answer)
                assert bytes.fromhex(client.stdout.readline()) == answer
            finally:
                client.kill()
        assert proxy.stop() == 0
        first, last = (tmp_path / "first").read_bytes(), (tmp_path / "last").read_bytes()
        assert b"to the guest" in first
        assert b"from the guest" in first  # rx runs backwards, from r0 to the head
        assert len(last) == 24  # r1 has taken out what comes from the device, and r0 stands before it
