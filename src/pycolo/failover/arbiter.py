"""Permission: may this node serve alone?

A lost heartbeat is a suspicion, never a permission: from one end, a dead node and a cut cable look the
same. An arbiter can tell them apart, or makes sure that the other node is dead.

**To add one**: write one file with a subclass of `Arbiter`. The node tells it the facts below and reads
`verdict()` after every fact and when `deadline_ms()` has come. An arbiter that has to ask (a command, a store, a
cluster manager) returns its next request from `request`, one at a time, and is told the result: `answered` or
`unanswered` (`failover.fencing`, `failover.lease`). `pycolo.arbiters.runner` executes the requests, below the
purity line.

**Terms.** A grant opens a new term, above every term that this node has seen. Messages carry the term, and the
node with the lower one yields. A verdict of GRANTED or DENIED is final for its question: the node may have
acted on it. Only a lease that was lost turns GRANTED into DENIED. `paired` asks a new question.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Final, NamedTuple

from pycolo.errors import ConfigError


class Decision(Enum):
    """The arbiter's answer."""

    WAIT = "wait"
    GRANTED = "granted"
    DENIED = "denied"


class Verdict(NamedTuple):
    """`term` is the new term with GRANTED, else the highest known; `text` is one line for the user."""

    decision: Decision
    term: int
    text: str


IDLE_TEXT: Final = "the other node is not suspected"


def resignation(why: str) -> str:
    """In words; a node that hands over gives no reason."""
    return f"the other node has resigned: {why}" if why else "the other node has handed over"


class Arbiter(ABC):
    """Answers one node's question "may I serve alone?", once for each pair."""

    name: ClassVar[str]
    """What the user calls it."""
    harms: ClassVar[bool] = False
    """Whether a question may end the other node, or permit what that one does already."""

    def __init__(self, term: int) -> None:
        """`term` is the one under which the pair has worked so far."""
        self._term = term
        self._given_up = 0  # this node has resigned, and the other one may have this term on its disk
        self._decision = Decision.WAIT
        self._text = IDLE_TEXT

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────

    def paired(self, term: int, now_ms: int) -> None:
        """A pair was formed and works under `term`: earlier decisions were about another pair."""
        self._term = max(self._term, term)
        self._decision = Decision.WAIT
        self._text = IDLE_TEXT

    @abstractmethod
    def suspected(self, now_ms: int) -> None:
        """The other node is silent or its connection is gone."""

    @abstractmethod
    def recovered(self, now_ms: int) -> None:
        """The other node was heard again; after a grant this comes too late."""

    def operator_confirmed(self, now_ms: int) -> None:
        """An operator vouches that the other node no longer serves. This node need not suspect it."""
        self._grant("the operator confirmed that the other node is down")

    def peer_resigned(self, now_ms: int, why: str) -> None:
        """The other node says that it no longer serves: that is a permission, unless it has to return a lease."""
        self._grant(resignation(why))

    def acquire_wanted(self, term: int = 0) -> None:
        """This node serves or is about to, or protects what it serves; `term`: the highest that either node knows."""
        return

    def acquire_abandoned(self) -> None:
        """The node no longer waits for the answer to that."""
        return

    def resigned(self) -> None:
        """This node no longer serves. The next term may be the other node's."""
        self._given_up = self._term + 1
        self._decision = Decision.WAIT
        self._text = IDLE_TEXT

    def term_seen(self, term: int) -> None:
        """The other node showed `term`. A higher one than ours means that it has taken over itself."""
        if term > self._term and self._decision is Decision.WAIT:
            self._deny(f"the other node has taken over under term {term}; this node must not serve", term)

    @abstractmethod
    def timer_fired(self, now_ms: int) -> None:
        """`deadline_ms` has come."""

    # ── what it asks ────────────────────────────────────────────────────────────────────────────────────────

    def request(self, now_ns: int) -> object | None:
        """What to do or ask now, one thing at a time. Take the time, call this, then act, in that order."""
        return None

    def due_ns(self) -> int | None:
        """When to call `request` again; None while an answer is awaited, or nothing is wanted."""
        return None

    def answered(self, answer: Any, now_ns: int) -> None:
        """The result of the last request."""
        raise AssertionError(f"{self.name} asks nothing, and is answered {answer}")

    def unanswered(self, why: str, now_ns: int) -> None:
        """The last request has no result; it may have been done all the same."""
        raise AssertionError(f"{self.name} asks nothing, and is not answered: {why}")

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def deadline_ms(self) -> int | None:
        """When to call `timer_fired` and read the verdict again; None when only a fact can change it."""

    def verdict(self) -> Verdict:
        """The decision as it stands."""
        return Verdict(self._decision, self._term, self._text)

    @property
    def is_decided(self) -> bool:
        """Whether the verdict is more than WAIT."""
        return self._decision is not Decision.WAIT

    def acquired(self, term: int) -> Verdict:
        """The answer to `acquire_wanted`, once `is_acquiring` is over."""
        return Verdict(Decision.GRANTED, max(term, self._term), f"{self.name} needs no lease")

    def serve_until_ns(self) -> int | None:
        """Up to when this node may release anything; 0: not at all; None: without a bound."""
        return None

    @property
    def is_acting(self) -> bool:
        """Whether something is under way that may end the other node: it cannot be called back."""
        return False

    @property
    def is_acquiring(self) -> bool:
        """Whether `acquire_wanted` still waits for its answer."""
        return False

    @property
    def is_resigning(self) -> bool:
        """Whether something is still to be returned."""
        return False

    @property
    def trouble(self) -> str:
        """Why the last request has no result; empty when it has one."""
        return ""

    # ── for subclasses ──────────────────────────────────────────────────────────────────────────────────────

    def _grant(self, text: str, term: int | None = None) -> None:
        """`term`: the new one, where the arbiter counts terms itself; it is above all before."""
        if self._decision is Decision.WAIT:
            assert term is None or term > self._term, "a grant opens a new term"
            self._term = max(self._term, self._given_up) + 1 if term is None else term
            self._decision = Decision.GRANTED
            self._text = text

    def _deny(self, text: str, term: int) -> None:
        self._term = max(self._term, term)
        self._decision = Decision.DENIED
        self._text = text

    def _wait(self, text: str) -> None:
        if self._decision is Decision.WAIT:
            self._text = text


class ManualArbiter(Arbiter):
    """Always waits for the operator (`colo failover`): safe, and as fast as a human."""

    name = "manual"

    def suspected(self, now_ms: int) -> None:
        """Says what the operator has to do."""
        self._wait("waiting for the operator: make sure that the other node is down, then `colo failover`")

    def recovered(self, now_ms: int) -> None:
        """No operator is needed."""
        self._wait(IDLE_TEXT)

    def timer_fired(self, now_ms: int) -> None:
        """Time decides nothing."""

    def deadline_ms(self) -> int | None:
        """Time decides nothing."""
        return None


class FirstToNoticeArbiter(Arbiter):
    """Grants at the first suspicion: for the laboratory only.

    Unsafe when the link alone is cut: both nodes live, neither hears the other, each is "first" on its own
    side and is granted the same term. Then two machines with one address answer the same clients, each with
    a state that the other lacks. It is right only if the event that silences a node also kills it, as in the
    laboratory.
    """

    name = "first-to-notice"
    harms = True

    def suspected(self, now_ms: int) -> None:
        """Takes the suspicion for a fact."""
        self._grant("first to notice that the other node is silent (laboratory only: it may be alive)")

    def recovered(self, now_ms: int) -> None:
        """Too late: the grant came with the suspicion."""

    def timer_fired(self, now_ms: int) -> None:
        """Time decides nothing."""

    def deadline_ms(self) -> int | None:
        """Time decides nothing."""
        return None


ARBITERS: Final[Mapping[str, type[Arbiter]]] = {kind.name: kind for kind in (ManualArbiter, FirstToNoticeArbiter)}
"""What `--arbiter` may name."""


def make_arbiter(name: str, term: int) -> Arbiter:
    """The arbiter that `--arbiter` names. Raises `ConfigError` for an unknown name."""
    kind = ARBITERS.get(name)
    if kind is None:
        raise ConfigError("--arbiter", f"one of {', '.join(ARBITERS)}", name)
    return kind(term)
