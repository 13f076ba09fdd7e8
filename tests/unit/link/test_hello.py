"""Laws of the hello: the verdict is symmetric, total and one line long."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.errors import ConfigError
from pycolo.link.codec import Channel
from pycolo.link.hello import (
    PROTOCOL_LOWEST,
    PROTOCOL_VERSION,
    Hello,
    HelloError,
    Refusal,
    RefusalReason,
    Role,
    Welcome,
    check_pair_name,
    decode_hello,
    decode_refusal,
    encode_hello,
    encode_refusal,
    judge,
)

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
# Few values, so that two hellos often agree; the extremes of the field among them.
SMALL = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
FEATURES = st.frozensets(st.sampled_from(["vnet_hdr=0", "vnet_hdr=12", "timestamps", "sack"]))
HELLOS = st.builds(
    Hello,
    protocol=st.sampled_from([PROTOCOL_VERSION, PROTOCOL_VERSION + 1]),
    highest=st.sampled_from([None, PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 2]),
    program=st.sampled_from(["pycolo 0.1.0", "pycolo 0.2.0"]),
    pair=st.sampled_from(["a", "b"]),
    role=st.sampled_from(Role),
    channel=st.sampled_from(Channel),
    term=SMALL,
    epoch=SMALL,
    features=FEATURES,
    instance=st.sampled_from([7, 8]),
    peer_instance=st.sampled_from([0, 7, 8]),
)


def hello(**changes):
    fields = {
        "program": "pycolo 0.1.0",
        "pair": "a",
        "role": Role.SECONDARY,
        "channel": Channel.CONTROL,
        "term": 0,
        "epoch": 0,
        "features": frozenset({"vnet_hdr=12", "timestamps"}),
        "instance": 7,
    }
    return Hello(**fields | changes)


PRIMARY = hello(role=Role.PRIMARY, term=3, instance=8, features=frozenset({"vnet_hdr=12", "sack"}))


@given(HELLOS, HELLOS)
def test_both_nodes_reach_the_same_verdict_with_the_same_line(one, other):
    verdict = judge(one, other)
    assert verdict == judge(other, one)
    if isinstance(verdict, Refusal):
        assert verdict.text.isprintable()
    elif one.channel is Channel.PATH:
        assert one.pair == other.pair
    else:
        assert one.pair == other.pair
        assert {one.role, other.role} == set(Role)
        assert {f for f in one.features if "=" in f} == {f for f in other.features if "=" in f}


@given(HELLOS, HELLOS)
def test_a_welcome_never_goes_to_a_primary_behind_its_secondary(one, other):
    if isinstance(verdict := judge(one, other), Welcome) and one.channel is not Channel.PATH:
        primary, secondary = sorted((one, other), key=lambda found: found.role is Role.SECONDARY)
        assert primary.term >= secondary.term
        assert verdict.term == primary.term


def test_a_new_secondary_joins_and_learns_term_and_common_features():
    assert judge(hello(), PRIMARY) == Welcome(3, frozenset({"vnet_hdr=12"}), PROTOCOL_LOWEST)


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        (
            {"protocol": 9, "program": "pycolo 7"},
            RefusalReason.VERSION,
            rf"{PROTOCOL_LOWEST} \(pycolo 0.1.0\) and 9 \(pycolo 7\)",
        ),
        (
            {"protocol": 9, "highest": 11, "program": "pycolo 7"},
            RefusalReason.VERSION,
            rf"{PROTOCOL_LOWEST} \(pycolo 0.1.0\) and 9 to 11 \(pycolo 7\)",
        ),
        ({"pair": "b"}, RefusalReason.PAIR, "different pairs: a and b"),
        ({"role": Role.PRIMARY, "term": 3}, RefusalReason.ROLE, "both nodes are primary"),
        (
            {"role": Role.PRIMARY, "term": 4},
            RefusalReason.STALE_TERM,
            "term 3 returned after the takeover of term 4",
        ),
        ({"term": 4}, RefusalReason.STALE_TERM, "the primary is of term 3, its secondary has seen term 4"),
        ({"channel": Channel.DATA}, RefusalReason.CHANNEL, "data connection"),
        (
            {"features": frozenset({"vnet_hdr=0"})},
            RefusalReason.FEATURES,
            "agree on vnet_hdr=0 and vnet_hdr=12",
        ),
        ({"features": frozenset()}, RefusalReason.FEATURES, "agree on vnet_hdr=12;"),
        ({"peer_instance": 9}, RefusalReason.INSTANCE, "another process of the primary"),
    ],
)
def test_each_difference_has_its_reason(changes, reason, text):
    verdict = judge(PRIMARY, hello(**changes))
    assert isinstance(verdict, Refusal)
    assert verdict.reason is reason
    with pytest.raises(HelloError, match=text):
        raise HelloError(verdict.reason, verdict.text)


def test_only_a_bound_peer_may_be_waited_for():
    assert [reason for reason in RefusalReason if reason.is_passing] == [RefusalReason.INSTANCE]


@given(HELLOS.filter(lambda found: found.protocol == PROTOCOL_VERSION), NAMES)
def test_a_hello_survives_the_wire_within_its_bound(found, pair):
    found = msgspec.structs.replace(found, pair=pair)
    payload = encode_hello(found)
    assert len(payload) <= limits.HELLO_BYTES_MAX
    assert decode_hello(memoryview(payload), "x") == found


def test_the_largest_hello_fits():
    largest = hello(
        program="~" * 64,
        pair="p" * 64,
        term=2**64 - 1,
        epoch=2**64 - 1,
        instance=2**64 - 1,
        peer_instance=2**64 - 1,
        features=frozenset(f"{number:032}={'v' * 32}" for number in range(32)),
    )
    assert len(encode_hello(largest)) <= limits.HELLO_BYTES_MAX


def test_a_later_version_is_told_apart_whatever_its_other_fields_are():
    payload = json.dumps(
        {"protocol": PROTOCOL_VERSION + 1, "program": "pycolo 9", "pair": ["now", "a", "list"]}
    ).encode()
    with pytest.raises(
        HelloError, match=rf"link from b: the other node speaks protocol version {PROTOCOL_VERSION + 1} \(pycolo 9\)"
    ) as found:
        decode_hello(payload, "link from b")
    assert found.value.reason is RefusalReason.VERSION


def test_fields_that_this_version_does_not_know_are_ignored():
    payload = encode_hello(PRIMARY)[:-1] + b',"later":{"a":[1,2]}}'
    assert decode_hello(payload, "x") == PRIMARY


def valid_fields(**changes):
    return json.dumps(json.loads(encode_hello(PRIMARY)) | changes).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"null",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"protocol":%d,"program":"x"}' % PROTOCOL_VERSION,
        valid_fields(highest=PROTOCOL_LOWEST - 1),
        valid_fields(highest="5"),
        valid_fields(term=-1),
        valid_fields(term=2**64),
        valid_fields(instance="7"),
        valid_fields(pair="a/b"),
        valid_fields(pair="a\n"),
        valid_fields(pair=""),
        valid_fields(program="\x1b[2J"),
        valid_fields(role="witness"),
        valid_fields(features=[f"f{number}" for number in range(33)]),
        valid_fields(features=["a b"]),
        valid_fields() + b" " * limits.HELLO_BYTES_MAX,
    ],
)
def test_what_is_no_hello_is_refused_in_one_printable_line(payload):
    with pytest.raises(HelloError) as found:
        decode_hello(payload, "link from b")
    assert found.value.reason is RefusalReason.BAD_HELLO
    assert str(found.value).startswith("link from b: hello ")
    assert str(found.value).isprintable()


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_decoding_is_total(payload):
    with pytest.raises(HelloError):
        decode_hello(payload, "link from b")


@given(st.binary(min_size=1, max_size=200))
def test_any_refusal_can_be_read(payload):
    assert decode_refusal(payload).text.isprintable()


@given(HELLOS, HELLOS)
def test_a_refusal_survives_the_wire(one, other):
    if isinstance(verdict := judge(one, other), Refusal):
        assert decode_refusal(encode_refusal(verdict)) == verdict


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "x" * 65, "ä"])
def test_a_name_that_no_pair_can_have_is_a_configuration_error(name):
    with pytest.raises(ConfigError, match="--pair"):
        check_pair_name(name)
    assert check_pair_name("Web-1.example_x") == "Web-1.example_x"
