"""Results of a run of the QEMU laboratory: plain data, the same for the table and for --json."""

import msgspec


class RoundFacts(msgspec.Struct, kw_only=True):
    """One fault and its effects. Milliseconds."""

    fault: str
    stood_still_ms: float
    """The longest stretch around the fault in which no client got an answer."""
    first_answer_ms: float
    """From the fault to the end of that stretch."""
    repair_stood_still_ms: float
    """The longest such stretch from there until the guest was protected again: a first checkpoint copies all memory."""
    served_by: str
    """The host that served afterwards."""
    whole_again_ms: float
    """From the beginning of the repair until both nodes were protected again."""
    slowest_ms: float | None = None
    """The longest that one connection waited for an answer around the fault: TCP's timers make it longer than the
    stretch in which none got one. None: no TCP."""
    notes: list[str] = msgspec.field(default_factory=list)


class TransferFacts(msgspec.Struct, kw_only=True):
    """A download or an upload that ran through all rounds."""

    megabytes: float
    stood_still_ms: float
    error: str | None


class PauseFacts(msgspec.Struct, kw_only=True):
    """Pauses of the primary, STOP to RESUME, milliseconds."""

    count: int
    median_ms: float
    p99_ms: float


class ScenarioFacts(msgspec.Struct, kw_only=True):
    """One scenario from the first client to the last."""

    name: str
    text: str
    holds: bool
    """Whether everything held; for the negative control: whether it broke."""
    broken: list[str]
    """The requirements that failed."""
    rounds: list[RoundFacts]
    connections: int
    kept: int
    fresh_connections: int
    fresh_failed: int
    answers: int
    breaches: int
    """Answers that break the counter's law."""
    first_breaches: list[str]
    checkpoints: dict[str, int]
    aborted: int
    pause: PauseFacts | None
    download: TransferFacts | None
    upload: TransferFacts | None
    node_memory_kib: list[dict[str, int]]
    """Of each node, at the beginning and after each round."""


class PauseComparison(msgspec.Struct, kw_only=True):
    """The same guests, idle: checkpoints through the nodes, and over QEMU's own tcp: migration."""

    link_mtu: int
    """The smaller, the earlier a delayed acknowledgement is over: with 65535 (loopback) tcp: takes twice as long."""
    through_nodes: PauseFacts
    over_tcp: PauseFacts

    @property
    def times_shorter(self) -> float:
        """By how much."""
        return self.over_tcp.median_ms / self.through_nodes.median_ms


class RunFacts(msgspec.Struct, kw_only=True):
    """All of a run."""

    qemu: str
    accelerator: str
    detection_ms: int
    """The heartbeat's time-out: the earliest suspicion of a silent host."""
    scenarios: list[ScenarioFacts]
    pause: PauseComparison | None = None

    @property
    def holds(self) -> bool:
        """Whether every scenario did."""
        return all(scenario.holds for scenario in self.scenarios)
