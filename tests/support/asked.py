"""A node of which only the control socket exists, and the commands that ask it, run in this process."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pycolo.node.control import ControlServer

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@contextmanager
def answering(path: Path, handler: Handler) -> Iterator[Path]:
    """Answers at `path` until the end, in a thread of its own."""
    began, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = ControlServer(path, handler)
        await server.start()
        began.set()
        await ended.wait()
        await server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert began.wait(30)
        yield path
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        loop.close()


STATUS: dict[str, Any] = {
    "role": "primary",
    "state": "protected",
    "since_ms": 93_400,
    "pair": "vm1",
    "term": 2,
    "epoch": 7,
    "peer": "control link to 10.0.0.2:9000",
    "arbiter": {"name": "manual", "says": "the other node is not suspected"},
    "version": "1",
    "takeover": None,
    "divergences": [
        {
            "connection": "tcp 10.0.0.9:80 > 10.0.0.7:51234",
            "kind": "payload",
            "seq": 1000,
            "waited_ms": 0,
            "text": "tcp 10.0.0.9:80 > 10.0.0.7:51234: the streams differ at sequence number 1000",
            "primary": b"Date: 10:27\r\n".hex(),
            "primary_index": 8,
            "secondary": b"Date: 10;27\r\n".hex(),
            "secondary_index": 8,
            "at_ns": 0,
        }
    ],
    "counters": {"held": 3, "held_bytes": 4608, "connections": 12, "lan_frames": 5},
    "hold_us": {"p50": 100, "p99": 200, "max": 300},
    "vm": {"qmp": "connected", "version": "7.2.22", "status": "running", "colo": "primary", "pid": 123},
    "other_vm": {"qmp": "connected", "version": "7.2.22", "status": "paused", "colo": "secondary", "pid": None},
    "checkpoint": {
        "phase": "idle",
        "epoch": 7,
        "pending": ["periodic"],
        "count": {"divergence": 3, "periodic": 1, "operator": 0},
        "aborted": 1,
        "pause_ms": {"median": 6.1, "p99": 9.0, "max": 9.12},
        "last": [
            {
                "epoch": 6,
                "reasons": [{"kind": "periodic", "text": "", "connection": None}],
                "at": "2026-11-23T14:59:50.000Z",
                "outcome": "aborted",
                "why": "the secondary is gone",
                "request_to_resume_ms": None,
                "pause_ms": None,
                "released_frames": 0,
                "released_bytes": 0,
                "discarded_frames": 0,
            },
            {
                "epoch": 7,
                "reasons": [
                    {
                        "kind": "divergence",
                        "text": "the streams differ at sequence number 1000",
                        "connection": "tcp 10.0.0.9:80 > 10.0.0.7:51234",
                    }
                ],
                "at": "2026-11-23T15:00:00.123Z",
                "outcome": "committed",
                "why": None,
                "request_to_resume_ms": 8.1,
                "pause_ms": 6.2,
                "released_frames": 12,
                "released_bytes": 3456,
                "discarded_frames": 3,
            },
        ],
    },
    "plan": {"name": "take-over", "step": "yank", "done": ["fence", "stop"]},
}
"""What a protected primary of a virtual machine answers."""
