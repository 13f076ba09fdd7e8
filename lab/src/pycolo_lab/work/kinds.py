"""The kinds of work, by the names of the scenarios."""

from typing import Final, NamedTuple

from pycolo_lab.work import copying, incr, keys, tpcb


class Kind(NamedTuple):
    """What does the work."""

    module: str
    """Run as a process in the client's namespace."""
    programs: tuple[str, ...] = ()
    """That it needs on PATH."""


WORKS: Final = {
    "pgbench": Kind(tpcb.__name__, ("pgbench", "psql")),
    "redis": Kind(incr.__name__),
    "scp": Kind(copying.__name__, ("scp", "ssh")),
    "ssh": Kind(keys.__name__, ("ssh",)),
}
