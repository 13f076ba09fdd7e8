"""The bulk clients: one large download, one large upload, and a probe that connects after the kill.

Each runs as a separate process in the client's namespace, checks every byte, writes its progress to the scoreboard and
leaves one JSON result. A transfer either has a size, or continues until the run ends it: it then sends no more requests
and waits for outstanding data.
"""

import argparse
import hashlib
import os
import select
import socket
import struct
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.facts import Pause, ProbeResult, TransferResult
from pycolo_lab.guest_server import PATTERN_BYTES, PORT, pattern
from pycolo_lab.scoreboard import Scoreboard, Slot

PAUSE_NS_MIN: Final = 5_000_000
"""Shorter stretches without progress are the scheduler's, not the network's."""

PAUSES_MAX: Final = 4096

REQUEST_BYTES: Final = 1 << 20
AHEAD_BYTES_MIN: Final = 4 << 20
AHEAD_SECONDS: Final = 0.25
"""Requested ahead of received data: never idle, and yet soon done after the end."""

PUT_BYTES: Final = 4 << 20
RECEIVE_BYTES: Final = 512 << 10
SEND_BYTES: Final = 256 << 10
TICK_S: Final = 0.1
UPLOAD_TICK_MS: Final = 2
"""How often the upload looks at what the guest has acknowledged: the resolution of its pauses."""

TCP_INFO_BYTES: Final = 232
TCP_INFO_TOTAL_RETRANS: Final = 100  # linux/tcp.h, struct tcp_info: __u32 tcpi_total_retrans
TCP_INFO_BYTES_ACKED: Final = 120  # __u64 tcpi_bytes_acked, RFC 4898 tcpEStatsAppHCThruOctetsAcked


class ClientError(Exception):
    """An error in the client's words."""


def in_words(error: OSError) -> str:
    """What the client saw, told apart the way the verdict needs it."""
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset by the other side"
    if isinstance(error, TimeoutError):
        return "timed out"
    return error.strerror or str(error)


class PauseRecorder:
    """Records the periods without progress."""

    def __init__(self, now_ns: int, pause_ns_min: int = PAUSE_NS_MIN) -> None:
        self.pauses: list[Pause] = []
        self.last_ns = now_ns
        self._pause_ns_min = pause_ns_min

    def moved(self, now_ns: int) -> None:
        """Something arrived."""
        if now_ns - self.last_ns >= self._pause_ns_min and len(self.pauses) < PAUSES_MAX:
            self.pauses.append(Pause(self.last_ns, now_ns))
        self.last_ns = now_ns

    def ended(self, now_ns: int) -> list[Pause]:
        """Nothing more will arrive: an open pause counts too."""
        self.moved(now_ns)
        return self.pauses


class Transfer:
    """What download and upload share: the connection, the clock, the way to give up."""

    def __init__(self, address: str, board: Scoreboard, size: int | None, seed: int, stall_seconds: float) -> None:
        self.board = board
        self.size = size
        self.pattern = pattern(seed)
        self.done = 0
        self._stall_ns = int(stall_seconds * 1e9)
        self.started_ns = time.monotonic_ns()
        self.progress = PauseRecorder(self.started_ns)
        self.socket = socket.create_connection((address, PORT), timeout=stall_seconds)

    @property
    def finishing(self) -> bool:
        """Whether the run has ended the load (a transfer with a size ends when all of it is through)."""
        return self.size is None and self.board[Slot.FINISH] != 0

    def left(self, requested: int) -> int:
        """How much may still be asked for."""
        return REQUEST_BYTES * 64 if self.size is None else self.size - requested

    def assert_moving(self) -> None:
        """Raise if there was no progress for too long."""
        if time.monotonic_ns() - self.progress.last_ns > self._stall_ns:
            raise ClientError(f"no progress for {self._stall_ns / 1e9:.0f} s after {self.done} bytes")

    def result(self, error: str | None) -> TransferResult:
        """The account of it all."""
        now = time.monotonic_ns()
        return TransferResult(
            started_ns=self.started_ns,
            ended_ns=now,
            bytes=self.done,
            pauses=self.progress.ended(now),
            error=error,
            retransmits=tcp_info(self.socket)[1],
        )


def download(transfer: Transfer) -> None:
    """Fetch the pattern and compare each byte on arrival."""
    connection = transfer.socket
    connection.settimeout(TICK_S)
    requested = 0
    buffer = bytearray(RECEIVE_BYTES)
    view = memoryview(buffer)
    while True:
        if not transfer.finishing:
            elapsed = (time.monotonic_ns() - transfer.started_ns) / 1e9
            ahead = max(AHEAD_BYTES_MIN, int(transfer.done / max(elapsed, 0.1) * AHEAD_SECONDS))
            requests = []
            while requested - transfer.done < ahead and transfer.left(requested) > 0:
                length = min(REQUEST_BYTES, transfer.left(requested))
                requests.append(b"get %d\n" % length)
                requested += length
            if requests:
                connection.sendall(b"".join(requests))
        if transfer.done == requested:
            return
        try:
            received = connection.recv_into(buffer)
        except TimeoutError:
            transfer.assert_moving()
            continue
        if not received:
            raise ClientError(f"the connection ended after {transfer.done} bytes")
        if not transfer.pattern.startswith(view[:received], transfer.done % PATTERN_BYTES):
            raise ClientError(f"wrong content within {received} bytes after byte {transfer.done}")
        transfer.done += received
        transfer.progress.moved(time.monotonic_ns())
        transfer.board[Slot.DOWNLOAD_BYTES] = transfer.done


class Upload:
    """Puts the pattern piece by piece and checks the guest's digest after each; progress is what TCP has
    acknowledged."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._socket = transfer.socket
        self._requested = 0
        self._piece_left = 0
        self._header = b""
        self._digest = hashlib.sha256()
        self._expected: deque[bytes] = deque()
        self._answer = b""

    def run(self) -> None:
        """Return when everything that was put has been acknowledged and confirmed."""
        transfer = self._transfer
        self._socket.setblocking(False)
        poller = select.poll()
        while True:
            more = bool(self._header or self._piece_left) or self._next_piece()
            if not more and not self._expected:
                return
            poller.register(self._socket, select.POLLIN | (select.POLLOUT if more else 0))
            for _, ready in poller.poll(UPLOAD_TICK_MS):
                if ready & ~select.POLLOUT:
                    self._read()
                if ready & select.POLLOUT:
                    self._write()
            acknowledged, _ = tcp_info(self._socket)
            if acknowledged > transfer.done:
                transfer.done = acknowledged
                transfer.progress.moved(time.monotonic_ns())
                transfer.board[Slot.UPLOAD_BYTES] = acknowledged
            else:
                transfer.assert_moving()

    def _next_piece(self) -> bool:
        length = min(PUT_BYTES, self._transfer.left(self._requested))
        if self._transfer.finishing or length <= 0:
            return False
        self._header = b"put %d\n" % length
        self._piece_left = length
        return True

    def _write(self) -> None:
        try:
            if self._header:
                self._header = self._header[self._socket.send(self._header) :]
                return
            offset = self._requested % PATTERN_BYTES
            piece = memoryview(self._transfer.pattern)[offset : offset + min(SEND_BYTES, self._piece_left)]
            sent = self._socket.send(piece)
        except BlockingIOError:
            return
        self._digest.update(piece[:sent])
        self._requested += sent
        self._piece_left -= sent
        if not self._piece_left:
            self._expected.append(self._digest.hexdigest().encode())

    def _read(self) -> None:
        received = self._socket.recv(4096)
        if not received:
            raise ClientError(f"the connection ended after {self._transfer.done} bytes")
        self._answer += received
        while b"\n" in self._answer:
            digest, _, self._answer = self._answer.partition(b"\n")
            if not self._expected or digest != self._expected.popleft():
                raise ClientError(f"the guest's digest differs before byte {self._requested}")


def probe(address: str, seed: int, stall_seconds: float) -> ProbeResult:
    """Connect anew, ask one question, fetch and put a little."""
    started = time.monotonic()
    connected_at: float | None = None
    error: str | None = None
    try:
        with socket.create_connection((address, PORT), timeout=stall_seconds) as connection:
            connected_at = time.monotonic()
            _converse(connection, pattern(seed)[:PATTERN_BYTES])
    except OSError as failure:
        error = in_words(failure)
    except ClientError as failure:
        error = str(failure)
    ended = time.monotonic()
    return ProbeResult(
        connect_ms=((connected_at or ended) - started) * 1e3, total_ms=(ended - started) * 1e3, error=error
    )


def _converse(connection: socket.socket, piece: bytes) -> None:
    """All three commands, one after the other: the server does not listen while it answers."""
    with connection.makefile("rb") as stream:
        connection.sendall(b"ask are you there\nput %d\n" % len(piece))
        connection.sendall(piece)
        if not stream.readline().startswith(b"1 "):
            raise ClientError("wrong answer")
        if stream.readline() != hashlib.sha256(piece).hexdigest().encode() + b"\n":
            raise ClientError("the guest's digest differs")
        connection.sendall(b"get %d\n" % len(piece))
        if stream.read(len(piece)) != piece:
            raise ClientError("wrong content")


def tcp_info(connection: socket.socket) -> tuple[int, int]:
    """(bytes acknowledged, segments retransmitted) of the connection."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    return (
        struct.unpack_from("=Q", info, TCP_INFO_BYTES_ACKED)[0],
        struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS)[0],
    )


def leave_result(path: Path, result: msgspec.Struct) -> None:
    """Write the result so that a reader sees all of it or nothing."""
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(result))
    os.replace(unfinished, path)


def _transfer(kind: str, arguments: argparse.Namespace) -> TransferResult:
    started = time.monotonic_ns()
    try:
        transfer = Transfer(
            arguments.address,
            Scoreboard(arguments.scoreboard),
            arguments.size or None,
            arguments.seed,
            arguments.stall_seconds,
        )
    except OSError as failure:
        now = time.monotonic_ns()
        return TransferResult(
            started_ns=started,
            ended_ns=now,
            bytes=0,
            pauses=[Pause(started, now)],
            error=f"connect: {in_words(failure)}",
        )
    with transfer.socket:
        try:
            if kind == "download":
                download(transfer)
            else:
                Upload(transfer).run()
        except OSError as failure:
            return transfer.result(in_words(failure))
        except ClientError as failure:
            return transfer.result(str(failure))
        return transfer.result(None)


def main() -> None:
    """Run one client."""
    parser = argparse.ArgumentParser(prog="clients")
    parser.add_argument("kind", choices=("download", "upload", "probe"))
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--stall-seconds", type=float, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    parser.add_argument("--size", type=int, default=0, help="bytes; 0: until the run asks for the end")
    arguments = parser.parse_args()
    if arguments.kind == "probe":
        leave_result(arguments.result, probe(arguments.address, arguments.seed, arguments.stall_seconds))
    else:
        leave_result(arguments.result, _transfer(arguments.kind, arguments))


if __name__ == "__main__":
    main()
