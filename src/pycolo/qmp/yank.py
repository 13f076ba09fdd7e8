"""Frees a QEMU that waits for a dead peer: `yank` shuts down the sockets that it waits on.

The connection for it must be **open and idle beforehand**, on a QMP socket of its own. A QEMU whose main loop hangs
answers out-of-band commands only on connections that it already serves; a new one gets neither a greeting nor an answer
to qmp_capabilities, which is not an out-of-band command (seen with 7.2 and 10.0).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pycolo.errors import PeerError, QmpError, QmpTimeout
from pycolo.qmp.client import Qmp

YANK_TIMEOUT_S: Final = 2.0
"""An out-of-band command takes less than a millisecond, even while QEMU's main loop hangs."""


@dataclass(frozen=True, slots=True)
class YankInstance:
    """An instance whose sockets QEMU can shut down: a chardev with its `id`, or the migration (no id)."""

    kind: Literal["chardev", "migration"]
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.id}".rstrip()

    def as_argument(self) -> dict[str, str]:
        """The object that QEMU's QMP expects."""
        return {"type": self.kind, "id": self.id} if self.id else {"type": self.kind}


MIGRATION: Final = YankInstance("migration")


def chardev(name: str) -> YankInstance:
    """The chardev with that id."""
    return YankInstance("chardev", name)


async def yank(
    line: Qmp, instances: Iterable[YankInstance], timeout_s: float = YANK_TIMEOUT_S
) -> tuple[YankInstance, ...]:
    """Shut down those of `instances` that exist, over the connected `line`. Returns those.

    If one vanishes meanwhile, QEMU refuses all of them: the call is repeated until `timeout_s` is over. Raises the
    errors of `Qmp.execute`.
    """
    wanted = tuple(dict.fromkeys(instances))
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                present = _instances(line, await line.execute("query-yank", timeout_s=timeout_s, oob=True))
                found = tuple(instance for instance in wanted if instance in present)
                if not found:
                    return ()
                try:
                    arguments = {"instances": [instance.as_argument() for instance in found]}
                    await line.execute("yank", arguments, timeout_s=timeout_s, oob=True)
                except QmpError as error:
                    if error.error_class != "DeviceNotFound":
                        raise
                    continue
                return found
    except TimeoutError:
        raise QmpTimeout(line.name, "yank", timeout_s, "the sockets could not be shut down") from None


def _instances(line: Qmp, answer: Any) -> set[YankInstance]:
    try:
        return {
            YankInstance(instance["type"], instance.get("id", ""))
            for instance in answer
            if instance["type"] in ("chardev", "migration")
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise PeerError(f"{line.name}: query-yank: the answer cannot be parsed: {answer!r:.100}") from error
