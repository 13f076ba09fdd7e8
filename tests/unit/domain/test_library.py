"""Which binding of libvirt is used; and that the tests' stand-in has the calls of the real one."""

import inspect
import sys

import pytest

from pycolo.domain import library
from pycolo.errors import ConnectError
from support import standinlibvirt as standin


def test_without_the_binding_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    for name in ("libvirt", "libvirt_qemu"):
        monkeypatch.setitem(sys.modules, name, None)  # as if no module of that name could be found
    with pytest.raises(
        ConnectError, match=r"apt install python3-libvirt, or pip install 'pycolo\[libvirt\]'"
    ) as caught:
        library.find(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_binding_outside_of_the_environment_is_found_in_the_distributions_folder(tmp_path, monkeypatch):
    for name in ("libvirtmod", "libvirtmod_qemu"):
        (tmp_path / f"{name}.py").write_text(f"name = {name!r}\n")
    (tmp_path / "libvirt.py").write_text("import libvirtmod\nhas = libvirtmod.name\n")
    (tmp_path / "libvirt_qemu.py").write_text("import libvirt, libvirtmod_qemu\nhas = libvirt.has\n")
    for name in library._MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(library.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    try:
        assert library.find(tmp_path).qemu.has == "libvirtmod"
    finally:
        for name in library._MODULES:
            sys.modules.pop(name, None)


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_stand_in_has_the_calls_of_the_real_binding():
    try:
        real = library.find()
    except ConnectError:
        pytest.skip("needs libvirt's binding for this Python: apt install python3-libvirt")
    pairs = [
        (standin.StandInConnection, real.core.virConnect),
        (standin.StandInDomain, real.core.virDomain),
        (standin.StandInQemu, real.qemu),
        (standin.StandInCore, real.core),
    ]
    for ours, theirs in pairs:
        for name, value in vars(ours).items():
            if name.startswith("_") or not inspect.isfunction(value):
                continue
            assert parameters(value) == parameters(getattr(theirs, name)), name
    for name, value in vars(standin.StandInCore).items():
        if name.startswith("VIR_"):
            assert getattr(real.core, name) == value, name
