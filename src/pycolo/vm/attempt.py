"""One attempt to protect the primary's guest."""

import asyncio

from pycolo.errors import PeerError
from pycolo.failover.pairstates import Fact
from pycolo.node.datalinks import DataLinks
from pycolo.node.guest import Answer
from pycolo.node.planner import GivingUp


class Attempt:
    """One attempt to protect the guest, over one link. Its outcome is decided once: whole or failed."""

    def __init__(self, link: int, data: DataLinks, answer: Answer) -> None:
        self.link = link
        self.giving_up = GivingUp()
        self.decided = asyncio.Event()
        self.is_whole = False
        """The secondary may know that it is in step: a later failure leads to a failover, never to an undo."""
        self.broken: str | None = None
        """Why the pair can no longer become whole."""
        self.is_answered = False
        self._data: DataLinks | None = data
        self._answer = answer

    def take_data(self) -> DataLinks:
        """The data connections; only the first call returns it. Raises `PeerError`."""
        data, self._data = self._data, None
        if data is None:
            raise PeerError("the data connections have been used already")
        return data

    def give_up(self, why: str) -> None:
        """Cancel the plan; the first reason counts. Does nothing once the pair is whole."""
        if not self.is_whole:
            self.giving_up.give_up(why)

    def decide(self, *, is_whole: bool) -> None:
        """The first decision counts."""
        if not self.decided.is_set():
            self.is_whole = is_whole
            self.decided.set()

    def answer(self, fact: Fact, text: str = "") -> None:
        """The first answer counts."""
        if not self.is_answered:
            self.is_answered = True
            self._answer(fact, text)

    def fail(self, why: str, *, lacks: bool = False) -> None:
        """The attempt has failed: close its data connections, and answer. `lacks`: for want of something."""
        self.decide(is_whole=False)
        if self._data is not None:
            self.take_data().close()
        self.answer(Fact.PROTECT_LACKS if lacks else Fact.PROTECT_FAILED, why)
