"""The checkpoints' view of a guest, while a QEMU is the primary's and while none is."""

import asyncio
from types import SimpleNamespace
from typing import Any

from pycolo.vm.guestcheckpoints import GuestCheckpoints


def made(primary: Any) -> GuestCheckpoints:
    host = SimpleNamespace(call=print)
    guest = SimpleNamespace(primary=primary, checkpoint_overdue=print, pair_broken=print)
    return GuestCheckpoints(host, guest)  # type: ignore[arg-type]


def test_without_a_primary_there_is_nothing() -> None:
    checkpoints = made(None)
    assert (checkpoints.ram_bytes, checkpoints.stream(), checkpoints.memory_sample()) == (0, None, None)
    asyncio.run(checkpoints.ask_hypervisor())


def test_it_is_about_the_primary_of_the_moment() -> None:
    asked = []

    async def request_checkpoint() -> None:
        asked.append(True)

    primary = SimpleNamespace(
        facts=SimpleNamespace(ram_bytes=7),
        stream=lambda: (3, 4),
        memory_sample=lambda: "sample",
        request_checkpoint=request_checkpoint,
    )
    checkpoints = made(primary)
    assert (checkpoints.ram_bytes, checkpoints.stream(), checkpoints.memory_sample()) == (7, (3, 4), "sample")
    asyncio.run(checkpoints.ask_hypervisor())
    assert asked == [True]
    primary.facts = None
    assert checkpoints.ram_bytes == 0, "not asked yet"
