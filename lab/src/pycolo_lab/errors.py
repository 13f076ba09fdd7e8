"""Errors that stop a laboratory run before it can test the product."""

from pycolo.errors import EXIT_INTERRUPTED, PycoloError


class LabError(PycoloError):
    """The laboratory could not be built, or a part of it failed by itself: what, where, what to do. One line."""


class RunInterruptedError(LabError):
    """SIGINT, SIGTERM or SIGHUP arrived; everything is being shut down."""

    exit_code = EXIT_INTERRUPTED


class LabUsageError(LabError):
    """Options that are wrong or contradictory."""

    exit_code = 2
