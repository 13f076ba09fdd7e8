"""Who has waited for a checkpoint: what the comparator tells when it has released everything."""

from hypothesis import given
from hypothesis import strategies as st

from support.segments import Flow, Tcp
from support.traces import Comparing

BASE = 1000
KEPT = 64


def on_port(port, seq=BASE, data=b"data", flags="A", **fields):
    return Tcp(seq, flags, data, flow=Flow(client_port=port), **fields)


def waits(trace):
    return trace.core.waits.take()


def compared(*ports):
    trace = Comparing()
    for port in ports:
        trace.primary(on_port(port))
        trace.secondary(on_port(port))
    trace.frames()
    return trace


def test_a_connection_has_waited_since_its_oldest_packet():
    trace = compared(1, 2)
    trace.primary(on_port(1, BASE + 4, b"mine"))
    trace.wait(30)
    trace.primary(on_port(1, BASE + 8, b"more"))
    trace.wait(20)
    trace.commit()
    (wait,) = waits(trace)
    assert (wait.connection.destination_port, wait.count, wait.waited_us) == (1, 1, 50_000)
    assert wait.longest_us == wait.waited_us
    assert wait.uncompared_bytes == 0, "it waited, but nothing has differed"
    assert waits(trace) == [], "each is told once"


def test_of_a_connection_that_differs_the_bytes_from_the_difference_on_are_uncompared():
    trace = compared(1)
    trace.primary(on_port(1, BASE + 4, b"same1mine"), on_port(1, BASE + 13, b"more"))
    trace.secondary(on_port(1, BASE + 4, b"same2other"))
    trace.commit()
    (wait,) = waits(trace)
    assert wait.uncompared_bytes == len(b"1minemore")


def test_who_holds_nothing_has_not_waited():
    trace = compared(1, 2)
    trace.secondary(on_port(2, BASE + 4, b"only theirs"))
    trace.wait(10)
    trace.commit()
    assert waits(trace) == []


def test_the_end_of_a_pair_is_no_checkpoint():
    trace = compared(1)
    trace.primary(on_port(1, BASE + 4, b"mine"))
    trace.core.pair_lost(trace.now_us)
    assert waits(trace) == []


@given(st.lists(st.sampled_from((80, 443, 5432)), min_size=1, max_size=3 * KEPT))
def test_every_connection_that_waits_counts_once_and_by_its_port_if_that_has_a_place(ports):
    trace = Comparing(connections_max=512)
    for number, port in enumerate(ports):
        trace.primary(Tcp(BASE, "A", b"data", flow=Flow(guest_port=port, client_port=2000 + number)))
        trace.wait(1)
    trace.commit()
    found = waits(trace)
    own = [wait for wait in found if wait.count == 1 and wait.waited_us == wait.longest_us]
    assert len({wait.connection for wait in own}) >= min(KEPT, len(ports))
    assert sum(wait.count for wait in found) == len(ports)
    assert sum(wait.waited_us for wait in found) == sum(range(1, len(ports) + 1)) * 1000
    assert max(wait.longest_us for wait in found) == len(ports) * 1000
    for port in {wait.connection.source_port for wait in found if wait.connection}:
        assert sum(w.count for w in found if w.connection and w.connection.source_port == port) == ports.count(port)
