"""jhash: nanoseconds per call and per byte, compiled and uncompiled."""

import importlib
import importlib.util
import sys
import timeit
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

NAME = "pycolo.conntrack.jhash"
SOURCE = Path(__file__).resolve().parents[1] / "src" / f"{NAME.replace('.', '/')}.py"
KEY = bytes(range(256)) * 16


def from_source() -> ModuleType:
    loader = SourceFileLoader(NAME, str(SOURCE))
    spec = importlib.util.spec_from_loader(NAME, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def best_ns(call: Callable[[], object]) -> float:
    timer = timeit.Timer(call)
    calls, _ = timer.autorange()
    return min(timer.repeat(repeat=5, number=calls)) / calls * 1e9


def main() -> None:
    as_installed = importlib.import_module(NAME)
    builds = {"installed": as_installed, "uncompiled": from_source()}
    print(f"installed: {as_installed.__file__}; Python {sys.version.split()[0]}; best of 5")
    for name, module in builds.items():
        key_ns = best_ns(lambda module=module: module.connection_hash(0x0100000A, 0x0200000A, 40000, 80, 6, 1))
        byte_ns = best_ns(lambda module=module: module.jhash(KEY, 1)) / len(KEY)
        print(f"{name:>12}: connection_hash {key_ns:9.1f} ns a call   jhash {byte_ns:7.2f} ns a byte")


if __name__ == "__main__":
    main()
