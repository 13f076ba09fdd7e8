"""The real core of the arbiter `etcd`, twice, with one store, in the world of `support.pairworld`.

What a node's `Permission` and runner do is done here in steps. A claim is on its way for a while, and its answer may
be lost, or the claim itself, or it may be done when its node has given it up. Everything else is asked and answered
in one step. A tick is half of a lease's time; a holder that can renews its lease in it.
"""

import copy
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pycolo.failover.arbiternews import ArbiterNews
from pycolo.failover.lease import LeaseArbiter
from pycolo.failover.pairstates import Command, Fact
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

TTL_MS: Final = 3_000
TICK_MS: Final = TTL_MS // 2
MS: Final = 1_000_000
RAFT_TERM: Final = 2
NAMES: Final = ("a", "b")
EXCHANGES_MAX: Final = 12
"""In a tick: a renewal, its confirmation, and what follows once."""


class Store(NamedTuple):
    """`leases`: (number, when it ends)."""

    server: Record | None
    term: TermRecord | None
    leases: tuple[tuple[int, int], ...]
    revision: int
    is_up: bool = True


class Asker(NamedTuple):
    """One node's core. `claim`: on its way; `is_done`: the store has done it."""

    core: LeaseArbiter
    news: ArbiterNews
    is_asked: bool = False
    claim: Claim | None = None


class Leases(NamedTuple):
    """`late`: a claim that its node has given up, and that may be done all the same."""

    askers: tuple[Asker, Asker]
    store: Store
    now_ms: int
    late: Claim | None = None


# ── the store ───────────────────────────────────────────────────────────────────────────────────────────────


def apply(store: Store, request: Request, now_ms: int) -> tuple[Store, Answer]:
    """Do it."""
    match request:
        case ReadKeys():
            return store, KeysRead(store.server, store.term, RAFT_TERM)
        case GrantLease(ttl_s=ttl_s):
            number = 100 + store.revision
            leases = (*store.leases, (number, now_ms + ttl_s * 1000))
            return store._replace(leases=leases, revision=store.revision + 1), LeaseGranted(number, ttl_s, RAFT_TERM)
        case RenewLease(lease=lease):
            if lease not in dict(store.leases):
                return store, LeaseGone()
            ends = dict(store.leases) | {lease: now_ms + TTL_MS}
            return store._replace(leases=tuple(ends.items())), LeaseRenewed(TTL_MS // 1000, RAFT_TERM)
        case Claim(lease=lease):
            if lease not in dict(store.leases):
                return store, LeaseGone()
            kept, answer = _keep(store, request)
            if answer.is_done:
                kept = kept._replace(server=Record(request.holder, request.term, lease, kept.revision))
            return kept, answer
        case KeepTerms():
            return _keep(store, request)
        case RevokeLease(lease=lease):
            return _end(store, lease), LeaseGone()


def _keep(store: Store, request: Claim | KeepTerms) -> tuple[Store, Claimed]:
    keys = KeysRead(store.server, store.term, RAFT_TERM)
    if (request.server_revision, request.term_revision) != (keys.server_revision, keys.term_revision):
        return store, Claimed(is_done=False)
    revision = store.revision + 1
    return store._replace(revision=revision, term=TermRecord(*request.terms, revision)), Claimed(is_done=True)


def _end(store: Store, lease: int) -> Store:
    leases = tuple(one for one in store.leases if one[0] != lease)
    is_key = store.server is not None and store.server.lease == lease
    if is_key:
        return store._replace(leases=leases, server=None, revision=store.revision + 1)
    return store._replace(leases=leases)


# ── the cores ───────────────────────────────────────────────────────────────────────────────────────────────


def begin(terms: tuple[int, int], *, holder: int) -> Leases:
    """Both processes have just begun; `holder` has the lease, under its record's term."""
    askers = tuple(
        Asker(LeaseArbiter(term, name, TTL_MS), ArbiterNews()) for term, name in zip(terms, NAMES, strict=True)
    )
    core = askers[holder].core
    core._term = terms[holder] - 1
    core.acquire_wanted()
    leases = Leases((askers[0], askers[1]), Store(None, None, (), 1), 10 * TTL_MS)
    for i in (0, 1):
        leases, _ = exchange(leases, i)
    askers[holder].news.facts(core, leases.now_ms * MS)
    return leases


def exchange(leases: Leases, i: int) -> tuple[Leases, bool]:
    """All that the core wants now is asked and answered; False when it is never content."""
    core = leases.askers[i].core
    for _ in range(EXCHANGES_MAX):
        request = core.request(leases.now_ms * MS)
        if request is None:
            return leases, True
        store, answer = apply(leases.store, request, leases.now_ms)
        core.answered(answer, leases.now_ms * MS)
        leases = leases._replace(store=store)
    return leases, False


def copied(leases: Leases, i: int) -> Leases:
    """Whose core `i` may be told something: all that it consists of never changes."""
    asker = leases.askers[i]
    return with_asker(leases, i, asker._replace(core=copy.copy(asker.core), news=copy.copy(asker.news)))


def with_asker(leases: Leases, i: int, asker: Asker) -> Leases:
    """Another one in its place."""
    return leases._replace(askers=(asker, leases.askers[1]) if i == 0 else (leases.askers[0], asker))


def restarted(leases: Leases, i: int, term: int) -> Leases:
    """A new process, with its record's term. What the old one has on its way may be done all the same."""
    old = leases.askers[i]
    new = Asker(LeaseArbiter(term, NAMES[i], TTL_MS), ArbiterNews())
    return with_asker(leases._replace(late=old.claim or leases.late), i, new)


def commanded(leases: Leases, i: int, command: Command, term: int) -> Leases:
    """What `node.permission` does with a command, and the plan `protect` first of all; `term` is the pair's."""
    leases = copied(leases, i)
    asker = leases.askers[i]
    core, now_ms = asker.core, leases.now_ms
    match command:
        case Command.WITHDRAW:
            core.recovered(now_ms)
            return with_asker(leases, i, asker._replace(is_asked=False))
        case Command.RESIGN_LEASE:
            core.resigned()
            return with_asker(leases, i, asker._replace(is_asked=False))
        case Command.PROTECT | Command.RELEASE | Command.SWITCH:
            core.acquire_wanted(term)
            return leases
        case Command.ASK_ARBITER | Command.ASK_HARMLESS | Command.TELL_OPERATOR | Command.TELL_RESIGNED:
            if not asker.is_asked:
                core.paired(term, now_ms)
            if command is Command.TELL_OPERATOR:
                core.operator_confirmed(now_ms)
            else:
                core.suspected(now_ms)
            return with_asker(leases, i, asker._replace(is_asked=True))
        case _:
            return leases


def bounds(leases: Leases, i: int) -> bool:
    """Whether the lease permits this node to serve now."""
    until_ns = leases.askers[i].core.serve_until_ns()
    return until_ns is None or leases.now_ms * MS < until_ns


def opened(leases: Leases, i: int, term: int) -> int:
    """The term under which this node may protect its guest, if that is above `term`; 0 while it may not."""
    core = leases.askers[i].core
    return max(term, core.verdict().term) if core.is_held and not core.is_acquiring else 0


def is_pending(leases: Leases, i: int) -> bool:
    """Whether an exchange with the store is to be done before time goes by, because the store answers."""
    if leases.askers[i].claim is not None:
        return True
    due_ns = leases.askers[i].core.due_ns()
    return leases.store.is_up and due_ns is not None and due_ns <= leases.now_ms * MS


def asked(leases: Leases, i: int) -> Iterator[tuple[str, Leases, bool]]:
    """(what happens, then, whether that is a fault)."""
    asker = leases.askers[i]
    if asker.claim is not None:
        yield from _claim_ends(leases, i, asker.claim)
        return
    if not leases.store.is_up or not is_pending(leases, i):
        return
    leases = copied(leases, i)
    core = leases.askers[i].core
    request = core.request(leases.now_ms * MS)
    if isinstance(request, Claim):
        yield f"{i} claims the key", with_asker(leases, i, leases.askers[i]._replace(claim=request)), False
    elif request is not None:
        store, answer = apply(leases.store, request, leases.now_ms)
        core.answered(answer, leases.now_ms * MS)
        yield f"{i} asks etcd: {type(request).__name__}", leases._replace(store=store), False


def _claim_ends(leases: Leases, i: int, claim: Claim) -> Iterator[tuple[str, Leases, bool]]:
    def ended(then: Leases, answer: Answer | None) -> Leases:
        then = copied(then, i)
        asker = then.askers[i]
        if answer is None:
            asker.core.unanswered("no answer", then.now_ms * MS)
        else:
            asker.core.answered(answer, then.now_ms * MS)
        return with_asker(then, i, asker._replace(claim=None))

    store, answer = apply(leases.store, claim, leases.now_ms)
    if leases.store.is_up:
        yield f"the claim of {i} is answered", ended(leases._replace(store=store), answer), False
    yield f"the answer to {i} is lost", ended(leases._replace(store=store), None), leases.store.is_up
    yield f"the claim of {i} is late", ended(leases._replace(late=claim), None), leases.store.is_up


def done_late(leases: Leases) -> Leases:
    """The claim that was given up is done all the same."""
    assert leases.late is not None
    store, _ = apply(leases.store, leases.late, leases.now_ms)
    return leases._replace(store=store, late=None)


def ticked(leases: Leases, runs: tuple[bool, bool]) -> Leases:
    """Time goes by; a holder that runs renews its lease, if the store answers."""
    leases = leases._replace(now_ms=leases.now_ms + TICK_MS)
    for i in (0, 1):
        core = leases.askers[i].core
        if runs[i] and leases.store.is_up and core.is_held and leases.askers[i].claim is None:
            leases, is_content = exchange(copied(leases, i), i)
            assert is_content, "a core that asks for ever"
    for number, end_ms in leases.store.leases:
        if end_ms <= leases.now_ms:
            leases = leases._replace(store=_end(leases.store, number))
    return leases


def facts(leases: Leases, i: int) -> tuple[Leases, list[tuple[Fact, Any]]]:
    """The core's news, for the pair table."""
    leases = copied(leases, i)
    asker = leases.askers[i]
    found = asker.news.facts(asker.core, leases.now_ms * MS)
    if any(fact in (Fact.GRANTED, Fact.REFUSED) for fact, _ in found):
        leases = with_asker(leases, i, asker._replace(is_asked=False))
    return leases, found


# ── what is the same ────────────────────────────────────────────────────────────────────────────────────────

_TIMES: Final = frozenset({"_sent_ns", "_next_ns", "_goal_since_ns"})
_SILENT: Final = frozenset({"_text", "_trouble", "_identity", "_ttl_s"})


def key(leases: Leases, first: int) -> tuple[Any, ...]:
    """The same for worlds that differ only by the time of day, or by which node is which."""
    store = leases.store
    sides = [leases.askers[first], leases.askers[1 - first]]
    names = {NAMES[first]: 0, NAMES[1 - first]: 1, "": 2}
    found = [_plain(value, leases.now_ms, names) for value in (store.server, store.term, leases.late)]
    found.append(tuple((number, end_ms - leases.now_ms) for number, end_ms in store.leases))
    for asker in sides:
        core = vars(asker.core)
        found.append(
            tuple(
                max(-TTL_MS, (value // MS if value else 0) - leases.now_ms)
                if name in _TIMES
                else _plain(value, leases.now_ms, names)
                for name, value in core.items()
                if name not in _SILENT
            )
        )
        found.append((tuple(vars(asker.news).values()), asker.is_asked, _plain(asker.claim, leases.now_ms, names)))
    return (*found, store.is_up)


def _plain(value: Any, now_ms: int, names: dict[str, int]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, tuple):
        if type(value).__name__ == "Lease":
            return (value[0], value[1], max(-TTL_MS, value[2] // MS - now_ms))
        return (type(value).__name__, *(_plain(one, now_ms, names) for one in value))
    return value
