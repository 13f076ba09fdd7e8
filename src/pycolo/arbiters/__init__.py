"""A node's arbiters: the cores of `pycolo.failover` with the processes and sockets that they need.

`make` returns the one that the configuration names. To add another one, see `runner`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from pycolo.arbiters.command import FencingCommand
from pycolo.arbiters.etcdclient import EtcdStore
from pycolo.arbiters.httprequest import TlsFiles
from pycolo.arbiters.runner import ArbiterRunner
from pycolo.errors import ConfigError
from pycolo.failover.arbiter import ARBITERS, make_arbiter
from pycolo.failover.fencing import FencingArbiter
from pycolo.failover.kinds import ARBITER_KINDS
from pycolo.failover.lease import LeaseArbiter
from pycolo.failover.turns import Turns

__all__ = ["ArbiterRunner", "ArbiterSettings", "make"]

REQUESTS_PER_LEASE: Final = 6
"""Time-out of a request: this part of the lease's time, so that two endpoints can be tried between two renewals."""

REQUEST_S_MIN: Final = 0.2
REQUEST_S_MAX: Final = 2.0
"""Within these: a disk that syncs takes tens of milliseconds, and after 2 s no answer is worth waiting for."""


class ArbiterSettings(Protocol):
    """The table [arbiter] of a node's configuration; `pycolo.config.ArbiterOptions` is one."""

    @property
    def kind(self) -> str:
        """One of `ARBITER_KINDS`."""

    @property
    def command(self) -> Sequence[str]:
        """Words of the fencing command."""

    @property
    def timeout_ms(self) -> int:
        """That command's time limit."""

    @property
    def head_start_ms(self) -> int:
        """How long a turn of that command is."""

    @property
    def endpoints(self) -> Sequence[str]:
        """URLs of etcd's members."""

    @property
    def ttl_ms(self) -> int:
        """The lease's time; etcd counts whole seconds, and has a least time of its own."""

    @property
    def ca(self) -> Path | None:
        """PEM file of the authority that etcd's certificate is signed by; None: the system's."""

    @property
    def certificate(self) -> Path | None:
        """PEM file of the certificate that etcd is shown."""

    @property
    def key(self) -> Path | None:
        """PEM file of its key."""

    @property
    def prefix(self) -> str:
        """Prefix of the keys' names, before the pair's name."""


def make(
    options: ArbiterSettings,
    *,
    pair: str,
    role: Callable[[], str],
    peer: str,
    identity: str,
    term: int,
    apart_ms: int,
    on_change: Callable[[], None],
) -> ArbiterRunner:
    """The arbiter of a node that is about to start, in the event loop's thread. Raises `ConfigError`.

    `identity`: this node's own, the same after a restart, and not the other node's. For the fencing command: `peer`,
    the other host, and `role()`, which is this node's role of the moment. `term`: the highest that this node knows.
    `apart_ms`: how far the suspicions of both nodes may lie apart.
    `on_change`: see `ArbiterRunner`.
    """
    if options.kind == FencingArbiter.name:
        if not options.command:
            raise ConfigError("arbiter.command", "the words of a fencing command", list(options.command))
        command = FencingCommand(
            options.command, options.timeout_ms, lambda: {"peer": peer, "pair": pair, "role": role()}
        )
        turns = Turns(options.head_start_ms, apart_ms)
        return ArbiterRunner(FencingArbiter(term, turns), on_change, command.ask)
    if options.kind == LeaseArbiter.name:
        if not options.endpoints:
            raise ConfigError("arbiter.endpoints", "at least one URL", list(options.endpoints))
        timeout_s = min(max(options.ttl_ms / 1000 / REQUESTS_PER_LEASE, REQUEST_S_MIN), REQUEST_S_MAX)
        tls = TlsFiles(options.ca, options.certificate, options.key)
        store = EtcdStore(options.endpoints, options.prefix, pair, timeout_s, tls)
        return ArbiterRunner(LeaseArbiter(term, identity, options.ttl_ms), on_change, store.ask)
    if options.kind not in ARBITERS:
        raise ConfigError("arbiter.kind", f"one of {', '.join(ARBITER_KINDS)}", options.kind)
    return ArbiterRunner(make_arbiter(options.kind, term), on_change)
