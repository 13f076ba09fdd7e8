"""The command `colo`, also as `python -m pycolo`. It imports almost nothing before it handles SIGINT."""

import os
import signal

TYPE_CHECKING = False  # as in typing, which takes a while
if TYPE_CHECKING:
    from pycolo.node.opening import PortOpener


def main(open_port: "PortOpener | None" = None) -> None:
    """Run the command. Ctrl-C during the imports ends it quietly: there is nothing to clean up yet.

    `open_port`: see `pycolo.cli.main`.
    """
    signal.signal(signal.SIGINT, _end)
    from pycolo.cli import main as colo  # noqa: PLC0415 - see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        colo(open_port)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from the interpreter's exit


def _end(_number: int, _frame: object) -> None:
    os._exit(130)  # pycolo.errors.EXIT_INTERRUPTED, which is not imported yet


if __name__ == "__main__":
    main()
