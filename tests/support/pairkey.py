"""Which worlds of `support.pairworld` are one and the same to the model checker."""

from typing import Any, Final

from pycolo.failover.pairstates import Command, Fact, Role, State
from support import leaseworld
from support.pairworld import PATH_ANSWERS, Node, World

F = Fact

_INDEX: Final = {word: number for number, word in enumerate((*State, *Fact, *Command))}

Key = tuple[Any, ...]


def key(world: World) -> Key:
    """The same for two worlds that differ only by their numbers, or by which node is which."""
    one, other = (_side(node) for node in world.nodes)
    if one == other:
        return min(_key(world, 0), _key(world, 1), key=None if world.leases is None else repr)
    return _key(world, 0 if one < other else 1)


def _side(node: Node) -> tuple[int, int, int]:
    state = -1 if node.pair is None else _INDEX[node.pair.state]
    return state, node.disk.role is Role.PRIMARY, node.has_guest


def _key(world: World, first: int) -> Key:
    one, other = world.nodes[first], world.nodes[1 - first]
    terms = [one.disk.term, other.disk.term]
    links = {0}
    for pair in (one.pair, other.pair):
        if pair is not None:
            terms.append(pair.term)
            links.add(pair.link)
            links.add(pair.last_link)
    for message in world.messages:
        links.add(message.link)
    low = min(terms)
    rank = _ranks(links)
    numbers = [*_node_key(one, low, rank), *_node_key(other, low, rank)]
    if world.messages:
        found = []
        for message in world.messages:
            asked = world.nodes[1 - message.to if message.fact is F.DISCARD_ASKED else message.to].pair
            known = message.ask
            if asked is not None:
                known = asked.doubt if message.fact in PATH_ANSWERS else asked.asked
            where = message.to ^ first
            found.append((where, _INDEX[message.fact], rank[message.link], message.ask == known, message.term - low))
        for one_found in sorted(found):
            numbers += one_found
    for target, by, ticks in sorted(world.orders):
        numbers += (target ^ first, by ^ first, ticks)
    etcd = world.etcd
    if etcd is not None:
        whose = [who ^ first if who >= 0 else -1 for who in (etcd.holder, etcd.grantee, etcd.seizer)]
        numbers += (*whose, etcd.term - low, etcd.ticks, etcd.is_up)
    looked = world.looked ^ first if world.looked >= 0 else -1
    told = world.told ^ first if world.told >= 0 else -1
    shot = sum(1 << (target ^ first) for target in set(world.shot))
    numbers += (len(world.messages), len(world.orders), world.is_wired, world.has_path, looked, told, shot)
    found = (*numbers, world.served_term - low, *world.budget)
    return found if world.leases is None else (*found, *leaseworld.key(world.leases, first))


def _ranks(links: set[int]) -> dict[int, int]:
    return {value: number for number, value in enumerate(sorted(links))}


def _node_key(node: Node, low: int, rank: dict[int, int]) -> Key:
    pair = node.pair
    disk = node.disk
    job = _INDEX[node.job] if node.job is not None else -1
    flags = (
        node.has_guest
        | node.is_fresh << 1
        | node.is_on << 2
        | node.is_paused << 3
        | (disk.role is Role.PRIMARY) << 4
        | disk.was_protected << 5
        | disk.is_wished << 6
    )
    host = (flags, disk.term - low, job, node.trust, node.arbiter, node.lease)
    if pair is None:
        return (-1, *host)
    return (
        _INDEX[pair.state],
        *host,
        pair.term - low,
        pair.opened - low if pair.opened else -1,
        rank[pair.link],
        rank[pair.last_link],
        pair.is_wished | pair.is_heard << 1 | pair.is_broken << 2 | (pair.failures > 0) << 3,
        -1 if pair.deadline_ms is None else pair.deadline_ms,
    )
