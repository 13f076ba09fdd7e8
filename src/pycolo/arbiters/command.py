"""The arbiter `command`: runs the fencing command for its core (`failover.fencing`)."""

from collections.abc import Callable, Mapping, Sequence

import structlog

from pycolo.arbiters.live import LiveArbiter, now_ms
from pycolo.arbiters.usercommand import fill_in, run_command
from pycolo.failover.arbiter import Decision
from pycolo.failover.fencing import FencingArbiter

log = structlog.get_logger("colo")


class CommandArbiter(LiveArbiter):
    """`values`: of the placeholders but `{term}`, which is the term that success opens."""

    _core: FencingArbiter

    def __init__(
        self,
        term: int,
        on_change: Callable[[], None],
        words: Sequence[str],
        timeout_ms: int,
        values: Mapping[str, str],
    ) -> None:
        super().__init__(FencingArbiter(term), on_change)
        self._words = tuple(words)
        self._timeout_s = timeout_ms / 1000
        self._values = dict(values)

    @property
    def is_acting(self) -> bool:
        """While the fencing command runs."""
        return self._core.is_running

    def deadline_ms(self) -> int | None:
        """None: the task here has its own timers."""
        return None

    async def _run(self) -> None:
        core = self._core
        while True:
            if core.wants_run(now_ms()):
                await self._fence()
                continue
            due_ms = core.deadline_ms()
            await self._sleep(None if due_ms is None else max(0, due_ms - now_ms()) / 1000)

    async def _fence(self) -> None:
        core = self._core
        term = core.verdict().term + 1
        words = fill_in(self._words, {**self._values, "term": str(term)})
        log.warning("fencing the other node", command=words)
        core.fencing_started(now_ms())
        self._changed()
        ended = await run_command(words, self._timeout_s)
        core.fencing_finished(now_ms(), ended.exit_code, ended.text)
        if ended.exit_code != 0:
            log.error(
                f"{words[0]}: the other node is not fenced: "
                f"{f'exit code {ended.exit_code}' if ended.exit_code is not None else 'no exit code'}; {ended.text}"
            )
        elif core.verdict().decision is Decision.DENIED:
            log.error("the other node was fenced though it had taken over: now neither serves")
        self._changed()
