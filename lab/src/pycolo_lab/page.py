"""The parts of a report for any load: a self-contained page, for any width, for screen and paper.

Texts are escaped here when they are put into markup; `body` is markup already.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

import msgspec

from pycolo_lab.facts import Event, Setting
from pycolo_lab.observe import CLEAN

State = Literal["good", "bad", "expected"]
NS: Final = 1e9


class Card(msgspec.Struct, frozen=True):
    """One number with its unit, and what it is."""

    number: str
    unit: str
    text: str


class Entry(msgspec.Struct, frozen=True):
    """A number in a phase: what it is, the number with its unit, and what belongs to it."""

    label: str
    number: str
    unit: str
    note: str = ""


class Phase(msgspec.Struct, frozen=True):
    """A part of the run with its own numbers."""

    title: str
    note: str
    entries: Sequence[Entry]
    style: str = ""


def write_page(path: Path, page: str) -> None:
    """Write the page. Raises OSError if the file cannot be written; no half page is left behind."""
    with path.open("w", encoding="utf-8") as file:
        try:
            file.write(page)
            file.flush()
        except OSError:
            # Only a file of ours: not a device or a pipe that was named on purpose.
            if path.is_file():
                path.unlink()
            raise


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page."""
    style = (files(__package__) / "report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def header(state: State, kicker: str, verdict: str, setting: Setting, also: Iterable[str] = ()) -> str:
    """The verdict, where the run took place, and which command made it when."""
    wires = "TAP devices" if setting.guest_port == "tap" else "veth pairs and packet sockets"
    where = [
        f"pycolo {setting.version}",
        f"Linux {setting.kernel}, {setting.cpus} CPU{'s' if setting.cpus != 1 else ''}",
        f"guests behind {wires}",
        f"IPv{setting.ip_version}",
        "link under TLS" if setting.tls else "link in plain text",
        "root" if setting.as_root else "unprivileged user",
        *also,
    ]
    began = escape(setting.began)
    return (
        f'<header class="{state}"><p class="kicker">{escape(kicker)}</p><h1>{escape(verdict)}</h1>'
        f'<p class="where">{" · ".join(escape(word) for word in where)}</p>'
        f'<p class="made"><code>{escape(setting.command)}</code> '
        f'<time datetime="{began}">{began[:19]} UTC{began[19:]}</time></p></header>'
    )


def section(name: str, title: str, body: str, note: str = "", style: str = "") -> str:
    """A box with a heading; `name` is its anchor, once per page."""
    said = f"<p>{escape(note)}</p>" if note else ""
    kind = f' class="{style}"' if style else ""
    return f'<section id="{name}"{kind}><h2>{escape(title)}</h2>{said}{body}</section>'


def bullets(items: Iterable[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def cards(found: Iterable[Card]) -> str:
    """The most important numbers, large."""
    drawn = "".join(
        f'<div class="card"><b>{escape(card.number)}<small> {escape(card.unit)}</small></b>'
        f"<span>{escape(card.text)}</span></div>"
        for card in found
    )
    return f'<section class="cards">{drawn}</section>'


def phases(found: Iterable[Phase]) -> str:
    """A card for each part of the run, side by side where there is room."""
    drawn = []
    for phase in found:
        entries = "".join(
            f"<div><dt>{escape(entry.label)}</dt>"
            f"<dd><b>{escape(entry.number)}<small> {escape(entry.unit)}</small></b>"
            f"<span>{escape(entry.note)}</span></dd></div>"
            for entry in phase.entries
        )
        drawn.append(
            f'<div class="card {phase.style}"><h2>{escape(phase.title)}</h2><p>{escape(phase.note)}</p>'
            f"<dl>{entries}</dl></div>"
        )
    return f'<section class="cards phases">{"".join(drawn)}</section>'


def two_columns(rows: Iterable[tuple[str, str]]) -> str:
    """Labels and texts."""
    body = "".join(f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>" for label, text in rows)
    return f'<table class="facts">{body}</table>'


def comparison(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Labels, each with a cell under each title; a label without cells is a heading.

    On a narrow screen each cell says what it is.
    """
    lines = []
    for label, cells in rows:
        if not cells:
            lines.append(f'<tr class="group"><th colspan="{len(head) + 1}">{escape(label)}</th></tr>')
            continue
        drawn = "".join(
            f'<td data-label="{escape(title)}">{escape(cell)}</td>' for title, cell in zip(head, cells, strict=True)
        )
        lines.append(f"<tr><th>{escape(label)}</th>{drawn}</tr>")
    titles = "".join(f"<td>{escape(title)}</td>" for title in head)
    return (
        f'<table class="numbers comparison"><thead><tr><th></th>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def kernel_table(counters: Mapping[str, Mapping[str, int]], clean: Sequence[str] = CLEAN) -> str:
    """What guest B's kernel counted, `clean` being what must not grow; on a narrow screen each cell says what it is."""
    titles = ("before the load", "at the kill", "at the end")
    lines = []
    for name, values in counters.items():
        before, kill, after = (values.get(moment) for moment in ("before", "kill", "after"))
        grown = (after if after is not None else kill or 0) - (before or 0)
        if name not in clean and not grown:
            continue
        style = ("clean" if not grown else "dirty") if name in clean else "other"
        cells = "".join(
            f'<td data-label="{title}">{"" if value is None else f"{value:,}"}</td>'
            for title, value in zip(titles, (before, kill, after), strict=True)
        )
        note = {"clean": "must not grow ✓", "dirty": "must not grow ✗"}.get(style, "")
        lines.append(f'<tr class="{style}"><th><code>{escape(name)}</code></th>{cells}<td>{note}</td></tr>')
    head = "".join(f"<td>{title}</td>" for title in titles)
    return (
        f'<table class="numbers kernel"><thead><tr><th>counter</th>{head}<td></td></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def timeline(events: Iterable[Event], zero_ns: int, since: str) -> str:
    """What happened when."""
    found = sorted(events, key=lambda event: event.at_ns)
    seconds = [f"{(event.at_ns - zero_ns) / NS:+.3f} s".replace("-", "−") for event in found]
    body = "".join(
        f"<tr><td>{at}</td><th>{escape(event.text)}</th></tr>" for at, event in zip(seconds, found, strict=True)
    )
    return f'<table class="timeline"><caption>Seconds from {escape(since)}</caption>{body}</table>'


def counters(title: str, values: Mapping[str, int]) -> str:
    """A node's own counters, folded away."""
    body = "".join(
        f"<tr><th><code>{escape(name)}</code></th><td>{value:,}</td></tr>" for name, value in sorted(values.items())
    )
    return f'<details><summary>{escape(title)}</summary><table class="numbers">{body}</table></details>'
