"""The fencing command of the arbiter `command`, for its core (`failover.fencing`)."""

from collections.abc import Callable, Mapping, Sequence

import structlog

from pycolo.arbiters.usercommand import fill_in, run_command
from pycolo.failover.fencing import Fence, Fenced

log = structlog.get_logger("colo")


class FencingCommand:
    """The configured words.

    `values()`: the placeholders' values when the command starts, except `{term}`, which comes with the request.
    """

    def __init__(self, words: Sequence[str], timeout_ms: int, values: Callable[[], Mapping[str, str]]) -> None:
        self._words = tuple(words)
        self._timeout_s = timeout_ms / 1000
        self._values = values

    async def ask(self, request: Fence) -> Fenced:
        """Run it and wait for its end."""
        words = fill_in(self._words, {**self._values(), "term": str(request.term)})
        log.warning("fencing the other node", command=words)
        limit_s = self._timeout_s if request.limit_ms is None else min(self._timeout_s, request.limit_ms / 1000)
        ended = await run_command(words, limit_s)
        if ended.exit_code != 0:
            log.error(
                f"{words[0]}: the other node is not fenced: "
                f"{f'exit code {ended.exit_code}' if ended.exit_code is not None else 'no exit code'}; {ended.text}"
            )
        return Fenced(ended.exit_code, ended.text)
