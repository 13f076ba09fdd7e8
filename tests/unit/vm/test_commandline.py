"""`colo qemu-args`: what it prints."""

import json
import shlex
from pathlib import Path

from pycolo.config import parse
from pycolo.link.hello import Role
from pycolo.vm.commandline import qemu_arguments
from support.configs import changed, example


def test_a_shell_reads_the_same_arguments_as_json_has(colo, tmp_path: Path):
    path = tmp_path / "vm.toml"
    path.write_text(changed({"qemu.directory": "/run/a b'c", "qemu.qmp": "/run/a, b"}))
    code, out, _ = colo("qemu-args", "--config", path)
    assert code == 0
    lines = out.splitlines()
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert not lines[-1].endswith("\\")
    assert all(line.startswith("-") for line in lines)
    words = json.loads(colo("qemu-args", "--config", path, "--json")[1])
    assert shlex.split(out.replace("\\\n", " ")) == words
    assert "unix:/run/a,, b,server=on,wait=off" in words, "QEMU wants a comma twice"


def test_the_role_is_the_files_unless_another_is_given(colo, tmp_path: Path):
    path = tmp_path / "vm.toml"
    for own in Role:
        path.write_text(changed({"role": own.value}))
        for asked in (None, *Role):
            option = ("--role", asked.value) if asked else ()
            words = json.loads(colo("qemu-args", "--config", path, "--json", *option)[1])
            assert ("-incoming" in words) == ((asked or own) is Role.SECONDARY)


def test_a_secondary_waits_and_is_else_like_the_primary():
    config = parse(example().encode(), "vm.toml")
    assert qemu_arguments(config, Role.SECONDARY) == [*qemu_arguments(config, Role.PRIMARY), "-incoming", "defer"]


def test_without_a_yank_socket_there_is_one_qmp_socket():
    config = parse(changed({"qemu.yank": None}).encode(), "vm.toml")
    assert qemu_arguments(config, Role.PRIMARY).count("-qmp") == 1
