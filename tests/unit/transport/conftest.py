"""What the tests of sockets and devices share."""

from contextlib import ExitStack

import pytest

from support import netns


@pytest.fixture
def stack():
    """What a test has opened is closed at its end."""
    with ExitStack() as found:
        yield found


@pytest.fixture
def namespace(stack):
    """A network namespace."""
    found = netns.made()
    stack.callback(found.close)
    return found
