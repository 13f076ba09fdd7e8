"""A store for leases that behaves as badly as etcd may: it is slow, late, out of reach, and changes its leader.

Time is in milliseconds of the world; its own clock runs at `rate`.
"""

import random

from pycolo.failover.store import (
    Answer,
    Claim,
    Claimed,
    GrantLease,
    KeysRead,
    LeaseGone,
    LeaseGranted,
    LeaseRenewed,
    ReadKeys,
    Record,
    RenewLease,
    Request,
    RevokeLease,
)

SCAN_MS = 500
ELECTION_MS = 1000


class ModelStore:
    """What all members agree on. `shows_terms` False is a negative control: the leader seems never to change."""

    def __init__(self, dice: random.Random, rate: float = 1.0, *, shows_terms: bool = True) -> None:
        self._dice = dice
        self._rate = rate
        self._shows_terms = shows_terms
        self.server: Record | None = None
        self.term: Record | None = None
        self.leases: dict[int, tuple[int, float]] = {}  # lease: its time in ms, its end by the store's clock
        self.revision = 1
        self.raft_term = 2
        self.stale_until = 0.0
        self.stale_leases: dict[int, float] = {}  # the ends that an old leader knows of
        self._next_lease = 100

    def scan(self, now: float) -> None:
        """Delete what has run out: late, never early. An old leader that wakes up deletes what it takes for that."""
        if self.stale_leases and now >= self.stale_until:
            for lease, end in self.stale_leases.items():
                if end <= now * self._rate:
                    self._end(lease)
            self.stale_leases = {}
        for lease in [lease for lease, (_, end) in self.leases.items() if end <= now * self._rate]:
            self._end(lease)

    def change_leader(self, now: float, stale_ms: float) -> None:
        """The new leader lets every lease run anew; the old one does not know for `stale_ms`."""
        self.raft_term += 1
        self.stale_until = now + stale_ms
        self.stale_leases = {lease: end for lease, (_, end) in self.leases.items()}
        self.leases = {lease: (ttl, now * self._rate + ttl + ELECTION_MS) for lease, (ttl, _) in self.leases.items()}

    def apply(self, request: Request, now: float) -> Answer:
        """Do it now."""
        match request:
            case ReadKeys():
                return KeysRead(self.server, self.term, self._shown(self.raft_term))
            case GrantLease(ttl_s=ttl_s):
                self._next_lease += 1
                self.leases[self._next_lease] = (ttl_s * 1000, now * self._rate + ttl_s * 1000)
                return LeaseGranted(self._next_lease, ttl_s, self._shown(self.raft_term))
            case RenewLease(lease=lease):
                return self._renew(lease, now)
            case Claim():
                return self._claim(request)
            case RevokeLease(lease=lease):
                self._end(lease)
                return LeaseGone()

    def _renew(self, lease: int, now: float) -> Answer:
        if lease not in self.leases:
            return LeaseGone()
        ttl, _ = self.leases[lease]
        if now < self.stale_until and lease in self.stale_leases and self._dice.random() < 0.7:
            self.stale_leases[lease] = now * self._rate + ttl  # the old leader answers, and nobody else learns of it
            return LeaseRenewed(ttl // 1000, self._shown(self.raft_term - 1))
        self.leases[lease] = (ttl, now * self._rate + ttl)
        return LeaseRenewed(ttl // 1000, self._shown(self.raft_term))

    def _shown(self, raft_term: int) -> int:
        return raft_term if self._shows_terms else 2

    def _claim(self, claim: Claim) -> Answer:
        if claim.lease not in self.leases:
            return LeaseGone()
        keys = KeysRead(self.server, self.term, self.raft_term)
        if (claim.server_revision, claim.term_revision) != (keys.server_revision, keys.term_revision):
            return Claimed(is_done=False)
        self.revision += 1
        self.server = Record(claim.holder, claim.term, claim.lease, self.revision)
        self.term = Record(claim.holder, claim.term, 0, self.revision)
        return Claimed(is_done=True)

    def _end(self, lease: int) -> None:
        self.leases.pop(lease, None)
        if self.server is not None and self.server.lease == lease:
            self.server = None
            self.revision += 1
