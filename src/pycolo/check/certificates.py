"""The link's certificates, of both roles: either host may become the primary."""

import os
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pycolo.check.table import Item, ok, refused, warning
from pycolo.errors import ConfigError
from pycolo.link.hello import Role
from pycolo.transport import tls
from pycolo.transport.certs import NodeFiles, authority_key, check_own_files, node_files

RENEW: Final = timedelta(days=30)
"""So long before a certificate expires it is time to make new ones: both hosts need them at the same time."""

_ENCRYPTED: Final = b"ENCRYPTED"


def certificate_items(directory: Path, pair: str, now: datetime) -> Iterator[Item]:
    """One item per role, and one if the authority's key is on this host."""
    for role in Role:
        name = f"link.tls {role}"
        try:
            yield _role_item(name, node_files(directory, role), pair, role, now)
        except ConfigError as error:
            yield refused(name, str(error))
        except OSError as error:
            why = error.strerror or error
            yield refused(name, f"{error.filename or directory}: {why}: let the node's user read it, and check as that")
    key = authority_key(directory)
    if os.path.lexists(key):
        yield warning("link.tls", f"{key} is on this host: keep it elsewhere, its owner can impersonate either node")


def _role_item(name: str, files: NodeFiles, pair: str, role: Role, now: datetime) -> Item:
    directory = files.key.parent
    missing = [path.name for path in files if not path.exists()]
    if missing:
        return refused(
            name,
            f"{directory} has no {', '.join(missing)}: either host may become the {role}, so both need them; "
            "copy them from the directory of `colo certs init`",
        )
    check_own_files(directory, pair, role, now)
    if _ENCRYPTED in files.key.read_bytes():
        return refused(name, f"{files.key} is encrypted: a node cannot ask for its password; decrypt it")
    fault = _handshake_fault(directory, pair, role)
    if fault:
        return refused(name, f"{files.certificate} and {files.authority} do not fit: {fault}")
    return _age_item(name, files, now)


def _age_item(name: str, files: NodeFiles, now: datetime) -> Item:
    from pycolo.transport.certificates import said_by  # noqa: PLC0415 - slow to import

    end, path = min((said_by(path.read_bytes())[1][1], path) for path in (files.certificate, files.authority))
    if end < now:
        return refused(name, f"{path} has expired on {end:%Y-%m-%d}: make new ones with `colo certs init --force`")
    if end - now < RENEW:
        return warning(
            name, f"{path} expires on {end:%Y-%m-%d}: make new ones with `colo certs init --force`, for both hosts"
        )
    return ok(name, f"{files.certificate} is valid until {end:%Y-%m-%d}")


def _handshake_fault(directory: Path, pair: str, role: Role) -> str:
    """Shake hands with itself, in memory: so the other node will judge these files. Raises `ConfigError`."""
    server_in, client_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        tls.client_context(directory, pair, role).wrap_bio(client_in, server_in),
        tls.server_context(directory, pair, role).wrap_bio(server_in, client_in, server_side=True),
    )
    done = set()
    for _ in range(3):  # hello; certificates; the server's last look
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return error.reason or str(error)
    return "" if len(done) == len(ends) else "the TLS handshake does not end"
