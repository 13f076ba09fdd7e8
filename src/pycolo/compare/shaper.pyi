from pycolo.storage.pool import Pool
from pycolo.wire.packet import Packet

class Shaper:
    @property
    def packet(self) -> Packet: ...
    def __init__(self, pool: Pool) -> None: ...
