"""QEMU's option syntax."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import ConfigError
from pycolo.proxy.qemuopts import Group, OptionError, Properties, parse_group

VALUES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)


def properties(
    text: str, known: tuple[str, ...] = ("id", "size", "server", "wait", "mode"), **refused: str
) -> Properties:
    return Properties(parse_group("-chardev", text, "backend"), known, refused)


@given(st.dictionaries(KEYS.filter(lambda key: key != "backend"), VALUES, max_size=5))
def test_what_is_written_with_doubled_commas_is_read_back(pairs: dict[str, str]):
    text = ",".join(["socket", *(f"{key}={value.replace(',', ',,')}" for key, value in pairs.items())])
    assert parse_group("-chardev", text, "backend") == Group("-chardev", "socket", tuple(pairs.items()))


@given(st.dictionaries(KEYS.filter(lambda key: key != "qom-type"), VALUES, max_size=5))
def test_json_says_the_same(pairs: dict[str, str]):
    text = json.dumps({"qom-type": "colo-compare", **pairs})
    assert parse_group("-object", text, "qom-type") == Group("-object", "colo-compare", tuple(pairs.items()))


@given(st.text())
def test_any_text_is_read_or_refused(text: str):
    with suppress(OptionError):  # and nothing else
        parse_group("-object", text, "qom-type")


def test_the_type_may_have_its_key():
    assert parse_group("-chardev", "id=a,backend=socket", "backend").head == "socket"


def test_json_numbers_and_booleans_are_words():
    group = parse_group("-object", '{"qom-type":"t","n":5,"yes":true,"no":false}', "qom-type")
    assert group.items == (("n", "5"), ("yes", "on"), ("no", "off"))


@pytest.mark.parametrize("text", ["{", '{"qom-type":"t","x":[1]}', '{"x":"y"}', "", ",", "t,,=", "=x", "t,=x"])
def test_what_is_no_option_is_refused(text: str):
    with pytest.raises(ConfigError):
        Properties(parse_group("-object", text, "qom-type"), ())


def test_a_key_alone_is_a_switch():
    found = properties("socket,server,nowait")
    assert found.switch("server", False) is True
    assert found.switch("wait", True) is False


@pytest.mark.parametrize(("word", "value"), [("on", True), ("yes", True), ("true", True), ("off", False), ("n", False)])
def test_words_of_a_switch(word: str, value: bool):
    assert properties(f"socket,server={word}").switch("server", not value) is value


@pytest.mark.parametrize(("word", "value"), [("5", 5), ("0x10", 16), ("0007", 7)])
def test_numbers(word: str, value: int):
    assert properties(f"socket,size={word}").number("size", 0, 0, 100) == value


@pytest.mark.parametrize("word", ["-1", "101", "x", "0x", "1e3", "5k", "٣", " 5", "9" * 5000])
def test_what_is_no_number_is_refused(word: str):
    with pytest.raises(OptionError, match="'size' must be a number from 0 to 100"):
        properties(f"socket,size={word}").number("size", 0, 0, 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("socket,servr=on", r"unknown property 'servr' \(did you mean 'server'\?\)"),
        ("socket,zzz=on", "unknown property 'zzz'$"),
        ("socket,id=a,id=b", "'id' is given twice"),
        ("socket,tls", "'tls': no TLS here"),
    ],
)
def test_unknown_repeated_and_refused_properties(text: str, says: str):
    with pytest.raises(OptionError, match=says):
        properties(text, tls="no TLS here")


def test_a_refused_property_may_be_off():
    assert not properties("socket,tls=off,id=a", tls="no TLS here").has("size")


@pytest.mark.parametrize("name", ["1a", "a b", "ä", "a/b"])
def test_ids_are_identifiers(name: str):
    with pytest.raises(OptionError, match="id"):
        properties(f"socket,id={name}").identifier()


def test_missing_and_empty_values():
    with pytest.raises(OptionError, match="'id' is missing"):
        properties("socket").identifier()
    with pytest.raises(OptionError, match="'id' is empty"):
        properties("socket,id=").identifier()


def test_choices_have_hints():
    with pytest.raises(OptionError, match=r"must be hold or report, not 'holt' \(did you mean 'hold'\?\)"):
        properties("socket,mode=holt").choice("mode", "hold", ("hold", "report"))
