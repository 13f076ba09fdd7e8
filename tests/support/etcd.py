"""An etcd of the test's own: on free loopback ports, with its own directory; and a way to it that loses answers."""

import asyncio
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pycolo.arbiters.httprequest import TlsFiles
from support.ports import unused_port

START_S = 30


@dataclass(frozen=True)
class Settings:
    """A configuration's table [arbiter]."""

    kind: str = "manual"
    command: tuple[str, ...] = ()
    timeout_ms: int = 10_000
    head_start_ms: int = 10_000
    endpoints: tuple[str, ...] = ()
    ttl_ms: int = 3_000
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    prefix: str = "/colo/"


class Certificates:
    """An authority of the test's own, and what it has signed: `of(name)`. Good for 127.0.0.1, on both sides."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {directory.name}")])
        self.authority = directory / "ca.pem"
        self.authority.write_bytes(self._signed(self._name, self._key, is_authority=True))

    def of(self, name: str) -> TlsFiles:
        """The files of `name`, made when they are not there."""
        files = TlsFiles(self.authority, self._directory / f"{name}.pem", self._directory / f"{name}.key")
        if not files.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            plain = serialization.NoEncryption()
            form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
            files.key.write_bytes(key.private_bytes(*form))
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            files.certificate.write_bytes(self._signed(subject, key, is_authority=False))
        return files

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Etcd:
    """One member. Ends with the `with` block, whatever has happened to it."""

    def __init__(self, directory: Path, certificates: "Certificates | None" = None, address: str = "127.0.0.1") -> None:
        """With `certificates` it speaks TLS, and only with clients that show one of the same authority."""
        self.directory = directory
        self.client_port, self.peer_port = unused_port(), unused_port()
        self.url = f"http{'s' if certificates else ''}://{address}:{self.client_port}"
        self._certificates = certificates
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Also after `kill`: on the same data. Returns when it answers."""
        peer = f"http://127.0.0.1:{self.peer_port}"
        with open(self.directory / "etcd.log", "ab") as output:
            options = {
                "name": "one",
                "data-dir": str(self.directory / "data"),
                "log-level": "error",
                "listen-client-urls": self.url,
                "advertise-client-urls": self.url,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": f"one={peer}",
            }
            if self._certificates is not None:
                options |= {
                    "cert-file": str(self._certificates.of("server").certificate),
                    "key-file": str(self._certificates.of("server").key),
                    "trusted-ca-file": str(self._certificates.authority),
                    "client-cert-auth": "true",
                }
            self.process = subprocess.Popen(
                ["etcd", *(f"--{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "etcd.log").read_text()
            assert time.monotonic() < deadline, "etcd does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        tls = None
        if self._certificates is not None:
            shown = self._certificates.of("client")
            tls = ssl.create_default_context(cafile=shown.authority)
            tls.load_cert_chain(shown.certificate, shown.key)
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=1, context=tls) as answer:
            return b"true" in answer.read()
        return False

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing is put in order."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A TCP server on a free port, which is given; its connections end with the `with` block."""
    tasks: set[asyncio.Task] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            with suppress(OSError, EOFError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        for _ in range(5):  # what was accepted just now
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))


class Way:
    """A TCP proxy to an etcd. `loses_answer(request)` True: the request arrives, its answer does not."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.loses_answer: Callable[[bytes], bool] = lambda _request: False
        self.requests: list[bytes] = []
        self._server = serving(self._serve)

    async def __aenter__(self) -> Self:
        self.port = await self._server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.__aexit__(*exc)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        self.requests.append(request)
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            onward.write(request)
            answer = await onward_reader.read()
        finally:
            onward.close()
            with suppress(OSError):
                await onward.wait_closed()
        if not self.loses_answer(request):
            writer.write(answer)
            await writer.drain()
