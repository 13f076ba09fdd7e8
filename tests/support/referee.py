"""The specification beside a trace: every frame that leaves and every report is judged by `pycolo.model`."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from pycolo import core
from pycolo.compare.kinds import DivergencePolicy
from pycolo.model.comparator import Comparator, Settings
from pycolo.model.masks import Expression
from pycolo.model.packet import Key
from support.segments import GSO_UDP_L4
from support.traces import Comparing, octets_of


class Judged(Comparing):
    """A comparator whose every step is shown to the referee. Options are the comparator's.

    `is_exempt`, `expressions`: what `bypass` and `masks` mean, for the specification. `settles_every_ms`: how often it
    is asked what has not happened that must, which takes time for long streams.
    """

    def __init__(
        self,
        vnet_len: int | None = None,
        settles_every_ms: float = 0,
        is_exempt: Callable[[Key], bool] = lambda key: False,
        expressions: Sequence[Expression] = (),
        **options: Any,
    ) -> None:
        super().__init__(vnet_len, **options)
        names = {"compare_timeout_ms", "commits_input", "needs_handshake"}
        given = {name: value for name, value in options.items() if name in names}
        if "scan_cycle_ms" in options:
            given["scan_ms"] = options["scan_cycle_ms"]
        policy = options.get("policy", DivergencePolicy.CHECKPOINT)
        self.referee = Comparator(
            Settings(**given, is_exempt=is_exempt, masks=lambda key: expressions),
            stops=policy in {DivergencePolicy.CHECKPOINT, DivergencePolicy.HOLD},
        )
        self._seen: list[Any] = []
        self._frames: list[bytes] = []
        self._settles_every_ms = settles_every_ms
        self._settled_ms = 0.0

    @property
    def _now(self) -> Any:
        """What the core is told, in milliseconds, and exactly that."""
        return self.now_us // 1000 if self.now_us % 1000 == 0 else Fraction(self.now_us, 1000)

    def offer_primary(self, *items: Any) -> int:
        return self._offer_each(super().offer_primary, self.referee.primary, items)

    def offer_secondary(self, *items: Any) -> int:
        return self._offer_each(super().offer_secondary, self.referee.secondary, items)

    def _offer_each(self, take: Any, hear: Any, items: tuple[Any, ...]) -> int:
        taken = 0
        for item in items:
            if not take(item):
                break
            taken += 1
            octets = octets_of(item)
            hear(octets[self.vnet_len or 0 :], self._now, self._cut(octets))
            self._judge()
        return taken

    def _cut(self, octets: bytes) -> int:
        """Into datagrams of how many bytes the vnet header has the host cut the frame (USO)."""
        if not self.vnet_len or octets[1] & 0x7F != GSO_UDP_L4:
            return 0
        return int.from_bytes(octets[4:6], "little")

    def _judge(self, *, is_settled: bool = True) -> None:
        """What left and what was reported since the last time, then whether anything is missing.

        What was found equal leaves before a difference holds the rest; where a difference holds nothing, what differs
        leaves behind the report.
        """
        if self.referee.stops:
            self._judge_frames()
        self._judge_reports()
        self._judge_frames()
        if is_settled and self.now_ms - self._settled_ms >= self._settles_every_ms:
            self.settle()

    def settle(self) -> None:
        """Nothing is missing."""
        self._settled_ms = self.now_ms
        self.referee.settle(self._now)

    def _judge_frames(self) -> None:
        for octets in self.frames_and_headers():
            frame = octets[self.vnet_len or 0 :]
            self._frames.append(frame)
            self.referee.left(frame, self._now, self._cut(octets))

    def _judge_reports(self) -> None:
        for command in self.core.commands():
            self._seen.append(command)
            difference = command.difference
            is_request = type(command).__name__ == "RequestCheckpoint"
            self.referee.reported(
                difference.kind.name, model_key(difference.connection), self._now, is_request=is_request
            )

    def client(self, item: Any) -> bool:
        is_mirrored = super().client(item)
        assert self.referee.client(octets_of(item)[self.vnet_len or 0 :], self._now) == is_mirrored
        self._judge()
        return is_mirrored

    def fire(self) -> None:
        """The time is `now_ms`."""
        self.core.timer_fired(self.now_us)
        self._judge()

    def wait(self, ms: float) -> None:
        until = self.now_ms + ms
        while (due := self.core.deadline_us()) is not None and due / 1000 <= until:
            self.now_ms = max(self.now_ms, due / 1000)
            self.core.timer_fired(self.now_us)
            self._judge(is_settled=False)
            self._judge_rows()
        self.now_ms = until
        self.core.timer_fired(self.now_us)
        self._judge()
        self._judge_rows()

    def _judge_rows(self) -> None:
        """Which connections it has forgotten."""
        for key in list(self.referee.connections):
            if self.core.table.find(self._packet_of(key), False) < 0:
                self.referee.forgot(key, self._now)

    def _packet_of(self, key: Key) -> Any:
        packet = core.Packet()
        packet.ip_version, packet.ip_proto = key.version, key.proto
        packet.source_port, packet.destination_port = key.source_port, key.destination_port
        for tag in key.tags:
            packet.vlan = packet.vlan << 13 | 0x1000 | tag
        for end, octets in (("source", key.source), ("destination", key.destination)):
            for word in range(len(octets) // 4):
                setattr(packet, f"{end}{word}", int.from_bytes(octets[4 * word : 4 * word + 4], "big"))
        return packet

    def commit(self, **options: Any) -> None:
        super().commit(**options)
        self.referee.committed(self._now, **options)
        self._judge()

    def marker(self, epoch: int) -> None:
        """The secondary's stream has reached the beginning of an epoch."""
        self.core.epoch_marker(epoch)
        if epoch >= self.core.epoch:
            self.referee.marker()

    def lose(self) -> None:
        """The arbiter has decided: there is no secondary any more."""
        self.core.pair_lost(self.now_us)
        self.referee.lost(self._now)
        self._judge()

    def form(self) -> None:
        """A secondary is there."""
        self.core.pair_formed(self.now_us)
        self.referee.formed()
        self._judge()

    def frames(self) -> list[bytes]:
        left, self._frames = self._frames, []
        return left

    def commands(self) -> list[tuple[str, str, int]]:
        seen, self._seen = self._seen, []
        return [(type(c).__name__, c.difference.kind.name, c.difference.seq) for c in seen]

    def differences(self) -> list[Any]:
        seen, self._seen = self._seen, []
        return [command.difference for command in seen]


def model_key(key: Any) -> Key | None:
    """The comparator's name of a connection as the specification's."""
    if key is None:
        return None
    ends = key.source.packed, key.destination.packed
    return Key(key.source.version, key.ip_proto, *ends, key.vlan, key.source_port, key.destination_port)
