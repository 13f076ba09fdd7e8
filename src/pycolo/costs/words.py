"""Costs as rows, each with one line in words for a person who did not build this."""

from collections.abc import Mapping
from typing import Any, Final

from pycolo.checkpoint.records import ReasonKind
from pycolo.costs.services import NONE
from pycolo.costs.shapes import ShapeKind
from pycolo.costs.sums import OTHER_SHAPES, Sums, Table

Shown = dict[str, Any]

SHAPES: Final = {
    ShapeKind.TLS_HANDSHAKE: (
        "TLS, encrypted: each guest draws random numbers of its own, so every handshake differs; "
        "only connections that are kept open avoid it"
    ),
    ShapeKind.TLS_DATA: "TLS, encrypted: what the guests answered cannot be seen here, only that it differs",
    ShapeKind.SSH_HANDSHAKE: "SSH: each guest draws random numbers of its own, so every login differs",
    ShapeKind.MYSQL_HANDSHAKE: (
        "MySQL or MariaDB: each guest greets a client with random numbers of its own; only connections that are kept "
        "open avoid it"
    ),
    ShapeKind.HTTP_DATE: "the header Date: the guests answered in different seconds",
    ShapeKind.HEADER: "the header {name}: each guest wrote a value of its own",
    ShapeKind.TIME: "a date or a time of day in the answer: each guest reads its own clock",
    ShapeKind.FRACTION: "a number with a long fraction: drawn at random, or measured by each guest",
    ShapeKind.BODY_LENGTH: "the header content-length: what the guests answered is not of one length",
    ShapeKind.NUMBER: (
        "another number, such as a counter: the guests did the same work in another order, or each counts by itself"
    ),
    ShapeKind.IDENTIFIER: "an identifier that each guest made by itself",
    ShapeKind.ORDER: "the same bytes in another order, such as rows or entries of a list",
    ShapeKind.LENGTH: "one guest sent bytes that the other did not send there",
    ShapeKind.RANDOM: "bytes without a pattern: encrypted, compressed or random",
    ShapeKind.BYTES: "other bytes",
    ShapeKind.UNSEEN: "payload whose bytes were not kept",
    ShapeKind.SYN: "the guests' TCP opened the connection with different options",
    ShapeKind.END: "one guest closed the connection, the other did not",
    ShapeKind.NO_ANSWER: "the secondary did not answer the same in time (compare_timeout_ms)",
    ShapeKind.ONLY_SECONDARY: "the secondary sent something that the primary did not send in time (compare_timeout_ms)",
    ShapeKind.MUTUAL_WAIT: "the guests answered their clients in different orders",
    ShapeKind.FULL: "more waited than a queue, the memory or the table holds",
    ShapeKind.SIGNED: "TCP-MD5 or TCP-AO signs the segments, so the connection passes uncompared",
}
"""What has differed."""

REASONS: Final = {
    ReasonKind.DIVERGENCE: "the guests' output differed",
    ReasonKind.TIMEOUT: "one guest sent something, and the other did not in time",
    ReasonKind.MUTUAL_WAIT: "one connection waited for the secondary, another for the primary",
    ReasonKind.QUEUE_FULL: "too much was waiting",
    ReasonKind.PERIODIC: "no difference: the longest interval was over, or much of the guest's memory had changed",
    ReasonKind.OPERATOR: "`colo checkpoint`",
    ReasonKind.FIRST: "the pair was formed",
    ReasonKind.HYPERVISOR: "QEMU began it by itself",
}
"""Why a checkpoint was made."""

_SHAPE_NAMES: Final = frozenset(kind.value for kind in ShapeKind)
_REASON_NAMES: Final = frozenset(kind.value for kind in ReasonKind)

SECOND_SHAPE_SHARE: Final = 0.1
"""A second shape is worth a word if it is no rarer."""


def shown_rows(by: str, table: Table, total: Sums) -> Shown:
    """`total`, `rows` (those that cost most first) and `others` (what is in no row; None: nothing is)."""
    ordered = sorted(table.rows.items(), key=lambda row: row[1].weight, reverse=True)
    has_others = table.others != Sums()
    return {
        "total": numbers(total),
        "rows": [_row(by, name, sums, total) for name, sums in ordered],
        "others": _row(by, "others", table.others, total) if has_others else None,
    }


def numbers(sums: Sums) -> Shown:
    """Times in milliseconds."""
    return {
        "checkpoints": sums.checkpoints,
        "paused_ms": round(sums.paused_us / 1000, 3),
        "waits": sums.waits,
        "waited_ms": round(sums.waited_us / 1000, 3),
        "longest_wait_ms": round(sums.longest_us / 1000, 3),
        "differences": sums.differences,
        "uncompared_bytes": sums.uncompared_bytes,
    }


def _row(by: str, name: str, sums: Sums, total: Sums) -> Shown:
    words = "; ".join([_share(sums, total), *_why(by, name), *_shapes(sums.shapes)])
    return {"name": name, **numbers(sums), "shapes": dict(sums.shapes), "words": f"{name}: {words}"}


def _share(sums: Sums, total: Sums) -> str:
    """Its part of the checkpoints; of the differences where none was made."""
    if sums.checkpoints:
        return f"{percent(sums.checkpoints, total.checkpoints)} of the checkpoints"
    if not total.checkpoints and sums.differences:
        return f"{percent(sums.differences, total.differences)} of the differences"
    if sums.waits:
        return "its clients waited for checkpoints that other traffic needed"
    return "it needed no checkpoint of its own"


def _why(by: str, name: str) -> list[str]:
    if by == "reason" and name in _REASON_NAMES:
        return [REASONS[ReasonKind(name)]]
    return ["periodic checkpoints, an operator's, and each pair's first"] if name == NONE else []


def _shapes(shapes: Mapping[str, int]) -> list[str]:
    """The most frequent shape of what differed, and the second if it is not rare."""
    count = sum(shapes.values())
    ordered = sorted(shapes.items(), key=lambda shape: (-shape[1], shape[0]))
    if len(ordered) == 1:
        return [shape_words(ordered[0][0])]
    told = [shape for shape in ordered[:2] if shape[1] >= SECOND_SHAPE_SHARE * count]
    return [f"{percent(number, count)} of what differed: {shape_words(shape)}" for shape, number in told]


def shape_words(shape: str) -> str:
    """Of a shape as `str(Shape)` writes it; a later version may have written others."""
    kind, _, name = shape.partition(":")
    if kind not in _SHAPE_NAMES:
        return "something else" if shape == OTHER_SHAPES else f"another kind of difference ({kind})"
    return SHAPES[ShapeKind(kind)].format(name=name)


def percent(part: int, whole: int) -> str:
    """A share that is not zero is not shown as zero."""
    share = 100 * part / whole if whole else 0
    return f"{share:.0f} %" if share >= 1 or not part else "less than 1 %"
