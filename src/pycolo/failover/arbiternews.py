"""Turns changes of an arbiter's core into facts for the pair table, each once."""

from pycolo.failover.arbiter import Arbiter, Decision
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact


class ArbiterNews:
    """Compares a core with its state at the last call."""

    def __init__(self) -> None:
        self._decision = Decision.WAIT
        self._term = 0
        self._is_acting = False
        self._may_serve = True

    def facts(self, core: Arbiter, now_ns: int) -> list[tuple[Fact, Told]]:
        """In the order that the table needs: the core acts, the result of that, then what bounds the service."""
        found: list[tuple[Fact, Told]] = []
        verdict = core.verdict()
        told = Told(term=verdict.term, text=verdict.text)
        is_new = (verdict.decision, verdict.term) != (self._decision, self._term)
        if core.is_acting and not self._is_acting:
            found.append((Fact.ARBITER_ACTS, Told(text=verdict.text)))
        if verdict.decision is Decision.GRANTED and is_new:
            found.append((Fact.GRANTED, told))
        elif verdict.decision is Decision.DENIED and is_new:
            found.append((Fact.REFUSED, told))
        elif self._is_acting and not core.is_acting:
            found.append((Fact.ARBITER_FAILED, Told(text=verdict.text)))
        until_ns = core.serve_until_ns()
        may_serve = until_ns is None or now_ns < until_ns
        if may_serve is not self._may_serve:
            found.append((Fact.LEASE_HELD if may_serve else Fact.LEASE_ENDED, Told(text=verdict.text)))
        self._decision, self._term = verdict.decision, verdict.term
        self._is_acting, self._may_serve = core.is_acting, may_serve
        return found
