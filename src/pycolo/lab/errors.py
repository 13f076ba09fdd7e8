"""What stops a laboratory run before it can say anything about the product."""

import logging
import sys

from pycolo.errors import PycoloError


class LabError(PycoloError):
    """The laboratory could not be built or a part of it died on its own: what, where, what to do. One
    line."""


class RunInterruptedError(LabError):
    """SIGINT, SIGTERM or SIGHUP arrived; everything is being taken down."""


def silence_event_loops() -> None:
    """Before an interruption is raised: it breaks off pyroute2's event loop, about which asyncio says a page."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None
