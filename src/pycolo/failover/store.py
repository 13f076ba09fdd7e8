"""What a lease needs of its store: requests and answers, without the store's protocol.

The store orders all requests, keeps a key that is bound to a lease for no shorter than the lease's time after it was
granted or renewed, and deletes it then. Its revisions only grow; a key that is not there has revision 0.
"""

from typing import NamedTuple


class Record(NamedTuple):
    """One key of the pair. `lease` is 0 for a key without one."""

    holder: str
    term: int
    lease: int
    revision: int


class ReadKeys(NamedTuple):
    """Read both keys at one moment, and not from a member that may be behind."""


class GrantLease(NamedTuple):
    """Make a lease, at least `ttl_s` long."""

    ttl_s: int


class RenewLease(NamedTuple):
    """Let the lease run anew."""

    lease: int


class Claim(NamedTuple):
    """Write both keys, if neither was written since it was read: they have these revisions still."""

    lease: int
    holder: str
    term: int
    server_revision: int
    term_revision: int


class RevokeLease(NamedTuple):
    """End the lease, and with it its key."""

    lease: int


Request = ReadKeys | GrantLease | RenewLease | Claim | RevokeLease


class KeysRead(NamedTuple):
    """Both keys at one moment. `raft_term`: in which the store's leader has confirmed that it still is."""

    server: Record | None
    term: Record | None
    raft_term: int

    @property
    def server_revision(self) -> int:
        """For a claim: the revision of `server`."""
        return 0 if self.server is None else self.server.revision

    @property
    def term_revision(self) -> int:
        """For a claim: the revision of `term`."""
        return 0 if self.term is None else self.term.revision


class LeaseGranted(NamedTuple):
    """A new lease; `ttl_s` may be longer than asked. Granted in `raft_term` or before."""

    lease: int
    ttl_s: int
    raft_term: int


class LeaseRenewed(NamedTuple):
    """Answered under `raft_term`, by a member that may have been behind."""

    ttl_s: int
    raft_term: int


class Claimed(NamedTuple):
    """Whether the claim was done; if not, a key has changed."""

    is_done: bool


class LeaseGone(NamedTuple):
    """There is no such lease, or no more: also the answer to `RevokeLease`."""


Answer = KeysRead | LeaseGranted | LeaseRenewed | Claimed | LeaseGone
