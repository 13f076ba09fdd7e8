from pycolo.compare.difference import Difference
from pycolo.compare.trace import Trace
from pycolo.conntrack.table import ConnectionTable
from pycolo.storage.pool import Pool, Queues

class CompareStats:
    primary_frames: int
    secondary_frames: int
    primary_bytes: int
    secondary_bytes: int
    refused: int
    passed: int
    let_through: int
    compared: int
    compared_bytes: int
    released: int
    discarded: int
    clamped: int
    acks_made: int
    acks_owed: int
    splits: int
    resets_made: int
    differences: int
    timeouts: int
    superseded: int
    refused_marked: int
    reassembled: int
    incomplete_datagrams: int
    dropped: int
    gave_way: int
    overruns: int
    reports_lost: int
    def __init__(self) -> None: ...

class Held:
    @property
    def table(self) -> ConnectionTable: ...
    @property
    def pool(self) -> Pool: ...
    @property
    def stats(self) -> CompareStats: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def primary(self) -> Queues: ...
    @property
    def secondary(self) -> Queues: ...
    @property
    def ready(self) -> Queues: ...
    policy: int
    queue_packets_max: int
    has_vnet: bool
    checkpoint_wanted: bool
    def __init__(
        self, table: ConnectionTable, pool: Pool, policy: int, queue_packets_max: int, has_vnet: bool
    ) -> None: ...
    def grow(self, rows: int) -> None: ...
    def oldest_us(self) -> int | None: ...
    def trace_held(self, now_us: int) -> None: ...
    def take_differences(self) -> list[Difference]: ...
    def hold_histogram(self) -> list[tuple[int, int]]: ...
