"""A small certificate authority for one pair of nodes, and its files.

::

    DIR/ca.pem               whom to trust
    DIR/ca-key.pem           signs; on neither host: keep it off line, or delete it
    DIR/primary.pem          who the primary is
    DIR/primary-key.pem
    DIR/secondary.pem        who the secondary is
    DIR/secondary-key.pem

Either host of a `colo node` pair may become the primary: both need all of them but ca-key.pem. `colo primary` and
`colo secondary` keep their roles: such a host needs ca.pem, and its role's certificate and key.

One authority per pair: a node trusts no other. A node's certificate names pair and role in a URI,
``colo:PAIR/primary``, and no host: a node may move to another host, but not to another pair or role. To revoke a
certificate, make a new authority (`--force`) and copy the new files.
"""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from pycolo.errors import ConfigError, ConnectError
from pycolo.link.hello import Role, check_pair_name

VALID_DAYS_DEFAULT: Final = 730
"""Two years: few renewals, and the procedure is still known."""

VALID_DAYS_MAX: Final = 3_650

BACKDATED: Final = timedelta(days=1)
"""The hosts' clocks may differ; a new certificate must be valid on both."""

_FILE_NAMES: Final = frozenset(
    {"ca.pem", "ca-key.pem"} | {f"{role}{suffix}.pem" for role in Role for suffix in ("", "-key")}
)


class NodeFiles(NamedTuple):
    """The three files that a node needs in one role."""

    authority: Path
    certificate: Path
    key: Path


def node_files(directory: Path, role: Role) -> NodeFiles:
    """The files for `role`."""
    return NodeFiles(directory / "ca.pem", directory / f"{role}.pem", directory / f"{role}-key.pem")


def files_of_both_roles(directory: Path) -> list[Path]:
    """The files that a node needs whose role may change."""
    return list(dict.fromkeys(path for role in Role for path in node_files(directory, role)))


def authority_key(directory: Path) -> Path:
    """What signs; on neither host."""
    return directory / "ca-key.pem"


def node_uri(pair: str, role: Role) -> str:
    """The URI that names a node in its certificate."""
    return f"colo:{pair}/{role}"


def create(directory: Path, pair: str, days: int, now: datetime, *, force: bool = False) -> datetime:
    """Make the authority and both certificates in `directory` (created if missing). Returns when they expire.

    Raises `ConfigError` for a bad argument, for existing files (unless `force`) and for a directory with other content;
    `ConnectError` if a file cannot be written. Either all files are replaced, or none.
    """
    from pycolo.transport.certificates import contents_of  # noqa: PLC0415 - see there

    check_pair_name(pair)
    if not 1 <= days <= VALID_DAYS_MAX:
        raise ConfigError("--days", f"1 to {VALID_DAYS_MAX}", days)
    try:
        _prepare(directory, force=force)
        ends = now.astimezone(UTC) + timedelta(days=days)
        uris = {role: node_uri(pair, role) for role in Role}
        _write_all(directory, contents_of(pair, uris, (now.astimezone(UTC) - BACKDATED, ends)))
    except OSError as error:
        raise ConnectError(f"{error.filename or directory}: cannot be written: {error.strerror}") from error
    return ends


def check_own_files(directory: Path, pair: str, role: Role, now: datetime) -> None:
    """Raises `ConfigError` if a file of this node is missing, readable by others, expired or another node's.

    The other node would refuse them too, but they must be corrected on this host.
    """
    from pycolo.transport.certificates import said_by  # noqa: PLC0415 - see there

    files = node_files(directory, role)
    for path in files:
        if not path.is_file():
            expected = f"the files {', '.join(file.name for file in files)} of `colo certs init`"
            raise ConfigError(str(directory), expected, f"no {path.name}")
    mode = stat.S_IMODE(files.key.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(str(files.key), "a key that only its owner can read (chmod 600)", f"{mode:04o}")
    try:
        found, (begin, end) = said_by(files.certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(str(files.certificate), "a certificate in PEM", str(error)) from error
    if node_uri(pair, role) not in found:
        raise ConfigError(str(files.certificate), f"a certificate for {node_uri(pair, role)}", ", ".join(found))
    if not begin <= now <= end:
        expected = f"a certificate that is valid now ({now:%Y-%m-%d}); make new ones with `colo certs init --force`"
        span = f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}"
        raise ConfigError(str(files.certificate), expected, span)


# ── writing them ────────────────────────────────────────────────────────────────────────────────────────────


def _prepare(directory: Path, *, force: bool) -> None:
    """An empty directory for its owner only, or with `force` one with an earlier set of files."""
    try:
        directory.mkdir(mode=0o700)
        return
    except FileExistsError:
        found = {path.name for path in directory.iterdir()}
    # Its mode will be restricted: that must not happen to a home directory.
    if found - _FILE_NAMES:
        raise ConfigError(str(directory), "a directory of its own", ", ".join(sorted(found - _FILE_NAMES)[:3]))
    if found and not force:
        raise ConfigError(
            str(directory),
            "an empty directory, or --force to replace what is there",
            ", ".join(sorted(found)),
        )
    directory.chmod(0o700)


def _write_all(directory: Path, contents: dict[str, bytes]) -> None:
    """Write all under temporary names first, so that a full disk leaves the earlier files unchanged."""
    waiting: list[tuple[Path, Path]] = []
    try:
        for name, content in contents.items():
            path = directory / name
            temporary = directory / f".{name}.{os.getpid()}"
            waiting.append((temporary, path))
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        while waiting:
            temporary, path = waiting[0]
            temporary.replace(path)
            del waiting[0]
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
