"""The data path of a node whose guest is not attached: there is none."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pycolo.transport.linksocket import LinkSocket

T = TypeVar("T")


class NoPath:
    """Takes the calls that a `DataPath` takes, and moves nothing."""

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing ran."""

    def halt(self) -> None:
        """Nothing leaves anyway."""

    def attach(self, link: LinkSocket) -> None:
        """The data connection is closed: no path uses it."""
        link.close()

    def detach(self) -> None:
        """There is no data connection."""

    def post(self, action: Callable[[], None]) -> None:
        """Done at once."""
        action()

    def ask(self, question: Callable[[], T]) -> "Future[T]":
        """Answered at once."""
        future: Future[T] = Future()
        future.set_result(question())
        return future

    def snapshot(self) -> dict[str, Any]:
        """Nothing to count."""
        return {"counters": {}, "hold_us": None}
