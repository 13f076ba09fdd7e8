"""The connection table against a dictionary of keys and six lists, least recently seen first."""

import itertools
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core, limits
from pycolo.conntrack.key import ConnectionKey
from support.strategies import U32

NONE = -1
TCP, UDP = 6, 17
MS = 1000  # µs
TOUCH_US = 100 * MS
EVICT_STEPS = 64

CLOSED_GRACE_US = limits.CLOSED_GRACE_MS * MS
IDLE_US = limits.CONNECTION_IDLE_MS * MS
ENDING_US = limits.ENDING_SILENT_MS * MS
DATAGRAM_IDLE_US = limits.DATAGRAM_IDLE_MS * MS
HALF_OPEN_US = limits.HALF_OPEN_MS * MS


def packet_of(key):
    """A packet with the fields of `key`; what the table looks at of a parsed one."""
    packet = core.Packet()
    packet.ip_version, packet.ip_proto = key.source.version, key.ip_proto
    packet.source_port, packet.destination_port = key.source_port, key.destination_port
    for tag in key.vlan:
        packet.vlan = packet.vlan << 13 | 0x1000 | tag
    for end in ("source", "destination"):
        octets = getattr(key, end).packed
        for word in range(len(octets) // 4):
            setattr(packet, f"{end}{word}", int.from_bytes(octets[4 * word : 4 * word + 4], "big"))
    return packet


def numbered_key(number, ip_proto=TCP):
    source, destination = IPv4Address(0x0A000000 + (number >> 16)), IPv4Address("192.0.2.1")
    return ConnectionKey(ip_proto, source, destination, number & 0xFFFF, 80)


def new_table(rows_max=1 << 10, seed=1, buckets=4):
    return core.ConnectionTable(rows_max, seed, buckets)


def added(table, key, now_us=0):
    """The row of a key that is new."""
    assert table.find(packet_of(key), False) == NONE
    return table.insert(now_us)


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

# Few addresses and ports, so that keys differ in one field only, and in which end it stands.
_V4 = st.sampled_from([IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), IPv4Address("0.0.0.0")])
_V6 = st.sampled_from([IPv6Address("fe80::1"), IPv6Address("::1"), IPv6Address(10 << 120 | 1 << 96), IPv6Address("::")])
_PORT = st.sampled_from([0, 1, 80, 0xFFFF])
_VLAN = st.sampled_from([(), (0,), (1,), (0, 1), (1, 0), (1, 1), (4095,)])


@st.composite
def keys(draw, protos=(TCP, UDP, 1, 0, 255)):
    addresses = draw(st.sampled_from([_V4, _V6]))
    ends = draw(addresses), draw(addresses)
    return ConnectionKey(draw(st.sampled_from(protos)), *ends, draw(_PORT), draw(_PORT), draw(_VLAN))


@given(known=st.lists(keys(), unique=True, max_size=30), asked=st.lists(keys(), max_size=30), seed=U32)
def test_every_key_has_a_row_of_its_own_and_only_it(known, asked, seed):
    """VLANs, IP versions, protocols, ends: a key that differs anywhere is another connection."""
    table = new_table(seed=seed)
    rows = {key: added(table, key) for key in known}
    assert len(set(rows.values())) == len(known)
    for key in known + asked:
        assert table.find(packet_of(key), False) == rows.get(key, NONE)
        assert table.find(packet_of(key), True) == rows.get(key.reversed(), NONE)
    for key, row in rows.items():
        assert table.key(row) == key
        assert table.is_tcp(row) == (key.ip_proto == TCP)


@given(key=keys(), seed=U32)
def test_a_connection_that_was_found_reversed_is_inserted_reversed(key, seed):
    """`insert` takes the key that `find` missed, in the direction in which it was looked for."""
    table = new_table(seed=seed)
    assert table.find(packet_of(key), True) == NONE
    row = table.insert(0)
    assert table.key(row) == key.reversed()
    assert table.find(packet_of(key.reversed()), False) == row


@given(key=keys(), seeds=st.lists(st.integers(-(2**127), 2**128 - 1), min_size=1, max_size=3))
def test_any_seed_will_do(key, seeds):
    for seed in seeds:
        table = new_table(seed=seed)
        row = added(table, key)
        assert table.find(packet_of(key), False) == row


# ── against the model ───────────────────────────────────────────────────────────────────────────────────────

KEYS = [numbered_key(number, TCP if number % 3 else UDP) for number in range(12)]
# Mostly short: what is exact to 100 ms shows only where several things happen within them.
SHORT_US = st.integers(0, 2 * TOUCH_US)
LIMITS_US = st.sampled_from([0, TOUCH_US - 1, TOUCH_US, CLOSED_GRACE_US, HALF_OPEN_US, ENDING_US, IDLE_US])
DELAY_US = SHORT_US | SHORT_US | LIMITS_US
STEP = st.tuples(
    st.sampled_from(
        [
            *["see"] * 4,
            *["confirm", "assure", "assure", "ending", "resume", "close", "reopen"],
            *["remove", "expired", "evict", "pin", "unpin"],
        ]
    ),
    st.sampled_from(KEYS),
    DELAY_US,
)


AGES_US = {
    "half_open": HALF_OPEN_US,
    "closed": CLOSED_GRACE_US,
    "ending": ENDING_US,
    "datagram": DATAGRAM_IDLE_US,
    "open": IDLE_US,
    "assured": IDLE_US,
}
COUNTERS = ("evicted_idle", "evicted_closed", "evicted_half_open", "evicted_lru", "refused_full")


@dataclass
class Model:
    """What the table should hold. `lists`: keys, least recently seen first, in the order in which they are given up."""

    rows_max: int
    rows: dict = field(default_factory=dict)
    seen_us: dict = field(default_factory=dict)
    pinned: set = field(default_factory=set)
    lists: dict = field(default_factory=lambda: {name: [] for name in AGES_US})
    evicted_idle: int = 0
    evicted_closed: int = 0
    evicted_half_open: int = 0
    evicted_lru: int = 0
    refused_full: int = 0

    def list_of(self, key):
        return next(name for name, members in self.lists.items() if key in members)

    def move(self, key, name, now_us):
        for members in self.lists.values():
            if key in members:
                members.remove(key)
        self.lists[name].append(key)
        self.seen_us[key] = now_us

    def add(self, key, row, now_us):
        assert row not in self.rows.values()
        self.rows[key] = row
        self.move(key, "half_open" if key.ip_proto == TCP else "datagram", now_us)

    def remove(self, key):
        self.lists[self.list_of(key)].remove(key)
        self.pinned.discard(key)
        del self.rows[key], self.seen_us[key]

    def first(self, name, now_us, age_us=0):
        """The oldest that may go; who holds packets is put behind the others, as seen now."""
        steps = 0
        while (members := self.lists[name]) and now_us - self.seen_us[members[0]] >= age_us:
            if members[0] not in self.pinned:
                return members[0]
            steps += 1
            if steps > EVICT_STEPS:
                break
            self.move(members[0], name, now_us)
        return None

    def count(self, name, otherwise):
        name = "closed" if name == "ending" else name
        counter = f"evicted_{name if name in {'half_open', 'closed'} else otherwise}"
        setattr(self, counter, getattr(self, counter) + 1)

    def expired(self, now_us):
        for name, age_us in AGES_US.items():
            key = self.first(name, now_us, age_us)
            if key is not None:
                self.count(name, "idle")
                return key
        return None

    def evict(self, now_us):
        key = self.expired(now_us)
        if key is not None:
            return key
        for names in (("half_open",), ("closed",), ("ending",), ("datagram", "open"), ("assured",)):
            found = [key for name in names if (key := self.first(name, now_us)) is not None]
            if found:
                self.count(names[0], "lru")
                return min(found, key=self.seen_us.__getitem__)
        self.refused_full += 1
        return None

    @property
    def counters(self):
        return {name: getattr(self, name) for name in COUNTERS}


class Pair:
    """The table and the model, taken through the same steps."""

    def __init__(self, rows_max, buckets, seed):
        self.table = new_table(rows_max, seed, buckets)
        self.model = Model(rows_max)
        self.now_us = 0

    def run(self, step, key, delay_us):
        self.now_us += delay_us
        getattr(self, step)(key, self.model.rows.get(key, NONE))
        assert self.table.used == len(self.model.rows) <= self.table.rows <= self.table.rows_max
        assert {name: getattr(self.table, name) for name in self.model.counters} == self.model.counters

    def see(self, key, row):
        """What a core does with a packet."""
        assert self.table.find(packet_of(key), False) == row
        if row != NONE:
            self.table.touch(row, self.now_us)
            if self.now_us - self.model.seen_us[key] >= TOUCH_US:
                self.model.move(key, self.model.list_of(key), self.now_us)
            return
        row = self.table.insert(self.now_us)
        if row == NONE:
            assert self.table.used == self.table.rows_max
            self.evict(key, NONE)
        else:
            self.model.add(key, row, self.now_us)

    def close(self, key, row):
        if row != NONE:
            self.table.close(row, self.now_us)
            if self.model.list_of(key) != "closed":
                self.model.move(key, "closed", self.now_us)

    def ending(self, key, row):
        if row != NONE:
            self.table.ending(row, self.now_us)
            if self.model.list_of(key) in {"half_open", "open", "assured"}:
                self.model.move(key, "ending", self.now_us)

    def reopen(self, key, row):
        if row != NONE:
            self.table.reopen(row, self.now_us)
            if self.model.list_of(key) not in {"half_open", "datagram"}:
                self.model.move(key, "half_open", self.now_us)

    def confirm(self, key, row):
        if row != NONE:
            self.table.confirm(row, self.now_us)
            if self.model.list_of(key) == "half_open":
                self.model.move(key, "open", self.now_us)

    def assure(self, key, row):
        if row != NONE:
            self.table.assure(row, self.now_us)
            if self.model.list_of(key) in {"half_open", "open"}:
                self.model.move(key, "assured", self.now_us)

    def resume(self, key, row):
        if row != NONE:
            self.table.resume(row, self.now_us)
            if self.model.list_of(key) == "ending":
                self.model.move(key, "assured", self.now_us)

    def remove(self, key, row):
        if row != NONE:
            self.table.remove(row)
            self.model.remove(key)
            assert not self.table.in_use(row)

    def expired(self, _key, _row):
        self.gone(self.table.expired(self.now_us), self.model.expired(self.now_us))

    def evict(self, _key, _row):
        self.gone(self.table.evict(self.now_us), self.model.evict(self.now_us))

    def gone(self, row, key):
        """The table gave `row` up, the model `key`."""
        assert row == self.model.rows.get(key, NONE)
        if key is not None:
            self.remove(key, row)

    def pin(self, key, row):
        if row != NONE:
            core.pin(self.table, row, 1)
            self.model.pinned.add(key)

    def unpin(self, key, row):
        if row != NONE:
            core.pin(self.table, row, 0)
            self.model.pinned.discard(key)

    def assert_all_are_found(self):
        for key in KEYS:
            row = self.model.rows.get(key, NONE)
            assert self.table.find(packet_of(key), False) == row
            assert self.table.find(packet_of(key.reversed()), True) == row
            if row != NONE:
                assert self.table.in_use(row)
                assert self.table.key(row) == key


@given(rows_max=st.integers(1, 12), buckets=st.integers(1, 12), seed=U32, steps=st.lists(STEP, min_size=1, max_size=60))
def test_the_table_is_the_model(rows_max, buckets, seed, steps):
    """What is pinned is never given up, whatever happens to the rest."""
    pair = Pair(rows_max, buckets, seed)
    for step in steps:
        pair.run(*step)
    pair.assert_all_are_found()


def test_a_row_that_was_pinned_is_free_of_pins_for_its_next_connection():
    table = new_table()
    row = added(table, numbered_key(0))
    core.pin(table, row, 2)
    table.remove(row)
    assert added(table, numbered_key(1)) == row
    assert table.evict(0) == row


@pytest.mark.rule("C10")
def test_no_scan_stops_at_pinned_rows():
    """However many there are: what is behind them expires, and in the end is found for a newcomer."""
    count = 5 * EVICT_STEPS
    table = new_table(count + 1)
    rows = [added(table, numbered_key(number), number) for number in range(count + 1)]
    for row in rows[:count]:
        core.pin(table, row, 1)
    assert rows[count] in [table.evict(count) for _ in range(6)]
    assert rows[count] in [table.expired(HALF_OPEN_US + count) for _ in range(6)]


@pytest.mark.rule("C10")
@given(pinned=st.integers(0, 1000), name=st.sampled_from(["expired", "evict"]))
def test_no_search_comes_upon_more_than_so_many(pinned, name):
    table = new_table()
    for number in range(pinned):
        core.pin(table, added(table, numbered_key(number), 0), 1)
    for _ in range(3):
        before = table.passed_over
        getattr(table, name)(HALF_OPEN_US)
        assert table.passed_over - before <= 2 * EVICT_STEPS * len(AGES_US)


# ── who goes first ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C10")
def test_what_costs_a_stranger_nothing_goes_first():
    """Half-open before closed, closed before ending, that before what is open, and last what its guest goes on with."""
    table = new_table()
    kinds = ["assured", "open", "datagram", "ending", "closed", "half-open"]
    rows = {kind: added(table, numbered_key(n, UDP if n == 2 else TCP), n) for n, kind in enumerate(kinds)}
    for kind in ("assured", "open", "ending", "closed"):
        table.confirm(rows[kind], 5)
    table.assure(rows["assured"], 0)
    table.ending(rows["ending"], 5)
    table.close(rows["closed"], 5)
    for kind in ["half-open", "closed", "ending", "datagram", "open", "assured"]:
        assert table.evict(10) == rows[kind], kind
        table.remove(rows[kind])


@pytest.mark.parametrize(("flags", "goes_first"), [(0x02, 0), (0x12, 0), (0x14, 0), (0x10, 1), (0x19, 1)])
def test_a_segment_behind_the_handshake_assures(flags, goes_first):
    """SYN, SYN|ACK, RST|ACK do not; ACK, FIN|ACK with data do."""
    table = new_table()
    rows = [opened(table, number, number) for number in range(2)]
    packet = packet_of(numbered_key(0))
    packet.kind, packet.flags = 2, flags
    table.heard(rows[0], packet, 10)
    assert table.evict(20) == rows[goes_first]


@pytest.mark.rule("C10")
def test_a_flood_of_claims_costs_no_connection_that_is_kept_up():
    table = new_table(64)
    kept = [added(table, numbered_key(number), number) for number in range(32)]
    for row in kept:
        table.assure(row, 50)
    for number in range(1000, 3000):
        if table.find(packet_of(numbered_key(number)), False) == NONE and table.used == 64:
            table.remove(table.evict(number))
            table.find(packet_of(numbered_key(number)), False)
        assert table.insert(number) not in kept
    assert table.evicted_half_open == 2000 - 32


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────


def opened(table, number, now_us):
    return added(table, numbered_key(number), now_us)


@pytest.mark.parametrize(
    ("ip_proto", "steps", "after_us", "counter"),
    [
        (TCP, "", HALF_OPEN_US, "evicted_half_open"),
        (TCP, "close", CLOSED_GRACE_US, "evicted_closed"),
        (UDP, "close", CLOSED_GRACE_US, "evicted_closed"),
        (UDP, "", DATAGRAM_IDLE_US, "evicted_idle"),
        (TCP, "confirm", IDLE_US, "evicted_idle"),
        (TCP, "assure ending", ENDING_US, "evicted_closed"),
        (TCP, "ending resume", IDLE_US, "evicted_idle"),
        (TCP, "assure", IDLE_US, "evicted_idle"),
        (TCP, "assure reopen", HALF_OPEN_US, "evicted_half_open"),
    ],
)
def test_a_connection_expires_after_its_time_to_the_microsecond(ip_proto, steps, after_us, counter):
    table = new_table()
    row = added(table, numbered_key(1, ip_proto), 1000)
    for step in steps.split():
        getattr(table, step)(row, 1000)
    assert table.expired(1000 + after_us - 1) == NONE
    assert getattr(table, counter) == 0
    assert table.expired(1000 + after_us) == row
    assert getattr(table, counter) == 1


@pytest.mark.parametrize(("later_us", "first"), [(TOUCH_US - 1, 0), (TOUCH_US, 1)])
def test_a_row_moves_behind_the_others_at_most_ten_times_a_second(later_us, first):
    table = new_table()
    rows = [opened(table, number, 0) for number in range(2)]
    table.touch(rows[0], later_us)
    assert table.evict(later_us) == rows[first]


def test_closing_again_does_not_renew_the_grace():
    table = new_table()
    rows = [opened(table, number, 0) for number in range(2)]
    for row in rows:
        table.close(row, 0)
    table.close(rows[0], CLOSED_GRACE_US - 1)
    assert table.evict(CLOSED_GRACE_US - 1) == rows[0]


def test_reopening_what_is_half_open_changes_nothing():
    table = new_table()
    rows = [opened(table, number, 0) for number in range(2)]
    table.reopen(rows[0], 10)
    assert table.evict(10) == rows[0]


def test_a_reopened_connection_is_as_young_as_a_new_one():
    table = new_table()
    rows = [opened(table, number, number) for number in range(2)]
    table.close(rows[0], 5)
    table.reopen(rows[0], 10)
    assert table.evict(10) == rows[1]


# ── growth ──────────────────────────────────────────────────────────────────────────────────────────────────


# Few enough keys that many come again, many enough that there are several doublings.
GROWING = st.lists(st.tuples(st.sampled_from(["add", "add", "add", "remove"]), st.integers(0, 99)), max_size=150)


@given(steps=GROWING, buckets=st.integers(1, 9), rows_max=st.integers(1, 128), seed=U32)
def test_a_table_that_grows_is_a_dictionary(steps, buckets, rows_max, seed):
    """At every moment of it; and an insertion adds one bucket at most, so that it moves the rows of one chain."""
    table = new_table(rows_max, seed, buckets)
    rows = {}
    for step, number in steps:
        had, moved = table.buckets, table.moved
        row = table.find(packet_of(numbered_key(number)), False)
        assert row == rows.get(number, NONE)
        assert (table.buckets, table.moved) == (had, moved), "a search changes nothing"
        if step == "remove" and row != NONE:
            table.remove(rows.pop(number))
        elif step == "add" and row == NONE and table.insert(0) != NONE:
            rows[number] = table.find(packet_of(numbered_key(number)), False)
            assert had <= table.buckets <= had + 1
            assert table.moved == moved or table.buckets == had + 1
        assert table.used == len(rows) <= max(table.buckets, rows_max)
    for number in range(100):
        row = table.find(packet_of(numbered_key(number)), False)
        assert row == rows.get(number, NONE)
        assert row == NONE or table.key(row) == numbered_key(number)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_insertion_moves_many_rows(seed):
    """Chains are short, and are split before they are long: of 2^16 insertions none moves more than a dozen rows."""
    table = new_table(1 << 16, seed)
    most = 0
    for number in range(1 << 16):
        moved = table.moved
        added(table, numbered_key(number))
        most = max(most, table.moved - moved)
    assert table.buckets == 1 << 16
    assert table.moved < 2 << 16
    assert most <= 12


@given(count=st.integers(0, 20), gone=st.integers(0, 20))
def test_rows_are_those_that_ever_were(count, gone):
    table = new_table()
    rows = [added(table, numbered_key(number)) for number in range(count)]
    for row in rows[:gone]:
        table.remove(row)
    assert (table.rows, table.used) == (count, max(0, count - gone))


def test_a_full_table_takes_no_more():
    table = new_table(10)
    for number in range(10):
        added(table, numbered_key(number))
    assert table.find(packet_of(numbered_key(10)), False) == NONE
    assert table.insert(0) == NONE


def test_a_row_that_was_given_up_serves_another_connection():
    table = new_table(2)
    first, second = added(table, numbered_key(0)), added(table, numbered_key(1))
    table.remove(first)
    assert added(table, numbered_key(2)) == first
    assert table.find(packet_of(numbered_key(0)), False) == NONE
    assert table.find(packet_of(numbered_key(1)), False) == second


# ── collisions ──────────────────────────────────────────────────────────────────────────────────────────────


def hash_of(table, key):
    """The hash by which `table` looks for a key that it does not have."""
    assert table.find(packet_of(key), False) == NONE
    return table.wanted_hash()


def colliding_keys(seed, count, buckets):
    """Keys that all begin in the same of `buckets` chains."""
    table = new_table(seed=seed)
    every = map(numbered_key, itertools.count())
    return list(itertools.islice((key for key in every if hash_of(table, key) % buckets == 0), count))


@pytest.mark.parametrize("key", [numbered_key(1), ConnectionKey(TCP, IPv6Address("::1"), IPv6Address("::2"), 1, 2)])
def test_every_bit_of_a_vlan_tag_moves_the_hash(key):
    table = new_table()
    tags = [(1 << bit, 7) for bit in range(12)] + [(7, 1 << bit) for bit in range(12)] + [(0, 0), (0,), (7,), ()]
    assert len({hash_of(table, key._replace(vlan=vlan)) for vlan in tags}) == len(tags)


@pytest.mark.parametrize("key", [numbered_key(1), ConnectionKey(TCP, IPv6Address("::1"), IPv6Address("::2"), 1, 2)])
def test_every_bit_of_the_seed_moves_the_hash(key):
    seeds = [0, *(1 << bit for bit in range(128))]
    assert len({hash_of(new_table(seed=seed), key) for seed in seeds}) == len(seeds)


@pytest.mark.slow
@given(seed=U32, order=st.permutations(range(8)))
def test_a_chain_of_collisions_may_lose_its_rows_in_any_order(seed, order):
    colliding = colliding_keys(seed, 8, 64)
    table = new_table(64, seed, buckets=64)
    rows = {key: added(table, key) for key in colliding}
    for number in order:
        key = colliding[number]
        table.remove(rows.pop(key))
        for other in colliding:
            assert table.find(packet_of(other), False) == rows.get(other, NONE)


@given(seed=U32, order=st.permutations(range(4)))
def test_the_same_ends_on_other_vlans_are_other_connections(seed, order):
    on_vlans = [numbered_key(1)._replace(vlan=vlan) for vlan in ((), (1,), (2,), (1, 2))]
    table = new_table(16, seed)
    rows = {key: added(table, key) for key in on_vlans}
    for number in order:
        key = on_vlans[number]
        assert table.key(rows[key]) == key
        table.remove(rows.pop(key))
        for other in on_vlans:
            assert table.find(packet_of(other), False) == rows.get(other, NONE)


# ── a million ───────────────────────────────────────────────────────────────────────────────────────────────

MILLION = 1 << 20
MILLION_SECONDS_MAX = 10
"""Of this process, for two million look-ups and a million insertions from Python: 1.1 s on a busy virtual machine."""


@pytest.mark.slow
def test_a_million_connections():
    """As many as the limit allows: each is found again, the oldest goes first, and there is room for one more."""
    started = time.process_time()
    table = core.ConnectionTable(limits.CONNECTIONS_MAX, 12345)
    packet = packet_of(numbered_key(0))
    assert limits.CONNECTIONS_MAX == MILLION
    for number in range(MILLION):
        packet.source0, packet.source_port = number >> 16, number & 0xFFFF
        assert table.find(packet, False) == NONE
        assert table.insert(number) == number
    for number in range(MILLION):
        packet.source0, packet.source_port = number >> 16, number & 0xFFFF
        assert table.find(packet, False) == number
    packet.source0 = MILLION
    assert table.find(packet, False) == NONE
    assert table.insert(MILLION) == NONE
    assert table.evict(MILLION) == 0
    table.remove(0)
    assert table.find(packet, False) == NONE
    assert table.insert(MILLION) == 0
    assert time.process_time() - started < MILLION_SECONDS_MAX


@pytest.mark.parametrize("row", [-1, 4, MILLION, 2**31 - 1])
def test_a_row_outside_the_table_is_not_in_use(row):
    table = new_table(4)
    for number in range(4):
        opened(table, number, 0)
    assert not table.in_use(row)
