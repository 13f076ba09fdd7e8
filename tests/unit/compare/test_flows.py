"""Which connections a rule means (C7): the compiled rule means what its values say."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.flows import ALL_PORTS, Flow
from pycolo.compare.kinds import PassReason
from pycolo.core import Flows
from support.examples import examples
from support.segments import CLIENT4, CLIENT6, GUEST4, GUEST6, Tcp, udp
from support.segments import Flow as Talk
from support.traces import Comparing

NEAR = {4: (GUEST4, CLIENT4), 6: (GUEST6, CLIENT6)}


@st.composite
def networks(draw):
    """Prefixes around the addresses of the tests, of any length; or none."""
    version = draw(st.sampled_from([4, 6]))
    address = draw(st.sampled_from(NEAR[version]))
    network = ip_network((address, draw(st.integers(0, 8 * len(address)))), strict=False)
    return draw(st.sampled_from([None, network]))


PORTS = st.tuples(st.integers(78, 82), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
FLOWS = st.builds(
    Flow,
    st.sampled_from([None, 6, 17]),
    networks(),
    st.just(ALL_PORTS) | PORTS,
    networks(),
    st.just(ALL_PORTS) | PORTS,
)
TALKS = st.builds(
    Talk, st.integers(78, 84), st.integers(78, 84), st.sampled_from([4, 6]), st.sampled_from([(), (7,), (7, 9)])
)


def means(flow, talk, protocol):
    """The same in words of the standard library."""
    mine, theirs = map(ip_address, NEAR[talk.version])
    return (
        flow.protocol in (None, protocol)
        and (flow.guest is None or mine in flow.guest)
        and (flow.other is None or theirs in flow.other)
        and flow.guest_ports[0] <= talk.guest_port <= flow.guest_ports[1]
        and flow.other_ports[0] <= talk.client_port <= flow.other_ports[1]
    )


@pytest.mark.rule("C7")
@examples(200)
@given(flows=st.lists(FLOWS, max_size=3), talk=TALKS, protocol=st.sampled_from([6, 17]))
def test_a_connection_passes_if_any_rule_means_it(flows, talk, protocol):
    trace = Comparing(bypass=flows)
    trace.primary(Tcp(1000, "A", b"data", ack=100, flow=talk) if protocol == 6 else udp(b"data", talk))
    passed = trace.core.held.uncompared.counts()[PassReason.BYPASSED]
    if any(means(flow, talk, protocol) for flow in flows):
        assert passed == (1, 4)
        assert len(trace.frames()) == 1
    else:
        assert passed == (0, 0)
        assert trace.frames() == []


def test_a_rule_for_two_versions_of_ip_means_nothing():
    flow = Flow(guest=ip_network("10.0.0.0/8"), other=ip_network("fd00::/8"))
    assert not flow.is_possible
    assert Flows([flow]).count == 0


def test_there_is_a_limit():
    Flows([Flow(17)] * limits.FLOWS_MAX)
    with pytest.raises(ValueError, match=str(limits.FLOWS_MAX)):
        Flows([Flow(17)] * (limits.FLOWS_MAX + 1))
