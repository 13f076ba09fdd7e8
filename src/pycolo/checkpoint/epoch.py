"""The pair's epoch, counted in one place."""


class Epoch:
    """The pair's epoch as one node knows it. A node has one; all who show, send or store the number read it here.

    It increases by one with each state of the primary that the secondary's guest has loaded. The primary's coordinator
    counts at the commit, the secondary's barrier when its guest has loaded; both count the first synchronisation. Only
    one thread counts at a time, and reading an int needs no lock.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int = 0) -> None:
        self._number = number

    @property
    def number(self) -> int:
        """The current epoch."""
        return self._number

    @property
    def next(self) -> int:
        """The epoch that the next commit begins."""
        return self._number + 1

    def begin(self) -> int:
        """Begin the next epoch; returns its number."""
        self._number += 1
        return self._number

    def meet(self, number: int) -> None:
        """The other node has reached `number`: the pair continues from the higher one."""
        self._number = max(self._number, number)
