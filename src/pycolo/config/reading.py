"""Reads a node's file as a whole, and writes it."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec

from pycolo.config.keys import FOUND_CHARACTERS_MAX, Found, Key, Words, WrongError, shown_key
from pycolo.config.lines import line_of
from pycolo.config.section import Section
from pycolo.config.sections import REPLACED, PairConfig
from pycolo.errors import ConfigError, PycoloError

CONFIG_BYTES_MAX: Final = 64 << 10
"""A file with every key has 2 KiB; a secondary's command line adds a few more."""

TABLES_MAX: Final = 16
"""Of one array of tables; QEMU takes no more cards than that by default on its first bus."""

DOMAIN_SOCKETS: Final = "/run/colo/{}/qemu"
"""With `guest.domain`, the pair's `qemu.directory`: libvirt's QEMU has its own user, and makes its sockets there."""

DOMAIN_NETDEV: Final = "hostnet0"
"""The id that libvirt gives the netdev of a domain's first card."""

UNKNOWN_KEYS_SHOWN_MAX: Final = 20
"""Per table: a table with more keys belongs to some other file."""

S = TypeVar("S", bound=Section)


class ConfigFileError(ConfigError):
    """All errors of a file, one line each, in the order of its sections."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        PycoloError.__init__(self, "\n".join(map(str, errors)))
        self.errors = tuple(errors)
        self.path, self.expected, self.found = errors[0].path, errors[0].expected, errors[0].found


def load(path: Path) -> PairConfig:
    """The file's configuration. Raises `ConfigFileError`: every error of the file, one line each."""
    name = _shown_name(path)
    try:
        if not path.is_file():
            found = "a directory" if path.is_dir() else "something else" if path.exists() else "nothing there"
            raise _one_error(name, "a file in TOML", Words(found))
        with path.open("rb") as file:
            octets = file.read(CONFIG_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: an invalid path
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise _one_error(name, "a file that can be read", Words(str(why))) from error
    return parse(octets, name)


def parse(octets: bytes, name: str) -> PairConfig:
    """As `load`, from a file's first bytes; `name` is its name in messages."""
    if len(octets) > CONFIG_BYTES_MAX:
        raise _one_error(name, f"at most {CONFIG_BYTES_MAX} bytes", Words("more"))
    table = _with_domain(_parse_toml(octets, name))
    errors: list[ConfigError] = []
    config = _read_section(PairConfig, table, name, "", errors)
    if errors:
        raise ConfigFileError([_with_line(error, octets, name) for error in errors])
    assert config is not None
    return config


def _with_line(error: ConfigError, octets: bytes, name: str) -> ConfigError:
    """A key of one of several tables is looked for in a longer list than others: by its line."""
    found = re.fullmatch(re.escape(name) + r": ((bypass|mask|order)\[(\d+)\]\.(\w+).*)", error.path)
    line = found and line_of(octets.decode("utf-8-sig"), found[2], int(found[3]), found[4])
    if not found or not line:
        return error
    return ConfigError(f"{name}: line {line}: {found[1]}", error.expected, error.found)


def _one_error(place: str, expected: str, found: Found) -> ConfigFileError:
    return ConfigFileError([ConfigError(place, expected, found)])


def _with_domain(table: dict[str, object]) -> dict[str, object]:
    """What a file with `guest.domain` may leave out: where a secondary's QEMU listens, and its only card."""
    guest, qemu = table.get("guest"), table.get("qemu", {})
    if not isinstance(guest, dict) or not isinstance(qemu, dict):
        return table
    folder = qemu.get("directory", DOMAIN_SOCKETS.format(table.get("pair")))
    sockets = {"directory": folder, "qmp": f"{folder}/qmp.sock", "yank": f"{folder}/yank.sock"}
    return {"card": [{"netdev": DOMAIN_NETDEV}], **table, "qemu": {**sockets, **qemu}}


_TWICE: Final = re.compile(r"Cannot overwrite a value|Cannot declare .* twice")
_ONCE: Final = "each key once, and a table either as [name] or as [[name]]"
"""For what the parser says of a key that is there already, behind which it stands by then."""


def _parse_toml(octets: bytes, name: str) -> dict[str, object]:
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise _one_error(f"{name}: line {line}", "text in UTF-8", Words(f"byte 0x{octets[error.start]:02x}")) from error
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise _one_error(name, "TOML", Words("arrays or tables nested too deeply")) from error
    except ValueError as error:  # TOMLDecodeError is one; so is a number with too many digits
        said, _, place = str(error).rpartition(" (at ")
        matched = re.match(r"line (\d+), column (\d+)", place)
        at = (matched[1], matched[2]) if matched else _end_of(text) if place.startswith("end of") else None
        where = name if at is None else f"{name}: line {at[0]}, column {at[1]}"
        why = " ".join((said or str(error)).split())[: 2 * FOUND_CHARACTERS_MAX]
        written = "" if at is None else text.split("\n")[int(at[0]) - 1].rstrip("\r")
        if at is not None and _TWICE.fullmatch(why):
            raise _one_error(f"{name}: line {at[0]}", _ONCE, Found(written.strip())) from error
        rest = "" if at is None else written[int(at[1]) - 1 :]
        found = Found(rest) if rest and place.startswith("line") else Words("its end")
        raise _one_error(where, f"TOML ({why[:1].lower()}{why[1:]})", found) from error


def _end_of(text: str) -> tuple[int, int]:
    """Line and column of a text's last character, from 1."""
    text = text.rstrip()
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1)


def _read_section(
    kind: type[S], table: Mapping[str, object], name: str, prefix: str, errors: list[ConfigError]
) -> S | None:
    """The section, or None after an error. Its errors, and unknown keys in any case, are added to `errors`."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    unknown = [key for key in table if key not in fields]
    errors += [_unknown_key(key, name, prefix, fields) for key in unknown[:UNKNOWN_KEYS_SHOWN_MAX]]
    before = len(errors)
    values: dict[str, object] = {}
    for key, field in fields.items():
        place = f"{name}: {prefix}{key}"
        section, spec = section_and_key(field.type)
        given = table.get(key)
        if section is not None and is_array(field.type):
            values[key] = _read_tables(section, given, name, f"{prefix}{key}", errors, is_required=field.required)
        elif section is not None:
            if given is not None or field.default is not None:
                values[key] = _read_table(section, given, name, f"{prefix}{key}", errors, is_required=field.required)
        elif spec is not None and given is not None:
            try:
                values[key] = spec.read(given)
            except WrongError as wrong:
                errors.append(ConfigError(place + wrong.place, wrong.expected, Found(wrong.found)))
        elif spec is not None and field.required:
            errors.append(ConfigError(place, spec.expected, Found(None)))
    if len(errors) > before:
        return None
    made = kind(**values)
    errors += [ConfigError(f"{name}: {prefix}{key}", told, Found(found)) for key, told, found in made.contradictions()]
    return made


def _read_table(
    kind: type[S], given: object, name: str, prefix: str, errors: list[ConfigError], *, is_required: bool
) -> S | None:
    if (given is None and is_required) or (given is not None and not isinstance(given, dict)):
        needed = ", ".join(field.name for field in msgspec.structs.fields(kind) if field.required)
        wanted = f"a table [{prefix}]{f' with {needed}' if needed else ''}{kind.INSTEAD}"
        errors.append(ConfigError(f"{name}: {prefix}", wanted, Found(given)))
        return None
    return _read_section(kind, given if isinstance(given, dict) else {}, name, f"{prefix}.", errors)


def _read_tables(
    kind: type[S], given: object, name: str, prefix: str, errors: list[ConfigError], *, is_required: bool
) -> tuple[S | None, ...]:
    if given in (None, []):
        if is_required:
            errors.append(ConfigError(f"{name}: {prefix}", f"a table [[{prefix}]] with {kind.WANTED}", Found(None)))
        return ()
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        errors.append(ConfigError(f"{name}: {prefix}", f"tables [[{prefix}]]", Found(given)))
        return ()
    if len(given) > TABLES_MAX:
        errors.append(ConfigError(f"{name}: {prefix}", f"at most {TABLES_MAX} tables", Words(str(len(given)))))
        return ()
    return tuple(_read_section(kind, item, name, f"{prefix}[{number}].", errors) for number, item in enumerate(given))


def is_array(annotation: Any) -> bool:
    """Whether a field is an array of sections: `[[name]]`."""
    return get_origin(annotation) is tuple


def section_and_key(annotation: Any) -> tuple[type[Section] | None, Key | None]:
    """A field of a section: another section, or several, or a key."""
    if get_origin(annotation) is Annotated:
        return None, annotation.__metadata__[0]
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind not in (NoneType, ...)]
    return kinds[0], None


def _unknown_key(key: str, name: str, prefix: str, fields: Mapping[str, object]) -> ConfigError:
    near = get_close_matches(key, fields, n=1)
    if replaced := REPLACED.get(f"{prefix}{key}"):
        expected = replaced
    elif near:
        expected = f"a key that exists (did you mean {near[0]}?)"
    elif elsewhere := [section for section, keys in _KEYS.items() if key in keys and f"{section}." != prefix]:
        places = " or ".join(_TITLES[section] for section in elsewhere)
        expected = f"a key that exists here (it belongs into {places})"
    else:
        expected = f"one of the keys {', '.join(fields)}"
    return ConfigError(f"{name}: {prefix}{shown_key(key)}", expected, Words("an unknown key"))


_KEYS: Final = {
    field.name: {key.name for key in msgspec.structs.fields(section)}
    for field in msgspec.structs.fields(PairConfig)
    if (section := section_and_key(field.type)[0]) is not None
}

_TITLES: Final = {
    field.name: f"[[{field.name}]]" if is_array(field.type) else f"[{field.name}]"
    for field in msgspec.structs.fields(PairConfig)
}


def _shown_name(path: Path) -> str:
    name = str(path)
    return name if name.isprintable() else repr(name)


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def describe(config: PairConfig) -> str:
    """TOML with every key that has a value, defaults too; `parse` reads the same configuration from it."""
    return "\n".join(_section_lines(config, "")).lstrip("\n") + "\n"


def _section_lines(section: Section, title: str) -> Iterator[str]:
    if title:
        yield f"\n[{title}]"
    inner: list[tuple[str, Section]] = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            inner.append((field.name, value))
        elif is_array(field.type):
            inner += [(f"[{field.name}]", one) for one in value]
    yield from (f"{key} = {value}" for key, value in written(section).items())
    for name, value in inner:
        yield from _section_lines(value, name)


def written(section: Section, *, with_defaults: bool = True) -> dict[str, str]:
    """The values of a table's own keys, as TOML."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(type(section)):
        value = getattr(section, field.name)
        _, key = section_and_key(field.type)
        if key is None or value in (None, [], {}, ""):
            continue
        if with_defaults or value != field.default:
            found[field.name] = _toml(key.write(value))
    return found


def one_line(section: Section) -> str:
    """The keys of a table that do not have their default, as an inline table."""
    return "{ " + ", ".join(f"{key} = {value}" for key, value in written(section, with_defaults=False).items()) + " }"


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case dict():
            return "{ " + ", ".join(f"{_toml(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            raise AssertionError(value)
