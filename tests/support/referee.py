"""The specification beside a trace: every frame that leaves and every report is judged by `pycolo.model`."""

from typing import Any

from pycolo.compare.kinds import DivergencePolicy
from pycolo.model.comparator import Comparator, Settings
from pycolo.model.packet import Key
from support.segments import GSO_UDP_L4, batch
from support.traces import Comparing, octets_of


class Judged(Comparing):
    """A comparator whose every step is shown to the referee. Options are the comparator's."""

    def __init__(self, build: Any, vnet_len: int | None = None, **options: Any) -> None:
        super().__init__(build, vnet_len, **options)
        self._packets = build("pycolo.wire.packet")
        names = {"compare_timeout_ms", "commits_input", "needs_handshake"}
        given = {name: value for name, value in options.items() if name in names}
        if "scan_cycle_ms" in options:
            given["scan_ms"] = options["scan_cycle_ms"]
        policy = options.get("policy", DivergencePolicy.CHECKPOINT)
        self.referee = Comparator(
            Settings(**given), stops=policy in {DivergencePolicy.CHECKPOINT, DivergencePolicy.HOLD}
        )
        self._seen: list[Any] = []
        self._frames: list[bytes] = []

    @property
    def _now(self) -> int:
        return round(self.now_ms)

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
        if is_settled:
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

    def client(self, octets: bytes) -> bool:
        """A frame of the client, where it is seen; whether the secondary is to get it too."""
        buf = batch([octets], self.vnet_len)
        until, behind = self.core.client_frames(buf, 0, len(buf), self.now_us)
        assert behind == len(buf)
        is_mirrored = until == behind
        assert self.referee.client(octets[self.vnet_len or 0 :], self._now) == is_mirrored
        self._judge()
        return is_mirrored

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
        packet = self._packets.Packet()
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
        self.referee.committed(self._now)
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
