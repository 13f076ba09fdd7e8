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
    lab, cli            namespaces, guests, traffic, faults; the command line
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pycolo")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
