"""The kinds of work, by the names of the scenarios."""

from typing import Final, NamedTuple

from pycolo_lab.work import copying, incr, keys, mixed, tpcb


class Kind(NamedTuple):
    """What does the work."""

    text: str
    """What it is, behind "under"."""
    module: str
    """Run as a process in the client's namespace."""
    programs: tuple[str, ...] = ()
    """That it needs on PATH."""


WORKS: Final = {
    "pgbench": Kind("transactions of four clients (PostgreSQL)", tpcb.__name__, ("pgbench", "psql")),
    "redis": Kind("INCR of six clients (redis)", incr.__name__),
    "redis-mixed": Kind("transactions, scripts and a queue (redis)", mixed.__name__),
    "scp": Kind("copies of 50 MB, there and back", copying.__name__, ("scp", "ssh")),
    "ssh": Kind("a session in which keys are typed", keys.__name__, ("ssh",)),
}
