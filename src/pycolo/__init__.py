"""pycolo: the COLO proxy and its checkpoints as a program of their own.

Two replicas of a machine receive the same client input. The proxy releases the primary's answer only if the secondary
gave the same one, and when either dies, the other carries every TCP connection on.

The packages, in the order in which they may import one another:

    errors, limits      the error tree; every bound with its reason
    wire                bytes <-> fields
    conntrack, storage  connections; bounded memory for held packets
    compare, rewrite    colo-compare and filter-rewriter as pure cores
    link, failover      the node-to-node protocol; suspicion and permission
    ═════════════════   purity line: above it no I/O, clock, thread, randomness or log
    transport           TAP devices, sockets, TLS
    node                `colo primary` and `colo secondary`: the shells around the cores
    cli                 the command line

    frames, api         for your own programs: `from pycolo import Comparator, Rewriter, frames` (docs/api.md)

The laboratory (namespaces, guests, traffic, faults) is a separate distribution, pycolo-lab.
"""

from typing import Any

__all__ = [
    "Comparator",
    "Difference",
    "DifferenceKind",
    "DivergencePolicy",
    "PycoloError",
    "ReportDifference",
    "RequestCheckpoint",
    "Rewriter",
    "__version__",
    "frames",
]

# The stub __init__.pyi declares these names for type checkers.
_PLACES = {
    "Comparator": "pycolo.api",
    "Difference": "pycolo.compare.difference",
    "DifferenceKind": "pycolo.compare.kinds",
    "DivergencePolicy": "pycolo.compare.kinds",
    "PycoloError": "pycolo.errors",
    "ReportDifference": "pycolo.compare.difference",
    "RequestCheckpoint": "pycolo.compare.difference",
    "Rewriter": "pycolo.api",
}


def __getattr__(name: str) -> Any:
    """The API, imported on first use: `import pycolo.cli` does not need it (PEP 562)."""
    from importlib import import_module  # noqa: PLC0415

    if name == "__version__":
        return _version()
    if name == "frames":
        return import_module("pycolo.frames")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("pycolo")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
