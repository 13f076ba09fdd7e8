"""One run with the user's own server, from options to exit code: run, verdict, output, report."""

import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from pycolo_lab.causes import NOT_PROTECTED
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated
from pycolo_lab.options import LabOptions
from pycolo_lab.own.options import OwnOptions
from pycolo_lab.own.report import write_report
from pycolo_lab.own.scenario import OwnScenario
from pycolo_lab.own.summary import OwnSummary
from pycolo_lab.own.verdict import judge
from pycolo_lab.own.wording import divergence_text, rows
from pycolo_lab.terminal import terminal_columns, wrapped
from pycolo_lab.view import PlainView, bullet, row_lines

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


def run_own(
    options: LabOptions, own: OwnOptions, interruption: Interruption, *, as_json: bool, report: Path | None
) -> int:
    """Run it in its own namespaces and return the exit code. Nothing is left on the machine."""

    def perform(directory: Path) -> int:
        out = sys.stderr if as_json else sys.stdout
        facts = OwnScenario(options, own, directory, interruption, view=PlainView(out), out=out).run()
        interruption.look()
        summary = judge(facts)
        code = EXIT_OK if summary.ok else EXIT_FAILED
        if as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
        else:
            print_summary(summary)
        if report is not None and summary.judged:
            try:
                write_report(report, facts, summary)
            except OSError as error:
                print(f"colo: {report}: the report could not be written: {error.strerror}", file=sys.stderr)
                code = code or EXIT_FAILED
            else:
                print(f"report: {report}", file=out)
        return code

    return run_isolated(perform, interruption)


def print_summary(summary: OwnSummary) -> None:
    """The facts, what diverged, everything that failed, and the verdict."""
    console = Console(highlight=False, soft_wrap=True)
    columns = terminal_columns(sys.stdout)
    lines = [Text(), *row_lines(rows(summary), columns), Text()]
    if summary.diverged is not None and summary.diverged.kinds:
        # Bytes side by side keep their columns.
        lines += [Text(f"  {line}".rstrip()) for line in divergence_text(summary.diverged)]
        lines += [Text(line) for line in wrapped(NOT_PROTECTED, columns)]
        lines.append(Text())
    for remark in summary.remarks:
        lines += bullet("· ", remark, columns, "yellow")
    for failure in summary.failures:
        lines += bullet("✗ ", failure, columns, "red")
    style = "bold" if not summary.judged else "bold green" if summary.ok else "bold red"
    mark = "" if not summary.judged else "✓ " if summary.ok else "✗ "
    lines += [Text(line, style=style) for line in wrapped(mark + summary.verdict, columns)]
    for line in lines:
        console.print(line)
