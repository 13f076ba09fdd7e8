"""What systemd hears of a node with a QEMU: that it is ready, well while its data path answers, and that it ends."""

import asyncio

from pycolo.node.servicemanager import Notifier
from pycolo.vm.services import ServiceManager


class Heard(Notifier):
    """Keeps what would be sent."""

    def __init__(self, watchdog_us: int) -> None:
        super().__init__("/nonexistent", watchdog_us)
        self.lines: list[str] = []

    def _send(self, *assignments: str) -> None:
        self.lines += assignments


async def until_heard(notifier: Heard, line: str, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while notifier.lines.count(line) < count:
            await asyncio.sleep(0.001)


def test_a_node_is_ready_then_well_then_ends() -> None:
    async def answers() -> None:
        """At once."""

    async def life(notifier: Heard) -> None:
        service = ServiceManager(notifier, lambda: "primary, waiting", answers)
        await service.start()
        assert notifier.lines[:2] == ["READY=1", "STATUS=primary, waiting"]
        await until_heard(notifier, "WATCHDOG=1", 3)
        await service.close()
        assert notifier.lines[-2:] == ["STOPPING=1", "STATUS=stopping"]

    notifier = Heard(2_000)
    asyncio.run(life(notifier))
    notifier.close()


def test_a_data_path_that_does_not_answer_is_not_well() -> None:
    asked: list[int] = []

    async def never() -> None:
        asked.append(1)
        await asyncio.sleep(3600)

    async def life(notifier: Heard) -> None:
        service = ServiceManager(notifier, lambda: "", never)
        await service.start()
        async with asyncio.timeout(20):
            while len(asked) < 3:
                await asyncio.sleep(0.001)
        await service.close()

    notifier = Heard(2_000)
    asyncio.run(life(notifier))
    notifier.close()
    assert "WATCHDOG=1" not in notifier.lines


def test_without_a_watchdog_the_data_path_is_not_asked() -> None:
    async def answers() -> None:
        raise AssertionError("nothing waits for it")

    async def life(notifier: Heard) -> None:
        service = ServiceManager(notifier, lambda: "", answers)
        await service.start()
        await asyncio.sleep(0)
        await service.close()

    notifier = Heard(0)
    asyncio.run(life(notifier))
    notifier.close()
    assert "READY=1" in notifier.lines
