"""What speaks against protecting a guest: refusals are an error, warnings are logged and stay in the status.

`colo protect --force` overrides refusals of what is known to be fatal; they then stay in the status as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import msgspec
import structlog

from pycolo.check import Item, Level
from pycolo.check.table import THIS_HOST
from pycolo.errors import PeerError
from pycolo.link.orders import JsonObject
from pycolo.qmp.judge import Finding
from pycolo.qmp.versions import FORCE

OTHER_HOST: Final = "the other host"
BOTH_HOSTS: Final = "both hosts"

Source = Literal["host", "guest", "disks", "pair", "images", "other", "standing", "meddling"]
"""This host, its QEMU, its guest's disks, both QEMUs compared, the images of the disks' copies, what the other node has
found, what was tried with the pair, and what other programs do with the guest."""

log = structlog.get_logger("colo")


@dataclass(frozen=True, slots=True)
class Note:
    """A warning or an overridden refusal. `code` is for programs, `text` one line for people."""

    code: str
    text: str
    where: str = THIS_HOST
    overridden: bool = False


class Findings:
    """What was found at the last attempt to protect the guest. It lasts as long as the node."""

    def __init__(self) -> None:
        self.is_forced = False
        """The operator has said `--force`. Both nodes know, so a survivor protects its guest again with it."""
        self._notes: dict[Source, list[Note]] = {}

    def weigh(self, source: Source, findings: Iterable[Finding], name: str) -> None:
        """Keep and log the warnings. Raises `PeerError` with all refusals in one line, unless they are overridden."""
        refusals: list[Finding] = []
        notes: list[Note] = []
        where = BOTH_HOSTS if source in ("pair", "images") else THIS_HOST
        for finding in findings:
            overridden = finding.severity == "refuse" and finding.may_be_forced and self.is_forced
            if finding.severity == "refuse" and not overridden:
                refusals.append(finding)
                continue
            notes.append(Note(finding.code, finding.text, where, overridden))
            log.warning(f"{name}: {'overridden: ' if overridden else ''}{finding.text}", code=finding.code)
        self._notes[source] = notes
        if refusals:
            hint = FORCE if all(one.may_be_forced for one in refusals) else ""
            raise PeerError(f"{name} cannot be protected: {'; '.join(one.text for one in refusals)}{hint}")

    def keep_items(self, items: Iterable[Item]) -> None:
        """Keep the warnings of this host's check."""
        warnings = [item for item in items if item.level is Level.WARNING]
        self._notes["host"] = [Note(item.name, f"{item.name}: {item.text}") for item in warnings]

    def keep_standing(self, notes: Sequence[Note]) -> None:
        """What is to be known of this pair as long as there is one."""
        self._notes["standing"] = list(notes)

    def keep_meddling(self, notes: Sequence[Note]) -> None:
        """What another program has done to the guest, until that is over."""
        self._notes["meddling"] = list(notes)

    def told(self) -> JsonObject:
        """This node's part, for the other node."""
        return {"notes": self._shown(("host", "guest"))}

    def hear(self, answer: JsonObject) -> None:
        """Keep the other node's part. Raises `PeerError`."""
        try:
            notes = msgspec.convert(answer.get("notes", []), list[Note])
        except msgspec.ValidationError as error:
            raise PeerError(f"the other node's warnings cannot be read: {error}") from error
        self._notes["other"] = [replace(note, where=OTHER_HOST) for note in notes]

    async def hear_force(self, arguments: JsonObject) -> JsonObject:
        """The primary's node says before each `prepare` whether the operator has said `--force`."""
        self.is_forced = arguments.get("is_forced") is True
        return {}

    def forget(self) -> None:
        """There is no pair to warn about."""
        self._notes.clear()

    def to_status(self) -> list[dict[str, Any]]:
        """Overridden refusals first."""
        notes = self._shown(("meddling", "standing", "guest", "disks", "pair", "images", "other", "host"))
        return sorted(notes, key=lambda note: not note["overridden"])

    def _shown(self, sources: Sequence[Source]) -> list[dict[str, Any]]:
        return [asdict(note) for source in sources for note in self._notes.get(source, ())]
