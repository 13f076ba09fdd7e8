"""What this host is doing at the moment of a check."""

from typing import NamedTuple

from pycolo.link.hello import Role


class Moment(NamedTuple):
    """`role`: this node's own, of the moment. `pid`: the running node's process; None: no node runs."""

    role: Role
    pid: int | None = None
    may_take_over: bool = False
    """The pair is protected or in doubt: this node may begin to serve while the check is at work."""
    is_linked: bool = False
    """The other node is heard."""
    term: int = 0

    @property
    def is_running(self) -> bool:
        """Whether a node of this pair runs on this host."""
        return self.pid is not None

    @property
    def why_not_retire(self) -> str:
        """Why `retire` must not be run now; empty if it may be."""
        if self.role is Role.PRIMARY:
            return "the guest of this host serves, or is to"
        return "this node may take over at any moment" if self.may_take_over else ""
