"""What the tests of the laboratory share."""

import signal
from collections.abc import Iterator

import pytest

from pycolo_lab.interruption import SIGNALS


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    """A run watches for signals; the next test is not to inherit its handlers."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
