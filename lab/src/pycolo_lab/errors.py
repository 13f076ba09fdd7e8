"""What stops a laboratory run before it can say anything about the product."""

from pycolo.errors import EXIT_INTERRUPTED, PycoloError


class LabError(PycoloError):
    """The laboratory could not be built or a part of it died on its own: what, where, what to do. One
    line."""


class RunInterruptedError(LabError):
    """SIGINT, SIGTERM or SIGHUP arrived; everything is being taken down."""

    exit_code = EXIT_INTERRUPTED


class LabUsageError(LabError):
    """Options that are wrong, or do not go together."""

    exit_code = 2
