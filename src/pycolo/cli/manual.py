"""Manual pages made from the commands' help, one per command: colo(1), colo-demo(1), colo-certs-init(1) …

    python -m pycolo.cli.manual /usr/local/share/man/man1

The pages' date is SOURCE_DATE_EPOCH if that is set, so that packages build reproducibly.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from pycolo import __version__
from pycolo.cli import colo

FILES: Final = (
    ("/etc/colo/NAME.toml", "The configuration of the virtual machine NAME, for `colo node`."),
    ("/run/colo/NAME/", "Its sockets: the node's control socket, and those between the node and QEMU."),
    ("/var/lib/colo/NAME/", "What must outlive a restart of the host: the node's role and term."),
)

RAGGED: Final = (".nr HY 0", ".nh", ".ds AD l", ".ad l")
"""No hyphens in values, no wide gaps between them. Newer groffs read register and string for it, at each heading."""

VERBATIM: Final = "\b"
"""Click's mark for a paragraph whose lines are kept as they are."""


def pages(date: str) -> dict[str, str]:
    """File name → its roff text, for `colo` and every command below it."""
    found: dict[str, str] = {}
    waiting = [click.Context(colo, info_name="colo", **colo.context_settings)]
    while waiting:
        context = waiting.pop(0)
        found[f"{_name(context)}.1"] = _page(context, date)
        waiting += _below(context)
    return found


def _below(context: click.Context) -> list[click.Context]:
    group = context.command
    if not isinstance(group, click.Group):
        return []
    found = ((name, group.get_command(context, name)) for name in sorted(group.list_commands(context)))
    return [
        click.Context(command, parent=context, info_name=name, **command.context_settings)
        for name, command in found
        if command is not None and not command.hidden
    ]


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context, date: str) -> str:
    command, name = context.command, _name(context)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_text(name.upper())}" "1" "{date}" "pycolo {__version__}" "User Commands"',
        *RAGGED,
        ".SH NAME",
        f"{_text(name)} \\- {_text(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_text(context.command_path)}\\fP {_placeholders(usage)}",
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        *_section("OPTIONS", _options(context)),
        *_section("COMMANDS", _commands(context)),
        *_section("FILES", FILES if name in ("colo", "colo-node") else ()),
        *_see_also(context),
    ]
    return "\n".join(lines) + "\n"


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    for param in context.command.get_params(context):
        record = param.get_help_record(context)
        if record is not None and record[1]:
            yield record


def _commands(context: click.Context) -> Iterator[tuple[str, str]]:
    for below in _below(context):
        yield f"{_name(below)}(1)", below.command.get_short_help_str(200)


def _see_also(context: click.Context) -> list[str]:
    if context.parent is None:
        return []
    others = [_name(other) for other in _below(context.parent) if other.info_name != context.info_name]
    if context.parent.parent is not None:
        others.insert(0, "colo")
    names = [_name(context.parent), *others]
    return [".SH SEE ALSO", " ,\n".join(f".BR {_text(name)} (1)" for name in names)]


def _section(title: str, entries: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> list[str]:
    lines = []
    for head, text in entries:
        lines += [".TP", _head(head), _text(text) or "\\&"]
    return [f".SH {title}", *lines] if lines else []


def _paragraphs(help_text: str) -> list[str]:
    """The help as click shows it: paragraphs are filled, except those marked as verbatim."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", _dedented(help_text)):
        is_verbatim = paragraph.startswith(VERBATIM)
        more = list(_verbatim(paragraph.splitlines()[1:])) if is_verbatim else [_text(paragraph)]
        if lines and more[0] != ".TP":
            lines.append(".PP")
        lines += more
    return lines


def _dedented(help_text: str) -> str:
    first, _, rest = help_text.strip("\n").partition("\n")
    margins = [len(line) - len(line.lstrip()) for line in rest.splitlines() if line.strip() and line != VERBATIM]
    margin = min(margins, default=0) if not first.startswith(VERBATIM) else 0
    return "\n".join([first, *(line[margin:] for line in rest.splitlines())]).rstrip()


def _verbatim(lines: list[str]) -> Iterator[str]:
    """Turn a list of options in a verbatim paragraph into a roff list, so that it fits any width."""
    entries: list[list[str]] = []
    for line in lines:
        text = line.strip()
        if text.startswith("-"):
            head, text = text.split("   ", 1) if "   " in text else text.split(" ", 1)
            entries.append([head, text.strip()])
        elif entries and entries[-1][0] and line.startswith("    "):
            entries[-1][1] += text if text.startswith("[") else f" {text}"
        else:
            entries.append(["", text])
    for number, (head, text) in enumerate(entries):
        if head:
            yield from (".TP", _head(head), _breakable(_text(text)))
        else:
            if number:
                yield ".PP"
            yield _text(text)


# ── roff ────────────────────────────────────────────────────────────────────────────────────────────────────


def _head(text: str) -> str:
    """Options in bold, their values in italics."""
    return re.sub(
        r"(?<![\w.\\])(\\-{1,2}[\w\\-]+|colo[\w\\-]*(?=\())|\b([A-Z][A-Z0-9]+)\b",
        lambda found: f"\\fB{found[1]}\\fP" if found[1] else f"\\fI{found[2]}\\fP",
        _text(text),
    )


def _placeholders(usage: str) -> str:
    return re.sub(r"\b([A-Z]{2,})\b", r"\\fI\1\\fP", _text(usage))


def _breakable(text: str) -> str:
    """Allow a line break in long values: after a comma or a bar, before an optional part."""
    return re.sub(r"(?<=\S)(?=\[,)|(?<=[^\[],)(?=\S)|(?<=\|)", r"\\:", text)


def _text(text: str) -> str:
    """Escape plain text for roff: backslashes, hyphens, leading dots and quotes have a meaning there."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fP", text)
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def write(directory: Path) -> None:
    """Write the manual pages of `colo` to DIRECTORY."""
    moment = os.environ.get("SOURCE_DATE_EPOCH")
    date = datetime.fromtimestamp(int(moment), UTC) if moment else datetime.now(UTC)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(f"{date:%Y-%m-%d}").items():
        (directory / name).write_text(text, encoding="ascii")


if __name__ == "__main__":
    write(prog_name="python -m pycolo.cli.manual")
