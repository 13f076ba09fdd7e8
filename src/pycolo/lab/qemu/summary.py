"""The facts of a run in words: a line as each scenario ends, and the table at the end."""

import statistics
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pycolo.lab.qemu.facts import PauseComparison, PauseFacts, RunFacts, ScenarioFacts

WIDTH: Final = 120
"""Of the table in a file or a pipe, which have no width of their own."""


def print_run(run: RunFacts) -> None:
    """The table and what did not hold, on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    if run.scenarios:
        console.print(_table(run.scenarios))
        console.print(
            f"QEMU {run.qemu} ({run.accelerator}). Stood still: nobody was answered; a host that falls silent is "
            f"suspected after {run.detection_ms} ms at the earliest. Pause: STOP to RESUME of the primary."
        )
    if run.pause is not None:
        console.print(comparison_line(run.pause))
    for scenario in run.scenarios:
        for text in scenario.broken:
            console.print(f"[bold red]{scenario.name}[/]: {escape(text)}", soft_wrap=True)
        if scenario.holds and scenario.first_breaches:
            console.print(f"{scenario.name}: it failed as it must: {scenario.first_breaches[0]}", soft_wrap=True)
    console.print("Everything held." if run.holds else "[bold red]Not everything held.[/]")


def _table(scenarios: Iterable[ScenarioFacts]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "scenario",
        "",
        "kept",
        "stood still ms",
        "1st answer ms",
        "checkpoints",
        "pause ms",
        "whole again s",
    ):
        table.add_column(title, justify="left" if title in ("scenario", "", "checkpoints") else "right")
    for one in scenarios:
        table.add_row(
            one.name,
            "ok" if one.holds else "[bold red]FAILED[/]",
            f"{one.kept}/{one.connections}",
            _middle(r.stood_still_ms for r in one.rounds),
            _middle(r.first_answer_ms for r in one.rounds),
            _middle(r.repair_stood_still_ms for r in one.rounds),
            ", ".join(f"{count} {kind}" for kind, count in one.checkpoints.items()) or "none",
            _pause(one.pause),
            _middle((r.whole_again_ms / 1e3 for r in one.rounds), digits=1),
        )
    return table


def _middle(values: Iterable[float], digits: int = 0) -> str:
    """The median, and the largest where there are several."""
    found = list(values)
    if not found:
        return "-"
    middle = f"{statistics.median(found):.{digits}f}"
    return middle if len(found) == 1 else f"{middle} (max {max(found):.{digits}f})"


def _pause(pause: PauseFacts | None) -> str:
    return "-" if pause is None else f"{pause.median_ms:.1f}, p99 {pause.p99_ms:.1f}"


def comparison_line(pause: PauseComparison) -> str:
    """The pause benchmark in one sentence."""
    ours, theirs = pause.through_nodes, pause.over_tcp
    return (
        f"A checkpoint of an idle guest pauses the primary for {ours.median_ms:.1f} ms (p99 {ours.p99_ms:.1f}, "
        f"{ours.count} checkpoints) through the nodes, {theirs.median_ms:.1f} ms (p99 {theirs.p99_ms:.1f}, "
        f"{theirs.count}) over QEMU's own tcp: migration (link MTU {pause.link_mtu}): "
        f"{pause.times_shorter:.1f} times shorter"
    )


def scenario_line(facts: ScenarioFacts) -> str:
    """One scenario, as it ends."""
    still = max((r.stood_still_ms for r in facts.rounds), default=0.0)
    verdict = "ok" if facts.holds else "FAILED: " + "; ".join(facts.broken)
    return f"  kept {facts.kept}/{facts.connections}, stood still {still:.0f} ms, {facts.breaches} breaches: {verdict}"
