"""What the files of a pair's two nodes must say alike: either node may come to compare, to decide and to serve."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

import msgspec

from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.config.reading import one_line, written

FATAL: Final = ("guest.domain", "arbiter.kind", "arbiter.prefix")
"""Two nodes that differ in one of these cannot protect one guest, or would both be permitted to serve."""

SECTIONS: Final = ("checkpoint", "protect", "compare", "heartbeat")
"""Each of their keys. A node that differs in one is another primary than its user knows."""

TABLES: Final = ("bypass", "mask", "order")
"""`[[name]]`: in which order they stand means nothing, but for the numbers of masks without a name."""

COUNTED: Final = ("card", "disks")
"""What they name is each host's own; how many there are is not."""

SHOWN_CHARACTERS_MAX: Final = 160
"""Of a table: a pattern may have a thousand."""

TOLD_CHARACTERS_MAX: Final = 400
"""Of a table, so that all of a file fit into one answer; for the rest stands a digest."""

_LEAD_CHARACTERS: Final = 40
_NAME: Final = "both files"
_CURE: Final = "write the same into both files, and restart the node whose file has changed"
_NONE: Final = "none"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one node goes by: `keys` by their paths, as TOML; `tables` by name, each as an inline table.

    Within a table, keys with their default are left out: a later version may have more of them.
    """

    file: str
    keys: dict[str, str]
    tables: dict[str, list[str]]


def told(config: PairConfig, file: str) -> Told:
    """Of a node that was started with this file."""
    keys: dict[str, str] = {}
    for name in SECTIONS:
        section = getattr(config, name)
        keys |= {f"{name}.{key}": value for key, value in written(section).items()}
    for path in FATAL:
        name, _, key = path.partition(".")
        section = getattr(config, name)
        keys[path] = _NONE if section is None else written(section).get(key, _NONE)
    if config.arbiter.kind != "etcd":
        del keys["arbiter.prefix"]
    keys["card"] = str(len(config.card))
    keys["disks"] = _NONE if config.disks is None else "given"
    tables = {name: [_told_table(one_line(table)) for table in getattr(config, name)] for name in TABLES}
    return Told(file=file, keys=keys, tables=tables)


def _told_table(text: str) -> str:
    if len(text) <= TOLD_CHARACTERS_MAX:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:TOLD_CHARACTERS_MAX]}… (of {len(text)} characters, sha256 {digest})"


def alike_items(own: Told, other: Told | None) -> Iterator[Item]:
    """`other` None: an earlier version, which does not say."""
    if other is None:
        yield warning(
            _NAME,
            "not known what the other node's file says: its node is of an earlier version; see yourself that "
            f"{', '.join(f'[[{name}]]' for name in TABLES)} are the same in both",
        )
        return
    found = [*_key_items(own, other), *_table_items(own, other)]
    if not found:
        found = [ok(_NAME, f"{own.file} here and {other.file} there agree in what must be the same")]
    yield from found


def _key_items(own: Told, other: Told) -> Iterator[Item]:
    """A key that only one of the two versions has is not compared."""
    for path in own.keys:
        if path not in other.keys or own.keys[path] == other.keys[path]:
            continue
        is_fatal = path in FATAL or path in COUNTED
        name = {"card": "[[card]]", "disks": "[disks]"}.get(path, path)
        yield (refused if is_fatal else warning)(
            name, f"{own.keys[path]} in {own.file} here, {other.keys[path]} in {other.file} there: {_CURE}"
        )


def _table_items(own: Told, other: Told) -> Iterator[Item]:
    for name, ours in own.tables.items():
        if name not in other.tables:
            continue
        theirs = other.tables[name]
        only_here, only_there = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
        pairs = zip_longest(only_here.elements(), only_there.elements(), fillvalue=_NONE)
        for one, another in pairs:
            here, there = shown(one, another)
            yield warning(f"[[{name}]]", f"{here} in {own.file} here, {there} in {other.file} there: {_CURE}")


def shown(one: str, other: str) -> tuple[str, str]:
    """Both shortened, so that where they differ can be seen."""
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(0, same - _LEAD_CHARACTERS) if max(len(one), len(other)) > SHOWN_CHARACTERS_MAX else 0
    return _cut(one, begin), _cut(other, begin)


def _cut(text: str, begin: int) -> str:
    if text == _NONE:
        return text
    end = begin + SHOWN_CHARACTERS_MAX
    return ("…" if begin else "") + text[begin:end] + ("…" if len(text) > end else "")
