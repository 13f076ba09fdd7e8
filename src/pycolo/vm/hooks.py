"""The user's own commands: put the guest's tap on the network, take it off."""

import asyncio
from contextlib import suppress
from typing import Final

from pycolo.errors import FailoverError

HOOK_S: Final = 5.0
"""`ip link set` takes milliseconds; clients wait for this one."""


async def run_hook(option: str, command: list[str], *, pair: str, role: str, term: int) -> None:
    """Run `command`, if there is one. Raises `FailoverError` with its last line when it fails or hangs."""
    if not command:
        return
    known = {"pair": pair, "role": role, "term": str(term)}
    words = [word.format_map(known) for word in command]
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise FailoverError(role, option, f"{words[0]}: {error.strerror or error}") from error
    try:
        _, said = await asyncio.wait_for(process.communicate(), HOOK_S)
    except TimeoutError as error:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise FailoverError(role, option, f"{' '.join(words)}: not done within {HOOK_S:g} s") from error
    if process.returncode:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1] if lines else f"exit code {process.returncode}"
        raise FailoverError(role, option, f"{' '.join(words)}: {why}")
