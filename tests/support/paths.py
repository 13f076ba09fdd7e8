"""A data path in its thread, with stream ports and a link whose other ends the test holds."""

import queue
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pycolo.link.codec import DATA_FROM_PRIMARY, DATA_FROM_SECONDARY, MessageType
from pycolo.node.datapath import DataPath
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.portspec import parse_port
from pycolo.transport.streamport import StreamPort
from support.nodes import Wire, wait_for


def stream(place: Path, name: str, more: str = "") -> StreamPort:
    return StreamPort(parse_port(f"unix:{place / name},server=on{more}", f"--{name}"), f"--{name}")


class Running:
    """`path` runs until `close`; what it calls back is kept."""

    def __init__(self, place: Path, build: Any, is_primary: bool) -> None:
        self.lost: queue.Queue[str] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self.stack = ExitStack()
        self._types = (
            (DATA_FROM_SECONDARY, DATA_FROM_PRIMARY) if is_primary else (DATA_FROM_PRIMARY, DATA_FROM_SECONDARY)
        )
        ports = {name: stream(place, name) for name in ("lan", "guest")}
        base = {"on_link_lost": self.lost.put, "on_note": self.notes.put, "on_fatal": self.failures.put}
        self.path: DataPath = build(ports, base)
        self.path.start()
        self.stack.callback(self.path.stop)
        self.lan, self.guest = (self.stack.enter_context(_closing(Wire(place / name))) for name in ports)
        wait_for(lambda: all(port.is_connected for port in ports.values()), "both streams")

    def link(self, **limits: Any) -> LinkSocket:
        """Give the path a data connection; the other node's end of it."""
        ours, theirs = socket.socketpair()
        own_types, their_types = self._types
        end = LinkSocket(theirs, "link to the path", their_types)
        self.stack.callback(end.close)
        mine = LinkSocket(ours, "data link", own_types, **limits)
        self.path.post(lambda: self.path.attach(mine))
        return end

    def tell(self, action: Any) -> None:
        """Have it done in the path's thread, and wait for that."""
        self.path.ask(action).result(20)

    def counters(self) -> dict[str, int]:
        return self.path.ask(self.path.snapshot).result(20)["counters"]

    def close(self) -> None:
        self.stack.close()
        assert self.failures.empty(), self.failures.get()


class _closing:  # noqa: N801 - as contextlib.closing, typed
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __enter__(self) -> Wire:
        return self._wire

    def __exit__(self, *_: object) -> None:
        self._wire.close()


def send(end: LinkSocket, message_type: MessageType, octets: bytes) -> None:
    end.queue(message_type, octets)
    end.flush()


def payloads(end: LinkSocket, size: int) -> bytes:
    """`size` bytes of payload from the link."""
    found = b""

    def all_there() -> bool:
        nonlocal found
        found += b"".join(bytes(payload) for _, payload in end.receive())
        return len(found) >= size

    wait_for(all_there, f"{size} bytes on the link")
    assert len(found) == size
    return found


# ── with QEMU's chardevs ────────────────────────────────────────────────────────────────────────────────────


class Chardev(Wire):
    """QEMU's end of one of the node's four sockets: it listens, the node comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = b""
        self._lock = threading.Lock()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(20)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.sock = socket.socket(socket.AF_UNIX)

    def accept(self) -> "Chardev":
        self.sock.close()
        self.sock, _ = self._listener.accept()
        return self

    def close(self) -> None:
        super().close()
        self._listener.close()


class Qemu:
    """The chardevs of one guest's card. `gets`, `says`: as the guest; `hears`, `tells`: as the LAN behind its tap."""

    NAMES = ("lan-in", "lan-out", "guest-in", "guest-out")

    def __init__(self, place: Path) -> None:
        place.mkdir(exist_ok=True)
        self._place = place
        self.chardevs = {name: Chardev(place / name) for name in self.NAMES}

    def ports(self, more: str = "") -> dict[str, StreamPort]:
        """The node's ends."""
        names = {name: f"unix:{self._place / name},reconnect-ms=20{more}" for name in self.NAMES}
        return {name.replace("-", "_"): StreamPort(parse_port(text, name), name) for name, text in names.items()}

    def accept(self) -> "Qemu":
        for chardev in self.chardevs.values():
            chardev.accept()
        return self

    def tells(self, *frames: bytes) -> None:
        self.chardevs["lan-in"].send(*frames)

    def says(self, *frames: bytes) -> None:
        self.chardevs["guest-in"].send(*frames)

    def hears(self, timeout_s: float = 20) -> bytes | None:
        return self.chardevs["lan-out"].receive(timeout_s)

    def gets(self, timeout_s: float = 20) -> bytes | None:
        return self.chardevs["guest-out"].receive(timeout_s)

    def close(self) -> None:
        for chardev in self.chardevs.values():
            chardev.close()


class Threads:
    """Data paths that run until `close`; what they call back is kept."""

    def __init__(self) -> None:
        self.lost: queue.Queue[str] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.failures: queue.Queue[BaseException] = queue.Queue()
        self.base = {"on_link_lost": self.lost.put, "on_note": self.notes.put, "on_fatal": self.failures.put}
        self._paths: list[DataPath] = []

    def start(self, path: Any) -> Any:
        path.start()
        self._paths.append(path)
        return path

    def close(self) -> None:
        for path in self._paths:
            path.stop()
        assert self.failures.empty(), self.failures.get()


def tell(path: DataPath, action: Any, *arguments: Any) -> Any:
    """Have it done in the path's thread; what it answers."""
    return path.ask(lambda: action(*arguments)).result(20)


def link_pair(**limits: Any) -> tuple[LinkSocket, LinkSocket]:
    """A data connection: the primary's end and the secondary's."""
    ours, theirs = socket.socketpair()
    return (
        LinkSocket(ours, "data link", DATA_FROM_SECONDARY, **limits),
        LinkSocket(theirs, "data link", DATA_FROM_PRIMARY, **limits),
    )
