"""What a lease needs of its store: requests and answers, without the store's protocol.

The store orders all requests. It keeps a key that is bound to a lease for at least the lease's time after the lease was
granted or renewed, and deletes the key then. Its revisions only grow; a key that does not exist has revision 0.
"""

from typing import NamedTuple


class Record(NamedTuple):
    """The key `server`: the node that may serve, and its term. `lease` is 0 for a key without one."""

    holder: str
    term: int
    lease: int
    revision: int


class Terms(NamedTuple):
    """The value of the key `term`: `holder` served last, under `term`; `granted` is the highest term ever granted.

    `grantee`: the node that has been granted it and may, or may not, have served under it; empty when that is known.
    """

    holder: str
    term: int
    granted: int
    grantee: str = ""


class TermRecord(NamedTuple):
    """The key `term`."""

    holder: str
    term: int
    granted: int
    grantee: str
    revision: int


class ReadKeys(NamedTuple):
    """Read both keys at one moment, and not from a member that may be behind."""


class GrantLease(NamedTuple):
    """Create a lease of at least `ttl_s`."""

    ttl_s: int


class RenewLease(NamedTuple):
    """Start the lease's time again."""

    lease: int


class Claim(NamedTuple):
    """Write both keys if both still have the revisions that were read."""

    lease: int
    holder: str
    term: int
    terms: Terms
    server_revision: int
    term_revision: int


class KeepTerms(NamedTuple):
    """Write the key `term` if both keys still have the revisions that were read."""

    terms: Terms
    server_revision: int
    term_revision: int


class RevokeLease(NamedTuple):
    """End the lease; its key is deleted with it."""

    lease: int


Request = ReadKeys | GrantLease | RenewLease | Claim | KeepTerms | RevokeLease


class KeysRead(NamedTuple):
    """Both keys at one moment. `raft_term`: the one in which the store's leader has confirmed that it still leads."""

    server: Record | None
    term: TermRecord | None
    raft_term: int

    @property
    def server_revision(self) -> int:
        """For a claim: the revision of `server`."""
        return 0 if self.server is None else self.server.revision

    @property
    def term_revision(self) -> int:
        """For a claim: the revision of `term`."""
        return 0 if self.term is None else self.term.revision

    @property
    def highest_term(self) -> int:
        """No term above this one was ever granted."""
        server = 0 if self.server is None else self.server.term
        return server if self.term is None else max(server, self.term.term, self.term.granted)


class LeaseGranted(NamedTuple):
    """A new lease; `ttl_s` may be longer than requested. Granted in `raft_term` or before."""

    lease: int
    ttl_s: int
    raft_term: int


class LeaseRenewed(NamedTuple):
    """Answered in `raft_term`, by a member that may have been behind."""

    ttl_s: int
    raft_term: int


class Claimed(NamedTuple):
    """The answer to `Claim` and `KeepTerms`; not done: a key has changed."""

    is_done: bool


class LeaseGone(NamedTuple):
    """The lease does not exist, or no longer: also the answer to `RevokeLease`."""


Answer = KeysRead | LeaseGranted | LeaseRenewed | Claimed | LeaseGone
