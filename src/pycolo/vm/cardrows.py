"""The rows that a takeover keeps, for each card's data path: see `pycolo.node.rowsfile`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from pycolo.errors import ConfigError
from pycolo.node.rowsfile import KeptRows, RowsFile

log = structlog.get_logger("colo")


class CardRows:
    """One file for each card, in the order of the cards."""

    def __init__(self, directory: Path, pair: str, term: Callable[[], int], cards: int) -> None:
        names = ["rows", *(f"rows-{number}" for number in range(1, cards))]
        self._files = [RowsFile(directory / name, pair, term) for name in names]
        self._term = term

    def __iter__(self) -> Iterator[RowsFile]:
        return iter(self._files)

    def discard(self) -> None:
        """They are about connections of a guest that is gone."""
        for one in self._files:
            one.discard()

    def read(self) -> list[KeptRows] | None:
        """What this node has kept at its takeover, before it was started again; None unless that is whole."""
        found: list[KeptRows] = []
        for one in self._files:
            try:
                kept = one.read()
            except ConfigError as error:
                log.warning(str(error))
                return None
            if kept is None or kept.term > self._term():
                return None
            found.append(kept)
        return found
