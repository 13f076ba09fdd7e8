"""TCP under comparison: what may leave, what must have left, and what must be reported (C1-C3, C5, C8, C9, C11).

The rules say what the client may be told, not in which frames. So this is a referee, not a second comparator: it
receives the packets of both guests and the client (`primary`, `secondary`, `client`), the output (`left`) and the
reports (`reported`), and raises `BrokenRuleError` where a rule forbids them. `overdue` lists obligations that were not
met in time.
"""

from collections.abc import Iterator

from pycolo.model.facts import Facts
from pycolo.model.incarnation import Incarnation, Waiting, answers_same
from pycolo.model.numbers import near
from pycolo.model.packet import Flag, Segment
from pycolo.model.verdicts import BrokenRuleError, require
from pycolo.model.voice import SCALE_MAX, STRIPPED, Voice, terms

SPLIT_WAIT_MS = 2


class Connection(Facts):
    """The referee of one connection."""

    # ── output ────────────────────────────────────────────────────────────────────────────────────────────────

    def left(self, segment: Segment, now_ms: int) -> None:
        """A segment went to the client. Raises `BrokenRuleError` if it must not."""
        life = self.life
        assert life is not None, "it left before anything was said"
        self.step += 1
        at = life.place(segment.seq)
        if self._was_flushed(segment):
            pass
        elif not self.is_passing:
            require("C5", not self.is_stopped, "it left although its connection had diverged")
            self._check_syn(life, segment)
            self._check_reset(life, segment)
            self._check_payload(life, segment, at)
            self._check_fin(life, segment, at)
            self._check_promise(life, segment)
        self._note_told(life, segment, at)

    def _was_flushed(self, segment: Segment) -> bool:
        for held in self.flushed:
            if (held.seq, held.flags, held.data) == (segment.seq, segment.flags, segment.data):
                self.flushed.remove(held)
                return True
        return False

    def _check_syn(self, life: Incarnation, segment: Segment) -> None:
        """C2 and C11."""
        if not segment.flags & Flag.SYN:
            return
        mine = life.primary.syn
        require("C9", mine is not None and mine.seq == segment.seq, "a SYN left that begins no life of the primary's")
        assert mine is not None
        require("C2", life.syns_agree, "a SYN left without the secondary's on the same terms")
        require("C2", terms(mine) == terms(segment), "a SYN left on other terms than the primary's")
        require("C11", not any(segment.option(kind) for kind in STRIPPED), "MPTCP or a TFO cookie was offered")

    def _check_reset(self, life: Incarnation, segment: Segment) -> None:
        """C2. After one RST from each side, further ones of that incarnation pass."""
        if segment.flags & Flag.RST and not life.is_reset:
            require("C2", life.primary.resets, "a RST left that the primary has not sent")
            require("C2", life.secondary.resets, "a RST left that the secondary has not sent")

    def _check_payload(self, life: Incarnation, segment: Segment, at: int) -> None:
        """C1, and C9: retransmitted payload is compared again; only what the primary sent may leave."""
        if segment.flags & Flag.RST:
            return
        start = at + bool(segment.flags & Flag.SYN)
        for place, octet in enumerate(segment.data, start):
            mine, theirs = life.primary.octets.get(place), life.secondary.octets.get(place)
            is_older = place < life.base  # than the pair: what was sent before is sent again
            require("C1", theirs is not None or is_older, f"byte {place} left that the secondary has not sent")
            may_differ = is_older or place in life.vouched or place in life.secondary.contradicted
            may_differ |= self._is_acknowledged(place)
            is_equal = octet == theirs or may_differ
            require("C1", is_equal, f"byte {place} left that differs from the secondary's")
            require("C1", mine is not None, f"byte {place} left that the primary has not sent")
            times = life.told.copies.get(place, 0) + 1
            require("C9", times <= life.primary.copies[place], f"byte {place} left more often than it was sent")
        if segment.data:
            above = range(life.frontier, start + len(segment.data))
            has_chosen = not life.secondary.contradicted.isdisjoint(above)  # of the two things that the secondary said
            require("C1", has_chosen or not above, "payload left from above the frontier")
            require("order", start <= max(life.told.end, life.base), "payload left before what comes before it")

    def _check_fin(self, life: Incarnation, segment: Segment, at: int) -> None:
        """C2."""
        if segment.flags & Flag.FIN and not segment.flags & Flag.RST:
            at += len(segment.data) + bool(segment.flags & Flag.SYN)
            if at < life.base:
                return  # older than the pair
            require("C2", life.primary.fin == at, "a FIN left where the primary's stream does not end")
            require("C2", life.secondary.fin == at, "a FIN left where the secondary's stream does not end")
            require("C2", at < life.frontier, "a FIN left before the payload in front of it was equal")

    def _check_promise(self, life: Incarnation, segment: Segment) -> None:
        """C3 and C11: ack, window and SACK blocks."""
        if not self.settings.commits_input or not segment.flags & Flag.ACK or segment.flags & Flag.RST:
            return
        theirs = life.secondary
        require("C3", theirs.ack is not None, "an ack left before the secondary acknowledged anything")
        assert theirs.ack is not None
        ack = near(segment.ack, theirs.ack)
        require("C3", ack <= theirs.ack, f"ack {ack - theirs.ack} beyond the secondary's left")
        mine = life.primary.ack
        require("C3", mine is not None and ack <= mine, "an ack left beyond the primary's own")
        # Where no SYN was seen an implementation may infer the scale from what the guests offer.
        scales = [life.primary.syn.scale] if life.primary.syn else range(SCALE_MAX + 1)
        shift = 0 if segment.flags & Flag.SYN else 1
        may_be = any(ack + (segment.window << scale * shift) <= theirs.edge(scale) for scale in scales)
        require("C3", may_be, f"a window of {segment.window} beyond the secondary's left")
        for left, right in segment.sack_blocks:
            block = near(left, ack), near(right, ack)
            require("C11", theirs.has(*block), "a SACK block left above what the secondary has")

    def _note_told(self, life: Incarnation, segment: Segment, at: int) -> None:
        told = life.told
        if segment.flags & Flag.RST:
            told.resets += 1
            return
        told.syns += bool(segment.flags & Flag.SYN)
        at += bool(segment.flags & Flag.SYN)
        for place in range(at, at + len(segment.data)):
            told.copies[place] = told.copies.get(place, 0) + 1
            told.last[place] = self.step
        at += len(segment.data)
        if segment.flags & Flag.FIN:
            told.fins += 1
            at += 1
        if segment.length:
            told.end = max(told.end, at)
        if segment.flags & Flag.ACK:
            ack = near(segment.ack, self.client_origin or 0)
            told.ack = max(told.ack, ack)

    # ── obligations ───────────────────────────────────────────────────────────────────────────────────────────

    def overdue(self, now_ms: int) -> Iterator[str]:
        """Obligations by now that were not met, in words."""
        if self.life is not None and not (self.is_passing or self.is_stopped):
            yield from self._unreleased(self.life, now_ms)
        if not self.is_excused:
            yield from self._unreported(now_ms)

    def _unreleased(self, life: Incarnation, now_ms: int) -> Iterator[str]:
        told = life.told
        is_open = life.primary.syn is None or told.syns
        # A RST behind payload that waits would reach the client out of its order, and not be believed (RFC 5961).
        is_open = is_open and all(waiting.at + waiting.segment.length <= life.frontier for waiting in life.waiting)
        if is_open and life.primary.resets and life.secondary.resets and told.resets < len(life.primary.resets):
            yield "C2: a RST of both has not left"
        if not life.syns_agree or (life.secondary.ack is None and self.settings.commits_input):
            return
        if life.primary.syn is not None and not told.syns and life.base <= life.frontier:
            yield "C2: the SYN of both has not left"
        for place in range(life.base, life.frontier):
            if place not in life.primary.octets or self._is_acknowledged(place):
                continue
            if told.last.get(place, 0) < life.primary.last[place] and self._is_due(life, place, now_ms):
                yield f"C1: byte {place} of both has not left"
                break
        if life.primary.fin is not None and life.primary.fin < life.frontier and not told.fins:
            yield "C2: the FIN of both has not left"
        yield from self._unkept_promises(life)

    def _is_acknowledged(self, place: int) -> bool:
        return self.client_ack is not None and place < self.client_ack

    def _is_due(self, life: Incarnation, place: int, now_ms: int) -> bool:
        """Whole packets leave at once; the compared part of one after SPLIT_WAIT_MS (ADR 0006).

        In order: a packet that begins at the same place or before, and came earlier, goes first (ADR 0015).
        """
        ahead = [packet for packet in life.waiting if packet.at <= place and packet.segment.length]
        if all(packet.at + packet.segment.length <= life.frontier for packet in ahead):
            return True
        since = max(life.advanced_ms, *(packet.since_ms for packet in ahead))
        return now_ms - since >= SPLIT_WAIT_MS

    def _unkept_promises(self, life: Incarnation) -> Iterator[str]:
        """C3: what waited or was lowered follows when the secondary has caught up."""
        theirs = life.secondary
        for packet in life.waiting:
            segment = packet.segment
            if segment.length and packet.at + segment.length > life.frontier:
                return  # packets leave in order: what comes behind it waits, whatever it is
            if not segment.flags & Flag.ACK or segment.flags & Flag.RST:
                continue
            ack = near(segment.ack, self.client_origin or 0)
            limit = theirs.ack if self.settings.commits_input and theirs.ack is not None else ack
            if ack > limit and not segment.length:
                return  # a bare ACK that runs ahead may wait, and what came later with it, whatever its number is
            if packet.at > max(life.told.end, life.base):
                continue
            if any(self._is_ahead(other, packet) for other in life.waiting):
                continue
            if life.told.ack < ack <= limit:
                yield f"C3: ack {ack} of both has not left"

    def _is_ahead(self, other: Waiting, packet: Waiting) -> bool:
        """Whether payload that is not equal yet goes first: what is sent again overtakes (ADR 0015)."""
        assert self.life is not None
        reaches = other.at + other.segment.length > self.life.frontier
        return bool(other.segment.length) and other.at <= packet.at and reaches

    # ── reports ───────────────────────────────────────────────────────────────────────────────────────────────

    def _unreported(self, now_ms: int) -> Iterator[str]:
        patience = self.settings.compare_timeout_ms + self.settings.scan_ms
        for kind, since, is_certain in self.differences(now_ms):
            if kind.endswith("?"):
                continue  # an implementation may request, but need not
            if is_certain or now_ms - since > patience:
                yield f"C5: {kind} is not reported"

    def differences(self, now_ms: int) -> Iterator[tuple[str, int, bool]]:
        """(kind, since when, whether it must be reported at once) of every disagreement."""
        life = self.life
        if self.ahead is not None:
            yield "SECONDARY_TIMEOUT", self._ahead_ms, False
        if life is None or self.is_passing:
            return
        yield from self._contradictions(life, now_ms)
        for kind, voice, other in (
            ("TIMEOUT", life.primary, life.secondary),
            ("SECONDARY_TIMEOUT", life.secondary, life.primary),
        ):
            for event, since in voice.since.items():
                if not self._has_event(life, voice, other, event):
                    may_wait = event not in ("SYN", "RST")  # no ACK of the client ends these
                    yield kind, self._ages_from(life, since, now_ms) if may_wait else since, False
                place = voice.fin if event == "FIN" else event
                if not self._has_event(life, voice, other, event) or (
                    isinstance(place, int) and place >= life.frontier
                ):
                    yield f"{kind}?", since, False  # said by both, perhaps, but not what is in front of it
        for packet in life.waiting:
            ack = near(packet.segment.ack, self.client_origin or 0)
            theirs = life.secondary.ack
            is_bare = packet.segment.flags & (Flag.ACK | Flag.RST) == Flag.ACK and not packet.segment.length
            runs_ahead = life.told.ack < ack and (theirs is None or theirs < ack)
            if is_bare and runs_ahead and self.settings.commits_input:
                yield "TIMEOUT?", packet.since_ms, False

    def _contradictions(self, life: Incarnation, now_ms: int) -> Iterator[tuple[str, int, bool]]:
        mine, theirs = life.primary, life.secondary
        if mine.syn and theirs.syn and answers_same(mine.syn, theirs.syn) and terms(mine.syn) != terms(theirs.syn):
            yield "SYN_OPTIONS", 0, True
        for place in mine.octets.keys() & theirs.octets.keys():
            if place in theirs.contradicted:
                yield "PAYLOAD?", now_ms, False  # the secondary has said two things: either may be taken
            differs = mine.octets[place] != theirs.octets[place] or place in mine.contradicted
            if differs and self._is_acknowledged(place):
                yield "PAYLOAD?", 0, False  # the client has it, and will not look at it again
            elif differs and place == life.frontier and life.is_open:
                yield "PAYLOAD?", now_ms, False
            elif differs and place not in life.vouched:
                since = max(mine.since.get(place, now_ms), theirs.since.get(place, now_ms))
                yield "PAYLOAD", since, place <= life.frontier and place not in theirs.contradicted
        for one, other in ((mine, theirs), (theirs, mine)):
            if one.fin is not None and any(place >= one.fin for place in other.octets):
                yield "FIN", one.since.get("FIN", now_ms), one.fin == life.frontier and one.fin in other.octets
            if one.resets and not life.is_reset and (not other.resets or other.end > min(one.resets)):
                yield "RST?" if other.resets else "RST", one.since.get("RST", now_ms), False
                yield "SECONDARY_TIMEOUT?", one.since.get("RST", now_ms), False

    def _has_event(self, life: Incarnation, voice: Voice, other: Voice, event: object) -> bool:
        """Whether the other guest did the same."""
        if event == "SYN":
            return life.syns_agree
        if event == "FIN":
            return other.fin == voice.fin or (voice.fin or 0) < life.base
        if event == "RST":
            return bool(other.resets) or life.is_reset
        assert isinstance(event, int)
        return event < life.frontier or event in other.octets

    def _ages_from(self, life: Incarnation, since: int, now_ms: int) -> int:
        """C8: a wait that only the client can end does not age, but has a deadline of its own."""
        if self.client_ack is None or self.client_ack >= life.told.end:
            return max(since, self.client_moved_ms)
        if now_ms - since > self.settings.client_wait_ms:
            return since
        return now_ms

    def reported(self, kind: str, now_ms: int) -> None:
        """The connection was reported as different. Raises `BrokenRuleError` if nothing differs."""
        patience = self.settings.compare_timeout_ms
        found = list(self.differences(now_ms))
        for actual, since, _ in found:
            if actual.rstrip("?") == kind and (not kind.endswith("TIMEOUT") or now_ms - since >= patience):
                self.is_excused = True
                return
        raise BrokenRuleError("C5", f"{kind} was reported where there is {sorted({name for name, _, _ in found})}")
