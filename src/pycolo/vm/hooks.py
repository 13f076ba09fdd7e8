"""The user's commands `network.serve` and `network.retire`: what else a host that serves needs, beside the taps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pycolo import limits
from pycolo.arbiters.usercommand import fill_in, run_command
from pycolo.config import PairConfig
from pycolo.errors import FailoverError
from pycolo.failover.pairstates import Role

HOOK_S: Final = limits.HOOK_MS / 1000


class Network:
    """Runs both commands, with the role and the term of the moment."""

    def __init__(self, config: PairConfig, role: Callable[[], Role], term: Callable[[], int]) -> None:
        self._config = config
        self._role = role
        self._term = term

    async def serve(self) -> None:
        """This host serves. Raises `FailoverError`."""
        await self._run("serve", self._config.network.serve)

    async def leave(self) -> None:
        """It does not, or no longer. Raises `FailoverError`."""
        await self._run("retire", self._config.network.retire)

    async def _run(self, name: str, words: Sequence[str]) -> None:
        values = {"pair": self._config.pair, "peer": self._config.link.peer.host}
        await run_hook(f"network.{name}", words, values | {"role": self._role().value, "term": str(self._term())})


async def run_hook(option: str, words: Sequence[str], values: Mapping[str, str]) -> None:
    """Run the command, if there is one, with `values` in place of its placeholders. Raises `FailoverError`."""
    if not words:
        return
    command = fill_in(words, values)
    ended = await run_command(command, HOOK_S)
    if ended.exit_code != 0:
        raise FailoverError(values["role"], option, f"{' '.join(command)}: {ended}")
