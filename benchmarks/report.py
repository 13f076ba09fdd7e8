"""The results of `bench_proxy.py`, as Markdown and as pictures (SVG, light and dark)."""

from html import escape
from typing import Any, Final

Found = dict[str, Any]

NAMES: Final = {"qemu": "QEMU", "relay": "relay", "colo": "colo proxy", "sink": "sink"}
STATES: Final = {"awake": "back to back; `colo proxy --spin`", "asleep": "after 500 µs of silence; `colo proxy`"}
WIDTH: Final = 760
_LEFT, _RIGHT, _BAR, _GAP = 250, 90, 11, 9
_STYLE: Final = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.head { font-weight: 600 }
.qemu { fill: #9a6700 } .relay { fill: #afb8c1 } .colo { fill: #0969da } .sink { fill: #d8dee4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.qemu { fill: #d29922 } .relay { fill: #6e7681 } .colo { fill: #4493f8 } .sink { fill: #3d444d }
}
</style>"""


def by_peer(row: Found) -> dict[str, Found]:
    return {one["peer"]: one for one in row["peers"]}


def rate(one: Found | None) -> str:
    """1.16M, 265k, or why not."""
    if one is None or not one["rates"]:
        return "-" if one is None else "wrong"
    value = one["rate"]
    text = f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value / 1e3:.0f}k"
    return text + ("*" if one["is_contended"] else "")


def ratio(one: Found | None, other: Found | None, field: str, digits: int = 1) -> str:
    if not one or not other or not one[field] or not other[field]:
        return "-"
    return f"{one[field] / other[field]:.{digits}f}"


def share(one: Found | None, other: Found | None) -> str:
    text = ratio(one, other, "rate", 4)
    return text if text == "-" else f"{float(text):.0%}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown(found: Found) -> str:
    """All tables, followed by remarks."""
    where = found["machine"]
    pinned = f"peer on processor {where['peer_on']}, driver on {where['driver_on']}"
    versions = f"Linux {where['kernel']}, Python {where['python']}, QEMU {where['qemu'] or 'not installed'}"
    placed = pinned if where["peer_on"] is not None else "not pinned"
    parts = [f"{where['at']}; {where['processors']} processors ({where['model']}), {versions}; {placed}.\n"]
    if found["rows"]:
        parts += [
            f"\nPackets released (rewriter: frames of both ways) per second, median of {found['rounds']}:\n\n",
            _rates(found["rows"]),
        ]
        parts += ["\nSeconds of the peer's processor per million:\n\n", _seconds(found["rows"])]
    if found["latency"]:
        parts += ["\nOne pair in flight at 64 B, median in µs until it is back:\n\n", _latencies(found["latency"])]
    if notes := _notes(found):
        parts += ["\n", *(f"- {note}\n" for note in notes)]
    return "".join(parts)


def _rates(rows: list[Found]) -> str:
    lines = []
    for row in rows:
        peers = by_peer(row)
        qemu, relay, colo, sink = (peers.get(name) for name in ("qemu", "relay", "colo", "sink"))
        lines.append(
            [
                row["title"],
                rate(qemu),
                rate(relay),
                rate(colo),
                ratio(colo, qemu, "rate"),
                share(colo, relay),
                rate(sink),
            ]
        )
    return table(["", "QEMU", "relay", "colo proxy", "× QEMU", "of the relay", "driver into a sink"], lines)


def _seconds(rows: list[Found]) -> str:
    lines = []
    for row in rows:
        peers = by_peer(row)
        ordered = [peers.get(name) for name in ("qemu", "relay", "colo")]
        cells = ["-" if not one or not one["cpu"] else f"{one['cpu_s_per_million']:.2f}" for one in ordered]
        lines.append([row["title"], *cells, ratio(ordered[0], ordered[2], "cpu_s_per_million")])
    return table(["", "QEMU", "relay", "colo proxy", "QEMU / colo proxy"], lines)


def _latencies(latency: list[Found]) -> str:
    lines = []
    for state, title in STATES.items():
        peers = {one["peer"].partition("-")[0]: one for one in latency if one["state"] == state}
        cells = [f"{peers[name]['p50_us']:.1f}" if name in peers else "-" for name in ("qemu", "relay", "colo")]
        lines.append([title, *cells, ratio(peers.get("colo"), peers.get("qemu"), "p50_us", 2)])
    return table(["", "QEMU", "relay", "colo proxy", "colo proxy / QEMU"], lines)


def _notes(found: Found) -> list[str]:
    notes = []
    every = [(row, one) for row in found["rows"] for one in row["peers"]]
    if any(one["is_contended"] for _, one in every):
        notes.append("\\* other programs took part of the processors in every try of a round")
    notes += [f"{row['title']}: {NAMES[one['peer']]}: {one['wrong']}" for row, one in every if one["wrong"]]
    late = [row["title"] for row, one in every if one["reordered"] and one["peer"] == "qemu"]
    if late:
        notes.append(f"QEMU released frames out of their connection's order ({'; '.join(late)})")
    rates = {row["key"]: by_peer(row).get("colo") for row in found["rows"]}
    many = share(rates.get("compare-64-1000000"), rates.get("compare-64"))
    if many != "-":
        notes.append(f"1,000,000 connections: {many} of the rate at 1000")
    if one := rates.get("compare-64-1000000"):
        memory, pause = one["bytes_per_connection"], one["opening_pause_ms"]
        notes.append(
            f"1,000,000 handshakes: {memory:.0f} B more memory for each; longest pause at the output {pause:.1f} ms"
        )
    return notes


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────


def pictures(found: Found) -> dict[str, str]:
    """File name → SVG."""
    made = {}
    if found["rows"]:
        groups = [
            (row["title"], [(one["peer"], one["rate"], rate(one)) for one in _ordered(row)]) for row in found["rows"]
        ]
        made["rates.svg"] = bars("Packets per second", groups, ("qemu", "colo", "relay"))
    if found["latency"]:
        groups = []
        for state, title in (("awake", "back to back"), ("asleep", "after silence")):
            values = [one for one in found["latency"] if one["state"] == state]
            named = {one["peer"].partition("-")[0]: one["p50_us"] for one in values}
            groups.append((title, [(name, named[name], f"{named[name]:.1f} µs") for name in NAMES if name in named]))
        made["latency.svg"] = bars("Median latency of one pair", groups, ("qemu", "relay", "colo"))
    return made


def _ordered(row: Found) -> list[Found]:
    peers = by_peer(row)
    return [peers[name] for name in ("qemu", "colo", "relay") if name in peers]


def bars(title: str, groups: list[tuple[str, list[tuple[str, float, str]]]], names: tuple[str, ...]) -> str:
    """Horizontal bars: a group for each row, a bar for each peer, its number behind it."""
    largest = max((value for _, values in groups for _, value, _ in values), default=1) or 1
    parts, y = [], 58
    for text, values in groups:
        middle = y + len(values) * _BAR / 2 + 4
        parts.append(f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(text)}</text>')
        for name, value, label in values:
            width = max(1.0, value / largest * (WIDTH - _LEFT - _RIGHT))
            parts.append(f'<rect class="{name}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}"/>')
            parts.append(f'<text x="{_LEFT + width + 5:.1f}" y="{y + _BAR - 1}">{escape(label)}</text>')
            y += _BAR + 1
        y += _GAP
    keys, x = [], _LEFT
    for name in names:
        keys.append(f'<rect class="{name}" x="{x}" y="30" width="11" height="11"/>')
        keys.append(f'<text x="{x + 16}" y="40">{NAMES[name]}</text>')
        x += 110
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    head = f'<text class="head" x="{_LEFT}" y="18">{escape(title)}</text>'
    named = f'role="img" aria-label="{escape(title)}"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {named}>', _STYLE, head, *keys, *parts, "</svg>\n"]
    )
