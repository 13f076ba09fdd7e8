"""One HTTP request over its own connection, plain or TLS, with everything bounded. h11 implements the protocol.

The connection is closed after the request, so a late answer cannot be taken for another request's.
"""

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import h11

from pycolo.errors import ConfigError

HEAD_BYTES_MAX: Final = 16 << 10
"""Of an answer's head; etcd's has a few hundred bytes."""

BODY_BYTES_MAX: Final = 64 << 10
"""Two keys of a hundred bytes, and room."""

_READ_BYTES: Final = 16 << 10


class TlsFiles(NamedTuple):
    """PEM files. `authority` None: the system's; `certificate` with `key`: what this side shows of itself."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class TlsContexts:
    """The TLS context for https. It is created again when a file has changed, so no node has to be restarted."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Raises `ConfigError` for files that cannot be used."""
        for name, file in zip(("ca", "certificate", "key"), self._files, strict=True):
            if file is not None and not file.is_file():
                raise ConfigError(f"arbiter.{name}", "a file in PEM", str(file))
        stamp = tuple(file.stat().st_mtime_ns for file in self._files if file is not None)
        if self._context is None or stamp != self._stamp:
            try:
                self._context = self._made()
            except (OSError, ssl.SSLError) as error:
                what = "PEM files of a certificate, its key and its authority"
                raise ConfigError("arbiter.ca, certificate, key", what, str(error)) from error
            self._stamp = stamp
        return self._context

    def _made(self) -> ssl.SSLContext:
        authority, certificate, key = self._files
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=_refuse_password)
        return context


def _refuse_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise OSError("the key is encrypted: a node cannot be asked for its password")


class Endpoint:
    """One URL. Raises `ConfigError`, also for TLS files that cannot be used."""

    def __init__(self, url: str, tls: TlsContexts | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ConfigError("arbiter.endpoints", "a URL such as http://10.0.0.3:2379", url) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError("arbiter.endpoints", "a URL such as http://10.0.0.3:2379", url)
        self.url = url.rstrip("/")
        self.host, self.port = parts.hostname, port
        self.tls = (tls or TlsContexts(TlsFiles())) if parts.scheme == "https" else None
        if self.tls is not None:
            self.tls.context()
        self._host_header = parts.netloc.rpartition("@")[2]

    async def exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `OSError`, `EOFError`, `ValueError`, `ConfigError`."""
        tls = None if self.tls is None else self.tls.context()
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=tls)
        try:
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
            writer.write(b"".join(_request(connection, method, path, self._host_header, body)))
            await writer.drain()
            return await _answer(connection, reader)
        except h11.ProtocolError as error:
            raise ValueError(f"the answer is not HTTP: {error}") from error
        finally:
            # Nothing more is said on it: no orderly end is waited for, which a stopped peer would never give.
            writer.transport.abort()
            with suppress(OSError, asyncio.TimeoutError):
                await writer.wait_closed()


def _request(connection: h11.Connection, method: str, path: str, host: str, body: bytes) -> Iterable[bytes]:
    headers = [
        ("Host", host),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    for event in (h11.Request(method=method, target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
        yield connection.send(event) or b""


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            octets = await reader.read(_READ_BYTES)
            if not octets and not status:
                raise EOFError("the connection was closed before an answer")
            connection.receive_data(octets)
        elif isinstance(event, h11.Response):
            status = event.status_code
            if not {b"content-length", b"transfer-encoding"} & {name for name, _ in event.headers}:
                raise ValueError("the answer does not say how long it is")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_BYTES_MAX:
                raise ValueError(f"the answer is longer than {BODY_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, body
