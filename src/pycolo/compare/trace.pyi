from dataclasses import dataclass

from pycolo.compare.kinds import PacketFate
from pycolo.storage.pool import Pool

@dataclass(frozen=True, slots=True)
class TracedPacket:
    side: int
    fate: PacketFate
    arrived_us: int
    aux: int
    frame: bytes

class Trace:
    @property
    def is_on(self) -> bool: ...
    @property
    def lost(self) -> int: ...
    def __init__(self, pool: Pool) -> None: ...
    def start(self, buffer_bytes: int) -> None: ...
    def take(self) -> list[TracedPacket]: ...
