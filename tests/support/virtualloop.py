"""An event loop whose clock stands still while anything is to be done, and jumps to the next timer when nothing is."""

import asyncio
import selectors


class _Selector(selectors.DefaultSelector):
    loop: "VirtualLoop"

    def select(self, timeout=None):
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing is to be done any more, and something waits for it"
            self.loop.now += max(0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now`: its clock, in seconds. What is for other threads is done at once.

    Both ends of a unix socket may be in it: what one end has sent is there at once. No other process is waited for.
    """

    def __init__(self):
        self.now = 1_000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self):
        return self.now

    def run_in_executor(self, executor, func, *arguments):
        future = self.create_future()
        future.set_result(func(*arguments))
        return future


def run(coroutine):
    """As `asyncio.run`, in a loop of this kind: no time-out depends on how busy the machine is."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
