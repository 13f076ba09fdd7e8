"""`colo status`: a node's status as text."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from pycolo.checkpoint.parts import OF_THE_PAUSE
from pycolo.cli.diskprogress import disk_lines
from pycolo.cli.ordering import order_lines
from pycolo.cli.target import for_a_node, say
from pycolo.cli.watch import watch

CHECKPOINTS_SHOWN: Final = 5
DIVERGENCES_SHOWN: Final = 5

Fields = dict[str, Any]


@click.command(short_help="Show what a running node does.")
@for_a_node
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON; with --watch one line per refresh.")
@click.option(
    "--watch",
    "interval_s",
    is_flag=False,
    flag_value=1.0,
    type=click.FloatRange(0.1, 3600),
    metavar="[SECONDS]",
    help="Refresh every second, or every SECONDS, until Ctrl-C.",
)
def status(*, control: Path, as_json: bool, interval_s: float | None) -> None:
    """Show role, state, both QEMUs, checkpoints, hold times and the last divergences of a running node."""
    from pycolo.node.control import ask  # noqa: PLC0415 - keeps `colo --help` fast

    def view() -> list[str]:
        answer = ask(control, {"command": "status"})
        if as_json:
            return json.dumps(answer, indent=None if interval_s else 2).splitlines()
        return status_lines(answer)

    if interval_s is None:
        say(view())
    else:
        watch(view, interval_s)


def status_lines(answer: Fields) -> list[str]:
    """The whole status, most important first; counters only for a node without a QEMU of its own."""
    since_s = answer["since_ms"] / 1000
    arbiter = answer["arbiter"]
    is_vm = "vm" in answer
    epoch = f", epoch {answer['epoch']}" if is_vm else ""
    term = f"term {answer['term']}{epoch}"
    lines = [
        f"{answer['role']} of pair {answer['pair']}: {answer['state']} for {since_s:.1f} s, {term}",
        *([str(answer["blocked"])] if answer.get("blocked") else []),
        f"other node: {answer['peer'] or 'none'}; arbiter {arbiter['name']}: {arbiter['says']}",
    ]
    if health := answer.get("health"):
        lines.append(_health_line(health))
    if is_vm:
        lines += _vm_lines(answer)
    if answer.get("hold_us"):
        held = answer["hold_us"]
        lines.append(f"packets were held for p50 {held['p50']} µs, p99 {held['p99']} µs, at most {held['max']} µs")
    lines += order_lines(answer.get("order", []))
    if answer.get("checkpoint"):
        lines += _checkpoint_lines(answer["checkpoint"])
    counters = {} if is_vm else answer["counters"]
    width = max(map(len, counters), default=0)
    lines += [f"  {name:<{width}} {value:>12}" for name, value in sorted(counters.items()) if value]
    lines += [f"divergence: {difference['text']}" for difference in answer["divergences"][-DIVERGENCES_SHOWN:]]
    return lines


def _health_line(health: Fields) -> str:
    """What the pair's state is worth, by what was compared."""
    left = (
        f"in {health['window_ms'] / 1000:.0f} s {size(health['compared_bytes'])} compared, "
        f"{size(health['uncompared_bytes'])} not, {size(health['allowed_bytes'])} may pass"
    )
    parts = [f"health: {health['verdict']}" + (f": {health['why']}" if health["why"] else "")]
    if health.get("probe_ms") is not None:
        parts.append(f"the nodes' own frame was back after {health['probe_ms']:.1f} ms")
    if health["age_ms"] is not None:
        parts.append(f"payload was seen {health['age_ms'] / 1000:.1f} s ago")
    return "; ".join([*parts, left])


def _vm_lines(answer: Fields) -> Iterator[str]:
    yield f"QEMU of this host: {_qemu(answer['vm'])}"
    yield f"QEMU of the other: {_qemu(answer.get('other_vm'))}"
    if (protection := answer.get("protection")) and protection.get("unprotected_ms") is not None:
        yield from _unprotected(answer, protection)
    yield from warning_lines(answer)
    if plan := answer.get("plan"):
        done = f" (done: {', '.join(plan['done'])})" if plan.get("done") else ""
        yield f"in progress: {plan['name']}, step {plan.get('step') or 'none'}{done}"
    yield from disk_lines(answer.get("disks", []))
    counters = answer["counters"]
    if "held" in counters:
        yield (
            f"held now: {counters['held']} packets, {size(counters.get('held_bytes', 0))}; "
            f"connections: {counters.get('connections', 0)}"
        )
    elif "connections" in counters:
        yield f"connections: {counters['connections']}"
    yield from mask_lines(answer.get("masks", {}))
    yield from bypass_lines(answer.get("bypassed", {}))
    yield from _card_lines(answer.get("cards", []))


def mask_lines(masks: Mapping[str, Fields]) -> Iterator[str]:
    """What each mask has hidden."""
    for name, mask in masks.items():
        if mask["matches"]:
            yield f"mask {name}: {size(mask['bytes'])} differed in {mask['matches']} matches, and were not compared"


def bypass_lines(tables: Mapping[str, Fields]) -> Iterator[str]:
    """What each table `[[bypass]]` has let pass."""
    for number, passed in tables.items():
        if passed["packets"]:
            yield f"bypass {number}: {passed['packets']} packets with {size(passed['bytes'])} passed uncompared"


def _card_lines(cards: list[Fields]) -> Iterator[str]:
    """Each of several cards."""
    for card in cards:
        counters = card["counters"]
        parts = [card["mode"]]
        if "held" in counters:
            parts += [f"compared {size(counters.get('compared_bytes', 0))}", f"packets held: {counters['held']}"]
            parts.append(f"divergences: {counters.get('divergences', 0)}")
        parts.append(f"connections: {counters.get('connections', 0)}")
        yield f"  card {card['card']}: {', '.join(parts)}"


def warning_lines(answer: Fields) -> Iterator[str]:
    """What speaks against the pair, or was overridden, as the node says it."""
    for note in answer.get("warnings", []):
        kind = "overridden by --force" if note["overridden"] else "warning"
        yield f"{kind} ({note['where']}): {note['text']}"


def _unprotected(answer: Fields, protection: Fields) -> Iterator[str]:
    if protection.get("wished"):
        failures, why = protection["failures"], protection["why"]
        begins_here = answer["role"] == "primary" and answer["state"] == "linked"
        if begins_here and not protection.get("automatic", True) and not failures:
            why = "only `colo protect` gives the guest a secondary: protect.automatic is false"
        tried = f", {failures} failed attempt{'s' * (failures > 1)}" if failures else ""
        yield f"unprotected for {protection['unprotected_ms'] / 1000:.1f} s{tried}: {why}"


def _qemu(vm: Fields | None) -> str:
    if vm is None:
        return "unknown"
    if vm.get("qmp") != "connected":
        return "absent"
    process = f", process {vm['pid']}" if vm.get("pid") else ""
    return f"version {vm.get('version')}, {vm.get('status')}, COLO {vm.get('colo')}{process}"


def _checkpoint_lines(checkpoint: Fields) -> Iterator[str]:
    counts = {kind: count for kind, count in checkpoint.get("count", {}).items() if count}
    kinds = f" ({', '.join(f'{kind} {count}' for kind, count in counts.items())})" if counts else ""
    yield (
        f"checkpoints: {sum(counts.values())}{kinds}, aborted {checkpoint.get('aborted', 0)}; "
        f"now {checkpoint.get('phase')}"
    )
    if pending := checkpoint.get("pending"):
        yield f"asked for: {', '.join(pending)}"
    if pause := checkpoint.get("pause_ms"):
        yield f"pause: median {pause['median']:.1f} ms, p99 {pause['p99']:.1f} ms, at most {pause['max']:.1f} ms"
    if pace := checkpoint.get("pace"):
        yield from _pace_lines(pace)
    if (spacing := checkpoint.get("spacing")) and spacing["of"]:
        yield str(spacing["why"])
    if parts := checkpoint.get("parts_ms"):
        yield parts_line(parts)
    for record in checkpoint.get("last", [])[-CHECKPOINTS_SHOWN:]:
        yield f"  {checkpoint_line(record)}"


def parts_line(parts: Fields) -> str:
    """What checkpoints consist of, in milliseconds: before the primary stops, and while it stands."""
    spans = [f"{part.replace('-', ' ')} {ms:.1f}" for part, ms in parts.items()]
    before = len(parts) - len(OF_THE_PAUSE)
    return f"parts, median ms: {', '.join(spans[:before])}; paused: {', '.join(spans[before:])}"


def _pace_lines(pace: Fields) -> Iterator[str]:
    """What the guest's memory lets hope for."""
    if pace["why"]:
        yield str(pace["why"])
    if pace["interval_ms"] is None or not pace["of"]:
        return
    parts = [f"pause target {pace['target_ms']:.0f} ms: {'held' if pace['is_held'] else 'not held'}"]
    if pace["change_bytes_per_s"] is not None:
        parts.append(f"{size(pace['change_bytes_per_s'])}/s change")
    if pace["copy_bytes_per_s"] is not None:
        parts.append(f"{size(pace['copy_bytes_per_s'])}/s are copied")
    yield ", ".join(parts)


def checkpoint_line(record: Fields) -> str:
    """One checkpoint: time, outcome, pause, what it released, reason."""
    parts = [f"{record['at']} epoch {record['epoch']} {record['outcome']}"]
    if record.get("why"):
        parts[0] += f": {record['why']}"
    if record.get("pause_ms") is not None:
        parts.append(f"pause {record['pause_ms']:.1f} ms")
    if record.get("copied_bytes"):
        parts.append(f"copied {size(record['copied_bytes'])}")
    parts.append(f"released {record.get('released_frames', 0)} frames, {size(record.get('released_bytes', 0))}")
    if record.get("discarded_frames"):
        parts.append(f"discarded {record['discarded_frames']}")
    parts += [reason_text(reason) for reason in record.get("reasons", [])]
    return "; ".join(parts)


def reason_text(reason: Fields) -> str:
    """The reason for a checkpoint request."""
    connection = reason.get("connection")
    text = reason.get("text") or ""
    where = f"{connection}: " if connection and connection not in text else ""
    return f"{reason['kind']}: {where}{text}" if where or text else str(reason["kind"])


def size(octets: int) -> str:
    """A number of bytes as text."""
    value = float(octets)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
