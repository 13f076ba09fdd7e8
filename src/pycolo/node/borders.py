"""How often the borders between two epochs were exact, as the guest's tap counts: see `pycolo.border`."""

from pycolo.node.guestwire import GuestWire


class Borders:
    """Of one card. Used in the data path's thread. `tap` None: nothing is counted there."""

    def __init__(self, tap: GuestWire | None) -> None:
        self._tap = tap
        self._exact = 0
        self._inexact = 0

    def passed(self, *, output: bool) -> None:
        """The guest has stopped, or runs a new state, and gets nothing yet: it must have read all that was sent.

        `output`: the node must have read all that it has said, too.
        """
        tap = self._tap
        if tap is None:
            return
        if tap.is_input_read() and (not output or tap.is_output_read()):
            self._exact += 1
        else:
            self._inexact += 1

    def counters(self) -> dict[str, int]:
        """For the snapshot."""
        return {"borders_exact": self._exact, "borders_inexact": self._inexact}
