"""Which versions of the link's protocol a node speaks, and which one two nodes use.

A hello carries the lowest and the highest; both nodes use the highest that both speak. So two hosts are upgraded one
after the other, as long as each version speaks the one before it too. The field `protocol` is the lowest: nodes of
before there was a range read it as the only one. A hello without `highest` is of such a node.
"""

from typing import NamedTuple


class Versions(NamedTuple):
    """All versions from `lowest` to `highest`."""

    lowest: int
    highest: int

    def common_with(self, other: "Versions") -> int | None:
        """The highest that both speak; None if there is none."""
        highest = min(self.highest, other.highest)
        return highest if highest >= max(self.lowest, other.lowest) else None

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest}" if self.highest > self.lowest else str(self.lowest)
