"""One node's part of a pair: facts in, the next value and its commands out, by `failover.pairtable`.

`Pair` never changes: `happened` gives a new one. Time is an argument (monotonic milliseconds); when `deadline_ms` has
come, `deadline_passed` is the fact. No fact in any state is an error.

**Numbers keep the late and the repeated apart.** Each link that is formed has a number above all before; facts of
another link than the present one are none. Each command that is answered opens a question with a number of its own;
answers to earlier ones are none.

**The term is that of the moment, and on disk.** A term that was granted is `opened` until the record is written; only
then does this node show it, and only then does anything leave under it.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pycolo.failover.pairstates import (
    FREE,
    IN_STEP,
    ON_GUARD,
    SECONDARY,
    SHOWN,
    TRUSTING,
    Command,
    Effect,
    Fact,
    Release,
    Role,
    State,
    Timer,
)
from pycolo.failover.pairtable import TABLE, Transition

ANSWERED: Final = frozenset(
    {Command.RECORD, Command.PROTECT, Command.PREPARE, Command.ASK_DISCARD, Command.SWITCH, Command.RETIRE}
)
"""Commands that open a question; a row gives one of them at most."""

ANSWERS: Final = frozenset(
    {
        Fact.RECORDED,
        Fact.RECORD_FAILED,
        Fact.SYNCHRONISED,
        Fact.PROTECT_FAILED,
        Fact.PROTECT_LACKS,
        Fact.TERM_OPENED,
        Fact.PREPARE_FAILED,
        Fact.PROMISED,
        Fact.PROMISE_REFUSED,
        Fact.SERVED,
        Fact.SERVE_FAILED,
        Fact.RETIRED,
        Fact.RETIRE_FAILED,
    }
)

_PATH_ANSWERS: Final = frozenset({Fact.PEER_ALIVE, Fact.PEER_EMPTY})
_NEW_LINK: Final = frozenset({Fact.LINKED, Fact.LINKED_IN_STEP})
_LINK_ENDS: Final = frozenset({Fact.LINK_LOST, Fact.PEER_LEFT, Fact.PEER_RESIGNED})
_OPENS_TERM: Final = frozenset({Fact.GRANTED, Fact.COLD_START, Fact.TERM_OPENED})
_DOUBTS: Final = frozenset({State.PRIMARY_SUSPECT, State.PRIMARY_EMPTY, State.YIELDING, State.ASKING, State.CONFIRMED})
_TAKING_OVER: Final = frozenset({State.RELIEVING, State.SECONDARY_ACTING, State.TAKING_OVER, State.SWITCHING})
_HOLDING: Final = frozenset(
    {State.PRIMARY_SUSPECT, State.PRIMARY_ACTING, State.HANDING_OVER, State.GOING_ALONE, State.RESTARTED}
)
_BREAKS: Final = frozenset({Fact.DATA_LOST, Fact.COLO_BROKEN})
_RETRIED: Final = frozenset({Fact.RECORD_FAILED, Fact.SERVE_FAILED, Fact.RETIRE_FAILED})
"""Failures of what a state waits for, where the table tries again."""
_OUTDATED: Final = (frozenset(State) - SECONDARY) | {*IN_STEP, State.TAKING_OVER}
"""States that hold a guest which a higher term makes old."""


class Settings(NamedTuple):
    """Times in milliseconds. `head_start_ms` is D: 0 for an arbiter that harms no other host."""

    timeout_ms: int
    """The heartbeat's."""
    head_start_ms: int = 0
    retry_ms: int = 1_000
    hand_over_ms: int = 2_000
    """Of this the record and the arbiter take their part; then the primary takes its guest back."""
    restart_ms: int = 5_000
    steady_ms: int = 60_000
    back_off_first_ms: int = 1_000
    back_off_last_ms: int = 300_000
    protects_by_itself: bool = True
    """False: a wish is good for one attempt."""


class Record(NamedTuple):
    """What a restarted node must know."""

    role: Role
    term: int = 0
    was_protected: bool = False
    is_wished: bool = False


class Told(NamedTuple):
    """What comes with a fact: `link` and `ask` are 0 where the fact is of no link and answers nothing."""

    term: int = 0
    link: int = 0
    ask: int = 0
    text: str = ""
    role: Role | None = None
    """With a new link: the role in which this node has linked, by listening or by dialling."""


NOTHING_TOLD: Final = Told()

_RECORDED_PROTECTED: Final = frozenset(
    {
        State.COMMITTING,
        *ON_GUARD,
        State.DISSOLVING,
        State.PRIMARY_SUSPECT,
        State.PRIMARY_ACTING,
        State.HANDING_OVER,
        State.RESTARTED,
        State.PRIMARY_EMPTY,
    }
)


class Pair(NamedTuple):
    """See the module. Made by `first` or `restarted`."""

    settings: Settings
    state: State
    term: int = 0
    """The highest that is on this node's disk, or that the other node has shown."""
    opened: int = 0
    """Granted, and not on disk yet."""
    is_wished: bool = False
    """Protection is a wish that is remembered until `unprotect`. A secondary in step has its primary's."""
    link: int = 0
    """The present link's number; 0 without one."""
    last_link: int = 0
    asked: int = 0
    """The present question's number."""
    doubt: int = 0
    """The number of what is asked over other paths."""
    is_heard: bool = False
    is_broken: bool = False
    """COLO or the data connection of the present link has failed."""
    has_word: bool = False
    """The primary hands over to this node, and still mirrors to it what clients send."""
    failures: int = 0
    is_lacking: bool = False
    """The last attempt to protect lacked something: the next one waits for that, and tries without now and then."""
    deadline_ms: int | None = None
    since_ms: int = 0
    text: str = ""
    """Why it is in this state: the row's reason, and what came with the fact."""
    failed: str = ""
    """What has failed in this state and is tried again, with its reason: `serve failed: …`."""

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def role(self) -> Role:
        """The role of the moment."""
        return Role.SECONDARY if self.state in SECONDARY else Role.PRIMARY

    @property
    def shown(self) -> str:
        """The state's name for the user."""
        return SHOWN[self.state]

    @property
    def blocked(self) -> str:
        """The state and what has failed in it, for the user: `taking over: serve failed: …`; empty if nothing has."""
        return f"{self.shown.replace('-', ' ')}: {self.failed}" if self.failed else ""

    @property
    def release(self) -> Release:
        """What may leave for the clients. A lease bounds it besides, where the arbiter has one."""
        if self.state in FREE:
            return Release.FREELY
        return Release.TRUSTED if self.state in TRUSTING else Release.NOTHING

    def may_release(self, now_ms: int, trusted_until_ns: int, lease_until_ns: int | None) -> bool:
        """Whether a frame may leave now: what the data path asks before each write."""
        now_ns = now_ms * 1_000_000
        if lease_until_ns is not None and now_ns >= lease_until_ns:
            return False
        return self.release is Release.FREELY or (self.release is Release.TRUSTED and now_ns < trusted_until_ns)

    @property
    def is_in_step(self) -> bool:
        """What this node says of itself when it links, or is asked over another path."""
        return self.state in IN_STEP

    @property
    def path_answer(self) -> Fact | None:
        """What the other node is told when it asks over another path; None: nothing for now.

        A node that is being prepared answers nothing: the word that makes it one in step may be on its way.
        """
        if self.state in (State.SECONDARY_WAITING, State.SECONDARY_LINKED):
            return Fact.PEER_EMPTY
        is_alive = self.state in IN_STEP or self.release is not Release.NOTHING or self.state in _HOLDING
        return Fact.PEER_ALIVE if is_alive else None

    def record(self) -> Record:
        """What `Command.RECORD` writes."""
        role = self.role
        if self.state in (State.TAKING_OVER, State.STARTING):
            role = Role.PRIMARY
        is_protected = self.state in _RECORDED_PROTECTED or self.state in IN_STEP
        return Record(role, max(self.term, self.opened), is_protected, self.is_wished)

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────

    def happened(
        self, fact: Fact, now_ms: int, told: Told = NOTHING_TOLD, table: Mapping[tuple[State, Fact], Transition] = TABLE
    ) -> "tuple[Pair, tuple[Command, ...]]":
        """The next value, and what to do, in order."""
        if self._is_stale(fact, told):
            return self, ()
        pair = self._noted(fact, told)
        if told.term > pair.term and fact not in _OPENS_TERM:
            pair = pair._replace(term=told.term)
            if self.state in _OUTDATED and not self._is_of_an_empty_secondary(fact):
                fact = Fact.HIGHER_TERM
        if fact is Fact.HEARD and pair.is_broken:
            fact = Fact.HEARD_BROKEN
        pair, does = pair._applied(fact, now_ms, told, table)
        if pair.state in _DOUBTS and pair.link and pair.is_heard:
            heard = Fact.HEARD_BROKEN if pair.is_broken else Fact.HEARD
            pair, more = pair._applied(heard, now_ms, NOTHING_TOLD, table)
            does += more
        return pair, does

    def deadline_passed(
        self, now_ms: int, table: Mapping[tuple[State, Fact], Transition] = TABLE
    ) -> "tuple[Pair, tuple[Command, ...]]":
        """`deadline_ms` has come. Calls that come early or twice do no harm."""
        if self.deadline_ms is None or now_ms < self.deadline_ms:
            return self, ()
        return self._replace(deadline_ms=None).happened(Fact.DEADLINE, now_ms, table=table)

    def _is_stale(self, fact: Fact, told: Told) -> bool:
        if fact in _NEW_LINK:
            return told.link <= self.last_link or (told.role is not None and told.role is not self.role)
        if told.link and told.link != self.link:
            return True
        if fact is Fact.AVAILABLE:
            return not self.is_lacking
        if fact in _PATH_ANSWERS:
            return told.ask != self.doubt
        return fact in ANSWERS and told.ask != self.asked

    def _is_of_an_empty_secondary(self, fact: Fact) -> bool:
        """It has not served under the term that it shows, or it would be the primary."""
        return fact is Fact.PEER_EMPTY or (fact is Fact.LINKED and self.role is Role.PRIMARY)

    def _noted(self, fact: Fact, told: Told) -> "Pair":
        """What a fact says whatever the state."""
        if fact in _NEW_LINK:
            return self._replace(link=told.link, last_link=told.link, is_heard=True, is_broken=False)
        if fact in _LINK_ENDS:
            return self._replace(link=0, is_heard=False)
        if fact is Fact.HEARD or fact is Fact.SILENT:
            return self._replace(is_heard=fact is Fact.HEARD)
        if fact in _BREAKS:
            return self._replace(is_broken=True)
        if fact is Fact.PROTECT_WISHED or fact is Fact.UNPROTECT_WISHED:
            return self._replace(is_wished=fact is Fact.PROTECT_WISHED)
        if fact is Fact.PEER_PROTECTED:
            return self._replace(is_wished=True)  # the primary's wish becomes this node's when it takes over
        if fact is Fact.AVAILABLE:
            return self._replace(is_lacking=False)
        if fact is Fact.RECORDED:
            return self._replace(term=max(self.term, self.opened), opened=0)
        return self

    def _applied(
        self, fact: Fact, now_ms: int, told: Told, table: Mapping[tuple[State, Fact], Transition]
    ) -> "tuple[Pair, tuple[Command, ...]]":
        row = table[self.state, fact]
        does = row.does
        if fact is Fact.PROTECT_WISHED or fact is Fact.UNPROTECT_WISHED:
            does = (Command.KEEP_WISH, *does)
        pair = self
        pair = pair._counted(row.effect)
        if row.next is not self.state:
            opened = max(told.term, self.term + 1) if fact in _OPENS_TERM else 0
            pair = pair._replace(
                state=row.next,
                opened=opened,
                since_ms=now_ms,
                deadline_ms=None,
                is_lacking=pair.is_lacking and row.next is not State.PROTECTING,
                is_broken=pair.is_broken or row.next in (State.DISSOLVING, State.SECONDARY_BROKEN),
                has_word=row.next in _TAKING_OVER and (pair.has_word or fact is Fact.HANDED_OVER),
                text=f"{row.says}: {told.text}" if told.text else row.says,
                failed="",
            )
        elif fact in _RETRIED and row.timer is not None:
            pair = pair._replace(failed=f"{fact}: {told.text}" if told.text else str(fact))
        if row.timer is not None:
            pair = pair._replace(deadline_ms=pair._due_ms(row.timer, now_ms))
        if Command.UNLINK in does:
            pair = pair._replace(link=0, is_heard=False)
        if Command.ASK_PATHS in does:
            pair = pair._replace(doubt=pair.doubt + 1)
        if not ANSWERED.isdisjoint(does):
            pair = pair._replace(asked=pair.asked + 1)
        return pair, does

    def _counted(self, effect: Effect) -> "Pair":
        match effect:
            case Effect.FAILED:
                return self._replace(failures=self.failures + 1)
            case Effect.FORGIVEN:
                return self._replace(failures=0)
            case Effect.LACKING:
                return self._replace(is_lacking=True)
            case Effect.NONE:
                return self

    def _due_ms(self, timer: Timer, now_ms: int) -> int | None:
        settings = self.settings
        match timer:
            case Timer.YIELD:
                head_start_ms = settings.head_start_ms
                return now_ms + (head_start_ms + settings.timeout_ms if head_start_ms else 0)
            case Timer.TIMEOUT:
                return now_ms + settings.timeout_ms
            case Timer.HAND_OVER:
                return now_ms + settings.hand_over_ms
            case Timer.RETRY:
                return now_ms + settings.retry_ms
            case Timer.RESTART:
                return now_ms + settings.restart_ms
            case Timer.STEADY:
                return now_ms + settings.steady_ms
            case Timer.BACK_OFF:
                is_due = self.is_wished and settings.protects_by_itself
                return now_ms + self._back_off_ms() if is_due else None
            case Timer.NONE:
                return None

    def _back_off_ms(self) -> int:
        """None before the first attempt, then doubled with each failure; the longest for what was lacking."""
        first_ms, last_ms = self.settings.back_off_first_ms, self.settings.back_off_last_ms
        if self.is_lacking:
            return last_ms
        return min(first_ms << min(self.failures - 1, 16), last_ms) if self.failures else 0


def restarted(
    settings: Settings, record: Record, *, has_guest: bool, now_ms: int = 0
) -> tuple[Pair, tuple[Command, ...]]:
    """A node that begins, with its record from disk; the first one of a new node says `was_protected` False."""
    pair = Pair(settings, State.SECONDARY_WAITING, record.term, is_wished=record.is_wished, since_ms=now_ms)
    if record.role is Role.SECONDARY:
        return pair, (Command.DISCARD_GUEST, Command.BECOME_SECONDARY)
    if not record.was_protected:
        return pair._replace(state=State.PRIMARY_WAITING), (Command.BECOME_PRIMARY, Command.RELEASE)
    if not has_guest:
        return pair._replace(state=State.PRIMARY_EMPTY), (Command.HALT, Command.BECOME_PRIMARY, Command.ASK_PATHS)
    waits = pair._replace(state=State.RESTARTED, deadline_ms=now_ms + settings.restart_ms)
    return waits, (Command.HOLD, Command.BECOME_PRIMARY, Command.ASK_PATHS)
