"""Every metric of a node: name, type, labels, meaning. The table in `docs/metrics.md` is made from it."""

from typing import Final, Literal, NamedTuple

MetricType = Literal["info", "gauge", "counter", "histogram"]

STATES: Final = (
    "waiting",
    "linked",
    "protecting",
    "protected",
    "degraded",
    "suspect",
    "alone",
    "handing-over",
    "taking-over",
    "serving",
    "fenced",
)
"""States of a node. Each has a sample, so that an alert can test for a state that has never occurred."""


class Spec(NamedTuple):
    """One metric, by the name that Prometheus shows: counters end in `_total`, times and sizes name their unit."""

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()


CATALOG: Final = (
    # the node
    Spec("colo_info", "info", "The node's identity, in the labels; always 1.", ("version", "pair", "role")),
    Spec("colo_status_up", "gauge", "1 while the node answers status queries in time."),
    Spec("colo_state", "gauge", "1 for the state that the node is in.", ("state",)),
    Spec("colo_state_seconds", "gauge", "Time that the node has been in that state."),
    Spec("colo_unprotected_seconds", "gauge", "Time without a pair in step, while protection is wished."),
    Spec(
        "colo_state_blocked",
        "gauge",
        "1 while a step that the state waits for has failed and is tried again, such as `network.serve` in a takeover.",
    ),
    Spec("colo_term", "gauge", "The term: it increases with each failover of the pair."),
    Spec("colo_epoch", "gauge", "The epoch: it increases with each committed checkpoint."),
    Spec("colo_plan_running", "gauge", "1 while a plan (protect, unprotect, failover) is running."),
    Spec("colo_failovers_total", "counter", "Failovers of this node.", ("kind",)),
    Spec("colo_failover_seconds", "gauge", "The last failover: from the suspicion to serving, or to the decision."),
    # the guest
    Spec("colo_qmp_up", "gauge", "1 while QEMU's QMP socket is connected."),
    Spec("colo_guest_up", "gauge", "1 while this host's guest runs, or a checkpoint pauses it."),
    # checkpoints
    Spec("colo_checkpoint_running", "gauge", "1 while a checkpoint is under way."),
    Spec("colo_checkpoint_pending_requests", "gauge", "Requests waiting for the next checkpoint."),
    Spec("colo_checkpoints_total", "counter", "Committed checkpoints, by the first request's reason.", ("reason",)),
    Spec("colo_checkpoints_aborted_total", "counter", "Checkpoints that were aborted."),
    Spec("colo_checkpoint_pause_seconds", "histogram", "Pauses of the primary guest for checkpoints."),
    Spec("colo_checkpoint_part_seconds_total", "counter", "What they consist of, from asking to RESUME.", ("part",)),
    Spec("colo_checkpoint_released_frames_total", "counter", "Held frames that checkpoints released."),
    Spec("colo_checkpoint_released_bytes_total", "counter", "The bytes of those frames."),
    Spec("colo_checkpoint_discarded_frames_total", "counter", "Frames of the secondary that checkpoints discarded."),
    Spec("colo_checkpoint_copied_bytes_total", "counter", "What moved through the migration stream for checkpoints."),
    Spec("colo_checkpoint_pause_target_seconds", "gauge", "`protect.pause_target_ms`: no pause shall be longer."),
    Spec("colo_checkpoint_pause_target_missed", "gauge", "1 while pauses are longer than that."),
    Spec("colo_checkpoint_change_bytes_per_second", "gauge", "What the guest changes of its memory, as last seen."),
    Spec("colo_checkpoint_copy_bytes_per_second", "gauge", "How fast checkpoints copy it."),
    Spec("colo_checkpoint_cost_seconds", "gauge", "What a checkpoint costs clients: the median of the last ones."),
    Spec("colo_checkpoint_distance_seconds", "gauge", "Distance that follows from it, for the next difference."),
    Spec("colo_checkpoint_wait_seconds", "gauge", "How long a difference waits for others now; 0: not at all."),
    # which traffic costs what
    Spec(
        "colo_service_checkpoints_total",
        "counter",
        "Committed checkpoints, by whose traffic needed them first.",
        ("service",),
    ),
    Spec(
        "colo_service_waited_seconds_total",
        "counter",
        "How long connections have waited for checkpoints.",
        ("service",),
    ),
    Spec(
        "colo_service_uncompared_bytes_total", "counter", "Payload that checkpoints released uncompared.", ("service",)
    ),
    # the comparison
    Spec("colo_hold_seconds", "histogram", "Time for which released packets were held."),
    Spec("colo_ordered_requests_total", "counter", "Requests that were given in rounds, see `[[order]]`."),
    Spec("colo_ordered_waited_seconds_total", "counter", "How long they have waited for their turn."),
    Spec("colo_ordered_blocked_total", "counter", "Requests that waited for another one: for a lock, for example."),
    Spec("colo_ordered_limited_total", "counter", "Requests that were not answered within the limit of their round."),
    Spec("colo_ordered_frames", "gauge", "Clients' frames that wait for their turn, or to be mirrored."),
    Spec("colo_held_packets", "gauge", "Packets held now, both sides."),
    Spec("colo_held_bytes", "gauge", "Bytes held now, both sides."),
    Spec("colo_connections", "gauge", "Connections in the node's table."),
    Spec("colo_connections_evicted_total", "counter", "Connections removed from the table.", ("reason",)),
    Spec("colo_connections_refused_total", "counter", "Connections that did not fit into the table."),
    Spec("colo_frames_total", "counter", "Frames received.", ("side",)),
    Spec("colo_packets_total", "counter", "The fate of packets; no packet counts twice.", ("side", "fate")),
    Spec("colo_released_frames_total", "counter", "Frames released by the comparator, for any reason."),
    Spec("colo_divergences_total", "counter", "Differences found; each requests a checkpoint."),
    Spec("colo_divergences_by_kind_total", "counter", "Reported differences by kind.", ("kind",)),
    Spec("colo_degraded", "gauge", "1 while too much payload leaves uncompared; missing before any traffic."),
    Spec("colo_health_age_seconds", "gauge", "Age of the payload by which that was judged."),
    Spec("colo_compared_bytes_total", "counter", "Payload of the two guests that was found equal."),
    Spec("colo_uncompared_bytes_total", "counter", "Payload that left uncompared, by reason.", ("reason",)),
    Spec("colo_uncompared_packets_total", "counter", "The packets of that payload.", ("reason",)),
    Spec("colo_masked_matches_total", "counter", "Matches of a mask in which the guests' bytes differed.", ("mask",)),
    Spec("colo_masked_bytes_total", "counter", "The bytes that differed in them.", ("mask",)),
    Spec(
        "colo_bypassed_packets_total", "counter", "The primary's packets that a table [[bypass]] let pass.", ("table",)
    ),
    Spec("colo_bypassed_bytes_total", "counter", "Their payload.", ("table",)),
    # for the takeover
    Spec("colo_copies", "gauge", "Copies of unacknowledged packets that the secondary keeps for a takeover."),
    Spec("colo_copies_bytes", "gauge", "The bytes of those copies."),
    Spec("colo_copies_skipped_total", "counter", "Packets not copied for lack of memory."),
    Spec("colo_resent_frames_total", "counter", "Copies that were sent again at a takeover."),
    # the link and the ports
    Spec("colo_link_up", "gauge", "1 while the other node is connected."),
    Spec("colo_link_bytes_total", "counter", "Bytes on the data connection.", ("direction",)),
    Spec("colo_heartbeat_silence_seconds", "gauge", "Age of the newest heartbeat that the other node has confirmed."),
    Spec("colo_port_up", "gauge", "1 while a peer is connected to a stream port.", ("port",)),
    Spec("colo_port_connections_total", "counter", "Connections made on a stream port.", ("port",)),
    Spec("colo_port_bytes_total", "counter", "Bytes through a stream port.", ("port", "direction")),
    Spec("colo_port_frames_total", "counter", "Frames through a device.", ("port", "direction")),
    Spec("colo_port_dropped_frames_total", "counter", "Frames that a device refused.", ("port",)),
)
