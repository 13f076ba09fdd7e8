"""What the store's two keys allow a node: pure judgements of the arbiter `etcd` (`failover.lease`).

**A grant is open** until its holder serves, and says so in the key `term`. Meanwhile that node may have died before it
served. So an open grant makes no replica old: the other node waits and keeps its guest. It may claim a term of its own
when the grant was returned, or when an operator says that its holder is down.
"""

from enum import Enum
from typing import NamedTuple

from pycolo.failover.store import KeysRead, Terms


class Goal(Enum):
    """What this node wants of the store."""

    NONE = "none"
    ACQUIRE = "acquire"
    TAKE_OVER = "take over"
    GO_ALONE = "go alone"
    SEIZE = "seize"
    """As the two before, by an operator's word: it counts where the store cannot know, never against what it knows."""


class Standing(NamedTuple):
    """What this node is to the store. `term` is its pair's; `held_term` 0: not held since the last resignation."""

    identity: str
    goal: Goal
    term: int
    held_term: int


class Refusal(NamedTuple):
    """Why the keys allow no claim. `is_final`: this node's state is old, or another node serves."""

    text: str
    is_final: bool = False


def refusal(keys: KeysRead, node: Standing) -> Refusal | None:
    """Why this node may not claim the key, which is not under a lease of this process."""
    return _held_by_other(keys, node) or _outdated(keys, node) or _open(keys, node) or _forgotten(keys, node)


def terms_with(keys: KeysRead, node: Standing, term: int) -> Terms:
    """The key `term` with this node's claim of `term`: open where the node has not served under it yet."""
    granted = max(keys.highest_term, term)
    if node.goal in (Goal.NONE, Goal.ACQUIRE):
        return Terms(node.identity, term, granted)
    served = (keys.term.holder, keys.term.term) if keys.term is not None else ("", 0)
    return Terms(*served, granted, node.identity)


def _held_by_other(keys: KeysRead, node: Standing) -> Refusal | None:
    server = keys.server
    if server is None:
        return None
    is_own = server.holder == node.identity
    if is_own and node.goal is Goal.ACQUIRE and not node.held_term:
        return None  # the key of an earlier process of this node
    text = f"{server.holder} holds the lease, under term {server.term}"
    waits = node.goal in (Goal.TAKE_OVER, Goal.SEIZE) and not node.held_term
    if waits and server.term <= node.term:
        is_refuted = node.goal is Goal.SEIZE and not is_own
        alive = f"; if it renews the lease, {server.holder} is not down" if is_refuted else ""
        return Refusal(f"{text}; etcd is asked again until it has run out{alive}")
    has_served = keys.term is not None and (keys.term.holder, keys.term.term) == (server.holder, server.term)
    if not is_own and not has_served:
        return Refusal(f"{text}, and may serve at any moment; this node waits")
    return Refusal(f"{text}; this node must not serve", is_final=True)


def _outdated(keys: KeysRead, node: Standing) -> Refusal | None:
    terms = keys.term
    if terms is None:
        return None
    is_own = terms.holder == node.identity
    if node.held_term:
        is_later = terms.term > node.held_term or (terms.term == node.held_term and not is_own)
    elif node.goal in (Goal.TAKE_OVER, Goal.SEIZE):
        is_later = terms.term > node.term
    else:
        is_later = not is_own and terms.term >= node.term
    if not is_later:
        return None
    said = f"{terms.holder} was granted term {terms.term}; this node's state is older: it must not serve"
    return Refusal(said, is_final=True)


def _open(keys: KeysRead, node: Standing) -> Refusal | None:
    terms = keys.term
    if terms is None or terms.grantee in ("", node.identity) or node.goal is Goal.SEIZE:
        return None
    if node.goal is Goal.TAKE_OVER and terms.granted <= node.term:
        return None  # this node's pair works under it: whatever was served under it, its state has
    return Refusal(
        f"{terms.grantee} was granted term {terms.granted}, and may have served under it: start its node, or run "
        f"`colo failover` here if {terms.grantee} is lost"
    )


def _forgotten(keys: KeysRead, node: Standing) -> Refusal | None:
    if node.goal is not Goal.TAKE_OVER or node.held_term:
        return None
    if keys.term is not None and keys.highest_term >= node.term:
        return None
    found = "no term" if keys.term is None else f"term {keys.highest_term}"
    return Refusal(
        f"etcd holds {found} for this pair, which works under term {node.term}: is it the same etcd? "
        f"Waiting for the operator (`colo failover`)"
    )
