"""Arbiters of a node: the cores of `pycolo.failover` with the processes and sockets that they need.

`make` gives the one that the configuration names. How to add another: see `live`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pycolo.arbiters.command import CommandArbiter
from pycolo.arbiters.etcd import EtcdArbiter
from pycolo.arbiters.httprequest import TlsFiles
from pycolo.arbiters.live import LiveArbiter
from pycolo.errors import ConfigError
from pycolo.failover.arbiter import ARBITERS, make_arbiter
from pycolo.failover.fencing import FencingArbiter
from pycolo.failover.kinds import ARBITER_KINDS
from pycolo.failover.lease import LeaseArbiter

__all__ = ["ArbiterSettings", "LiveArbiter", "make"]


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
        """How long that command may take."""

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
        """Before the pair's name in the names of the keys."""


def make(
    options: ArbiterSettings,
    *,
    pair: str,
    role: str,
    peer: str,
    identity: str,
    term: int,
    on_change: Callable[[], None],
) -> LiveArbiter:
    """The arbiter of a node that is about to start, in the event loop's thread. Raises `ConfigError`.

    `identity`: this node's own, the same after a restart, and not the other node's. `peer`: the other host, for the
    fencing command. `term`: the highest that this node knows. `on_change`: see `LiveArbiter`.
    """
    if options.kind == FencingArbiter.name:
        if not options.command:
            raise ConfigError("arbiter.command", "the words of a fencing command", list(options.command))
        values = {"peer": peer, "pair": pair, "role": role}
        return CommandArbiter(term, on_change, options.command, options.timeout_ms, values)
    if options.kind == LeaseArbiter.name:
        if not options.endpoints:
            raise ConfigError("arbiter.endpoints", "at least one URL", list(options.endpoints))
        tls = TlsFiles(options.ca, options.certificate, options.key)
        return EtcdArbiter(term, on_change, options.endpoints, options.ttl_ms, options.prefix, pair, identity, tls)
    if options.kind not in ARBITERS:
        raise ConfigError("arbiter.kind", f"one of {', '.join(ARBITER_KINDS)}", options.kind)
    return LiveArbiter(make_arbiter(options.kind, term), on_change)
