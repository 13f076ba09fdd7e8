"""One demo from options to exit code: run, verdict, output, report."""

import sys
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.report import write_report
from pycolo_lab.scenario import Scenario
from pycolo_lab.summary import Summary
from pycolo_lab.verdict import judge
from pycolo_lab.view import make_view, print_summary

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""A requirement failed; a negative control must fail, and the verdict says so."""

EXIT_CONTROL_SILENT: Final = 3
"""A negative control whose failure did not show: then the other runs prove less than they seem to."""


def run_demo(options: LabOptions, interruption: Interruption, *, as_json: bool, report: Path | None) -> int:
    """Run the demo in its own namespaces and return the exit code. Nothing is left on the machine."""

    def perform(directory: Path) -> int:
        return _perform(options, directory, interruption, as_json=as_json, report=report)

    return run_isolated(perform, interruption)


def _perform(
    options: LabOptions, directory: Path, interruption: Interruption, *, as_json: bool, report: Path | None
) -> int:
    out = sys.stderr if as_json else sys.stdout
    facts = Scenario(options, directory, make_view(as_json=as_json), interruption, out).run()
    interruption.look()
    summary = judge(facts, options)
    code = exit_code(summary)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
    else:
        print_summary(summary)
    if report is not None and summary.judged:
        try:
            write_report(report, facts, summary, options)
        except OSError as error:
            print(f"colo: {report}: the report could not be written: {error.strerror}", file=sys.stderr)
            code = code or EXIT_FAILED
        else:
            print(f"report: {report}", file=sys.stderr if as_json else sys.stdout)
    return code


def exit_code(summary: Summary) -> int:
    """Return what the shell gets to see."""
    if not summary.judged:
        return EXIT_OK
    if summary.control is not None:
        return EXIT_FAILED if summary.control.shown else EXIT_CONTROL_SILENT
    return EXIT_OK if summary.ok else EXIT_FAILED


__all__ = ["Control", "LabOptions", "run_demo"]
