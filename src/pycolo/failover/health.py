"""Whether a pair that calls itself protected is worth the name: how much payload left uncompared, of all that left.

Facts are counters since start; the verdict is about a window that slides. What may pass uncompared is counted apart and
decides nothing: connections that are older than the pair, and those that a rule of the user's lets pass. Of the rest at
most SHARE_MAX may be uncompared.

    no traffic yet ── payload ──► well ◄── at most SHARE_WELL for a whole window ── degraded
                                    └───────────── more than SHARE_MAX ────────────────►┘

A window without payload proves nothing: the last verdict stays, and says how old it is. A frame of the nodes' own that
should have come back and did not makes the pair degraded at once, until one does. So does a secondary that answers
nothing for `SILENT_EPOCHS`, until a packet of it equals one of the primary's.
"""

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

WINDOW_MS: Final = 10_000
"""What the verdict is about."""

SHARE_MAX: Final = 0.01
"""Above it a pair is degraded."""

SHARE_WELL: Final = 0.005
"""It is well again after a window that never was above this."""

STEP_MS: Final = 500
"""Counters that come faster than this replace one another, so that few are kept."""

ALLOWED: Final = frozenset({"older", "bypassed"})
"""Reasons for which payload may pass uncompared."""

MEANINGS: Final[Mapping[str, str]] = {
    "older": "connections that are older than the pair",
    "differed": "connections that have differed are only reported (--on-divergence report)",
    "signed": "connections signed by TCP-MD5 or TCP-AO cannot be compared",
    "vnet_header": "frames begin with a vnet header of another length than expected: "
    "set vnet_hdr to the same value on the tap and on the node's ports",
    "wrapped": "IP inside MPLS, PPPoE, MACsec or a third VLAN tag cannot be compared",
    "malformed": "malformed frames cannot be compared",
    "unpaired": "comparing is switched off",
    "bypassed": "connections that a rule of the user's lets pass ([[bypass]])",
}
"""By reason: what is the matter, and what to do."""


SILENT_EPOCHS: Final = 8
"""A secondary that is slow on a busy host lets a few epochs in a row end by time-out."""

SILENT: Final = (
    f"the secondary's guest answers nothing: {SILENT_EPOCHS} epochs in a row have ended by time-out, and no packet was "
    "found equal; run `colo unprotect` and `colo protect`, and see the log of the secondary's QEMU if it stays so"
)

CUT: Final = "a frame of the nodes' own did not come back from the secondary: nothing can be compared"


class Verdict(StrEnum):
    """What is to be thought of the pair."""

    UNSEEN = "no traffic yet"
    """Nothing was compared, and nothing passed that should have been."""
    WELL = "well"
    DEGRADED = "degraded"


class Window(NamedTuple):
    """What left within the last `WINDOW_MS`, in bytes of payload."""

    compared: int = 0
    uncompared: int = 0
    allowed: int = 0
    worst: str = ""
    """The reason for which most of `uncompared` left."""

    @property
    def share(self) -> float:
        """Of what should have been compared: what was not."""
        total = self.compared + self.uncompared
        return self.uncompared / total if total else 0.0


class _Sample(NamedTuple):
    at_ms: int
    compared: int
    uncompared: Mapping[str, int]


class Health:
    """Of one pair, from when it is formed until it is dissolved: `counted` tells the counters about once a second."""

    def __init__(self) -> None:
        self._judged = Verdict.UNSEEN
        self._judged_why = ""
        self._is_cut = False
        self._silent_epochs = 0
        self._equal = 0
        self.window = Window()
        self.seen_ms: int | None = None
        """When payload was last seen, by which the verdict could be judged."""
        self._samples: deque[_Sample] = deque()
        self._calm_since_ms: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Of the moment."""
        return Verdict.DEGRADED if self._is_cut or self._is_silent else self._judged

    @property
    def _is_silent(self) -> bool:
        return self._silent_epochs >= SILENT_EPOCHS

    @property
    def why(self) -> str:
        """Of DEGRADED, on one line."""
        if self._is_cut:
            return CUT
        return SILENT if self._is_silent else self._judged_why

    def probed(self, *, has_returned: bool) -> Verdict:
        """A frame of the nodes' own was sent the whole way."""
        self._is_cut = not has_returned
        return self.verdict

    def timed_out(self) -> Verdict:
        """An epoch was ended because the secondary had not answered."""
        self._silent_epochs += 1
        return self.verdict

    def found_equal(self, packets: int) -> Verdict:
        """Packets of both guests that were found equal, since start."""
        if packets != self._equal:
            self._silent_epochs = 0
        self._equal = packets
        return self.verdict

    def age_ms(self, now_ms: int) -> int | None:
        """How old what the verdict is judged by is; None: there is nothing."""
        return None if self.seen_ms is None else now_ms - self.seen_ms

    def counted(self, now_ms: int, compared: int, uncompared: Mapping[str, int]) -> Verdict:
        """Bytes of payload since start: found equal, and passed uncompared by reason."""
        if self._samples and _is_restart(self._samples[-1], compared, uncompared):
            self._samples.clear()
        before = self._samples[-1] if self._samples else None
        self._keep(_Sample(now_ms, compared, dict(uncompared)))
        self.window = _between(self._samples[0], self._samples[-1])
        if before is not None and _between(before, self._samples[-1])[:2] != (0, 0):
            self.seen_ms = now_ms
        if self.window.compared or self.window.uncompared:
            self._judge(now_ms)
        return self.verdict

    def _keep(self, sample: _Sample) -> None:
        samples = self._samples
        if len(samples) > 1 and samples[-1].at_ms - samples[-2].at_ms < STEP_MS:
            samples.pop()
        samples.append(sample)
        while len(samples) > 2 and samples[1].at_ms <= sample.at_ms - WINDOW_MS:
            samples.popleft()

    def _judge(self, now_ms: int) -> None:
        share = self.window.share
        if share > SHARE_MAX:
            self._judged = Verdict.DEGRADED
            self._judged_why = (
                f"{share:.1%} of the payload of the last {WINDOW_MS // 1000} s left uncompared: "
                f"{MEANINGS.get(self.window.worst, self.window.worst)}"
            )
        if share > SHARE_WELL:
            self._calm_since_ms = None
        elif self._calm_since_ms is None:
            self._calm_since_ms = now_ms
        is_calm = self._calm_since_ms is not None and now_ms - self._calm_since_ms >= WINDOW_MS
        if self._judged is Verdict.UNSEEN or (self._judged is Verdict.DEGRADED and is_calm):
            self._judged = Verdict.WELL
            self._judged_why = ""


def _is_restart(before: _Sample, compared: int, uncompared: Mapping[str, int]) -> bool:
    """Counters that are lower than before are those of another data path."""
    return compared < before.compared or any(
        uncompared.get(reason, 0) < octets for reason, octets in before.uncompared.items()
    )


def _between(first: _Sample, last: _Sample) -> Window:
    passed = {reason: octets - first.uncompared.get(reason, 0) for reason, octets in last.uncompared.items()}
    forbidden = {reason: octets for reason, octets in passed.items() if reason not in ALLOWED and octets}
    return Window(
        last.compared - first.compared,
        sum(forbidden.values()),
        sum(octets for reason, octets in passed.items() if reason in ALLOWED),
        max(forbidden, key=lambda reason: forbidden[reason], default=""),
    )
