"""TCP, the packets of both guests and the client in one connection: their incarnation, and their effect.

Rule R1 is here too: it concerns what the client sends to the primary only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pycolo.model.incarnation import Incarnation, Waiting, answers_same
from pycolo.model.masks import Expression
from pycolo.model.numbers import WINDOW_MAX, near
from pycolo.model.packet import Flag, Key, Segment
from pycolo.model.voice import Voice

CLOSED_MS, ENDING_MS, IDLE_MS = 60_000, 300_000, 7_440_000


@dataclass(frozen=True)
class Settings:
    """colo-compare's options, in milliseconds. `client_wait_ms`: deadline of a wait that only the client ends (C8).

    `masks`: of the connection with a key, as the guest sends (C7). `is_exempt`: whether the connection with a key, as
    the guest sends, is never compared (C7).
    """

    compare_timeout_ms: int = 3000
    scan_ms: int = 1000
    commits_input: bool = True
    needs_handshake: bool = False
    client_wait_ms: int = 300_000
    is_exempt: Callable[[Key], bool] = lambda key: False
    masks: Callable[[Key], Sequence[Expression]] = lambda key: ()


class Facts:
    """The state of one connection. `now_ms`: monotonic time of the current fact."""

    def __init__(self, settings: Settings, masks: Sequence[Expression] = ()) -> None:
        self.settings = settings
        self.masks = masks
        self.life: Incarnation | None = None
        self.ahead: Segment | None = None  # a SYN of the secondary for an incarnation that the primary has not begun
        self.client_origin: int | None = None
        self.client_ack: int | None = None
        self.client_moved_ms = 0
        self.client_fin: int | None = None
        self.heard_ms = 0
        self.stepped: int | None = None  # an ack of a guest that was one more than the one before it
        self.sees_client = False
        self.is_confirmed = False  # the client has acknowledged the primary's SYN
        self.step = 0  # of facts and departures, for their order
        self.flushed: list[Segment] = []  # held at a checkpoint: they leave in any case
        self.is_passing = False
        self.is_stopped = False  # diverged: nothing leaves until the policy or a checkpoint says so
        self.is_excused = False  # reported in this epoch: no further report is demanded

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, segment: Segment, now_ms: int) -> None:
        """A segment of the primary."""
        if segment.flags & Flag.SYN and not self._repeats_syn(segment):
            self._begin_life(segment, now_ms)
        life = self._life(segment)
        at = life.place(segment.seq)
        self.step += 1
        self.heard_ms = now_ms
        if self._answers_a_lie(life, segment) or self._is_far(life, segment, at):
            return
        before = life.primary.ack
        life.primary.hear(segment, at, self._client_number(segment), now_ms, self.step)
        life.scale_max = min(life.scale_max, life.primary.scale_max)
        self._note_step(before, life.primary.ack)
        life.waiting.append(Waiting(segment, at, now_ms))
        life.advance(now_ms)

    def secondary(self, segment: Segment, now_ms: int) -> None:
        """A segment of the secondary, in the primary's numbers; its first SYN has a number of its own."""
        self.heard_ms = now_ms
        if segment.flags & Flag.SYN and not self._takes_syn(segment):
            self.ahead = segment
            self._ahead_ms = now_ms
            return
        life = self._life(segment)
        if segment.flags & Flag.RST and life.primary.syn and not life.syns_agree:
            is_answer = life.primary.ack is not None and near(segment.ack, life.primary.ack) == life.primary.ack
            if not segment.flags & Flag.ACK or not is_answer:
                return  # C2: it resets the old incarnation; it has not begun the new one
        at = 0 if segment.flags & Flag.SYN else life.place(segment.seq)
        if self._is_far(life, segment, at):
            return
        before = life.secondary.ack
        life.secondary.hear(segment, at, self._client_number(segment), now_ms)
        life.scale_max = min(life.scale_max, life.secondary.scale_max)
        self._note_step(before, life.secondary.ack)
        life.advance(now_ms)

    def _is_far(self, life: Incarnation, segment: Segment, at: int) -> bool:
        """Whether its numbers lie outside every possible window (RFC 7323 section 2.3): then it is dropped (C9)."""
        is_plain = not segment.flags & (Flag.SYN | Flag.RST) and not self.is_passing
        return is_plain and bool(segment.length) and abs(at - life.frontier) > WINDOW_MAX

    def _note_step(self, before: int | None, now: int | None) -> None:
        if before is not None and now == before + 1:
            self.stepped = now

    def client(self, segment: Segment, now_ms: int) -> None:
        """A segment of the client, on its way to the primary: it shows what the client has, if it can be true."""
        life = self.life
        if life is None or not segment.flags & Flag.ACK or segment.flags & (Flag.SYN | Flag.RST):
            return
        mine = life.primary
        if mine.ack is None or self.is_passing:
            return
        if not 0 <= near(segment.seq, mine.ack) - mine.ack <= mine.space(self._scale(life)):
            return  # nothing that the primary could accept
        ack = life.place(segment.ack)
        if ack > life.frontier:
            return  # nothing that has left
        if segment.flags & Flag.FIN:
            self.client_fin = near(segment.seq, mine.ack) + segment.length
        if self.client_ack is None or ack > self.client_ack:
            self.client_ack, self.client_moved_ms = ack, now_ms

    def turns_down(self, segment: Segment) -> bool:
        """R1: the primary's guest has sent a SYN, and this acknowledges something else. Others confirm it."""
        mine = self.life.primary if self.life else None
        if self.life is None or mine is None or mine.syn is None or self.is_passing or self.is_confirmed:
            return False
        if segment.flags & Flag.RST and mine.ack is not None:
            return False
        acked = near(segment.ack, self.life.origin) - self.life.origin
        if not 0 < acked <= mine.said:
            return True
        is_first = mine.ack is not None and segment.seq == mine.ack % 2**32
        self.is_confirmed = is_first and not segment.flags & (Flag.SYN | Flag.RST)
        return False

    def may_take(self, segment: Segment) -> bool:
        """R1: whether a guest may accept it into its present connection."""
        life = self.life
        if life is None or self.is_passing:
            return life is not None
        mine, theirs = life.primary, life.secondary
        if mine.syn is not None and not self.is_confirmed:
            return True
        if mine.ack is None or life.told.resets:
            return False
        first = mine.ack if theirs.ack is None else min(mine.ack, theirs.ack)
        return first - 1 <= near(segment.seq, mine.ack) <= mine.ack + mine.space(self._scale(life))

    def _answers_a_lie(self, life: Incarnation, segment: Segment) -> bool:
        """R1: a RST of a guest that has sent only its SYN, with a number that no client accepts."""
        if not self.sees_client or life.primary.syn is None or self.is_passing or life.primary.said != 1:
            return False
        return segment.flags & (Flag.RST | Flag.ACK) == Flag.RST and life.place(segment.seq) != 1

    def committed(self, now_ms: int) -> None:
        """The secondary is a copy of the primary: it has sent, acknowledged and offered the same."""
        self.is_stopped = self.is_excused = self.is_passing = False
        self.ahead = None
        if self.life is None:
            return
        life, mine = self.life, self.life.primary
        life.vouched |= set(range(life.frontier, mine.end))
        self.flushed = [packet.segment for packet in life.waiting]
        life.waiting.clear()
        life.secondary = Voice(
            mine.syn,
            dict(mine.octets),
            fin=mine.fin,
            ack=mine.ack,
            offers=list(mine.offers),
            blocks=set(mine.blocks),
            end=mine.end,
        )
        mine.contradicted.clear()
        life.is_reset |= bool(mine.resets)
        mine.resets.clear()
        mine.since.pop("RST", None)
        life.frontier = max(life.frontier, mine.end)
        life.advance(now_ms)

    def is_older(self) -> None:
        """The connection is older than the pair: the comparison begins at the primary's position."""
        before = self.life
        self.is_stopped = self.is_excused = False
        self.ahead = self.client_ack = self.client_fin = self.stepped = None
        self.is_confirmed = True  # a copy of the primary refuses what the primary refuses
        self.is_passing = self.settings.needs_handshake
        if before is None:
            return
        mine = before.primary
        self.life = Incarnation(before.origin, has_syn=False, masks=self.masks)
        self.life.scale_max = before.scale_max
        self.life.base = self.life.frontier = self.life.told.end = mine.end
        self.life.primary = Voice(ack=mine.ack, offers=list(mine.offers), end=mine.end)
        if mine.syn is not None and not self.is_passing:
            self.life.primary.syn = mine.syn
            self.life.told.syns = 1

    # ── incarnations ──────────────────────────────────────────────────────────────────────────────────────────

    def _life(self, segment: Segment) -> Incarnation:
        if self.life is None:
            has_syn = bool(segment.flags & Flag.SYN)
            self.life = Incarnation(segment.seq, has_syn=has_syn, masks=self.masks)
            self.is_passing = self.settings.needs_handshake and not has_syn
        return self.life

    def _repeats_syn(self, segment: Segment) -> bool:
        known = self.life.primary.syn if self.life else None
        return known is not None and known.seq == segment.seq

    def _begin_life(self, syn: Segment, now_ms: int) -> None:
        """C9: packets still held from the old incarnation are superseded, and never released."""
        self.life = Incarnation(syn.seq, has_syn=True, masks=self.masks)
        self.client_origin = self.client_ack = self.client_fin = self.stepped = None
        self.is_confirmed = False
        self.is_passing = self.is_stopped = self.is_excused = False
        if self.ahead is not None and answers_same(syn, self.ahead):
            self.life.secondary.hear(self.ahead, 0, self._client_number(self.ahead), self._ahead_ms)
            self.ahead = None

    def _takes_syn(self, segment: Segment) -> bool:
        """Whether a SYN of the secondary belongs to the present incarnation."""
        life = self.life
        if life is None or life.primary.syn is None:
            return False
        theirs = life.secondary.syn
        if theirs is not None:
            return segment.seq in (theirs.seq, life.primary.syn.seq)
        return answers_same(life.primary.syn, segment)

    def _client_number(self, segment: Segment) -> int:
        if self.client_origin is None and segment.flags & Flag.ACK:
            self.client_origin = segment.ack
        return self.client_origin or 0

    def _scale(self, life: Incarnation) -> int:
        return life.primary.syn.scale if life.primary.syn else life.scale_max

    # ── lifetime of a row ─────────────────────────────────────────────────────────────────────────────────────

    def patience_ms(self) -> int:
        """C10: how long it must be silent before it may be removed."""
        life = self.life
        if life is None or self.is_passing:
            return CLOSED_MS if life is not None and life.told.resets else IDLE_MS
        mine, theirs = life.primary, life.secondary
        if life.told.resets:
            return CLOSED_MS
        if mine.fin is None or mine.fin >= life.frontier or mine.ack is None or theirs.ack is None:
            return IDLE_MS
        if self.client_ack is None:  # both have acknowledged a FIN of the client last, or a byte of its own
            return ENDING_MS if mine.ack == theirs.ack == self.stepped else IDLE_MS
        is_heard = self.client_fin is not None and self.client_fin <= min(mine.ack, theirs.ack)
        return CLOSED_MS if is_heard and self.client_ack == life.frontier else IDLE_MS
