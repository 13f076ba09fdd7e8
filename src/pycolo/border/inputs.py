"""What becomes of the mirrored input that arrives while the secondary's guest gets none.

::

    flowing ── requested ──► held ── loaded(epoch) ──► loading ── marked(epoch) ──► flowing, without what came before it
                              │  ▲                        │
                              │  └───────── requested ────┼──── (only once it flows)
                              └── taken_over: keeps all   └── taken_over: keeps nothing
"""

from collections import deque
from typing import Final, Generic, TypeVar

from pycolo.errors import StateError

Piece = TypeVar("Piece")

NO_EPOCH: Final = -1


class SecondaryInput(Generic[Piece]):
    """The kept input of one card: pieces in the order in which the primary's node mirrored them.

    While `is_held`, nothing may be sent to the guest, and what arrives is kept; afterwards `kept` goes to the guest
    before anything else.
    """

    def __init__(self) -> None:
        self.kept: deque[Piece] = deque()
        self.is_held = False
        self._loading = NO_EPOCH
        self._marked = NO_EPOCH
        self._before_marker = 0

    @property
    def is_loading(self) -> bool:
        """Whether the guest has loaded a state whose marker has not come yet."""
        return self._loading != NO_EPOCH

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def requested(self) -> None:
        """A checkpoint begins, or the guest has no state yet: it gets nothing from here on.

        Raises `StateError` while a state is loading.
        """
        if self.is_loading:
            raise StateError("input: requested", "loading", "a marker for the state before")
        self.is_held = True

    def mirrored(self, piece: Piece) -> None:
        """The primary got `piece`, after all that was mirrored before."""
        self.kept.append(piece)

    def marked(self, epoch: int) -> list[Piece]:
        """The primary's state of `epoch` contains everything that was mirrored before. Returns what is void."""
        self._marked, self._before_marker = epoch, len(self.kept)
        return self._settle()

    def drop_oldest(self) -> Piece:
        """There is no room for all: the first piece is lost to this guest unless a state that contains it comes."""
        self._before_marker = max(0, self._before_marker - 1)
        return self.kept.popleft()

    def loaded(self, epoch: int) -> list[Piece]:
        """The guest has the primary's state of `epoch`. Returns what is void."""
        if not self.is_held:
            raise StateError("input: loaded", "flowing", "held")
        self._loading = epoch
        return self._settle()

    def taken_over(self) -> list[Piece]:
        """The primary is gone, and this guest serves in the state that it has. Returns what is void.

        While a state is loading, the primary cannot have mirrored anything of the next epoch before the marker.
        """
        void: list[Piece] = []
        if self.is_loading:
            void = list(self.kept)
            self.kept.clear()
        self.is_held, self._loading = False, NO_EPOCH
        return void

    def _settle(self) -> list[Piece]:
        """Both LOADED and the marker of its epoch are here: what the state contains is void, the rest is next."""
        if not self.is_loading or self._marked != self._loading:
            return []
        void = [self.kept.popleft() for _ in range(self._before_marker)]
        self._loading, self._before_marker = NO_EPOCH, 0
        self.is_held = False
        return void
