from pycolo.conntrack.table import ConnectionTable
from pycolo.rewrite.copies import UnackedCopies
from pycolo.rewrite.neighbours import Neighbours
from pycolo.rewrite.offsets import SeqOffsets
from pycolo.rewrite.progress import Progress
from pycolo.rewrite.waiting import HandshakeFrames
from pycolo.storage.pool import Queues
from pycolo.wire.packet import Packet

class RewriteStats:
    client_frames: int
    guest_frames: int
    client_bytes: int
    guest_bytes: int
    rewritten: int
    untouched: int
    refused: int
    learned: int
    handshake_held: int
    handshake_dropped: int
    resets_seen: int
    resent: int
    table_full: int
    def __init__(self) -> None: ...

class Translator:
    @property
    def table(self) -> ConnectionTable: ...
    @property
    def offsets(self) -> SeqOffsets: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def copies(self) -> UnackedCopies: ...
    @property
    def held(self) -> HandshakeFrames: ...
    @property
    def to_guest(self) -> Queues: ...
    @property
    def neighbours(self) -> Neighbours: ...
    @property
    def stats(self) -> RewriteStats: ...
    @property
    def packet(self) -> Packet: ...
    @property
    def quoted(self) -> Packet: ...
    is_passing: bool
    is_serving: bool
    keeps_copies: bool
    def __init__(self, seed: int, connections_max: int, copies_bytes_max: int) -> None: ...
    def grow(self) -> None: ...
