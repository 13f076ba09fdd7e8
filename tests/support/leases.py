"""A store for leases that behaves as badly as etcd may: it is slow, late, out of reach, and changes its leader.

Time is in milliseconds of the world; its own clock runs at `rate`. `Driver` is one core at such a store.
"""

import random

from pycolo.failover.lease import LeaseArbiter
from pycolo.failover.store import (
    Answer,
    Claim,
    Claimed,
    GrantLease,
    KeepTerms,
    KeysRead,
    LeaseGone,
    LeaseGranted,
    LeaseRenewed,
    ReadKeys,
    Record,
    RenewLease,
    Request,
    RevokeLease,
    TermRecord,
)

TTL_MS = 3000
MS = 1_000_000
SCAN_MS = 500
ELECTION_MS = 1000


class ModelStore:
    """What all members agree on. `shows_terms` False is a negative control: the leader seems never to change."""

    def __init__(self, dice: random.Random, rate: float = 1.0, *, shows_terms: bool = True) -> None:
        self._dice = dice
        self._rate = rate
        self._shows_terms = shows_terms
        self.server: Record | None = None
        self.term: TermRecord | None = None
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
            case KeepTerms():
                return self._keep(request)
            case RevokeLease(lease=lease):
                self._end(lease)
                return LeaseGone()

    def _renew(self, lease: int, now: float) -> Answer:
        if lease not in self.leases:
            return LeaseGone()
        ttl, _ = self.leases[lease]
        if now < self.stale_until and lease in self.stale_leases and self._dice.random() < 0.7:
            self.stale_leases[lease] = (
                now * self._rate + ttl
            )  # the old leader answers, and no other member learns of it
            return LeaseRenewed(ttl // 1000, self._shown(self.raft_term - 1))
        self.leases[lease] = (ttl, now * self._rate + ttl)
        return LeaseRenewed(ttl // 1000, self._shown(self.raft_term))

    def _shown(self, raft_term: int) -> int:
        return raft_term if self._shows_terms else 2

    def _claim(self, claim: Claim) -> Answer:
        if claim.lease not in self.leases:
            return LeaseGone()
        kept = self._keep(claim)
        if kept.is_done:
            self.server = Record(claim.holder, claim.term, claim.lease, self.revision)
        return kept

    def _keep(self, request: Claim | KeepTerms) -> Claimed:
        keys = KeysRead(self.server, self.term, self.raft_term)
        if (request.server_revision, request.term_revision) != (keys.server_revision, keys.term_revision):
            return Claimed(is_done=False)
        self.revision += 1
        self.term = TermRecord(*request.terms, self.revision)
        return Claimed(is_done=True)

    def _end(self, lease: int) -> None:
        self.leases.pop(lease, None)
        if self.server is not None and self.server.lease == lease:
            self.server = None
            self.revision += 1


class Driver:
    """One core with a store that answers at once, or as `fault` says: "lost" (done), "dropped" (not done)."""

    def __init__(self, identity="a", term=0, store=None) -> None:
        self.core = LeaseArbiter(term, identity, TTL_MS)
        self.store = store or ModelStore(random.Random(1))
        self.now_ms = 1000
        self.asked = []

    def step(self, fault="") -> bool:
        request = self.core.request(self.now_ms * MS)
        if request is None:
            return False
        self.asked.append(request)
        answer = self.store.apply(request, self.now_ms) if fault != "dropped" else None
        if fault:
            self.core.unanswered("no answer", self.now_ms * MS)
        else:
            self.core.answered(answer, self.now_ms * MS)
        return True

    def settle(self, until_ms=None) -> "Driver":
        """Everything that is wanted now, or until then."""
        until_ms = until_ms or self.now_ms
        while True:
            if self.step():
                continue
            due_ns = self.core.due_ns()
            if due_ns is None or due_ns > until_ms * MS:
                break
            assert due_ns > self.now_ms * MS, "due, and nothing is wanted"
            self.now_ms = -(-due_ns // MS)
        self.now_ms = until_ms
        return self

    def holding(self) -> "Driver":
        self.core.acquire_wanted()
        return self.settle()

    def bound_ms(self) -> float | None:
        until_ns = self.core.serve_until_ns()
        return None if until_ns is None else until_ns / MS


def paired(term=1) -> tuple[Driver, Driver]:
    a = Driver("a").holding()
    b = Driver("b", store=a.store)
    a.core.paired(term, a.now_ms)
    b.core.paired(term, b.now_ms)
    return a, b
