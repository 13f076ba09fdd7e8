"""A QMP server that does what the test says: answers, errors, events, silence, garbage, a close in the middle.

    async with FakeQmp(path) as fake:
        fake.answers["query-status"] = {"status": "running", "running": True}
        fake.answers["cont"] = Refusal("GenericError", "no")
        fake.answers["stop"] = HANG
        fake.emit("STOP", {}, seconds=1, microseconds=2)

As QEMU it serves one client at a time: others wait in the listener's queue without a greeting.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

GREETING: Final = {
    "QMP": {
        "version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian 1:7.2"},
        "capabilities": ["oob"],
    }
}

HANG: Final = object()
"""As an answer: none. `FakeQmp.answer_late` may give it afterwards."""


@dataclass(frozen=True)
class Refusal:
    """As an answer: an error."""

    error_class: str
    description: str


@dataclass(frozen=True)
class Raw:
    """As an answer: these bytes, whatever they are, and then the end of the connection if `closes`."""

    octets: bytes
    closes: bool = False


class FakeQmp:
    """Listens at `path` inside `async with`. A command that is not in `answers` is refused as QEMU does.

    An answer may be a function of the arguments. `greeting` None: connections are accepted and hear nothing.
    """

    def __init__(self, path: Path, greeting: dict[str, Any] | bytes | None = GREETING) -> None:
        self.path = path
        self.greeting = greeting
        self.answers: dict[str, Any] = {"qmp_capabilities": {}}
        self.received: list[dict[str, Any]] = []
        """Every message, in order."""
        self.connections = 0
        self.is_reading = asyncio.Event()
        """Cleared: nothing more is read from the client."""
        self.is_reading.set()
        self._unanswered: list[tuple[asyncio.StreamWriter, dict[str, Any]]] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._accepted_writers: set[asyncio.StreamWriter] = set()
        self._is_over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accepted, str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._is_over = True
        self.is_reading.set()
        await asyncio.sleep(0)  # who was accepted just now begins, and sees that it is over
        for writer in self._accepted_writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        self.path.unlink(missing_ok=True)

    # ── what the test does ────────────────────────────────────────────────────────────────────────────────────

    def emit(self, name: str, data: dict[str, Any] | None = None, seconds: int = 1, microseconds: int = 0) -> None:
        """An event, to the client that is served."""
        stamp = {"seconds": seconds, "microseconds": microseconds}
        self.say(json.dumps({"event": name, "timestamp": stamp, **({} if data is None else {"data": data})}).encode())

    def say(self, octets: bytes) -> None:
        """A line, to the client that is served."""
        for writer in self._writers:
            writer.write(octets + b"\n")

    def answer_late(self, value: Any) -> int:
        """The answer to every command that got none; how many those were."""
        waiting, self._unanswered = self._unanswered, []
        for writer, message in waiting:
            self._answer(writer, message, value)
        return len(waiting)

    def answer_first(self, value: Any) -> None:
        """The answer to the oldest command that got none."""
        writer, message = self._unanswered.pop(0)
        self._answer(writer, message, value)

    def hang_up(self) -> None:
        """End the connections at once."""
        for writer in list(self._writers):
            writer.transport.abort()

    def commands(self) -> list[str]:
        """Names of the commands that came, in order."""
        return [message.get("execute") or message["exec-oob"] for message in self.received]

    async def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Wait until `condition()`."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    # ── what QEMU does ────────────────────────────────────────────────────────────────────────────────────────

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._accepted_writers.add(writer)
        try:
            async with self._serving:
                if not self._is_over:
                    await self._serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            self._accepted_writers.discard(writer)
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self.greeting is not None:
            octets = self.greeting if isinstance(self.greeting, bytes) else json.dumps(self.greeting).encode()
            writer.write(octets + b"\n")
        async for message in _objects(reader, self.is_reading):
            self.received.append(message)
            value = self.answers.get(message.get("execute") or message.get("exec-oob"), _not_found(message))
            if callable(value):
                value = value(message.get("arguments"))
            if value is HANG:
                self._unanswered.append((writer, message))
            else:
                self._answer(writer, message, value)
                await writer.drain()

    def _answer(self, writer: asyncio.StreamWriter, message: dict[str, Any], value: Any) -> None:
        match value:
            case Raw(octets=octets, closes=closes):
                writer.write(octets)
                if closes:
                    writer.close()
            case Refusal(error_class=error_class, description=description):
                self._reply(writer, message, {"error": {"class": error_class, "desc": description}})
            case _:
                self._reply(writer, message, {"return": value})

    def _reply(self, writer: asyncio.StreamWriter, message: dict[str, Any], answer: dict[str, Any]) -> None:
        if "id" in message:
            answer["id"] = message["id"]
        writer.write(json.dumps(answer).encode() + b"\n")


def _not_found(message: dict[str, Any]) -> Refusal:
    name = message.get("execute") or message.get("exec-oob")
    return Refusal("CommandNotFound", f"The command {name} has not been found")


async def _objects(reader: asyncio.StreamReader, is_reading: asyncio.Event) -> Any:
    """JSON objects, with or without something between them: QMP's clients send no line ends."""
    decoder = json.JSONDecoder()
    text = ""
    while True:
        await is_reading.wait()
        octets = await reader.read(65536)
        if not octets:
            return
        text = (text + octets.decode()).lstrip()
        while text:
            try:
                found, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield found
