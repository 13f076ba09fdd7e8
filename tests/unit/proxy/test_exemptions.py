"""passthrough.N.… and mask.N.… of colo-compare: what the comparator is told, and what is refused."""

from ipaddress import ip_network

import pytest

from pycolo.compare.flows import Flow
from pycolo.proxy.objects import read_compare
from pycolo.proxy.qemuopts import OptionError, parse_group

OWN = "colo-compare,id=c0,primary_in=p,secondary_in=s,outdev=o,iothread=t"


def options(text=""):
    return read_compare(parse_group("-object", OWN + text, "qom-type"), []).options


@pytest.mark.rule("C7")
def test_without_rules_everything_is_compared():
    assert (options().bypass, options().masks) == ((), ())


@pytest.mark.rule("C7")
def test_the_fields_of_a_flow():
    text = ",passthrough.0.protocol=udp,passthrough.0.destination.port=123,passthrough.1.source.host=192.0.2.7"
    text += ",passthrough.1.source.port=3389,passthrough.1.destination.host=198.51.100.0/24"
    assert options(text).bypass == (
        Flow(17, other_ports=(123, 123)),
        Flow(None, ip_network("192.0.2.7"), (3389, 3389), ip_network("198.51.100.0/24")),
    )


@pytest.mark.rule("C7")
def test_masks_may_have_commas():
    (mask,) = options(r",mask.0.port=80,mask.0.pattern=Id: [0-9a-f]{4,,8}\r\n").masks
    assert mask == ("0", r"Id: [0-9a-f]{4,8}\r\n", (Flow(6, guest_ports=(80, 80)),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (",passthrough.1.protocol=tcp", "number the rules from 0 on"),
        (",passthrough.0.protocol=http", "tcp or udp"),
        (",passthrough.0.port=1", "unknown property 'port'"),
        (",passthrough.0.protocol=icmp,passthrough.0.source.port=1", "icmp has no ports"),
        (",passthrough.0.source.host=example.org", "an address or a prefix"),
        (",passthrough.0.source.host=fe80::1%eth0", "an address without a zone"),
        (",passthrough.0.destination.host=::ffff:10.0.0.1", "an IPv4 address written as such"),
        (",passthrough.0.source.host=::1,passthrough.0.destination.host=10.0.0.1", "one version of IP"),
        (",passthrough.0.source.port=0", "a number from 1 to 65535"),
        (",passthrough=on", "unknown property 'passthrough'"),
        (",mask.0.port=80", "'pattern' is missing"),
        (",mask.0.pattern=a", "'port' is missing"),
        (",mask.0.port=80,mask.0.pattern=a.*", "a repeat with a bound, such as {1,64}, at character 3"),
        (",mask.0.port=80,mask.0.pattern=a,mask.1.port=80,mask.1.pattern=b,mask.1.name=0", "named '0' already"),
        (",mask.0.port=80,mask.0.pattern=(ab|cd){1,,200}", "at most 128 choices"),
    ],
)
def test_what_is_wrong_is_said(text, expected):
    with pytest.raises(OptionError) as caught:
        options(text)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("-object colo-compare")
