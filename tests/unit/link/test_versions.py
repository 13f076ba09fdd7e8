"""Two ranges of versions: both nodes use the highest that both speak, or name both ranges."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.link.codec import Channel
from pycolo.link.hello import (
    SPOKEN,
    Hello,
    HelloError,
    Refusal,
    RefusalReason,
    Role,
    Welcome,
    decode_hello,
    encode_hello,
    judge,
)
from pycolo.link.versions import Versions

NUMBERS = st.integers(1, 9)
RANGES = st.lists(NUMBERS, min_size=2, max_size=2).map(sorted).map(lambda pair: Versions(*pair))
# What a node of before there was a range sends, byte for byte.
VERSION_4 = (
    b'{"channel":"control","epoch":0,"features":["heartbeat_timeout=150","vnet_hdr=1"],"instance":7,"pair":"web",'
    b'"peer_instance":0,"program":"pycolo 0.1.0","protocol":4,"role":"secondary","term":2}'
)


def hello(versions, role=Role.PRIMARY):
    return Hello(
        protocol=versions.lowest,
        highest=versions.highest,
        program=f"pycolo for {versions}",
        pair="web",
        role=role,
        channel=Channel.CONTROL,
        term=3,
        epoch=0,
        features=frozenset({"heartbeat_timeout=150", "vnet_hdr=1"}),
        instance=8,
    )


def spoken(versions):
    return set(range(versions.lowest, versions.highest + 1))


@given(RANGES, RANGES)
def test_the_common_version_is_the_highest_of_those_that_both_speak(one, other):
    both = spoken(one) & spoken(other)
    assert one.common_with(other) == other.common_with(one) == (max(both) if both else None)


@given(RANGES, RANGES)
def test_both_nodes_use_it_or_refuse_one_another_with_both_ranges(one, other):
    verdict = judge(hello(one), hello(other, Role.SECONDARY))
    assert verdict == judge(hello(other, Role.SECONDARY), hello(one))
    common = one.common_with(other)
    if common is not None:
        assert isinstance(verdict, Welcome)
        assert verdict.protocol == common
    else:
        assert isinstance(verdict, Refusal)
        assert verdict.reason is RefusalReason.VERSION
        assert f"{one} (pycolo for {one})" in verdict.text
        assert f"{other} (pycolo for {other})" in verdict.text


@given(RANGES, RANGES)
def test_a_hello_is_read_if_one_of_its_versions_is_spoken(one, other):
    payload = json.dumps(
        json.loads(VERSION_4) | {"protocol": one.lowest, "highest": one.highest, "program": "pycolo x"}
    ).encode()
    if one.common_with(other) is not None:
        assert decode_hello(payload, "link", other).versions == one
        return
    with pytest.raises(HelloError, match=rf"version {one} \(pycolo x\), this one version {other};") as found:
        decode_hello(payload, "link", other)
    assert found.value.reason is RefusalReason.VERSION


@given(RANGES)
def test_a_hello_without_a_range_speaks_one_version(versions):
    old = decode_hello(VERSION_4, "link", Versions(4, 4))
    assert old.versions == Versions(4, 4)
    verdict = judge(hello(versions), old)
    assert isinstance(verdict, Welcome) == (4 in spoken(versions))
    assert isinstance(verdict, Refusal) or verdict.protocol == 4


def test_an_older_node_reads_the_lowest_version_as_the_only_one():
    """It knows no other field, and compares that one with its own."""
    own = hello(SPOKEN)
    fields = json.loads(encode_hello(own))
    assert fields["protocol"] == own.versions.lowest


@pytest.mark.parametrize(("versions", "text"), [(Versions(4, 4), "4"), (Versions(4, 6), "4 to 6")])
def test_a_range_as_text(versions, text):
    assert str(versions) == text
