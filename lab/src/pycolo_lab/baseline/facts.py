"""The measurements, without judgement."""

from enum import Enum
from typing import Final

import msgspec


class Arm(Enum):
    """The path between the client and the guest."""

    BRIDGE = "bridge"
    UNCOMPARED = "uncompared"
    PROTECTED = "protected"


class Load(Enum):
    """Which transfers run."""

    DOWNLOAD = "download"
    UPLOAD = "upload"
    BOTH = "both"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The transfers."""
        return ("download", "upload") if self is Load.BOTH else (self.value,)


PRIMARY: Final = "primary node"
SECONDARY: Final = "secondary node"
SERVER_A: Final = "server in guest A"
SERVER_B: Final = "server in guest B"
CLIENT: Final = "client"
WHO: Final = (PRIMARY, SECONDARY, SERVER_A, SERVER_B, CLIENT)
"""Processes whose processor time is shown separately."""


class Answered(msgspec.Struct, array_like=True, frozen=True):
    """A small question: when it was asked, and how long the answer took. Nanoseconds."""

    asked_ns: int
    took_ns: int


class BulkResult(msgspec.Struct, kw_only=True):
    """The result of a bulk client. `error` is None if every length and every sample was correct."""

    bytes: int
    checked_bytes: int
    answers: list[Answered] = []
    error: str | None


class Measured(msgspec.Struct, kw_only=True):
    """One load in one set-up, over the same period: bytes, processor time, answers."""

    arm: Arm
    load: Load
    seconds: float
    download_bytes: int
    upload_bytes: int
    processor_ns: dict[str, int]
    """By `WHO`; of those that there are."""
    answers_ns: list[int]
    checked_bytes: int
    """Of the transfers as a whole: so many bytes were looked at, and were right."""
