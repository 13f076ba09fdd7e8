"""The arbiter `etcd`: the node that holds the lease may serve.

Two keys for each pair in a store that three machines agree on: `server`, the node that may serve, under a lease that
runs out unless it is renewed; and `term`, which stays: the term that was served under last, and the highest that was
granted. A claim writes both in one transaction that compares both with what was read, so of two nodes that claim at
once one succeeds, and each grant has a term above all before it.

* The holder of the key may serve until `serve_until_ns`: the lease's time, counted on this node's clock from *before*
  the request was sent, less a margin. The store counts from later on, so no other node gets the key before that.
* A secondary claims the key when it is gone, and only if no other node has served since its pair's term.
* A primary that goes on alone claims a new term first, so that its secondary can never do so later.
* A grant is open until its holder serves and has renewed the lease once (`failover.leaserules`): a node that dies
  before it serves makes no other replica old. A node that resigns before it serves returns its grant; so does one that
  comes back with a record that does not know of it.
* A request without an answer may have been done, or may still be: the keys are read before anything is concluded. A
  claim that is sent again is the same claim, so it does no harm if it is done twice, or late.
* A renewal counts when a read after it finds the key, under this lease, in the same raft term: a member that was
  stopped and does not know yet that it no longer leads also answers renewals, but no reads.
* Such a member also ends leases that its successor has renewed, though not before the time that it knows of. So a
  lease is renewed only in the raft term in which it was granted; after that the key moves to a new one.

Pure: `request` says what to ask the store now, one thing at a time; `answered` and `unanswered` tell the result. Times
are nanoseconds of one node's monotonic clock.
"""

from typing import Final, NamedTuple

from pycolo.failover.arbiter import IDLE_TEXT, Arbiter, Decision, Verdict
from pycolo.failover.leaserules import Goal, Standing, refusal, terms_with
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
    Terms,
)

RETRY_MS: Final = 200
"""Pause between two tries: etcd looks for leases that have run out twice a second."""

RETURN_RETRY_MS: Final = 10
"""The first pause while the other node returns the key, which is doubled from try to try up to `RETRY_MS`."""

SEIZE_MS: Final = 2_000
"""Least time without an answer from the store before an operator's word is taken without one. It is at least a lease's
time: what the other node was granted last has run out then."""

RENEWALS_PER_LEASE: Final = 3
"""Renewed after a third of its time: two renewals may fail."""

MARGIN_PART: Final = 10
"""The margin is this part of the lease's time: five times the effect of clocks that differ by two percent."""

_ALONE: Final = (Goal.TAKE_OVER, Goal.GO_ALONE, Goal.SEIZE)


class Lease(NamedTuple):
    """`confirmed_ns`: when the request was sent after which the store certainly began to count."""

    id: int
    ttl_ns: int
    confirmed_ns: int
    raft_term: int


class LeaseArbiter(Arbiter):
    """Asks a store (`failover.store`)."""

    name = "etcd"

    def __init__(self, term: int, identity: str, ttl_ms: int) -> None:
        """`identity`: this node's, the same after a restart, and not the other node's. `term`: its record's."""
        super().__init__(term)
        self._identity = identity
        self._ttl_s = -(-ttl_ms // 1000)
        self._goal = Goal.NONE
        self._goal_term = 0
        self._goal_since_ns: int | None = None
        self._is_suspected = False
        self._return_retry_ms = RETRY_MS  # the next pause while another node holds the key
        self._is_resigning = False
        self._is_unbound = False  # served by the operator's word, without a lease
        self._lease: Lease | None = None  # the key's
        self._spare: Lease | None = None  # for the next claim
        self._must_move = False  # the store's leader has changed since the key's lease was granted
        self._is_held = False  # the key is ours, as far as the store has said
        self._held_term = 0  # 0: never held since the last resignation
        self._served_term = term  # this node has not served under any term above
        self._looks_back = True  # for a grant that it never served under
        self._tried: Claim | None = None  # the last claim
        self._is_tried_open = False  # it may have been done, or may still be
        self._keys: KeysRead | None = None  # what the next claim is compared with
        self._keeping: KeepTerms | None = None  # to be sent next
        self._renewal: tuple[int, LeaseRenewed] | None = None  # answered, to be confirmed by a read
        self._pending: Request | None = None
        self._sent_ns = 0
        self._next_ns = 0
        self._trouble = ""

    # ── facts: the node ─────────────────────────────────────────────────────────────────────────────────────

    def acquire_wanted(self, term: int = 0) -> None:
        """This node serves, or is about to. `term`: the highest that it or the other node knows."""
        self._term = max(self._term, term)
        self._served_term = max(self._served_term, self._held_term)
        if not self._is_held or self._held_term < term:
            self._pursue(Goal.ACQUIRE, "asking etcd for the lease")
            self._goal_term = term

    def acquire_abandoned(self) -> None:
        """The node no longer waits for the lease; a claim that is under way is completed all the same."""
        if self._goal is Goal.ACQUIRE and not self._is_open():
            self._goal = Goal.NONE

    def resigned(self) -> None:
        """This node no longer serves: it returns the key, so that the other one need not wait."""
        self._goal = Goal.NONE
        self._is_unbound = False
        self._is_held = False
        self._held_term = 0
        self._looks_back = True
        self._renewal = self._keeping = self._keys = None
        self._must_move = False
        self._is_resigning = bool(self._lease or self._spare) or isinstance(self._pending, GrantLease)
        self._next_ns = 0

    def paired(self, term: int, now_ms: int) -> None:
        """A new question; the lease is kept, and a claim that is under way goes on.

        A node that serves by the operator's word goes on: only the store's word binds it again.
        """
        super().paired(term, now_ms)
        self.recovered(now_ms)

    def suspected(self, now_ms: int) -> None:
        """Asks for a new term: the holder at once, the other node when the lease has run out."""
        self._is_suspected = True
        if self._goal is Goal.NONE and not self.is_decided:
            goal = Goal.GO_ALONE if self._held_term else Goal.TAKE_OVER
            self._pursue(goal, "asking etcd whether this node may serve alone")

    def recovered(self, now_ms: int) -> None:
        """No further try, by the operator's word either; a claim that is under way is completed, and counts."""
        self._is_suspected = False
        if self._goal in _ALONE and not self._is_open() and not self._is_unbound:
            self._goal = Goal.NONE
            self._wait(IDLE_TEXT)

    def operator_confirmed(self, now_ms: int) -> None:
        """The operator's word: taken when the other node's lease has ended, with or without the store's answer."""
        self._is_suspected = True
        if not self.is_decided:
            self._pursue(Goal.SEIZE, "the operator confirmed that the other node is down: asking etcd for the lease")

    def peer_resigned(self, now_ms: int, why: str) -> None:
        """The key is being returned, which takes a moment: asks for it."""
        self._return_retry_ms = RETURN_RETRY_MS
        self._next_ns = 0
        self.suspected(now_ms)

    def timer_fired(self, now_ms: int) -> None:
        """The runner looks at `due_ns` by itself."""

    # ── answers to the node ─────────────────────────────────────────────────────────────────────────────────

    def deadline_ms(self) -> int | None:
        """Only facts change the verdict."""
        return None

    def serve_until_ns(self) -> int | None:
        """Up to when this node may release anything; 0: not at all; None: the operator has lifted the bound."""
        if self._is_unbound:
            return None
        if not self._is_held or self._lease is None or self._decision is Decision.DENIED:
            return 0
        return self._lease.confirmed_ns + self._lease.ttl_ns - self._lease.ttl_ns // MARGIN_PART

    def verdict(self) -> Verdict:
        """The text is the store's trouble, if there is any."""
        verdict = super().verdict()
        if self._trouble and verdict.decision is not Decision.DENIED:
            return verdict._replace(text=self._trouble)
        return verdict

    def acquired(self, term: int) -> Verdict:
        """DENIED: another node holds the lease, or has held it since this node's own term."""
        verdict = self.verdict()
        if verdict.decision is Decision.DENIED:
            return verdict
        return Verdict(Decision.GRANTED, verdict.term, f"etcd holds this node's lease, under term {verdict.term}")

    @property
    def is_held(self) -> bool:
        """Whether the key is this node's, as far as the store has said."""
        return self._is_held

    @property
    def is_acting(self) -> bool:
        """Whether a claim to serve alone may be done, or may still be: no promise may be given meanwhile."""
        return self._goal in _ALONE and self._is_open()

    @property
    def is_acquiring(self) -> bool:
        """Whether `acquire_wanted` still waits for its answer."""
        return self._goal is Goal.ACQUIRE and self._decision is not Decision.DENIED

    @property
    def trouble(self) -> str:
        """Why the store's last request has no answer; empty when it has one."""
        return self._trouble

    @property
    def is_resigning(self) -> bool:
        """Whether the key is still to be returned."""
        return self._is_resigning

    # ── the store ───────────────────────────────────────────────────────────────────────────────────────────

    def request(self, now_ns: int) -> Request | None:
        """What to ask the store now. Take the time, call this, then send: in that order."""
        if self._pending is not None or now_ns < self._next_ns:
            return None
        self._pending = self._wanted(now_ns)
        self._sent_ns = now_ns
        if isinstance(self._pending, Claim):
            self._tried = self._pending
        if self._goal_since_ns is None:
            self._goal_since_ns = now_ns
        return self._pending

    def due_ns(self) -> int | None:
        """When to call `request` again; None while one is under way, or nothing is wanted."""
        if self._pending is not None:
            return None
        if self._wanted(self._next_ns) is not None:
            return self._next_ns
        if self._is_held and self._lease is not None and self._decision is not Decision.DENIED:
            return max(self._next_ns, self._renew_at_ns(self._lease))
        return None

    def answered(self, answer: Answer, now_ns: int) -> None:
        """What the store said to the last request."""
        request, self._pending = self._pending, None
        self._trouble = ""
        match request, answer:
            case ReadKeys(), KeysRead():
                self._read(answer, now_ns)
            case GrantLease(), LeaseGranted(lease=lease, ttl_s=ttl_s, raft_term=raft_term):
                self._spare = Lease(lease, ttl_s * 1_000_000_000, self._sent_ns, raft_term)
                if self._keys is not None and self._keys.raft_term != raft_term:
                    self._keys = None  # the leader has changed since: whose lease is it? Read, and ask for another
            case RenewLease(), LeaseRenewed():
                self._renewal = (self._sent_ns, answer)
            case Claim(), Claimed(is_done=is_done):
                self._is_tried_open = False
                self._keys = None
                if is_done and not self._is_resigning:
                    if self._spare is not None and self._spare.id == request.lease:
                        self._lease, self._spare, self._must_move = self._spare, None, False
                    self._won(request.term)
                else:  # read again what has changed
                    self._next_ns = now_ns + RETRY_MS * 500_000
            case KeepTerms(), Claimed(is_done=is_done):
                self._kept(is_done=is_done)
            case ((Claim(lease=lease) | RenewLease(lease=lease) | RevokeLease(lease=lease)), LeaseGone()):
                self._lease_gone(lease)
            case _:
                raise AssertionError(f"{answer} is no answer to {request}")

    def unanswered(self, why: str, now_ns: int) -> None:
        """No answer, or none that can be believed. The request may have been done, or may still be."""
        request, self._pending = self._pending, None
        self._keys = None
        self._next_ns = now_ns + RETRY_MS * 1_000_000
        if isinstance(request, Claim):
            self._is_tried_open = True
        if self._is_resigning and self._lease is None and self._spare is None:
            self._is_resigning = False  # a lease that we may not know of runs out, bound to nothing
        if self._is_held:
            self._trouble = f"etcd: {why}; this node goes on until its lease ends, then holds everything back"
        else:
            self._trouble = f"etcd: {why}; nothing is granted without it"
        self._serve_without_lease(now_ns)

    def _serve_without_lease(self, now_ns: int) -> None:
        """The operator's word, once the store has been silent for as long as the other node's lease may last."""
        since_ns = now_ns if self._goal_since_ns is None else self._goal_since_ns
        is_late = now_ns - since_ns >= max(SEIZE_MS, self._ttl_s * 1000) * 1_000_000
        if self._goal is Goal.SEIZE and is_late and not self.is_decided and not self._is_unbound:
            self._grant("the operator confirmed that the other node is down; etcd does not answer, so without a lease")
            self._is_unbound = True

    # ── what to do next ─────────────────────────────────────────────────────────────────────────────────────

    def _pursue(self, goal: Goal, text: str) -> None:
        self._goal = goal
        self._goal_term = 0
        self._goal_since_ns = None
        self._keys = self._keeping = None
        self._next_ns = 0
        self._wait(text)

    def _is_open(self) -> bool:
        return self._is_tried_open or isinstance(self._pending, Claim)

    def _renew_at_ns(self, lease: Lease) -> int:
        return lease.confirmed_ns + lease.ttl_ns // RENEWALS_PER_LEASE

    def _wanted(self, now_ns: int) -> Request | None:
        lease = self._lease
        if self._is_resigning:
            left = self._lease or self._spare
            return RevokeLease(left.id) if left is not None else None
        if self._decision is Decision.DENIED:
            return None
        if self._renewal is not None:
            return ReadKeys()
        if self._is_held and lease is not None and not self._must_move and now_ns >= self._renew_at_ns(lease):
            return RenewLease(lease.id)
        if self._keeping is not None:
            return self._keeping
        if self._goal is Goal.NONE and not self._must_move and (self._is_held or not self._held_term):
            return ReadKeys() if self._looks_back else None
        if self._keys is None:
            return ReadKeys()
        if self._is_held and lease is not None and not self._must_move:
            return self._claim(self._keys, lease)
        spare = self._spare
        if spare is not None and (spare.raft_term == self._keys.raft_term or self._is_tried_under(spare)):
            return self._claim(self._keys, spare)
        return GrantLease(self._ttl_s)

    def _is_tried_under(self, lease: Lease) -> bool:
        """A claim that may still be done is only ever sent again as it was."""
        return self._is_tried_open and self._tried is not None and self._tried.lease == lease.id

    def _claim(self, keys: KeysRead, lease: Lease) -> Claim:
        if self._goal is Goal.NONE:
            term = self._held_term  # no other node has served since: this one goes on under its own
        elif self._is_unbound:
            term = max(keys.highest_term + 1, self._term)
        else:
            term = max(keys.highest_term, self._term, self._goal_term) + 1
        terms = terms_with(keys, self._standing(), term)
        if self._is_unbound:  # it has served already
            terms = Terms(self._identity, term, term)
        return Claim(lease.id, self._identity, term, terms, keys.server_revision, keys.term_revision)

    def _standing(self) -> Standing:
        return Standing(self._identity, self._goal, self._term, self._held_term)

    # ── what the store has said ─────────────────────────────────────────────────────────────────────────────

    def _read(self, keys: KeysRead, now_ns: int) -> None:
        """Judge what the keys say; `_keys` is set when the next step is a claim that they allow."""
        self._keys = None
        if self._is_resigning:
            return
        server = keys.server
        lease = self._own(server)
        if lease is not None and server is not None:
            self._is_tried_open = False
            self._must_move = lease.raft_term != keys.raft_term
            self._confirm_renewal(keys, lease, now_ns)
            if not self._is_held or server.term != self._held_term:
                self._won(server.term)
            if self._goal is not Goal.NONE or self._must_move:
                self._keys = keys
            return
        self._renewal = None
        self._is_held = self._must_move = False
        self._lease, self._spare = None, self._spare or self._lease
        self._close_tried(keys)
        if self._goal is Goal.NONE and not self._held_term:
            self._look_back(keys)
            return
        if keys.term is None or keys.term.grantee != self._identity:
            self._looks_back = False
        refused = None if self._is_unbound else refusal(keys, self._standing())
        if refused is None:
            self._keys = keys
        elif refused.is_final:
            self._deny(refused.text, keys.highest_term)
        else:
            self._next_ns = now_ns + self._return_retry_ms * 1_000_000
            self._return_retry_ms = min(2 * self._return_retry_ms, RETRY_MS)
            self._wait(refused.text)

    def _own(self, server: Record | None) -> Lease | None:
        """The lease of ours that the key is under; it is `_lease` then."""
        for lease in (self._lease, self._spare):
            if lease is not None and server is not None and (server.lease, server.holder) == (lease.id, self._identity):
                if lease is self._spare:
                    self._lease, self._spare, self._renewal = lease, None, None
                return lease
        return None

    def _confirm_renewal(self, keys: KeysRead, lease: Lease, now_ns: int) -> None:
        if self._renewal is not None:
            (sent_ns, renewed), self._renewal = self._renewal, None
            if lease.raft_term == renewed.raft_term == keys.raft_term:
                self._lease = Lease(lease.id, renewed.ttl_s * 1_000_000_000, sent_ns, lease.raft_term)
                self._close_grant(keys)
            elif not self._must_move:
                self._next_ns = now_ns + RETRY_MS * 1_000_000

    def _close_grant(self, keys: KeysRead) -> None:
        """Say in the store that this node serves under the term that it was granted."""
        terms, server = keys.term, keys.server
        is_used = server is not None and self._served_term >= server.term
        if terms is not None and server is not None and is_used and terms.grantee == self._identity:
            served = Terms(self._identity, server.term, terms.granted)
            self._keeping = KeepTerms(served, keys.server_revision, keys.term_revision)

    def _look_back(self, keys: KeysRead) -> None:
        """Return a grant that this node never served under: it ended before, or its guest did."""
        terms = keys.term
        if terms is None or terms.grantee != self._identity or terms.granted <= self._served_term:
            self._looks_back = False
        else:
            returned = Terms(terms.holder, terms.term, terms.granted)
            self._keeping = KeepTerms(returned, keys.server_revision, keys.term_revision)

    def _kept(self, *, is_done: bool) -> None:
        if is_done and not self._is_held:
            self._looks_back = False
        self._keeping = None

    def _close_tried(self, keys: KeysRead) -> None:
        """Keys that have changed since make a claim that is still on its way fail."""
        tried = self._tried
        if self._is_tried_open and tried is not None:
            same = (tried.server_revision, tried.term_revision) == (keys.server_revision, keys.term_revision)
            self._is_tried_open = same
            if not same and not self._is_suspected and self._goal in _ALONE:
                self._goal = Goal.NONE
                self._wait(IDLE_TEXT)

    def _won(self, term: int) -> None:
        """The key is ours, under `term`."""
        self._is_held = True
        self._held_term = term
        self._looks_back = False
        match self._goal:
            case Goal.ACQUIRE if term >= self._goal_term:
                self._goal = Goal.NONE
                self._wait(IDLE_TEXT)
                if self._is_suspected:
                    self.suspected(0)
            case Goal.SEIZE if self._is_unbound:
                self._goal = Goal.NONE
                self._wait(IDLE_TEXT)
                if self._is_suspected:
                    self.suspected(0)
            case Goal.TAKE_OVER | Goal.GO_ALONE | Goal.SEIZE if term > self._term:  # and `acquire_wanted` is to come
                why = "the operator confirmed that the other node is down, and " if self._goal is Goal.SEIZE else ""
                self._goal = Goal.NONE
                self._grant(f"{why}etcd holds this node's lease, under term {term}", term)
            case Goal.NONE:
                self._wait(IDLE_TEXT)
            case _:
                return  # the claim of an earlier question: another one follows
        if self._decision is Decision.WAIT or self._is_unbound:  # not granted: this node serves already
            self._served_term = max(self._served_term, term)
        self._is_unbound = False
        self._term = max(self._term, term)

    def _deny(self, text: str, term: int) -> None:
        """What this node still has of the lease is returned."""
        super()._deny(text, term)
        self.resigned()

    def _lease_gone(self, lease: int) -> None:
        """It has run out, or was revoked: no claim under it can be done any more."""
        self._keys = None
        self._next_ns = 0
        if self._tried is not None and self._tried.lease == lease:
            self._is_tried_open = False
        if self._spare is not None and self._spare.id == lease:
            self._spare = None
        if self._lease is not None and self._lease.id == lease:
            self._lease = self._renewal = None
            self._is_held = self._must_move = False
            if self._held_term:
                self._wait("the lease has run out: nothing leaves before etcd has given it to this node again")
        if self._lease is None and self._spare is None:
            self._is_resigning = False
