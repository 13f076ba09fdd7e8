"""Two pair tables in a world that loses, delays and repeats: a model for `support.modelcheck`.

A tick is the heartbeat's time-out. Everything between two ticks happens in any order; a message may come as late as
it likes, or never. Time is relative: each node's `now` is 0, and a tick moves its deadlines nearer. What differs only
by the numbers of terms, links and questions, or by which node is which, is one state (`canonical`).

The arbiters are models, but for `lease`: that is the real core of the arbiter `etcd`, with a store (`leaseworld`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pycolo.failover.pair import ANSWERED, NOTHING_TOLD, Pair, Record, Settings, Told, restarted
from pycolo.failover.pairstates import FREE, IN_STEP, TRUSTING, Command, Fact, Role, State
from pycolo.failover.pairtable import TABLE
from support import leaseworld

C, F, S = Command, Fact, State
Table = Mapping[tuple[State, Fact], Any]

FENCING_TICKS: Final = 1
HEAD_START: Final = FENCING_TICKS + 1
LEASE_TICKS: Final = 2

ON_THE_WAY_MAX: Final = 3
"""Messages at one moment; the oldest is lost for one more."""

IDLE, ASKED, ACTING = 0, 1, 2

PATH_ANSWERS: Final = frozenset({F.PEER_ALIVE, F.PEER_EMPTY})

DIALS: Final = frozenset({S.SECONDARY_WAITING, S.YIELDING, S.ASKING, S.CONFIRMED, S.RELIEVING, S.SECONDARY_ACTING})
LISTENS: Final = frozenset(state for state in State if state in FREE or state in TRUSTING) | {
    S.PRIMARY_SUSPECT,
    S.PRIMARY_ACTING,
    S.HANDING_OVER,
    S.RESTARTED,
    S.PRIMARY_EMPTY,
    S.GOING_ALONE,
}
ASKS_PATHS: Final = frozenset(
    {
        *(S.PRIMARY_SUSPECT, S.PRIMARY_ACTING, S.HANDING_OVER, S.RESTARTED, S.PRIMARY_EMPTY),
        *(S.YIELDING, S.ASKING, S.CONFIRMED),
    }
)
CONFIRMABLE: Final = frozenset({S.PRIMARY_SUSPECT, S.HANDING_OVER, S.RESTARTED, S.YIELDING, S.ASKING})
_ASKS_ARBITER: Final = frozenset(
    {
        *(S.PRIMARY_SUSPECT, S.PRIMARY_ACTING, S.HANDING_OVER),
        *(S.YIELDING, S.ASKING, S.CONFIRMED, S.RELIEVING, S.SECONDARY_ACTING),
    }
)
SAID: Final = {
    C.SAY_HANDED_OVER: F.HANDED_OVER,
    C.SAY_RESIGNED: F.PEER_RESIGNED,
    C.SAY_GONE: F.PEER_GUEST_GONE,
    C.SAY_BROKEN: F.COLO_BROKEN,
    C.SAY_PROTECTED: F.PEER_PROTECTED,
    C.ASK_RESIGN: F.RESIGN_ASKED,
    C.PROTECT: F.PREPARE_ASKED,
}


_FOR_A_LEASE: Final = frozenset(
    {
        *(C.ASK_ARBITER, C.WITHDRAW, C.TELL_OPERATOR, C.TELL_RESIGNED, C.RESIGN_LEASE),
        *(C.ASK_HARMLESS, C.PROTECT, C.RELEASE, C.SWITCH),
    }
)


class Message(NamedTuple):
    """On its way to node `to`. `sure`: over another path, of no link."""

    to: int
    fact: Fact
    link: int
    ask: int
    term: int


class Node(NamedTuple):
    """One host. `pair` None: the process is down. `is_fresh`: no other guest has served since its own state."""

    pair: Pair | None
    disk: Record
    has_guest: bool
    is_fresh: bool
    is_on: bool = True
    is_paused: bool = False
    job: Command | None = None
    trust: int = 1
    arbiter: int = IDLE
    lease: int = 0


class Etcd(NamedTuple):
    """The key's holder (-1: none), the highest term and to whom it was granted, ticks until the holder's lease ends.

    `seizer`: for whom an operator has taken the key from its holder; it is granted when that lease has ended.
    """

    holder: int
    term: int
    ticks: int
    grantee: int = 0
    is_up: bool = True
    seizer: int = -1


class Budget(NamedTuple):
    """How much may still go wrong."""

    faults: int = 0
    cuts: int = 0
    repeats: int = 0
    pauses: int = 0
    words: int = 0
    switchovers: int = 0


class World(NamedTuple):
    """Everything. `orders`: (target, by, ticks) at the power switch. `shot`: who has been switched off.

    The operator has looked after the other node of `looked`, and will speak there; last he spoke to `told`.
    """

    nodes: tuple[Node, Node]
    messages: tuple[Message, ...] = ()
    is_wired: bool = True
    has_path: bool = True
    looked: int = -1
    told: int = -1
    orders: tuple[tuple[int, int, int], ...] = ()
    shot: tuple[int, ...] = ()
    etcd: Etcd | None = None
    leases: leaseworld.Leases | None = None
    budget: Budget = Budget()
    served_term: int = 0
    broken_law: str = ""


class Rules(NamedTuple):
    """What a model is made of. `arbiter`: manual, command, etcd or lease."""

    arbiter: str
    table: Table = TABLE
    only_cuts: bool = False
    """No fault but cut cables: both nodes are healthy."""
    is_wished: bool = False
    """Protection comes back by itself."""


def settings(arbiter: str) -> Settings:
    """Ticks for milliseconds."""
    return Settings(
        timeout_ms=1,
        head_start_ms=HEAD_START if arbiter == "command" else 0,
        retry_ms=1,
        hand_over_ms=1,
        restart_ms=2,
        steady_ms=1,
        back_off_first_ms=1,
        back_off_last_ms=1,
    )


def protected(rules: Rules, budget: Budget) -> World:
    """A whole pair."""
    base = Pair(settings(rules.arbiter), S.PRIMARY_PROTECTED, 1, 0, rules.is_wished, 1, 1, 1, 1, True)
    primary = Node(base, Record(Role.PRIMARY, 1, True, rules.is_wished), True, True, lease=LEASE_TICKS)
    second = base._replace(state=S.SECONDARY_PROTECTED)
    secondary = Node(second, Record(Role.SECONDARY, 1, False, rules.is_wished), True, True)
    etcd = Etcd(0, 1, LEASE_TICKS + 1, 0) if rules.arbiter == "etcd" else None
    leases = leaseworld.begin((1, 1), holder=0) if rules.arbiter == "lease" else None
    return World((primary, secondary), budget=budget, etcd=etcd, leases=leases, served_term=1)


def unprotected(rules: Rules, budget: Budget) -> World:
    """A guest that serves, and a node that waits for its first copy."""
    pair, _ = restarted(settings(rules.arbiter), Record(Role.PRIMARY, 1, False, rules.is_wished), has_guest=True)
    second, _ = restarted(settings(rules.arbiter), Record(Role.SECONDARY, 1, False, rules.is_wished), has_guest=False)
    primary = Node(pair, Record(Role.PRIMARY, 1, False, rules.is_wished), True, True, trust=0, lease=LEASE_TICKS)
    secondary = Node(second, Record(Role.SECONDARY, 1, False, rules.is_wished), False, False, trust=0)
    etcd = Etcd(0, 1, LEASE_TICKS + 1, 0) if rules.arbiter == "etcd" else None
    leases = leaseworld.begin((1, 1), holder=0) if rules.arbiter == "lease" else None
    return World((primary, secondary), budget=budget, etcd=etcd, leases=leases, served_term=1)


# ── what a world is ─────────────────────────────────────────────────────────────────────────────────────────


def runs(node: Node) -> bool:
    """Its process does something."""
    return node.pair is not None and not node.is_paused


def serves(world: World, i: int) -> bool:
    """Whether frames of this guest leave now."""
    node = world.nodes[i]
    pair = node.pair
    if pair is None or node.is_paused or not node.has_guest or not _has_lease(world, i):
        return False
    return pair.state in FREE or (pair.state in TRUSTING and node.trust > 0)


def _has_lease(world: World, i: int) -> bool:
    if world.leases is not None:
        return leaseworld.bounds(world.leases, i)
    return world.etcd is None or world.nodes[i].lease > 0


def could_serve(world: World, i: int) -> bool:
    """Its guest lives, has what was served last, and its node knows that."""
    node = world.nodes[i]
    if not (node.is_on and node.has_guest and node.is_fresh):
        return False
    if any(order[0] == i for order in world.orders):
        return False
    if any(message.to == i and message.fact is F.DISCARD_ASKED for message in world.messages):
        return False  # what was said cannot be unsaid
    if world.etcd is not None and world.etcd.grantee != i and world.etcd.term > node.disk.term:
        return False  # the other node was granted a term: for etcd it has served
    if world.leases is not None and world.nodes[1 - i].disk.term > node.disk.term:
        return False  # the other node has recorded a later term: it may have served
    if node.pair is None:
        return node.disk.role is Role.PRIMARY
    state = node.pair.state
    return state in IN_STEP or state in LISTENS or state in (S.TAKING_OVER, S.SWITCHING)


def broken_law(world: World, rules: Rules) -> str:
    """Which law this world breaks; empty for none."""
    if world.broken_law:
        return world.broken_law
    if serves(world, 0) and serves(world, 1):
        return "both serve"
    if world.leases is not None and any(serves(world, i) and not world.nodes[i].is_fresh for i in (0, 1)):
        return "an old state is served"
    for node in world.nodes:
        if node.arbiter == ASKED and node.pair is not None and node.pair.state not in _ASKS_ARBITER:
            return "a question stays open though nothing is in doubt"
    if rules.only_cuts and len(set(world.shot)) == 2:
        return "two healthy nodes are both fenced"
    if rules.only_cuts and not any(node.has_guest and node.is_fresh for node in world.nodes):
        return "the guest of two healthy nodes is lost"
    return ""


# ── facts and commands ──────────────────────────────────────────────────────────────────────────────────────


def _set(world: World, i: int, **changes: Any) -> World:
    node = world.nodes[i]._replace(**changes)
    return world._replace(nodes=(node, world.nodes[1]) if i == 0 else (world.nodes[0], node))


def tell(world: World, rules: Rules, i: int, fact: Fact, told: Told = NOTHING_TOLD) -> World:
    """A fact for node `i`, and what follows from it."""
    pair = world.nodes[i].pair
    assert pair is not None
    after, does = pair.happened(fact, 0, told, rules.table)
    return _done(world, rules, i, pair, after, does, told)


def _done(
    world: World, rules: Rules, i: int, before: Pair, after: Pair, does: tuple[Command, ...], told: Told
) -> World:
    if after.term < before.term:
        return world._replace(broken_law="a term goes back")
    if before.state is not after.state and after.state in (S.ALONE, S.SWITCHING) and world.nodes[i].has_guest:
        if max(after.term, after.opened, before.opened) > world.nodes[i].disk.term:
            return world._replace(broken_law="a term is served under that is not on disk")
        if _has_lease(world, i):
            if after.term < world.served_term:
                return world._replace(broken_law="a term goes back")
            world = world._replace(served_term=after.term)
            if after.state is S.SWITCHING:  # from here on a client may have heard of this guest only
                world = _set(world, 1 - i, is_fresh=False)
    world = _set(world, i, pair=after)
    granted = False
    for command in does:
        if world.leases is not None and command in _FOR_A_LEASE:
            world = world._replace(leases=leaseworld.commanded(world.leases, i, command, after.term))
        world = _do(world, i, before, after, command, told)
        granted = granted or command in (C.TELL_OPERATOR, C.TELL_RESIGNED)
        if command is C.TELL_OPERATOR and world.etcd is not None:
            holder = i if world.etcd.holder == i else -1
            world = world._replace(etcd=world.etcd._replace(holder=holder, seizer=i))
    if world.leases is not None:
        return report(world, rules, i)
    if granted and world.etcd is None:
        # After a handover the other node may have the next term on its disk.
        term = after.term + 2 if after.state is S.HANDING_OVER else 0
        world = tell(_set(world, i, arbiter=IDLE), rules, i, F.GRANTED, Told(term=term))
    return world


def report(world: World, rules: Rules, i: int) -> World:
    """Tell the pair what is new of its arbiter's core, as `Permission` does."""
    assert world.leases is not None
    leases, found = leaseworld.facts(world.leases, i)
    world = world._replace(leases=leases)
    for fact, told in found:
        world = tell(world, rules, i, fact, told)
    return world


def _do(world: World, i: int, before: Pair, after: Pair, command: Command, told: Told) -> World:
    node = world.nodes[i]
    if command in SAID:
        link = after.link or before.link
        if link:
            world = _send(world, Message(1 - i, SAID[command], link, 0, after.term))
    if command in ANSWERED and command is not C.PREPARE and command is not C.ASK_DISCARD:
        return _set(world, i, job=command)
    match command:
        case C.ASK_DISCARD:
            world = _set(world, i, job=None)
            if after.link or world.has_path:
                world = _send(world, Message(1 - i, F.DISCARD_ASKED, after.link, after.asked, after.term))
        case C.PROMISE | C.REFUSE_PROMISE:
            answer = F.PROMISED if command is C.PROMISE else F.PROMISE_REFUSED
            is_acting = world.leases is not None and world.leases.askers[i].core.is_acting
            if answer is F.PROMISED and (is_acting or node.arbiter == ACTING):
                world = world._replace(broken_law="a node that fences promises not to serve")
            world = _send(world, Message(1 - i, answer, 0, told.ask, after.term))
        case C.PREPARE:
            world = _set(world, i, has_guest=True, is_fresh=False, job=None)
        case C.DISCARD_GUEST:
            world = _set(world, i, has_guest=False, is_fresh=False)
        case C.ASK_ARBITER | C.ASK_HARMLESS if node.arbiter == IDLE and _is_asked(world, command):
            world = _set(world, i, arbiter=ASKED)
        case C.WITHDRAW:
            if node.arbiter == ASKED:
                world = _set(world, i, arbiter=IDLE)
            if world.etcd is not None and world.etcd.seizer == i:
                world = world._replace(etcd=world.etcd._replace(seizer=-1))
        case C.RESIGN_LEASE:
            world = _set(world, i, lease=0)
            if world.etcd is not None and world.etcd.is_up and world.etcd.holder == i:
                world = world._replace(etcd=world.etcd._replace(holder=-1, ticks=0))
    return world


def _is_asked(world: World, command: Command) -> bool:
    return world.etcd is not None or (command is C.ASK_ARBITER and world.leases is None)


def _send(world: World, message: Message) -> World:
    if message in world.messages:
        return world  # one more of the same may come as a repetition
    return world._replace(messages=(*world.messages[-(ON_THE_WAY_MAX - 1) :], message))


# ── what may happen ─────────────────────────────────────────────────────────────────────────────────────────

Step = tuple[str, World]

_NEW_LINK: Final = frozenset({F.LINKED, F.LINKED_IN_STEP})


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """Everything that may happen next."""
    yield from _deliveries(world, rules)
    is_urgent = False
    for i in (0, 1):
        node = world.nodes[i]
        if runs(node):
            assert node.pair is not None
            if node.pair.deadline_ms is not None and node.pair.deadline_ms <= 0:
                is_urgent = True
                after, does = node.pair.deadline_passed(0, rules.table)
                yield f"deadline of {i}", _done(world, rules, i, node.pair, after, does, NOTHING_TOLD)
            yield from _own_steps(world, rules, i)
            yield from _link_steps(world, rules, i)
            yield from _arbiter_steps(world, rules, i)
            is_urgent |= rules.arbiter == "command" and node.arbiter == ASKED
            is_urgent |= world.leases is not None and leaseworld.is_pending(world.leases, i)
        yield from _host_steps(world, rules, i)
        yield from _switchover(world, rules, i)
    is_urgent |= rules.only_cuts and any(message.fact in _NEW_LINK for message in world.messages)
    for order in world.orders:
        is_urgent |= order[2] >= FENCING_TICKS
        yield f"the switch turns {order[0]} off", _switched_off(world, rules, order)
        if world.budget.faults:
            yield f"the switch fails to turn {order[0]} off", _switch_failed(_fault(world), rules, order)
    yield from _cables(world)
    yield from _operator(world, rules)
    if world.etcd is not None:
        if world.etcd.is_up and world.budget.faults:
            yield "etcd pauses", _fault(world)._replace(etcd=world.etcd._replace(is_up=False))
        elif not world.etcd.is_up:
            yield "etcd goes on", world._replace(etcd=world.etcd._replace(is_up=True))
    if world.leases is not None:
        yield from _store_steps(world)
    if not is_urgent:
        yield "tick", tick(world, rules)
    if rules.only_cuts:  # a healthy node's handshake is done within a tick, or fails
        for message in world.messages:
            if message.fact in _NEW_LINK:
                rest = tuple(one for one in world.messages if one is not message)
                yield f"{message.fact} never reaches {message.to}", world._replace(messages=rest)


def _store_steps(world: World) -> Iterator[Step]:
    leases = world.leases
    assert leases is not None
    if leases.store.is_up and world.budget.faults:
        yield "etcd pauses", _fault(world)._replace(leases=leases._replace(store=leases.store._replace(is_up=False)))
    elif not leases.store.is_up:
        yield "etcd goes on", world._replace(leases=leases._replace(store=leases.store._replace(is_up=True)))
    if leases.late is not None:
        yield "the late claim is done", world._replace(leases=leaseworld.done_late(leases))
        yield "the late claim is lost", world._replace(leases=leases._replace(late=None))


def _fault(world: World) -> World:
    return world._replace(budget=world.budget._replace(faults=world.budget.faults - 1))


def _deliveries(world: World, rules: Rules) -> Iterator[Step]:
    for position, message in enumerate(world.messages):
        if not runs(world.nodes[message.to]):
            continue
        told = Told(message.term, message.link, message.ask, role=Role.PRIMARY)
        rest = world._replace(messages=world.messages[:position] + world.messages[position + 1 :])
        name = f"{message.fact} reaches {message.to}"
        yield name, tell(rest, rules, message.to, message.fact, told)
        if world.budget.repeats:
            repeated = world._replace(budget=world.budget._replace(repeats=world.budget.repeats - 1))
            yield f"{name}, to come again", tell(repeated, rules, message.to, message.fact, told)


def _own_steps(world: World, rules: Rules, i: int) -> Iterator[Step]:
    node = world.nodes[i]
    assert node.pair is not None
    told = Told(ask=node.pair.asked)
    done = _set(world, i, job=None)
    match node.job:
        case C.RECORD:
            yield f"{i} has recorded", tell(_recorded(done, i), rules, i, F.RECORDED, told)
            if world.budget.faults:
                yield f"{i} cannot record", tell(_fault(done), rules, i, F.RECORD_FAILED, told)
        case C.PROTECT:
            other = world.nodes[1 - i].pair
            opened = node.pair.term
            if world.leases is not None:
                opened = leaseworld.opened(world.leases, i, opened)
                if opened > node.pair.term:
                    yield f"term opened by {i}", tell(done, rules, i, F.TERM_OPENED, told._replace(term=opened))
            is_prepared = other is not None and other.state is S.PREPARING and other.link == node.pair.link
            if opened == node.pair.term and is_prepared and node.has_guest:
                both = _set(done, 1 - i, is_fresh=True) if world.nodes[1 - i].has_guest else done
                yield f"{i} has synchronised", tell(both, rules, i, F.SYNCHRONISED, told)
            if world.budget.faults:
                yield f"protecting by {i} fails", tell(_fault(done), rules, i, F.PROTECT_FAILED, told)
            if not node.has_guest:
                yield f"{i} has nothing to protect", tell(done, rules, i, F.PROTECT_LACKS, told)
        case C.SWITCH:
            yield f"{i} has switched", tell(done, rules, i, F.SERVED, told)
            if world.budget.faults:
                yield f"{i} cannot serve", _not_serving(tell(_fault(done), rules, i, F.SERVE_FAILED, told), i)
        case C.RETIRE:
            yield f"{i} has retired", tell(_retired(done, i), rules, i, F.RETIRED, told)
    if world.budget.faults and not rules.only_cuts and node.has_guest:
        lost = _set(_fault(world), i, has_guest=False, is_fresh=False)
        yield f"the guest of {i} dies", tell(lost, rules, i, F.GUEST_GONE)
        if node.pair.state in (S.PRIMARY_PROTECTED, S.SECONDARY_PROTECTED):
            yield f"{i} sees COLO break", tell(_fault(world), rules, i, F.COLO_BROKEN)


def _not_serving(world: World, i: int) -> World:
    pair = world.nodes[i].pair
    is_said = pair is not None and pair.state is S.SERVING
    return world._replace(broken_law="serving is said, and the guest is not on the network") if is_said else world


def _recorded(world: World, i: int) -> World:
    node = world.nodes[i]
    assert node.pair is not None
    record = node.pair.record()
    return _set(world, i, disk=record._replace(term=max(record.term, node.disk.term)))


def _retired(world: World, i: int) -> World:
    node = world.nodes[i]
    assert node.pair is not None
    disk = node.disk._replace(role=Role.SECONDARY, term=max(node.disk.term, node.pair.term), was_protected=False)
    return _set(world, i, disk=disk, has_guest=False, is_fresh=False)


def _is_linked(world: World) -> bool:
    one, other = (node.pair for node in world.nodes)
    return one is not None and other is not None and one.link == other.link != 0


def _link_steps(world: World, rules: Rules, i: int) -> Iterator[Step]:
    node, peer = world.nodes[i], world.nodes[1 - i]
    assert node.pair is not None
    if node.pair.link and (not world.is_wired or peer.pair is None or peer.pair.link != node.pair.link):
        yield f"{i} loses the link", tell(world, rules, i, F.LINK_LOST, Told(link=node.pair.link))
    if not runs(peer) or peer.pair is None:
        return
    if world.is_wired and node.pair.state in DIALS and not node.pair.link and peer.pair.state in LISTENS:
        link = max(node.pair.last_link, peer.pair.last_link) + 1
        fact = F.LINKED_IN_STEP if node.pair.is_in_step else F.LINKED
        both = _send(world, Message(1 - i, fact, link, 0, node.pair.term))
        told = Told(term=peer.pair.term, link=link, role=Role.SECONDARY)
        yield f"{i} links", tell(both, rules, i, F.LINKED, told)
    if world.has_path and node.pair.state in ASKS_PATHS:
        answer = peer.pair.path_answer
        if answer is not None:
            yield f"{i} asks over another path", _send(world, Message(i, answer, 0, node.pair.doubt, peer.pair.term))


def _arbiter_steps(world: World, rules: Rules, i: int) -> Iterator[Step]:
    node = world.nodes[i]
    assert node.pair is not None
    if world.leases is not None:
        for name, leases, is_fault in leaseworld.asked(world.leases, i):
            if not is_fault:
                yield name, report(world._replace(leases=leases), rules, i)
            elif world.budget.faults:
                yield name, report(_fault(world)._replace(leases=leases), rules, i)
        return
    etcd = world.etcd
    if etcd is not None and etcd.is_up:
        is_theirs = etcd.holder in (-1, i) and etcd.grantee == i and etcd.seizer < 0 and node.lease == 0
        if is_theirs and node.pair.state in LISTENS and node.pair.state is not S.PRIMARY_EMPTY:
            again = world._replace(etcd=etcd._replace(holder=i, ticks=LEASE_TICKS + 1))
            yield f"etcd grants {i} its lease again", _set(again, i, lease=LEASE_TICKS)
        if etcd.seizer == i and (etcd.holder == i or etcd.ticks == 0):
            yield f"etcd grants {i}, seized", _granted(world, rules, i, etcd)
    if node.arbiter != ASKED:
        return
    if rules.arbiter == "command":
        ordered = world._replace(orders=(*world.orders, (1 - i, i, 0)))
        if node.pair.link and node.pair.is_heard:
            ordered = ordered._replace(broken_law="the other node is fenced though it is heard")
        if node.pair.state is S.HANDING_OVER:
            ordered = ordered._replace(broken_law="a node that has handed over fences the other one")
        yield f"{i} fences", tell(_set(ordered, i, arbiter=ACTING), rules, i, F.ARBITER_ACTS)
    if etcd is None or not etcd.is_up or etcd.seizer >= 0:
        return
    if etcd.holder in (-1, i) and (etcd.term <= node.pair.term or etcd.grantee == i):
        yield f"etcd grants {i}", _granted(world, rules, i, etcd)
    elif etcd.term > node.pair.term and etcd.grantee != i:
        yield f"etcd refuses {i}", tell(_set(world, i, arbiter=IDLE), rules, i, F.REFUSED, Told(term=etcd.term))


def _granted(world: World, rules: Rules, i: int, etcd: Etcd) -> World:
    world = world._replace(etcd=Etcd(i, etcd.term + 1, LEASE_TICKS + 1, i))
    world = _set(world, i, arbiter=IDLE, lease=LEASE_TICKS)
    return tell(world, rules, i, F.GRANTED, Told(term=etcd.term + 1))


def _switched_off(world: World, rules: Rules, order: tuple[int, int, int]) -> World:
    target, by, _ = order
    world = world._replace(orders=tuple(one for one in world.orders if one != order), shot=(*world.shot, target))
    world = _power_lost(world, target)
    if world.nodes[by].pair is None or world.nodes[by].arbiter != ACTING:
        return world
    world = _set(world, by, arbiter=IDLE)
    return tell(world, rules, by, F.GRANTED)


def _switch_failed(world: World, rules: Rules, order: tuple[int, int, int]) -> World:
    by = order[1]
    world = world._replace(orders=tuple(one for one in world.orders if one != order))
    node = world.nodes[by]
    if node.pair is None or node.arbiter != ACTING:
        return world
    is_wanted = node.pair.state in (S.PRIMARY_ACTING, S.SECONDARY_ACTING)
    world = _set(world, by, arbiter=ASKED if is_wanted else IDLE)
    return tell(world, rules, by, F.ARBITER_FAILED)


def _process_lost(world: World, i: int) -> World:
    node = world.nodes[i]
    if world.leases is not None:
        world = world._replace(leases=leaseworld.restarted(world.leases, i, node.disk.term))
    rest = tuple(message for message in world.messages if message.to != i)
    world = world._replace(messages=rest)
    is_lost = node.disk.role is Role.SECONDARY  # a node that comes back throws its guest away
    return _set(
        world,
        i,
        pair=None,
        is_paused=False,
        job=None,
        trust=0,
        arbiter=IDLE,
        lease=0,
        has_guest=node.has_guest and not is_lost,
        is_fresh=node.is_fresh and not is_lost,
    )


def _power_lost(world: World, i: int) -> World:
    return _set(_process_lost(world, i), i, is_on=False, has_guest=False, is_fresh=False)


def _host_steps(world: World, rules: Rules, i: int) -> Iterator[Step]:
    node = world.nodes[i]
    if not node.is_on or node.pair is None:
        yield f"{i} starts again", start(world, rules, i)
        return
    if node.is_paused:
        yield f"{i} goes on", _set(world, i, is_paused=False)
        return
    if world.budget.pauses:
        less = world._replace(budget=world.budget._replace(pauses=world.budget.pauses - 1))
        yield f"{i} stands still", _set(less, i, is_paused=True)
    if world.budget.faults and not rules.only_cuts:
        yield f"the host of {i} dies", _power_lost(_fault(world), i)
        yield f"the process of {i} dies", _process_lost(_fault(world), i)
        if node.job is C.RECORD:
            yield f"the process of {i} dies behind its record", _process_lost(_recorded(_fault(world), i), i)


def _switchover(world: World, rules: Rules, i: int) -> Iterator[Step]:
    node = world.nodes[i]
    if world.budget.switchovers and runs(node) and node.pair is not None and node.pair.state is S.PRIMARY_PROTECTED:
        less = world._replace(budget=world.budget._replace(switchovers=world.budget.switchovers - 1))
        yield f"{i} is told to switch over", tell(less, rules, i, F.SWITCHOVER_WISHED)


def start(world: World, rules: Rules, i: int) -> World:
    """From the record on disk."""
    node = world.nodes[i]
    pair, does = restarted(settings(rules.arbiter), node.disk, has_guest=node.has_guest)
    top = max(node.pair.last_link if node.pair is not None else 0 for node in world.nodes)
    pair = pair._replace(last_link=max([top, *(message.link for message in world.messages)]))
    world = _set(world, i, is_on=True)
    return _done(world, rules, i, pair, pair, does, NOTHING_TOLD)


def _cables(world: World) -> Iterator[Step]:
    budget = world.budget
    if budget.cuts:
        less = world._replace(budget=budget._replace(cuts=budget.cuts - 1))
        if world.is_wired:
            yield "the link is cut", less._replace(is_wired=False)
        if world.has_path:
            yield "the other path is cut", less._replace(has_path=False)
    if not world.is_wired:
        yield "the link is mended", world._replace(is_wired=True)
    if not world.has_path:
        yield "the other path is mended", world._replace(has_path=True)


def _operator(world: World, rules: Rules) -> Iterator[Step]:
    """He looks whether a node is down, and says so when he has found the time."""
    if world.looked >= 0:
        i = world.looked
        if runs(world.nodes[i]):
            yield f"the operator speaks to {i}", speak(world._replace(looked=-1), rules, i)
        return
    if not world.budget.words:
        return
    for i in (0, 1):
        pair = world.nodes[i].pair
        other = world.nodes[1 - i]
        is_down = not runs(other) if world.told != 1 - i else other.pair is None  # what he permitted may be under way
        if pair is not None and pair.state is S.HANDING_OVER:  # the other one may be on record as the primary
            is_down = other.pair is None and not other.has_guest
        if pair is not None and pair.state in CONFIRMABLE and is_down:
            less = world._replace(budget=world.budget._replace(words=world.budget.words - 1))
            yield f"the operator sees that {1 - i} is down", less._replace(looked=i)


def speak(world: World, rules: Rules, i: int) -> World:
    """`colo failover`."""
    return tell(world._replace(told=i), rules, i, F.OPERATOR_CONFIRMED)


def tick(world: World, rules: Rules) -> World:
    """One heartbeat time-out goes by."""
    hears = world.is_wired and _is_linked(world) and all(runs(node) for node in world.nodes)
    orders = tuple((target, by, ticks + 1) for target, by, ticks in world.orders)
    world = _lease_tick(world)._replace(orders=orders)
    if world.leases is not None:
        world = world._replace(leases=leaseworld.ticked(world.leases, (runs(world.nodes[0]), runs(world.nodes[1]))))
        for i in (0, 1):
            if runs(world.nodes[i]):
                world = report(world, rules, i)
    for i in (0, 1):
        node = world.nodes[i]
        pair = node.pair
        if pair is None:
            continue
        if pair.deadline_ms is not None:
            pair = pair._replace(deadline_ms=max(pair.deadline_ms - 1, 0))
        world = _set(world, i, pair=pair, trust=1 if hears else 0)
    for i in (0, 1):
        pair = world.nodes[i].pair
        if pair is None or not pair.link or not runs(world.nodes[i]):
            continue
        if not hears and pair.is_heard:
            world = tell(world, rules, i, F.SILENT, Told(link=pair.link))
        elif hears:
            other = world.nodes[1 - i].pair
            term = 0 if other is None else other.term
            if not pair.is_heard or term > pair.term:
                world = tell(world, rules, i, F.HEARD, Told(term=term, link=pair.link))
    return _served(world)


def _lease_tick(world: World) -> World:
    etcd = world.etcd
    if etcd is None:
        return world
    for i in (0, 1):
        world = _set(world, i, lease=max(world.nodes[i].lease - 1, 0))
    etcd = etcd._replace(ticks=max(etcd.ticks - 1, 0))
    if etcd.is_up:
        holder = etcd.holder
        if holder >= 0 and runs(world.nodes[holder]) and etcd.ticks > 0:
            if world.nodes[holder].lease > 0:  # not given back
                world = _set(world, holder, lease=LEASE_TICKS)
                etcd = etcd._replace(ticks=LEASE_TICKS + 1)
        elif etcd.ticks == 0:
            etcd = etcd._replace(holder=-1)
    return world._replace(etcd=etcd)


def _served(world: World) -> World:
    """A guest that serves alone leaves the other one behind."""
    for i in (0, 1):
        pair = world.nodes[i].pair
        if pair is not None and pair.state in FREE and serves(world, i) and world.nodes[1 - i].is_fresh:
            other = world.nodes[1 - i].pair
            if other is None or other.state is not S.PREPARING:
                world = _set(world, 1 - i, is_fresh=False)
    return world


def without_the_stale(world: World) -> World:
    """Without messages that their node takes for none, now and for ever: fewer states, the same behaviour."""
    kept = tuple(message for message in world.messages if not _is_stale(message, world.nodes[message.to].pair))
    return world if len(kept) == len(world.messages) else world._replace(messages=kept)


def _is_stale(message: Message, pair: Pair | None) -> bool:
    if pair is None:
        return True
    if message.fact in _NEW_LINK:
        return message.link <= pair.last_link
    if message.link and message.link != pair.link and message.link <= pair.last_link:
        return True
    if message.fact in PATH_ANSWERS:
        return message.ask != pair.doubt
    return message.fact in (F.PROMISED, F.PROMISE_REFUSED) and message.ask != pair.asked
