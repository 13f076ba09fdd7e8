"""What all tables of the file have in common."""

from collections.abc import Iterator
from typing import ClassVar

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file; the attributes are its keys."""

    WANTED: ClassVar[str] = ""
    """Of tables `[[name]]`: what they have, for a file without one."""

    INSTEAD: ClassVar[str] = ""
    """Of a table `[name]` that is needed: what may be written in its place."""

    def contradictions(self) -> Iterator[tuple[str, str, object]]:
        """Keys that contradict each other: key, what is expected, what was found."""
        return iter(())
