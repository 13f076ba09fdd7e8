"""What a thread opens has one owner: the task that waits for it, or, when that has ended, the one who closes it."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from pycolo.errors import ConnectError
from pycolo.node.inthread import opened

DEADLINE_S = 20


class Opened:
    """Counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.is_closed = threading.Event()

    def close(self) -> None:
        self.closed += 1
        self.is_closed.set()


class Opener:
    """Called in the thread: says that it runs, and returns when it may."""

    def __init__(self) -> None:
        self.made = Opened()
        self.runs, self.may_return = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> Opened:
        self.runs.set()
        assert self.may_return.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        return self.made


async def cancelled(opener: Opener, before: Callable[[], None], after: Callable[[], None]) -> None:
    """The task is cancelled between `before()` and `after()`, while or after the thread runs."""
    task = asyncio.get_running_loop().create_task(opened(opener))
    await asyncio.to_thread(opener.runs.wait, DEADLINE_S)
    before()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    after()


def test_the_task_that_waits_owns_it() -> None:
    opener = Opener()
    opener.may_return.set()
    assert asyncio.run(opened(opener)) is opener.made
    assert opener.made.closed == 0


def test_what_is_opened_after_the_task_has_ended_is_closed() -> None:
    opener = Opener()
    asyncio.run(cancelled(opener, lambda: None, opener.may_return.set))
    assert opener.made.is_closed.wait(DEADLINE_S)
    assert opener.made.closed == 1


def test_what_was_opened_as_the_task_was_cancelled_is_closed() -> None:
    opener = Opener()

    def let_it_return() -> None:  # blocks the event loop, which hears of the result only after the cancellation
        opener.may_return.set()
        for thread in threading.enumerate():
            if thread.name.startswith("asyncio_"):
                thread.join(0.05)

    asyncio.run(cancelled(opener, let_it_return, lambda: None))
    assert opener.made.is_closed.wait(DEADLINE_S)
    assert opener.made.closed == 1


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_a_failure_leaves_nothing_to_close(is_waited_for: bool) -> None:
    opener = Opener()
    opener.error = ConnectError("connection refused")
    if is_waited_for:
        opener.may_return.set()
        with pytest.raises(ConnectError):
            asyncio.run(opened(opener))
    else:
        asyncio.run(cancelled(opener, lambda: None, opener.may_return.set))
    assert opener.made.closed == 0
