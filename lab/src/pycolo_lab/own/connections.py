"""The connections to the server: which were open at the kill, and their fate. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from pycolo_lab.own.facts import ConnectionRecord, Fate
from pycolo_lab.own.farewells import Farewell
from pycolo_lab.own.socktable import ESTABLISHED, Socket

LATELY_NS: Final = 1_000_000_000
"""A connection was in use when it moved within this time before the kill."""

KILL_WINDOW_NS: Final = 4_000_000_000
"""A pause that begins later than this after the kill is not the kill's."""


class _Seen:
    """One connection as long as it is in the table."""

    def __init__(self, socket: Socket, now_ns: int) -> None:
        self.first_ns = self.moved_ns = now_ns
        self.socket = socket
        self.run: int | None = None
        self.moved_at_kill = 0
        self.in_use = False
        self.pause_ns = 0

    def look(self, socket: Socket, now_ns: int, killed_ns: int) -> None:
        if socket.moved != self.socket.moved:
            if killed_ns and self.moved_ns <= killed_ns + KILL_WINDOW_NS:
                self.pause_ns = max(self.pause_ns, now_ns - self.moved_ns)
            self.moved_ns = now_ns
        if socket.inode or not self.socket.inode:
            self.socket = socket
        else:  # no process owns it any more: keep the last owner
            self.socket = Socket(socket.local_port, socket.state, self.socket.inode, socket.moved, socket.unacked)


class Connections:
    """Fed with the table again and again; `killed` once, `records` at the end."""

    def __init__(self, *, udp: bool) -> None:
        """With `udp` a socket stands for a flow, of which nothing is known but who has it."""
        self._udp = udp
        self._open: dict[int, _Seen] = {}
        self._at_kill: dict[int, _Seen] = {}
        self._killed_ns = 0

    @property
    def established(self) -> int:
        """How many there are now."""
        return sum(1 for seen in self._open.values() if seen.socket.state == ESTABLISHED)

    def seen(self, sockets: Iterable[Socket], now_ns: int) -> None:
        """The table at this moment."""
        before, self._open = self._open, {}
        for socket in sockets:
            known = before.get(socket.local_port)
            if known is None or (socket.inode and known.socket.inode and socket.inode != known.socket.inode):
                known = _Seen(socket, now_ns)
            else:
                known.look(socket, now_ns, self._killed_ns)
            self._open[socket.local_port] = known

    def killed(self, at_ns: int, table: Iterable[Socket], owners: Mapping[int, int]) -> None:
        """Host A was cut off, and this was the table; `owners`: which run has the socket with that inode open."""
        self._killed_ns = at_ns
        for socket in table:
            if socket.state != ESTABLISHED or (self._udp and socket.inode not in owners):
                continue
            seen = self._open.get(socket.local_port)
            if seen is None or seen.socket.inode not in (0, socket.inode):
                seen = _Seen(socket, at_ns)  # it has come and gone between two looks
            seen.run = owners.get(socket.inode)
            seen.moved_at_kill = socket.moved
            seen.in_use = at_ns - seen.moved_ns <= LATELY_NS
            self._at_kill[socket.local_port] = seen

    def records(self, now_ns: int, farewells: Mapping[int, Farewell]) -> list[ConnectionRecord]:
        """What became of each that was open at the kill."""
        return [self._record(seen, now_ns, farewells.get(port)) for port, seen in self._at_kill.items()]

    def _record(self, seen: _Seen, now_ns: int, farewell: Farewell | None) -> ConnectionRecord:
        if farewell is not None and farewell.at_ns < self._killed_ns:
            farewell = None
        fate = self._fate(seen, farewell)
        pause_ns = seen.pause_ns
        if fate is Fate.STALLED:
            pause_ns = max(pause_ns, now_ns - seen.moved_ns)
        elif fate is Fate.CLOSED and farewell is not None and not pause_ns:
            pause_ns = farewell.at_ns - seen.moved_ns  # what it still waited for came with the end
        return ConnectionRecord(
            port=seen.socket.local_port,
            run=seen.run,
            first_ns=seen.first_ns,
            moved_at_kill=seen.moved_at_kill,
            moved=seen.socket.moved,
            pause_ns=max(pause_ns, 0),
            fate=fate,
        )

    def _fate(self, seen: _Seen, farewell: Farewell | None) -> Fate:
        if self._open.get(seen.socket.local_port) is not seen:
            if farewell is None:
                return Fate.CLOSED if self._udp else Fate.LOST
            if farewell.how == "fin":
                return Fate.CLOSED
            return Fate.RESET if farewell.by_guest else Fate.ABORTED
        # A farewell that the client's kernel did not take for one of this connection's is none.
        if self._udp:
            return Fate.OPEN
        if seen.socket.state != ESTABLISHED:
            return Fate.CLOSED
        stood_still = seen.socket.moved == seen.moved_at_kill
        return Fate.STALLED if stood_still and (seen.in_use or seen.socket.unacked) else Fate.OPEN
