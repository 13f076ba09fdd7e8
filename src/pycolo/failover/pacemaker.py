"""The arbiter `pacemaker`: the cluster manager decides which node serves, and the node may hurry it.

Pacemaker's word comes through its resource agent: `promoted`, `demoted`, `peer_stopped`. What this node may let out
follows that word, like a lease without an end (`serve_until_ns`).

A node that suspects the other one does not wait until Pacemaker has noticed by itself. It looks at the cluster
(`Look`), and then:

* without quorum, without fencing, and in maintenance mode it does nothing;
* the cluster knows that the other host is off, or that its node is stopped: that is permission;
* the other host still answers, so only its node or the link is dead: `FailPeer` lets Pacemaker stop that node. No host
  is shot; the permission comes with `promoted` or `peer_stopped`. Where only the link is dead both nodes would have the
  other one stopped, and the guest would be lost: a secondary does so only if the primary answers over the link;
* a quorum that is counted with the lost host says nothing, where more than two votes decide: until corosync has formed
  the membership anew, both hosts have it, and a shot that is asked for waits in the cluster and is fired without it;
* otherwise it asks the cluster to `Shoot` the other host. Success is permission. Where two votes are all there are,
  both hosts could do so at the same moment: each has its turns (`failover.turns`), the primary first.

Pure: see `pycolo.failover.arbiter`.
"""

from enum import Enum
from typing import Any, Final, NamedTuple

from pycolo.failover.arbiter import IDLE_TEXT, Arbiter, Decision, resignation
from pycolo.failover.fencing import Fenced
from pycolo.failover.turns import Turn, Turns

LOOK_MS: Final = 250
"""Between two looks at the cluster while it may change at any moment."""

RETRY_FIRST_MS: Final = 1_000
RETRY_LAST_MS: Final = 30_000
"""Between two shots that failed: doubled each time, and the next one waits for a turn of this node besides."""


class PeerHost(Enum):
    """What the cluster knows of the other host."""

    ONLINE = "online"
    UNCLEAN = "lost, and not fenced yet"
    OFF = "off"
    UNKNOWN = "no member"


class Look(NamedTuple):
    """Ask the cluster how it stands; the answer is `Seen`."""


class Seen(NamedTuple):
    """`answers`: the other host's kernel answers on the cluster's network. `has_two_votes`: no third one decides."""

    peer: PeerHost
    is_quorate: bool = True
    fences: bool = True
    is_maintained: bool = False
    has_two_votes: bool = True
    is_member: bool = True
    """The other host belongs to the cluster that this host's quorum is counted in."""
    answers: bool = False
    has_link: bool = False
    """So does it on the link: its node is dead or hangs, and the link is not cut."""
    has_node: bool = True
    """Pacemaker has not stopped the other node."""
    is_secondary: bool = True
    """This node, at this moment."""


class FailPeer(NamedTuple):
    """Tell Pacemaker that the other host's resource has failed; the answer is `Reported`."""


class Reported(NamedTuple):
    """`why` is empty when Pacemaker has taken it."""

    why: str


class Shoot(NamedTuple):
    """Have the cluster fence the other host; the answer is `Fenced`.

    `term`: the one that a success opens. `limit_ms`: after that time it is to be given up; None: there is no bound.
    """

    term: int
    limit_ms: int | None = None


class PacemakerArbiter(Arbiter):
    """Asks for `Look`, `FailPeer` and `Shoot`."""

    name = "pacemaker"
    harms = True

    def __init__(self, term: int, turns: Turns) -> None:
        """`turns` are kept where two votes are all there are."""
        super().__init__(term)
        self._turns = turns
        self.is_promoted = False
        """Pacemaker's last word was `promote`. Not so after this node has taken over by itself, until that word comes:
        an instance that reports itself promoted unasked is stopped and started by Pacemaker."""
        self.is_demoted = False
        """Pacemaker's last word was `demote`: what this node has may be resumed, but not by itself."""
        self._may_serve = False
        self._is_suspected = False
        self._is_peer_stopped = False
        self._has_reported = False
        self._is_shooting = False
        self._seen: Seen | None = None
        self._turn = Turn(0)
        self._suspected_ms = 0
        self._due_ms: int | None = None
        self._failures = 0
        self._rests_until_ms = 0
        self._trouble = ""
        self._resting = ""

    # ── Pacemaker's word ────────────────────────────────────────────────────────────────────────────────────────

    def promoted(self, *, is_in_step: bool) -> None:
        """`is_in_step`: this node is the secondary of a pair. Then no other node serves: Pacemaker has seen to that."""
        self.is_promoted, self.is_demoted = True, False
        self._may_serve = True
        if is_in_step:
            self._grant("Pacemaker has promoted this node")

    def demoted(self) -> None:
        """From now on nothing leaves."""
        self.is_promoted, self.is_demoted = False, True
        self._may_serve = False

    def peer_stopped(self) -> None:
        """Pacemaker has stopped the other node, or fenced its host."""
        self._is_peer_stopped = True
        if self._is_suspected and not self.is_demoted:
            self._permit("Pacemaker has stopped the other node")

    def peer_started(self) -> None:
        """Pacemaker starts the other node."""
        self._is_peer_stopped = False

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def paired(self, term: int, now_ms: int) -> None:
        """As `recovered`: the other node is there again."""
        super().paired(term, now_ms)
        self.recovered(now_ms)

    def suspected(self, now_ms: int) -> None:
        """Look at the cluster at once, unless Pacemaker has just said that this node is not to serve."""
        if self.is_demoted:
            self._wait("Pacemaker has demoted this node, and decides what follows")
        elif not self._is_suspected:
            self._is_suspected = True
            self._suspected_ms = self._due_ms = self._rests_until_ms = now_ms
            self._wait("looking at the cluster")
            if self._is_peer_stopped:
                self._permit("Pacemaker has stopped the other node")

    def recovered(self, now_ms: int) -> None:
        """No further step; a shot that is under way goes on to its end."""
        self._is_suspected = self._has_reported = False
        self._seen = None
        self._due_ms = None
        self._failures = 0
        self._wait("the other node was heard again, but is being fenced" if self._is_shooting else IDLE_TEXT)

    def operator_confirmed(self, now_ms: int) -> None:
        """Always taken."""
        self._permit("the operator confirmed that the other node is down")

    def peer_resigned(self, now_ms: int, why: str) -> None:
        """The other node serves no longer: Pacemaker's `promote` need not be waited for."""
        self._permit(resignation(why))

    def resigned(self) -> None:
        """This node serves no longer; what it may become is another question."""
        self._may_serve = self.is_promoted = self.is_demoted = False

    def timer_fired(self, now_ms: int) -> None:
        """The runner looks at `due_ns` by itself."""

    # ── what it asks ────────────────────────────────────────────────────────────────────────────────────────────

    def request(self, now_ns: int) -> object | None:
        """A look; then what follows from it."""
        now_ms = now_ns // 1_000_000
        if self._due_ms is None or now_ms < self._due_ms or self.is_decided or self.is_demoted:
            return None
        self._due_ms = None
        seen, self._seen = self._seen, None
        if seen is None:
            return Look()
        if seen.answers:
            self._has_reported = True
            return FailPeer()
        self._is_shooting = True
        self._wait("the cluster is fencing the other host")
        end_ms = self._turn.end_ms
        return Shoot(self._term + 1, None if end_ms is None else max(1, end_ms - now_ms))

    def due_ns(self) -> int | None:
        """When to look, or shoot."""
        return None if self._due_ms is None or self.is_decided else self._due_ms * 1_000_000

    def answered(self, answer: Any, now_ns: int) -> None:
        """What the cluster says."""
        now_ms = now_ns // 1_000_000
        self._trouble = ""
        match answer:
            case Seen():
                if self._is_suspected:
                    self._looked(answer, now_ms)
            case Reported(why=why):
                self._trouble = f"pacemaker: {why}" if why else ""
                self._later("Pacemaker was told that the other node has failed", now_ms)
            case Fenced(exit_code=exit_code, text=text):
                self._is_shooting = False
                if exit_code == 0:
                    self._shot()
                else:
                    self._missed(text if exit_code is None else f"exit code {exit_code}; {text}", now_ms)

    def unanswered(self, why: str, now_ns: int) -> None:
        """The cluster cannot be asked."""
        now_ms = now_ns // 1_000_000
        self._trouble = f"pacemaker: {why}"
        if self._is_shooting:
            self._is_shooting = False
            self._missed(why, now_ms)
        else:
            self._later(f"the cluster does not answer: {why}", now_ms)

    def _looked(self, seen: Seen, now_ms: int) -> None:
        if not seen.fences:
            self._trouble = "pacemaker: stonith-enabled is false: nothing is permitted without fencing"
            self._later("the cluster does not fence (stonith-enabled is false)", now_ms)
        elif seen.is_maintained:
            self._later("the cluster is in maintenance: `colo failover` decides", now_ms)
        elif not seen.is_quorate:
            self._later("this host's part of the cluster has no quorum", now_ms)
        elif seen.peer is PeerHost.OFF:
            self._permit("the cluster knows that the other host is off")
        elif seen.peer is PeerHost.UNKNOWN:
            self._trouble = "pacemaker: the other host is no member of the cluster: see the name of its node"
            self._later("the cluster does not know the other host", now_ms)
        elif not seen.has_node:
            self._permit("the cluster knows that the other node is stopped")
        elif seen.answers and self._has_reported:
            self._later("the other host lives; Pacemaker stops its node", now_ms)
        elif seen.answers and seen.is_secondary and not seen.has_link:
            self._later("the other host lives, and the link may be cut: Pacemaker's monitor decides", now_ms)
        elif not seen.answers and not seen.has_two_votes and seen.is_member:
            self._later("corosync still counts the other host: which of the two has the quorum is open", now_ms)
        elif seen.answers:
            self._seen = seen
            self._due_ms = now_ms
            self._wait("the other host lives")
        else:
            self._aim(seen, now_ms)

    def _aim(self, seen: Seen, now_ms: int) -> None:
        """The other host answers nowhere."""
        turn = Turn(max(now_ms, self._rests_until_ms))
        if seen.has_two_votes:
            turn = self._turns.next(self._suspected_ms, turn.begin_ms, is_second=seen.is_secondary)
        if turn.begin_ms - now_ms > LOOK_MS:  # much may happen meanwhile
            why = self._resting if self._failures else "the primary has the first shot"
            self._later(f"{why}; this node's turn comes in {turn.begin_ms - now_ms} ms", now_ms)
            return
        self._seen, self._turn, self._due_ms = seen, turn, turn.begin_ms
        self._wait("about to have the other host fenced")

    def _shot(self) -> None:
        if self._decision is Decision.DENIED:
            self._trouble = "the other host was fenced though it had taken over: now neither serves"
        self._permit("the cluster has fenced the other host")

    def _missed(self, why: str, now_ms: int) -> None:
        """It may be off all the same: the cluster is looked at meanwhile."""
        self._failures += 1
        self._rests_until_ms = now_ms + min(RETRY_FIRST_MS << min(self._failures - 1, 16), RETRY_LAST_MS)
        self._trouble = f"pacemaker: the other host is not fenced: {why}"
        self._resting = f"fencing has failed {self._failures} times ({why})"
        self._later(self._resting, now_ms)

    def _later(self, text: str, now_ms: int) -> None:
        if self._is_suspected:
            self._seen = None
            self._due_ms = now_ms + LOOK_MS
            self._wait(text)

    def _permit(self, text: str) -> None:
        if self._decision is Decision.WAIT:
            self._may_serve = True
            self.is_demoted = False
            self._grant(text)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def may_serve(self) -> bool:
        """Whether this node may let anything out: promoted, or permitted otherwise since."""
        return self._may_serve

    @property
    def is_acting(self) -> bool:
        """Whether the other host is being fenced."""
        return self._is_shooting

    @property
    def trouble(self) -> str:
        """Why nothing came of the last request."""
        return self._trouble

    def deadline_ms(self) -> int | None:
        """The runner looks at `due_ns`."""
        return None

    def serve_until_ns(self) -> int | None:
        """Without a bound, or not at all."""
        return None if self._may_serve else 0
