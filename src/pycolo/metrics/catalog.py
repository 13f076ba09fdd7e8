"""Every metric of a node: name, type, labels, meaning. The table in `docs/metrics.md` is made of it."""

from typing import Final, Literal, NamedTuple

MetricType = Literal["info", "gauge", "counter", "histogram"]

STATES: Final = (
    "waiting",
    "linked",
    "protecting",
    "protected",
    "suspect",
    "alone",
    "taking-over",
    "serving",
    "fenced",
)
"""States of a node; each has its sample, so that an alert can ask for one that was never seen."""


class Spec(NamedTuple):
    """One metric, by the name that Prometheus shows: counters end in `_total`, times and sizes name their unit."""

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()


CATALOG: Final = (
    # the node
    Spec("colo_info", "info", "Who this node is; 1.", ("version", "pair", "role")),
    Spec("colo_status_up", "gauge", "1 while the node answers the question for its status in time."),
    Spec("colo_state", "gauge", "1 for the state that the node is in.", ("state",)),
    Spec("colo_state_seconds", "gauge", "For how long it has been in that state."),
    Spec("colo_term", "gauge", "The term: it grows with each failover of the pair."),
    Spec("colo_epoch", "gauge", "The epoch: it grows with each committed checkpoint."),
    Spec("colo_plan_running", "gauge", "1 while a plan (protect, unprotect, failover) is being carried out."),
    Spec("colo_failovers_total", "counter", "Failovers that this node has carried out.", ("kind",)),
    Spec("colo_failover_seconds", "gauge", "The last failover: from the suspicion to serving, or to the decision."),
    # the guest
    Spec("colo_qmp_up", "gauge", "1 while QEMU's QMP socket is connected."),
    Spec("colo_guest_up", "gauge", "1 while the guest here runs, or a checkpoint holds it for a moment."),
    # checkpoints
    Spec("colo_checkpoint_running", "gauge", "1 while a checkpoint is under way."),
    Spec("colo_checkpoint_pending_requests", "gauge", "Requests that wait for the next checkpoint."),
    Spec("colo_checkpoints_total", "counter", "Committed checkpoints, by the reason that asked first.", ("reason",)),
    Spec("colo_checkpoints_aborted_total", "counter", "Checkpoints that were given up."),
    Spec("colo_checkpoint_pause_seconds", "histogram", "For how long checkpoints stopped the primary guest."),
    Spec("colo_checkpoint_released_frames_total", "counter", "Held frames that checkpoints let out."),
    Spec("colo_checkpoint_released_bytes_total", "counter", "The bytes of those frames."),
    Spec("colo_checkpoint_discarded_frames_total", "counter", "Frames of the secondary that checkpoints discarded."),
    # the comparison
    Spec("colo_hold_seconds", "histogram", "For how long released packets were held."),
    Spec("colo_held_packets", "gauge", "Packets in memory, of both sides."),
    Spec("colo_held_bytes", "gauge", "Bytes in memory, of both sides."),
    Spec("colo_connections", "gauge", "Connections that the node knows."),
    Spec("colo_connections_evicted_total", "counter", "Connections that were forgotten.", ("reason",)),
    Spec("colo_connections_refused_total", "counter", "Connections that found no room in the table."),
    Spec("colo_frames_total", "counter", "Frames taken in.", ("side",)),
    Spec("colo_packets_total", "counter", "What became of packets; no packet counts twice.", ("side", "fate")),
    Spec("colo_released_frames_total", "counter", "Frames let out by the comparison, for whatever reason."),
    Spec("colo_divergences_total", "counter", "Differences found, each of which asks for a checkpoint."),
    Spec("colo_divergences_by_kind_total", "counter", "The same by kind, as far as they were reported.", ("kind",)),
    # for the takeover
    Spec("colo_copies", "gauge", "Unacknowledged packets of which the secondary keeps a copy for the takeover."),
    Spec("colo_copies_bytes", "gauge", "The bytes of those copies."),
    Spec("colo_copies_skipped_total", "counter", "Packets that were not copied, for want of memory."),
    Spec("colo_resent_frames_total", "counter", "Copies that were sent again at a takeover."),
    # the link and the ports
    Spec("colo_link_up", "gauge", "1 while the other node is connected."),
    Spec("colo_link_bytes_total", "counter", "Bytes on the data connection.", ("direction",)),
    Spec("colo_heartbeat_silence_seconds", "gauge", "Age of the newest own heartbeat that the other node confirmed."),
    Spec("colo_port_up", "gauge", "1 while a peer is connected to a stream port.", ("port",)),
    Spec("colo_port_connections_total", "counter", "Connections that a stream port has had.", ("port",)),
    Spec("colo_port_bytes_total", "counter", "Bytes through a stream port.", ("port", "direction")),
    Spec("colo_port_frames_total", "counter", "Frames through a device.", ("port", "direction")),
    Spec("colo_port_dropped_frames_total", "counter", "Frames that a device did not take.", ("port",)),
)
