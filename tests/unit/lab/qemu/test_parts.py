"""The parts of the QEMU laboratory that need no QEMU: archive, TOML, scenarios, observations, the guest's service."""

import gzip
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.config import load
from pycolo.qmp.devices import ACCEPTED
from pycolo_lab.errors import LabError, LabUsageError
from pycolo_lab.interruption import Interruption
from pycolo_lab.processes import Host
from pycolo_lab.qemu import initramfs
from pycolo_lab.qemu.checks import check_machine
from pycolo_lab.qemu.counter import CounterResult
from pycolo_lab.qemu.facts import RoundFacts, TransferFacts
from pycolo_lab.qemu.image import Image
from pycolo_lab.qemu.law import Answer, breaches
from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu
from pycolo_lab.qemu.nodes import NodeFiles, NodeSetting, other, running_pid, toml, with_more, wrong_command
from pycolo_lab.qemu.observations import Observations, percentile
from pycolo_lab.qemu.options import QemuLabOptions
from pycolo_lab.qemu.programs import Programs
from pycolo_lab.qemu.runner import merged, together, too_long
from pycolo_lab.qemu.scenarios import SCENARIOS, WRONG_COMMANDS, Fault, choose
from pycolo_lab.qemu.session import run_qemu_lab
from pycolo_lab.qemu.stage import are_whole

values = st.one_of(st.booleans(), st.integers(-(2**31), 2**31), st.text('aZ_"\\ \n\t√'), st.lists(st.text("ab'\"")))
tables = st.dictionaries(st.text("abc", min_size=1), values)


def machine(accelerator: str = "tcg", guest: str = "small") -> Machine:
    return Machine(
        qemu=Qemu(command=("qemu-system-x86_64",), version="7.2.22"),
        image=Image(Path("/k"), Path("/i"), Path("/preload.so")),
        accelerator=accelerator,
        guest=GUESTS[guest],
    )


@given(st.dictionaries(st.text("xyz", min_size=1), tables))
def test_toml_says_what_it_was_told(document):
    assert tomllib.loads(toml(document)) == document


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_product_accepts_every_scenario_s_configuration(scenario, tmp_path):
    files = {host: NodeFiles(tmp_path, host, Interruption().look) for host in (Host.A, Host.B)}
    for host, own in files.items():
        own.write(machine(), scenario.setting, files[other(host)], tmp_path / "fenced")
    for own in files.values():
        config = load(own.config)
        assert config.pair == "lab"
        assert config.compare.enabled is scenario.compare
        assert config.arbiter.kind == scenario.arbiter


@pytest.mark.parametrize("cards", [1, 2])
@pytest.mark.parametrize("guest", GUESTS)
def test_each_network_card_of_the_guest_has_its_table_in_the_node_s_file(guest, cards, tmp_path):
    wired = machine(guest=guest).with_cards(cards)
    assert wired.guest.cards == max(cards, GUESTS[guest].cards)
    files = {host: NodeFiles(tmp_path, host, Interruption().look) for host in (Host.A, Host.B)}
    files[Host.A].write(wired, NodeSetting(), files[Host.B], tmp_path / "fenced")
    command = wired.command(Path("/d"), "x")
    netdevs = [word.split("id=")[1].split(",")[0] for word in command if word.startswith("tap,id=")]
    assert [card.netdev for card in load(files[Host.A].config).card] == netdevs


def test_a_file_may_have_more_keys_and_other_values():
    tables = {"": {"pair": "lab"}, "compare": {"enabled": True, "compare_timeout_ms": 500}, "[card]": [{"netdev": "a"}]}
    more = {"role": "primary", "compare": {"compare_timeout_ms": 100}, "mask": [{"ports": [80]}], "new": {"key": 1}}
    assert tomllib.loads(toml(with_more(tables, more))) == {
        "pair": "lab",
        "role": "primary",
        "compare": {"enabled": True, "compare_timeout_ms": 100},
        "card": [{"netdev": "a"}],
        "mask": [{"ports": [80]}],
        "new": {"key": 1},
    }
    assert with_more(tables, {}) == tables


def test_only_software_emulation_preloads_something():
    assert machine("tcg").environment == {"LD_PRELOAD": "/preload.so"}
    assert machine("kvm").environment == {}


@pytest.mark.parametrize("guest", GUESTS)
def test_the_memory_size_is_one_at_which_no_dirty_page_is_lost(guest):
    command = machine(guest=guest).command(Path("/d"), "x")
    size = command[command.index("-m") + 1]
    assert size.endswith("K")
    assert int(size[:-1]) % 256 != 0


@pytest.mark.parametrize("guest", GUESTS)
def test_every_device_of_a_guest_is_one_that_the_product_accepts(guest):
    command = machine(guest=guest).command(Path("/d"), "x")
    devices = {command[at + 1].split(",")[0] for at, word in enumerate(command) if word == "-device"}
    assert devices <= ACCEPTED


@pytest.mark.parametrize("both", [(Host.A, Host.B), (Host.B, Host.A)])
def test_only_one_of_two_fences_the_other(both, tmp_path):
    files = {host: NodeFiles(tmp_path, host, Interruption().look) for host in (Host.A, Host.B)}
    for host, own in files.items():
        own.write(machine(), NodeSetting(), files[other(host)], tmp_path / "fenced")
    first, second = both
    with subprocess.Popen(["sleep", "60"]) as victim, subprocess.Popen(["sleep", "60"]) as winner:
        files[second].note_node(victim.pid)
        files[first].note_node(winner.pid)
        assert subprocess.run([files[first].fence], check=False).returncode == 0
        assert subprocess.run([files[second].fence], check=False, capture_output=True).returncode == 1
        assert victim.wait(60) == -9
        assert winner.poll() is None
        winner.kill()


def test_a_pid_that_is_used_again_is_not_taken_for_ours(tmp_path):
    path = tmp_path / "pid"
    assert running_pid(path, "sleep") is None
    with subprocess.Popen(["sleep", "60"]) as process:
        path.write_text(f"{process.pid}\n")
        assert running_pid(path, "something else") is None
        process.kill()


def test_scenarios_are_chosen_by_name():
    assert choose([], has_services=True) == list(SCENARIOS)
    assert [scenario.name for scenario in choose(["link", "rest", "pause"])] == ["link", "rest"]
    with pytest.raises(LabError, match="no scenario moon; there are rest, "):
        choose(["moon"])


def test_the_scenarios_cover_every_fault_and_one_has_to_fail():
    assert {scenario.fault for scenario in SCENARIOS} == set(Fault) - {Fault.NONE}
    assert [scenario.name for scenario in SCENARIOS if not scenario.compare] == ["control"]


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("how", WRONG_COMMANDS)
def test_a_wrong_command_is_wrong_in_one_place(how, guest):
    right = machine(guest=guest).command(Path("/d"), "x")
    kept = list(right)
    wrong = wrong_command(right, how)
    assert right == kept
    assert wrong == ["false"] or sum(a != b for a, b in zip(right, wrong, strict=True)) == 1


def round_facts(stood_still_ms):
    return RoundFacts(
        fault="f",
        stood_still_ms=stood_still_ms,
        first_answer_ms=0,
        repair_stood_still_ms=0,
        served_by="host A",
        whole_again_ms=0,
    )


def test_a_round_in_which_clients_waited_too_long_is_named():
    rounds = [round_facts(100), round_facts(2001), round_facts(2000)]
    assert too_long(rounds, 2000) == ["round 2 (f): no answer for 2001 ms, 2000 are allowed"]
    assert too_long(rounds, None) == []


def counted(*answers, failed=(), unanswered=0):
    """Of a client with these (connection, number)."""
    heard = [Answer(connection, number, number, number, "0", False) for connection, number in answers]
    return CounterResult(len({one.connection for one in heard}), list(failed), 1, [], unanswered, heard)


def test_clients_of_one_guest_at_both_cards_have_seen_one_history():
    one, two = counted((0, 1), (1, 3), failed=["x"]), counted((0, 2), (0, 4), unanswered=1)
    both = merged([one, two])
    assert {(answer.connection, answer.number) for answer in both.answers} == {(0, 1), (1, 3), (2, 2), (2, 4)}
    assert (both.connections, both.failed, both.fresh, both.unanswered) == (3, ["x"], 2, 1)
    assert breaches(both.answers, both.unanswered) == []
    assert merged([one]).answers == one.answers


def test_only_a_pair_that_compares_nothing_may_be_degraded():
    assert are_whole(("protected", "protected"), compares=True)
    assert not are_whole(("degraded", "protected"), compares=True)
    assert are_whole(("degraded", "protected"), compares=False)
    assert not are_whole(("degraded", "gone"), compares=False)


def test_transfers_that_ran_together_are_told_as_one():
    one = TransferFacts(megabytes=1.5, stood_still_ms=10, error=None)
    other_one = TransferFacts(megabytes=2, stood_still_ms=30, error="it broke")
    assert together([one, other_one]) == TransferFacts(megabytes=3.5, stood_still_ms=30, error="it broke")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"qemu": "9.9"}, r"--qemu 9.9: neither an available version \(10.0, 11.1\) nor the path"),
        ({"qemu": "/nonexistent/qemu"}, "--qemu /nonexistent/qemu: there is no program there that this user may run"),
        ({"qemu": "/"}, "--qemu /: there is no program there that this user may run"),
        ({"hold": True, "rounds": 2}, "--rounds contradicts --hold"),
        ({"hold": True, "scenarios": ("rest",)}, "--scenario contradicts --hold"),
        ({"hold": True, "as_json": True}, "--json contradicts --hold"),
        ({"arbiter": "manual"}, "--arbiter applies to a held pair only"),
        ({"scenarios": ("rest", "no-such")}, "no scenario no-such; there are rest, "),
    ],
    ids=lambda value: str(value)[:40],
)
def test_options_that_are_wrong_end_a_run_before_it_begins(options, why, monkeypatch):
    def never(*_arguments, **_keywords):
        raise AssertionError("nothing is looked for, installed or built")

    for name in ("check_machine", "ensure_image", "find_qemu", "run_isolated", "Programs"):
        monkeypatch.setattr(f"pycolo_lab.qemu.session.{name}", never)
    with pytest.raises(LabUsageError, match=why) as caught:
        run_qemu_lab(QemuLabOptions(**options), Interruption())
    assert caught.value.exit_code == 2


@pytest.fixture
def machine_without(monkeypatch, tmp_path):
    """What `check_machine` says of a machine on which one thing is as the test wants it."""

    def said(options=None, **wanted):
        monkeypatch.setattr("pycolo_lab.qemu.checks.missing_of", lambda names: wanted.get("missing", []))
        monkeypatch.setattr("pycolo_lab.qemu.checks.may_install", lambda: False)
        monkeypatch.setattr("pycolo_lab.qemu.checks.is_image_there", lambda: False)
        monkeypatch.setattr("pycolo_lab.qemu.checks.cache_directory", lambda: tmp_path / "a" / "b")
        monkeypatch.setattr("pycolo_lab.qemu.checks.run_isolated", lambda _body, _interruption: 0)
        monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=wanted.get("free", 10**12)))
        with pytest.raises(LabError) as caught:
            check_machine(options or QemuLabOptions(), with_etcd=True, interruption=Interruption())
        return str(caught.value)

    return said


def test_all_that_is_missing_is_named_before_anything_is_installed(machine_without):
    said = machine_without(missing=["etcd", "busybox"])
    assert said == "etcd, busybox missing: as root on Debian, apt-get install busybox-static etcd-server"


def test_a_full_disk_is_seen_before_anything_is_built(machine_without):
    assert "has room for 5 MB, building needs 500 MB: make room" in machine_without(free=5_000_000)


def test_kvm_that_does_not_open_is_named(machine_without, monkeypatch):
    monkeypatch.setattr("pycolo_lab.qemu.checks.KVM", "/nonexistent/kvm")
    said = machine_without(QemuLabOptions(accelerator="kvm"))
    assert said == "--accel kvm: /nonexistent/kvm: No such file or directory; --accel tcg needs none"


def test_what_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(LabError, match="busybox, gcc missing: as root, apt-get install busybox-static gcc libc6-dev"):
        Programs(Interruption()).require(["busybox", "gcc"])


# ── the initramfs ───────────────────────────────────────────────────────────────────────────────────────────


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read the archive as the format's description says: 13 fields of 8 hex digits, everything padded to 4 bytes."""
    found, position = {}, 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[start : start + 8], 16) for start in range(position + 6, position + 110, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[position + 110 : position + 110 + name_size - 1].decode()
        start = (position + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[start : start + size])
        position = (start + size + 3) & ~3


names = st.text("abc", min_size=1, max_size=5)


@given(st.dictionaries(st.tuples(names, names).map("/".join), st.binary(max_size=9)))
def test_what_is_packed_can_be_read(contents):
    entries = {path: initramfs.file(content) for path, content in contents.items()}
    found = members(gzip.decompress(initramfs.pack(entries)))
    folders = {path.split("/")[0]: (0o040755, b"") for path in contents}
    assert found == {**{path: (0o100644, content) for path, content in contents.items()}, **folders}


def test_folders_come_before_what_is_in_them():
    packed = members(gzip.decompress(initramfs.pack({"a/b/c": initramfs.program(b"x"), "l": initramfs.link("a/b")})))
    assert packed == {
        "a": (0o040755, b""),
        "a/b": (0o040755, b""),
        "a/b/c": (0o100755, b"x"),
        "l": (0o120777, b"a/b"),
    }
    assert list(packed) == ["a", "a/b", "a/b/c", "l"]


def test_the_same_files_give_the_same_archive():
    entries = {"a/b": initramfs.file(b"1"), "a/c": initramfs.file(b"2")}
    assert initramfs.pack(entries) == initramfs.pack(dict(reversed(entries.items())))


# ── observations ────────────────────────────────────────────────────────────────────────────────────────────


def status(count: int, *records: tuple[int, float]) -> dict[str, object]:
    last = [{"epoch": epoch, "at": f"t{epoch}", "outcome": "committed", "pause_ms": pause} for epoch, pause in records]
    return {"checkpoint": {"count": {"periodic": count}, "aborted": 1, "last": last}}


def test_a_checkpoint_counts_once_however_often_it_is_told():
    seen = Observations()
    seen.new_life(Host.A)
    seen.take(Host.A, status(1, (1, 5.0)))
    seen.take(Host.A, status(2, (1, 5.0), (2, 7.0)))
    assert seen.checkpoints == {"periodic": 2}
    assert seen.pauses_ms == [5.0, 7.0]


def test_a_node_s_new_life_counts_from_zero_again():
    seen = Observations()
    for _ in range(2):
        seen.new_life(Host.A)
        seen.take(Host.A, status(3, (1, 5.0)))
    assert seen.checkpoints == {"periodic": 6}
    assert len(seen.pauses_ms) == 2
    assert seen.aborted == 2


def test_percentiles_of_nothing_are_none():
    assert percentile([], 0.99) is None
    assert percentile([1.0, 2.0], 0.99) == 2.0
