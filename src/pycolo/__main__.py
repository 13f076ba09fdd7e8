"""The command `colo`, also as `python -m pycolo`."""

import os
import signal
from types import FrameType

from pycolo.errors import EXIT_INTERRUPTED


def main() -> None:
    """Run it; Ctrl-C while its modules are imported ends it quietly, there is nothing to clean up yet."""
    signal.signal(signal.SIGINT, _end)
    from pycolo.cli import main as colo  # noqa: PLC0415 - see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        colo()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what the interpreter does at its end is worth no traceback


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
