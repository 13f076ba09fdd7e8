"""What the primary writes to one disk, on its way through a node to the other host.

::

    primary QEMU ══ unix ══ DiskLink ════ link ════ DiskLink ══ unix ══ secondary QEMU
    (NBD client)          the primary's node      the secondary's node   (NBD server)

The nodes do not look at it. Cutting it frees a QEMU that waits for the other host, and its guest's writes with it.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from pycolo.transport.linksetup import RawLink
from pycolo.vm.pump import Pump


class DiskLink(threading.Thread):
    """Moves bytes both ways until it is cut or one side ends. `on_ended(text)` is called once, in this thread, unless
    it was cut.
    """

    def __init__(self, guest: socket.socket, link: RawLink, name: str, on_ended: Callable[[str], None]) -> None:
        super().__init__(name=f"disk {name}", daemon=True)
        guest.setblocking(False)
        link.sock.setblocking(False)
        self._guest = guest
        self._link = link
        self._disk = name
        self._on_ended = on_ended
        self._pumps = Pump(guest, link.sock), Pump(link.sock, guest)
        self._is_cut = False
        self._wake_reader, self._wake_writer = socket.socketpair()

    @property
    def sent_bytes(self) -> int:
        """From this host's QEMU to the other node. Any thread."""
        return self._pumps[0].bytes

    def cut(self) -> None:
        """Close both connections, whatever the other side does. Any thread but this one."""
        self._is_cut = True
        with suppress(OSError):
            self._wake_writer.send(b"x")
        if self.ident is not None:
            self.join()
        else:
            self._close()

    def run(self) -> None:
        """Until it is cut, or one side has ended."""
        try:
            while not self._is_cut and not self._has_ended():
                self._move()
        finally:
            self._close()
        if not self._is_cut:
            self._on_ended(f"disk {self._disk}: {self._who_ended()} has closed the connection for its writes")

    def _move(self) -> None:
        self._wait()
        for pump in self._pumps:
            while True:
                if not pump.is_empty:
                    pump.write()
                if not pump.is_empty or pump.has_ended or not pump.read():
                    break

    def _has_ended(self) -> bool:
        return any(pump.sink_is_gone or (pump.has_ended and pump.is_empty) for pump in self._pumps)

    def _who_ended(self) -> str:
        outward, inward = self._pumps
        return "this host's QEMU" if outward.has_ended or inward.sink_is_gone else "the other node"

    def _wait(self) -> None:
        wanted: dict[int, int] = {self._wake_reader.fileno(): select.POLLIN}
        for pump in self._pumps:
            sock, event = (pump.source, select.POLLIN) if pump.is_empty else (pump.sink, select.POLLOUT)
            wanted[sock.fileno()] = wanted.get(sock.fileno(), 0) | event
        poller = select.poll()
        for file, events in wanted.items():
            poller.register(file, events)
        link = self._link.sock
        poller.poll(0 if isinstance(link, ssl.SSLSocket) and link.pending() > 0 else None)

    def _close(self) -> None:
        for one in (self._guest, self._link, self._wake_reader, self._wake_writer):
            one.close()
