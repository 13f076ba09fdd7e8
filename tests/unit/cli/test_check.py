"""`colo check`: the table as text and as JSON, exit codes, and what it takes a running node to do."""

import json
import os
import subprocess
import sys

import pytest

from pycolo.check import Item, Level, Moment, host
from pycolo.check.places import RECORD_NAME
from pycolo.cli import target
from pycolo.cli.check import Seen, check_lines, columns, look_at_node, node_items
from pycolo.config import parse
from pycolo.link.hello import Role
from support.asked import STATUS, answering
from support.configs import changed, checkable

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def without_cards(monkeypatch):
    """They need a bridge of this host: see unit/check/test_cards.py."""
    monkeypatch.setattr(host, "card_items", lambda *_: iter(()))


@pytest.fixture
def file(tmp_path):
    """Writes the file of a host that passes, with these changes."""

    def write(changes=None):
        path = tmp_path / "vm1.toml"
        path.write_text(changed(checkable(tmp_path, changes)))
        return path

    return write


def configuration(path):
    return parse(path.read_bytes(), path.name)


# ── exit codes and forms ────────────────────────────────────────────────────────────────────────────────────


def test_help_is_there():
    done = subprocess.run(
        [sys.executable, "-m", "pycolo", "check", "-h"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Usage: colo check [OPTIONS] FILE\n")


def test_warnings_alone_are_no_failure(colo, file):
    code, out, error = colo("check", file())
    assert (code, error) == (0, "")
    assert out.splitlines()[-1].endswith(" warnings, 0 refused")


def test_a_node_is_named_as_for_the_other_commands(colo, file, tmp_path, monkeypatch):
    monkeypatch.setattr(target, "FILES", tmp_path)
    file().rename(tmp_path / "vm7.toml")
    code, out, _ = colo("check", "vm7")
    assert code == 0
    assert out.splitlines()[-1].endswith(" warnings, 0 refused")
    code, _, error = colo("check", "vm8")
    assert code == 1
    assert error == f"colo: {tmp_path}/vm8.toml: expected a file in TOML, found nothing there\n"
    for path in ("vm8.toml", "a/vm8"):
        code, _, error = colo("check", path)
        assert (code, error.startswith(f"colo: {path}: ")) == (1, True), "a path, as ever"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_refusal_is_exit_code_1(colo, file, as_json):
    path = file({"network.serve": ["/nowhere/serve"]})
    code, out, error = colo("check", path, *(["--json"] if as_json else []))
    assert (code, error) == (1, "")
    assert "/nowhere/serve does not exist" in out


@pytest.mark.parametrize("text", ["", "x", "pair = 3", "[network]\nserve = 'x'", "\0", "a" * 70_000])
def test_garbage_is_refused_line_by_line_and_nothing_is_looked_at(colo, tmp_path, text):
    path = tmp_path / "vm1.toml"
    path.write_text(text)
    code, out, error = colo("check", path)
    assert (code, out) == (1, "")
    assert all(line.startswith(f"colo: {path}: ") for line in error.splitlines())


def test_placeholders_that_do_not_exist_are_found_in_the_file(colo, file):
    path = file({"network.serve": ["ip", "link", "set", "${TAP}", "master", "br0"]})
    code, _, error = colo("check", path)
    assert code == 1
    assert f"{path}: network.serve[3]: expected no other placeholders than {{peer}}" in error


def test_wrong_usage_is_2(colo):
    assert colo("check")[0] == 2


def test_json_has_every_item_and_nothing_else(colo, file):
    path = file({"arbiter.kind": "first-to-notice"})
    found = json.loads(colo("check", path, "--json")[1])
    assert found.keys() == {"file", "pair", "level", "items"}
    assert (found["file"], found["pair"], found["level"]) == (str(path), "vm1", "warning")
    for item in found["items"]:
        assert item.keys() == {"name", "level", "text", "where"}
        assert item["level"] in list(Level)
        assert item["where"] in ("this host", "guest")
        assert "\n" not in item["text"]
    levels = {item["name"]: item["level"] for item in found["items"]}
    assert levels["arbiter.kind"] == "warning"
    assert levels["network.retire"] == "ok"


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────

LONG = "/usr/local/sbin/fence-pear does not exist: did you mean /usr/local/sbin/fence-peer?"
ITEMS = [
    Item("node", Level.OK, "running as the primary, term 3"),
    Item("network.serve_dry_run", Level.WARNING, "not tried"),
    Item("arbiter.command", Level.REFUSED, LONG),
]


def test_without_a_terminal_each_item_is_a_line():
    assert list(check_lines(ITEMS, None)) == [
        "ok       node                   running as the primary, term 3",
        "warning  network.serve_dry_run  not tried",
        f"refused  arbiter.command        {LONG}",
        "3 items: 1 warning, 1 refused",
    ]


def test_100_columns_hold_the_table():
    assert list(check_lines(ITEMS, 100)) == [
        "ok       node                   running as the primary, term 3",
        "warning  network.serve_dry_run  not tried",
        "refused  arbiter.command        /usr/local/sbin/fence-pear does not exist: did you mean",
        "                                /usr/local/sbin/fence-peer?",
        "3 items: 1 warning, 1 refused",
    ]


def test_60_columns_have_the_text_below():
    assert list(check_lines(ITEMS, 60)) == [
        "ok       node",
        "         running as the primary, term 3",
        "warning  network.serve_dry_run",
        "         not tried",
        "refused  arbiter.command",
        "         /usr/local/sbin/fence-pear does not exist: did you",
        "         mean /usr/local/sbin/fence-peer?",
        "3 items: 1 warning, 1 refused",
    ]


def test_each_place_has_a_heading_where_there_are_several():
    items = [ITEMS[0], Item("clocks", Level.OK, "0.001 s apart", "both hosts"), ITEMS[1]]
    assert list(check_lines(items, None)) == [
        "this host:",
        "ok       node                   running as the primary, term 3",
        "warning  network.serve_dry_run  not tried",
        "both hosts:",
        "ok       clocks                 0.001 s apart",
        "3 items: 1 warning, 0 refused",
    ]


@pytest.mark.parametrize("width", [20, 33, 60, 72, 100, 200])
def test_no_line_is_longer_than_the_terminal(width):
    long = [*ITEMS, Item("state", Level.OK, "/x" * 200)]
    rows = list(check_lines(long, width))
    assert max(map(len, rows)) <= max(width, 31)
    assert "".join("".join(rows).split()).count("/x" * 200) == 1


def test_the_width_is_that_of_the_terminal_or_of_its_variable(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert columns() is None
    monkeypatch.setenv("COLUMNS", "60")
    assert columns() == 60


# ── a running node ──────────────────────────────────────────────────────────────────────────────────────────


def said(**status):
    async def answer(_request):
        return {**STATUS, **status}

    return answer


@pytest.mark.parametrize(
    ("status", "moment"),
    [
        ({"state": "protected"}, Moment(Role.PRIMARY, os.getpid(), may_take_over=True, is_linked=True, term=2)),
        (
            {"role": "secondary", "state": "waiting", "peer": None},
            Moment(Role.SECONDARY, os.getpid(), term=2),
        ),
        (
            {"role": "secondary", "state": "suspect", "peer": None},
            Moment(Role.SECONDARY, os.getpid(), may_take_over=True, term=2),
        ),
        (
            {"role": "secondary", "state": 7, "term": "x"},
            Moment(Role.SECONDARY, os.getpid(), may_take_over=True, is_linked=True),
        ),
        ({"role": "king"}, Moment(Role.PRIMARY, os.getpid(), may_take_over=True, is_linked=True, term=2)),
    ],
)
def test_what_a_running_node_does_is_asked(file, tmp_path, status, moment):
    config = configuration(file())
    with answering(config.control.socket, said(**status)):
        seen = look_at_node(config)
    assert seen == Seen(moment, uid=os.geteuid(), pair="vm1")


def test_a_node_that_cannot_be_asked_may_take_over(file, monkeypatch):
    config = configuration(file({"role": "secondary"}))

    async def refuses(_request):
        return {"error": "not now"}

    with answering(config.control.socket, refuses):
        seen = look_at_node(config)
    assert seen.moment == Moment(Role.SECONDARY, os.getpid(), may_take_over=True)
    assert "not now" in seen.fault

    def denied(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pycolo.cli.check._owner", denied)
    assert look_at_node(config) == Seen(Moment(Role.SECONDARY, 0, may_take_over=True), "Permission denied")


@pytest.mark.parametrize(
    ("record", "role"),
    [(None, Role.SECONDARY), (b'{"role": "primary", "term": 3}', Role.PRIMARY), (b"garbage", Role.PRIMARY)],
)
def test_without_a_node_the_record_counts(file, tmp_path, record, role):
    config = configuration(file({"role": "secondary"}))
    if record is not None:
        (tmp_path / "state" / RECORD_NAME).write_bytes(record)
    assert look_at_node(config) == Seen(Moment(role))


def test_a_running_primary_keeps_its_network(colo, file, tmp_path):
    path = file({"network.retire": ["touch", str(tmp_path / "retired")]})
    with answering(configuration(path).control.socket, said(state="alone", peer=None)):
        code, out, _ = colo("check", path)
    assert code == 0
    assert "not run, because the guest of this host serves" in out
    assert not (tmp_path / "retired").exists()


def test_what_only_the_node_can_see_is_asked_of_it(colo, file):
    async def answer(request):
        if request["command"] == "status":
            return STATUS
        assert request == {"command": "check"}
        return {"items": [["QEMU", "refused", "7.2.22 here, 10.0.13 there", "both hosts"]]}

    path = file()
    with answering(configuration(path).control.socket, answer):
        code, out, _ = colo("check", path)
    assert code == 1
    assert out.splitlines()[-3].split() == ["both", "hosts:"]
    assert out.splitlines()[-2].split(maxsplit=2) == ["refused", "QEMU", "7.2.22 here, 10.0.13 there"]


@pytest.mark.parametrize(
    "answer", [{}, {"items": 3}, {"items": [["a", "good", "b", "c"]]}, {"error": "unknown command"}]
)
def test_a_node_that_does_not_say_it_is_a_warning(colo, file, answer):
    async def says(request):
        return STATUS if request["command"] == "status" else answer

    path = file()
    with answering(configuration(path).control.socket, says):
        code, out, _ = colo("check", path)
    assert code == 0
    assert "it does not say what only it can see" in out


def test_without_a_node_the_other_host_stays_unseen(colo, file):
    out = colo("check", file())[1]
    assert "no node runs here to ask it" in out
    assert "no QEMU runs at" in out


@pytest.mark.parametrize(
    ("seen", "level", "text"),
    [
        (Seen(Moment(Role.SECONDARY)), Level.OK, "not running; it will begin as the secondary"),
        (Seen(Moment(Role.PRIMARY, 7, term=3), pair="vm1"), Level.OK, "running as the primary, term 3"),
        (Seen(Moment(Role.PRIMARY, 7), "not now"), Level.WARNING, "cannot be asked what it does (not now)"),
        (Seen(Moment(Role.PRIMARY, 7), pair="vm2"), Level.REFUSED, "another pair's node (vm2)"),
    ],
)
def test_the_node_is_the_first_item(file, seen, level, text):
    (item,) = node_items(configuration(file()), seen)
    assert (item.level, text in item.text) == (level, True)


def test_another_user_than_the_nodes_sees_other_things(file):
    seen = Seen(Moment(Role.PRIMARY, 7), uid=os.geteuid() + 1, pair="vm1")
    assert [item.level for item in node_items(configuration(file()), seen)] == [Level.OK, Level.WARNING]
