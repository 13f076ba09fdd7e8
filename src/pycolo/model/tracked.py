"""The rewriter's state of one connection: its guest's segments, and which client segments count."""

from collections import deque
from dataclasses import dataclass, field

from pycolo.model.numbers import near

HELD_MS = 3_000
"""R3: a client's frame waits for the guest's answer for so long; so does a claim (a SYN) for being answered."""
UNSCALED = 65_535
"""A client knows no larger window before its handshake is complete (RFC 7323 section 2.2)."""

Said = tuple[int, int, int, int, bytes, bool]
"""A segment of the guest as the client got it, but for its options: seq, flags, ack, window, payload, checksum."""


@dataclass
class Connection:
    """One key. `isn` is the guest's, `due` the number at which the client's side begins: both from the guest.

    `first`: the same where only this guest took the payload of the client's SYN. `offsets`: (seq, ts), or None while
    they are not known. `claim`: a client's SYN that no guest has answered, when it came, and where its payload ends.
    `said`: what a takeover may send again. What follows counts what has been said since then, in the client's numbers,
    without wrap.
    """

    seen_ms: int
    claim: tuple[int, int, int] | None = None
    isn: int | None = None
    clock: int | None = None
    due: int | None = None
    first: int | None = None
    is_opened_by_guest: bool = False
    is_own: bool = False
    offsets: tuple[int, int] | None = None
    answers: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    waiting: deque[tuple[bytes, int]] = field(default_factory=deque)
    said: set[Said] = field(default_factory=set)
    is_heard: bool = False
    is_complete: bool = False
    has_spoken: bool = False
    sent: int = 0
    acked: int = 0
    taken: int = 0
    received: int = 0
    edge: int = 0
    scale: int = 14
    guest_fin: int | None = None
    client_fin: int | None = None
    is_fin_acked: bool = False
    is_reset: bool = False
    value: int | None = None
    echo: int | None = None

    def follows_claim(self, seq: int, now_ms: int) -> bool:
        """Whether the number belongs to a connection that the client claims to open, and the guest may still answer."""
        if self.claim is None or now_ms - self.claim[1] >= HELD_MS:
            return False
        return 0 < near(seq, self.claim[0]) - self.claim[0] <= UNSCALED

    def is_in_window(self, seq: int) -> bool:
        """RFC 9293 section 3.10.7.4, and a keep-alive's number."""
        return self.has_spoken and self.taken - 1 <= near(seq, self.taken) <= self.edge

    def is_early(self, seq: int) -> bool:
        """Whether the number is one behind the segment that would complete the handshake."""
        return self.due is not None and not self.is_own and 0 < near(seq, self.due) - self.due <= UNSCALED

    def is_foreign(self, seq: int) -> bool:
        """Whether the number lies outside the guest's present connection."""
        return self.has_ended or not self.is_in_window(seq)

    @property
    def has_ended(self) -> bool:
        """R3: both FINs are acknowledged, the client's by being the last that the guest expects; or a RST counted."""
        return self.is_reset or (self.is_fin_acked and self.client_fin == self.taken)
