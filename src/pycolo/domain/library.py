"""libvirt's binding for Python: found, loaded once, and its events run in a thread of their own."""

import importlib
import sys
import threading
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from pycolo.errors import ConnectError

PACKAGES: Final = Path("/usr/lib/python3/dist-packages")
"""Debian's, which a private environment does not look into. The compiled part names the Python that it is for."""

_MODULES: Final = ("libvirtmod", "libvirt", "libvirtmod_qemu", "libvirt_qemu")
"""In the order in which they import one another."""


class Library(NamedTuple):
    """The two modules, which have no types."""

    core: Any
    qemu: Any


@cache
def load() -> Library:
    """The binding, ready for use; its events are delivered from now on. Raises `ConnectError` without one."""
    library = find()
    library.core.registerErrorHandler(lambda context, error: None, None)  # each reaches us as an exception, too
    library.core.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, args=(library.core,), name="libvirt events", daemon=True).start()
    return library


def find(packages: Path = PACKAGES) -> Library:
    """The two modules. Raises `ConnectError`."""
    try:
        return Library(importlib.import_module("libvirt"), importlib.import_module("libvirt_qemu"))
    except ImportError:
        for name in _MODULES:
            _import_from(packages, name)
    return Library(sys.modules["libvirt"], sys.modules["libvirt_qemu"])


def _import_from(packages: Path, name: str) -> None:
    spec = PathFinder.find_spec(name, [str(packages)])
    if spec is None or spec.loader is None:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ConnectError(
            f"guest.domain: this Python ({python}) has no binding for libvirt: apt install python3-libvirt, "
            "or pip install 'pycolo[libvirt]' into its environment"
        )
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _run_events(core: Any) -> None:
    while True:
        core.virEventRunDefaultImpl()
