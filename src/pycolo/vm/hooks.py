"""The user's own commands `network.serve` and `network.retire`: put the guest's tap on the network, take it off."""

from collections.abc import Mapping, Sequence
from typing import Final

from pycolo.arbiters.usercommand import fill_in, run_command
from pycolo.errors import FailoverError

HOOK_S: Final = 5.0
"""`ip link set` takes milliseconds; clients wait for this one."""


async def run_hook(option: str, words: Sequence[str], values: Mapping[str, str]) -> None:
    """Run the command, if there is one, with `values` in place of its placeholders. Raises `FailoverError`."""
    if not words:
        return
    command = fill_in(words, values)
    ended = await run_command(command, HOOK_S)
    if ended.exit_code != 0:
        raise FailoverError(values["role"], option, f"{' '.join(command)}: {ended}")
