"""The user's own commands: found, and tried as far as that harms nothing."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pycolo import limits
from pycolo.arbiters.usercommand import fill_in, run_command
from pycolo.check.commandline import files, start_traps
from pycolo.check.moment import Moment
from pycolo.check.places import user_name
from pycolo.check.programs import find_program
from pycolo.check.table import Item, Level, ok, refused, warning
from pycolo.config import PairConfig

HOOK_S: Final = limits.HOOK_MS / 1000


async def hook_items(config: PairConfig, moment: Moment) -> list[Item]:
    """`network`, one command after the other: both are about the same thing."""
    serve, retire = config.network.serve, config.network.retire
    if not serve:
        return []
    values = placeholders(config, moment)
    items = [_found("network.serve", fill_in(serve, values), "not run outside of a takeover")]
    if not config.network.serve_dry_run:
        items = [_untried(items[0], "network.serve_dry_run", "such as ip route get 192.0.2.1")]
    if config.network.serve_dry_run:
        items.append(await tried("network.serve_dry_run", config.network.serve_dry_run, values, HOOK_S))
    name = "network.retire"
    why_not = moment.why_not_retire
    if why_not:
        items.append(_found(name, fill_in(retire, values), f"not run, because {why_not}"))
    else:
        items.append(await tried(name, retire, values, HOOK_S))
    return items


async def fencing_items(config: PairConfig, moment: Moment) -> list[Item]:
    """The arbiter's command."""
    given = config.arbiter
    values = placeholders(config, moment)
    name = "arbiter.command"
    item = _found(name, fill_in(given.command, values), "never run by a check")
    if given.dry_run:
        return [item, await tried("arbiter.dry_run", given.dry_run, values, given.timeout_ms / 1000)]
    return [_untried(item, "arbiter.dry_run", "such as a fence agent's action monitor")]


def qemu_items(config: PairConfig) -> list[Item]:
    """What starts the secondary's guest: its program, its files, and what its command line would do wrong."""
    name = "qemu.command"
    words = config.qemu.command
    if config.guest is not None:
        return []
    if not words:
        return [ok(name, "none: the secondary's QEMU is started by hand")]
    environment = config.qemu.environment
    path, fault = find_program(words[0], environment.get("PATH"))
    if fault:
        return [refused(name, fault)]
    items = [(refused if trap.is_fatal else warning)(f"{name} {trap.name}", trap.text) for trap in start_traps(words)]
    for file in files(words):
        if file.is_writable:  # a copy may be made of the primary's
            continue
        if not file.path.exists():
            text = f"{file.path} does not exist: copy it to this host, or correct the path"
            items.append(refused(f"{name} {file.option}", text))
        elif not os.access(file.path, os.R_OK):
            text = f"{file.path} cannot be read by {user_name()}: change its owner or mode"
            items.append(refused(f"{name} {file.option}", text))
    missing = [library for library in _preloaded(environment) if not os.access(library, os.R_OK)]
    if missing:
        text = f"LD_PRELOAD: {missing[0]} cannot be read: see `colo qemu-args --preload`"
        items.append(refused("qemu.environment", text))
    return items or [ok(name, f"{path}, with the files that it names")]


def _preloaded(environment: Mapping[str, str]) -> list[str]:
    """Libraries by path: the loader ignores one that is missing, and QEMU runs without it."""
    return [word for word in re.split(r"[\s:]+", environment.get("LD_PRELOAD", "")) if "/" in word]


def placeholders(config: PairConfig, moment: Moment) -> Mapping[str, str]:
    """As the node fills them in."""
    return {
        "peer": config.link.peer.host,
        "pair": config.pair,
        "role": moment.role.value,
        "term": str(moment.term),
    }


async def tried(name: str, words: Sequence[str], values: Mapping[str, str], timeout_s: float) -> Item:
    """Run it; only its success is ok."""
    command = fill_in(words, values)
    _, fault = find_program(command[0])
    if fault:
        return refused(name, fault)
    shown = " ".join(command)
    ended = await run_command(command, timeout_s)
    if ended.exit_code != 0:
        return refused(name, f"{shown}: {ended}: run it by hand and correct it")
    return ok(name, f"{shown}: exit code 0")


def _found(name: str, command: Sequence[str], note: str) -> Item:
    path, fault = find_program(command[0])
    return refused(name, fault) if fault else ok(name, f"{path}, {note}")


def _untried(item: Item, option: str, example: str) -> Item:
    """What was found but cannot be tried may still fail."""
    if item.level is Level.REFUSED:
        return item
    return warning(item.name, f"{item.text}: let {option} try what it needs, {example}")
