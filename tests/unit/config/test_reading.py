"""A node's file: what is right is read as it says, what is wrong is one line per error, with its place."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.config import ConfigFileError, PairConfig, describe, load, parse
from pycolo.config.reading import CONFIG_BYTES_MAX
from pycolo.config.sections import CheckpointOptions
from pycolo.link.hello import Role
from pycolo.transport.linksetup import Address
from support.configs import WITHOUT_CARDS, changed, errors_of, example, examples

MINIMAL = WITHOUT_CARDS.replace("[control]", '[[card]]\nnetdev = "hn0"\n[control]')


# ── what is right ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_is_read_as_it_says():
    found = parse(example().encode(), "vm.toml")
    assert (found.pair, found.role, found.state) == ("vm1", Role.PRIMARY, Path("/var/lib/colo/vm1"))
    assert (found.link.listen, found.link.peer) == (Address("10.0.0.1", 9000), Address("10.0.0.2", 9000))
    assert (found.link.tls, found.link.insecure, found.link.insecure_link) == (Path("/etc/colo/vm1"), False, None)
    assert found.qemu.command[:2] == ["qemu-system-x86_64", "-machine"]
    assert found.qemu.environment == {"LANG": "C"}
    assert [(card.netdev, card.bridge) for card in found.card] == [("hn0", "br0")]
    assert (found.arbiter.kind, found.arbiter.command[-1]) == ("command", "{peer}")
    assert (found.control.mode, found.control.group) == (0o660, "colo")
    assert found.metrics is not None
    assert found.metrics.listen == Address("127.0.0.1", 9109)
    assert (found.log.format, found.log.level) == ("json", "info")


@pytest.mark.parametrize(("given", "limits"), [({"min": 500}, (500, 500)), ({"min": 5, "max": 5}, (5, 5))])
def test_the_maximum_distance_is_never_below_the_minimum(given: dict[str, int], limits: tuple[int, int]):
    keys = {f"{name}_distance_ms": ms for name, ms in given.items()}
    assert CheckpointOptions(**keys).distances_ms == limits


def test_what_is_left_out_has_its_default():
    found = parse(MINIMAL.encode(), "vm.toml")
    assert found.role is Role.SECONDARY
    assert found.link.listen == Address("fd00::1", 9000)
    assert (found.checkpoint.min_distance_ms, found.checkpoint.max_interval_ms) == (20, 10_000)
    assert (found.checkpoint.distances_ms, found.checkpoint.busy_percent, found.checkpoint.max_wait_ms) == (
        (20, 200),
        50,
        10,
    )
    assert (found.compare.compare_timeout_ms, found.compare.ack_policy, found.compare.enabled) == (500, "commit", True)
    assert (found.heartbeat.interval_ms, found.heartbeat.timeout_ms) == (25, 500)
    assert (found.arbiter.kind, found.arbiter.endpoints) == ("manual", [])
    assert (found.qemu.command, found.network.serve, found.metrics) == ([], [], None)


def test_a_configuration_does_not_change():
    found = parse(MINIMAL.encode(), "vm.toml")
    with pytest.raises(AttributeError):
        found.pair = "other"


def test_an_editor_of_another_system_may_have_written_it():
    octets = b"\xef\xbb\xbf" + example().replace("\n", "\r\n").encode()
    assert parse(octets, "vm.toml") == parse(example().encode(), "vm.toml")


@pytest.mark.parametrize("text", [MINIMAL, *examples()])
def test_what_describe_writes_is_the_same_configuration(text: str):
    found = parse(text.encode(), "vm.toml")
    assert parse(describe(found).encode(), "vm.toml") == found


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(command=st.lists(words, min_size=1, max_size=5), variables=st.dictionaries(words, words, max_size=3))
def test_every_command_survives_being_written_and_read(command: list[str], variables: dict[str, str]):
    variables = {name: text for name, text in variables.items() if "=" not in name}
    text = MINIMAL.replace('socket = "/c"', 'socket = "/c"\n[network]\nserve = ["x"]\nretire = ["y"]')
    found = parse(text.encode(), "vm.toml")
    found.network.serve[:] = command
    found.qemu.environment.update(variables)
    assert parse(describe(found).encode(), "vm.toml") == found


# ── what is wrong ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("pair", "a b", "expected 1 to 64 letters, digits, dots, dashes or underscores, found 'a b'"),
        ("pair", None, "expected 1 to 64 letters, digits, dots, dashes or underscores, found nothing"),
        ("role", "tertiary", "expected primary or secondary, found 'tertiary'"),
        ("state", "var/lib", "expected an absolute path, found 'var/lib'"),
        ("link.listen", "x", "expected HOST:PORT, or [HOST]:PORT for IPv6, found 'x'"),
        ("link.listen", "10.0.0.1:99999", "expected a port from 1 to 65535 at the end, found '10.0.0.1:99999'"),
        ("link.listen", "10.0.0.1:0", "expected a port from 1 to 65535 at the end, found '10.0.0.1:0'"),
        ("link.listen", "h:" + "9" * 5000, "expected HOST:PORT"),
        ("link.listen", "a b:9000", "expected HOST:PORT"),
        ("link.listen", "[zz::1]:9000", "expected HOST:PORT"),
        ("link.listen", 9000, "expected HOST:PORT, or [HOST]:PORT for IPv6, found 9000"),
        ("link.insecure", "no", "expected true or false, found 'no'"),
        ("link.insecure", 1, "expected true or false, found 1"),
        ("qemu.qmp", "/" + "x" * 107, "expected at most 107 bytes: a unix socket path must be short, found '/xxx"),
        ("qemu.directory", "/" + "ü" * 42, "expected at most 83 bytes"),
        ("qemu.directory", "/run/a,b", "without commas"),
        ("qemu.command", [], "expected an array of strings, the program first, found an empty array"),
        ("qemu.command", "qemu", "expected an array of strings, the program first, found 'qemu'"),
        ("qemu.environment", {"A=B": "x"}, "expected names of environment variables, found 'A=B'"),
        ("qemu.start_timeout_ms", 1.5, "expected milliseconds from 100 to 3600000, found 1.5"),
        ("checkpoint.busy_percent", 0, "expected percent from 1 to 90, found 0"),
        ("checkpoint.busy_percent", 91, "expected percent from 1 to 90, found 91"),
        ("checkpoint.max_wait_ms", -1, "expected milliseconds from 0 to 1000, found -1"),
        ("checkpoint.max_distance_ms", "20", "expected milliseconds from 0 to 60000, found '20'"),
        ("checkpoint.min_distance_ms", -1, "expected milliseconds from 0 to 60000, found -1"),
        ("checkpoint.timeout_ms", True, "expected milliseconds from 100 to 600000, found true"),
        ("compare.ack_policy", "never", "expected commit or immediate, found 'never'"),
        ("compare.max_queue_size", 1 << 40, "expected packets from 1 to 131072, found 1099511627776"),
        ("arbiter.kind", "me", "expected manual, command, etcd, pacemaker or first-to-notice, found 'me'"),
        ("arbiter.prefix", "", "expected 1 to 128 printable characters without spaces, found ''"),
        ("control.mode", "0666", 'expected a mode for owner and group, such as "0600" or "0660", found \'0666\''),
        ("control.mode", 600, "found 600"),
        ("control.group", "a b", "expected the name of a group"),
        ("metrics.listen", None, "expected HOST:PORT, or [HOST]:PORT for IPv6, found nothing"),
        ("log.level", "loud", "expected debug, info, warning or error, found 'loud'"),
        ("link", None, "expected a table [link] with listen, peer, found nothing"),
        ("heartbeat", 3, "expected a table [heartbeat], found 3"),
        ("state", "/x\0", "expected an absolute path, found '/x\\x00'"),
        ("pair", "a\nb\u2028c", r"found 'a\nb\u2028c'"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_place(path: str, value: object, said: str):
    (line,) = errors_of(changed({path: value}))
    assert line.startswith(f"{path}: expected ")
    assert said in line


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("qemu.command", ["qemu", 5], "qemu.command[1]: expected a string, found 5"),
        ("qemu.command", ["qemu", "-incoming", "defer"], "qemu.command[1]: expected a command line without -incoming"),
        ("qemu.environment", {"A": 1}, "qemu.environment.A: expected a string, found 1"),
        (
            "arbiter.command",
            ["f", "{pear}"],
            "arbiter.command[1]: expected no other placeholders than {peer}, {pair}, {role}, {term}",
        ),
        (
            "network.serve",
            ["ip", "link", "set", "${TAP}"],
            "network.serve[3]: expected no other placeholders than {peer}, {pair}, {role}, {term}",
        ),
        ("network.retire", ["f", "{tap}"], "network.retire[1]: expected no other placeholders"),
        ("arbiter.endpoints", ["http://a:1", "b"], "arbiter.endpoints[1]: expected a URL such as http://10.0.0.3:2379"),
        ("arbiter.endpoints", ["http://[::1"], "arbiter.endpoints[0]: expected a URL"),
    ],
)
def test_an_element_has_its_own_place(path: str, value: object, said: str):
    (line,) = errors_of(changed({path: value}))
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"arbiter.kind": "command", "arbiter.command": ["/f"], "arbiter.timeout_ms": 20_000},
            "arbiter.head_start_ms: expected at least arbiter.timeout_ms (20000), found 10000",
        ),
        ({"heartbeat.timeout_ms": 74}, "heartbeat.timeout_ms: expected at least three intervals of 25 ms, found 74"),
        (
            {"arbiter.certificate": "/etc/colo/etcd.pem"},
            "arbiter.key: expected an absolute path, since arbiter.certificate is given, found nothing",
        ),
        (
            {"arbiter.ca": "/etc/colo/ca.pem", "arbiter.endpoints": ["https://a:1", "http://b:1"]},
            "arbiter.endpoints: expected https URLs, since arbiter.ca is given, found 'http://b:1'",
        ),
        ({"link.insecure": True}, "link.insecure: expected false, since link.tls is given, found true"),
        (
            {"link.tls": None},
            "link.tls: expected the directory of `colo certs init`, or insecure = true, found nothing",
        ),
        ({"link.insecure_link": "eth1"}, "link.insecure_link: expected insecure = true with it, found 'eth1'"),
        ({"link.peer": "10.0.0.1:9000"}, "link.peer: expected another address than link.listen"),
        ({"qemu.yank": "/run/colo/vm1/qmp.sock"}, "qemu.yank: expected another path than qemu.qmp"),
        ({"control.socket": "/run/colo/vm1/qmp.sock"}, "control.socket: expected another path than QEMU's sockets"),
        ({"control.socket": "/run/colo/vm1/yank.sock"}, "control.socket: expected another path than QEMU's sockets"),
        ({"control.mode": "0600"}, "control.mode: expected a mode that lets the group in"),
        (
            {"arbiter.command": None, "arbiter.dry_run": None},
            "arbiter.command: expected an array of strings, the program first, since kind is",
        ),
        ({"arbiter.kind": "etcd"}, 'arbiter.endpoints: expected an array of URLs, since kind is "etcd", found nothing'),
        ({"network.serve": ["x"]}, "network.retire: expected a command that undoes network.serve, found nothing"),
        ({"network.retire": ["x"]}, "network.serve: expected a command that undoes network.retire, found nothing"),
        ({"network.serve_dry_run": ["ip"]}, "network.serve_dry_run: expected network.serve with it, found 'ip'"),
        (
            {"arbiter.command": None, "arbiter.kind": "manual"},
            "arbiter.dry_run: expected arbiter.command with it, found '/usr/local/sbin/fence-peer-check'",
        ),
        (
            {"checkpoint.min_distance_ms": 50, "checkpoint.max_distance_ms": 49},
            "checkpoint.max_distance_ms: expected at least min_distance_ms (50), found 49",
        ),
        (
            {"checkpoint.min_distance_ms": 50, "checkpoint.max_interval_ms": 49},
            "checkpoint.max_interval_ms: expected 0, or at least min_distance_ms (50), found 49",
        ),
    ],
)
def test_a_contradiction_is_one_line(changes: dict[str, object], said: str):
    (line,) = errors_of(changed(changes))
    assert line.startswith(said)


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint.max_interval_ms": 0},
        {"heartbeat.timeout_ms": 75},
        {"link.tls": None, "link.insecure": True, "link.insecure_link": "eth1"},
        {"arbiter.kind": "etcd", "arbiter.endpoints": ["http://10.0.0.3:2379", "https://[::1]:2379/"]},
        {"network": None},
        {"qemu.command": ["qemu", "-blockdev", '{"driver":"file"}'], "metrics.listen": "[::1]:0"},
    ],
)
def test_what_is_no_contradiction(changes: dict[str, object]):
    assert isinstance(parse(changed(changes).encode(), "vm.toml"), PairConfig)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("link.lissen", "expected a key that exists (did you mean listen?)"),
        ("qemu.direktory", "(did you mean directory?)"),
        ("qemu.netdev", "expected a table [[card]] with this netdev, and its bridge in the place of network.serve"),
        ("heatbeat", "(did you mean heartbeat?)"),
        ("link.endpoints", "expected a key that exists here (it belongs into [arbiter])"),
        ("log.zzz", "expected one of the keys format, level"),
    ],
)
def test_an_unknown_key_is_named_with_what_may_be_meant(path: str, said: str):
    (line,) = errors_of(changed({path: 3}))
    assert line.startswith(f"{path}: ")
    assert said in line
    assert line.endswith("found an unknown key")


def test_an_unreadable_key_is_quoted_and_short():
    (line,) = errors_of(f"{json.dumps('a' + chr(10) * 5000)} = 1\n" + changed({}))
    assert line.startswith(r"'a\n\n")
    assert len(line) < 500


def test_all_errors_come_at_once_in_the_order_of_the_file():
    text = changed(
        {"pair": None, "link.listen": "x", "link.tsl": "/x", "heartbeat.timeout_ms": 10, "log.format": "xml"}
    )
    places = [line.partition(": ")[0] for line in errors_of(text)]
    assert places == ["pair", "link.tsl", "link.listen", "heartbeat.timeout_ms", "log.format"]


# ── no TOML, no file ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"a = 1\nb = = 2\n", "line 2, column 5: expected TOML (invalid value), found '= 2'"),
        (b"a = 1\nb = primary\n", "line 2, column 5: expected TOML (invalid value), found 'primary'"),
        (b"a = 1\na = 2\n", "line 2: expected each key once, and a table either as [name] or "),
        (b"[a]\n[a]\n", "line 2: expected each key once, and a table either as [name] or as [[name]], found '[a]'"),
        (b"[a]\n[[a]]\n", "line 2: expected each key once, and a table either as [name] or as [[name]], found '[[a]]'"),
        (b"a = 1\nb = [1,\n\n", "line 2, column 7: expected TOML (invalid value), found its end"),
        (b'a = 1\nb = "x', "line 2, column 6: expected TOML (unterminated string), found its end"),
        (b'a = 1\nb = "x\nc = 2', "line 2, column 7: expected TOML (illegal character "),
        (b"\n\n\xff", "line 3: expected text in UTF-8, found byte 0xff"),
        (b"a = " + b"[" * 50_000, "expected TOML"),
        (b"a = " + b"9" * 50_000, "expected TOML"),
        (b"#" * (CONFIG_BYTES_MAX + 1), "expected at most 65536 bytes, found more"),
    ],
    ids=[
        "syntax",
        "bare",
        "twice",
        "declared twice",
        "table-or-array",
        "unclosed",
        "unterminated",
        "line-end",
        "binary",
        "deep",
        "digits",
        "large",
    ],
)
def test_what_is_no_toml_is_one_line(octets: bytes, said: str):
    (line,) = errors_of(octets)
    assert line.startswith(said)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_line_by_line(text: str):
    assert all(line.isprintable() for line in errors_of(text.encode()))


def test_an_enormous_number_is_a_wrong_value():
    (line,) = errors_of(changed({}).replace('role = "primary"', "role = 0x" + "f" * 20_000))
    assert line == "role: expected primary or secondary, found an enormous number"


def test_a_file_is_read(tmp_path: Path):
    (tmp_path / "vm.toml").write_text(example())
    assert load(tmp_path / "vm.toml") == parse(example().encode(), "x")


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path):
    with (tmp_path / "vm.toml").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(ConfigFileError, match="at most 65536 bytes"):
        load(tmp_path / "vm.toml")


def test_what_is_no_file_is_one_line_that_names_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path, "found a directory"),
        (tmp_path / "none", "found nothing there"),
        (tmp_path / "pipe", "found something else"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/dev/zero"), "found something else"),
        (tmp_path / "a\0b", "expected a file"),
    ):
        with pytest.raises(ConfigFileError) as caught:
            load(path)
        line = str(caught.value)
        assert said in line
        assert "\n" not in line
        assert line.isprintable()


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "vm.toml"
    path.write_text(example())

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: expected a file that can be read, found Permission denied"


# ── whatever there is ───────────────────────────────────────────────────────────────────────────────────────


def check(octets: bytes) -> None:
    try:
        found = parse(octets, "vm.toml")
    except ConfigFileError as error:
        lines = str(error).split("\n")
        assert all(line.startswith("vm.toml: ") and line.isprintable() and len(line) < 1_000 for line in lines)
    else:
        assert parse(describe(found).encode(), "again") == found


@given(st.binary(max_size=300))
def test_any_bytes_are_a_configuration_or_its_errors(octets: bytes):
    check(octets)


@given(st.data())
def test_a_damaged_file_is_a_configuration_or_its_errors(data: st.DataObject):
    octets = bytearray(example().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        length = data.draw(st.integers(0, 12))
        octets[at : at + length] = data.draw(st.binary(max_size=12) | st.sampled_from([b'"', b"\n[", b"= {", b"0x"]))
    check(bytes(octets))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.text(st.characters(codec="utf-8"), max_size=30)
    | st.floats(-1e9, 1e9).filter(lambda value: value == value),
    lambda inner: st.lists(inner.filter(lambda value: value is not None), max_size=3),
    max_leaves=5,
)
PATHS = [
    *("pair", "role", "state", "link", "link.listen", "link.peer", "link.tls", "link.insecure", "link.insecure_link"),
    *("qemu.qmp", "qemu.yank", "card", "qemu.directory", "qemu.command", "qemu.environment", "network.serve"),
    *("checkpoint.max_interval_ms", "compare.ack_policy", "heartbeat.timeout_ms", "arbiter.kind", "arbiter.command"),
    *("arbiter.endpoints", "arbiter.prefix", "control.socket", "control.mode", "control.group", "metrics.listen"),
]


@given(st.dictionaries(st.sampled_from(PATHS[4:]), values, max_size=4))
def test_any_values_are_a_configuration_or_its_errors(changes: dict[str, object]):
    check(changed(changes).encode())
