"""pycolo: the COLO proxy and its checkpoints as a program of their own.

Two replicas of a machine run on the same client input; the proxy lets the primary's answer out only when the
secondary gave the same one, and when either dies the other carries every TCP connection on.

The packages, in the order in which they may know one another:

    errors, limits      the error tree; every bound with its reason
    wire                bytes <-> fields
    conntrack, storage  connections; bounded memory for held packets
    compare, rewrite    colo-compare and filter-rewriter as pure cores
    link, failover      the node-to-node protocol; suspicion and permission
    ═════════════════   purity line: above it no I/O, clock, thread, randomness or log
    transport           TAP devices, sockets, TLS
    node                `colo primary` and `colo secondary`: the shells around the cores
    cli                 the command line

The laboratory (namespaces, guests, traffic, faults) is a distribution of its own, pycolo-lab.
"""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: that takes a tenth of a command's start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("pycolo")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
