"""What others do to a guest while it is protected: libvirt's commands, a monitor's, and the guest itself.

QEMU tells it by events. Nothing here is asked of QEMU; what follows is the pair table's.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact
from pycolo.qmp.client import QmpEvent
from pycolo.vm.findings import Note

STOPPED_S: Final = 1.0
"""A guest that stands still so long outside of a checkpoint was stopped. libvirt's events are a millisecond late."""

LATE_S: Final = 0.03
"""How late libvirt's events may be: a millisecond, and more on a busy host. A failover waits for it."""

OWN_END: Final = frozenset({"guest-shutdown", "guest-reset"})
"""Reasons of SHUTDOWN by which a guest has ended itself; the second one with -no-reboot. A panic is none."""

_STOPPED: Final = Note(
    "suspended",
    "another program has stopped the guest (virsh suspend?), and clients wait: the next checkpoint resumes it; to let "
    "it stand still, `colo unprotect` first",
)

log = structlog.get_logger("colo")


class Host(Protocol):
    """See `GuestHost`."""

    def tell(self, fact: Fact, told: Told) -> None:
        """Report a fact."""


class Keeping(Protocol):
    """See `Findings`."""

    def keep_meddling(self, notes: list[Note]) -> None:
        """For the status."""


class Interference:
    """`is_whole()`: the pair is; `is_checkpoint()`: one is under way, for which QEMU stops the guest itself."""

    def __init__(
        self, host: Host, findings: Keeping, is_whole: Callable[[], bool], is_checkpoint: Callable[[], bool]
    ) -> None:
        self._host = host
        self._findings = findings
        self._is_whole = is_whole
        self._is_checkpoint = is_checkpoint
        self._timer: asyncio.TimerHandle | None = None

    def heard(self, event: QmpEvent) -> None:
        """Each event of the primary's QEMU."""
        if event.name == "RESUME":
            self.forget()
        elif event.name == "SHUTDOWN" and event.data.get("guest") is True and event.data.get("reason") in OWN_END:
            self._host.tell(Fact.GUEST_OFF, Told(text="the guest has switched itself off"))
        elif not self._is_whole():
            return
        elif event.name == "STOP":
            self._await_resume()
        elif event.name == "MIGRATION" and event.data.get("status") == "setup":
            text = (
                "another program migrates or saves the guest (virsh save, managedsave, migrate), which ends COLO here"
            )
            log.error(f"{text}: the other host takes over; `colo unprotect` comes first")
            self._host.tell(Fact.GUEST_HANGS, Told(text=text))

    def _await_resume(self) -> None:
        self._cancel()
        self._timer = asyncio.get_running_loop().call_later(STOPPED_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._is_whole():
            return
        if self._is_checkpoint():  # it takes long, or the guest was stopped just before it
            self._await_resume()
            return
        log.warning(_STOPPED.text)
        self._findings.keep_meddling([_STOPPED])

    def ended(self, tell: Callable[[], None], *, is_told_late: bool) -> None:
        """QEMU has ended: `tell` that, after all it has said. `is_told_late`: by libvirt, which may be behind."""
        if is_told_late:
            asyncio.get_running_loop().call_later(LATE_S, tell)
        else:
            tell()

    def forget(self) -> None:
        """The guest runs, or is not looked after any more."""
        self._cancel()
        self._findings.keep_meddling([])

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
