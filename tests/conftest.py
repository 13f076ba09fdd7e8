"""What every test may use: both builds of the hot path, and skips that say why.

* `uncompiled("pycolo.wire.seq")` is that module run from its source, its `pycolo` imports too: the oracle.
* `build("pycolo.wire.seq")` runs a test twice, with the compiled and with the uncompiled module.
* `@pytest.mark.namespaces` and `@pytest.mark.tun` skip a test where the machine does not allow it,
  `@pytest.mark.qemu` and `@pytest.mark.etcd` where these are not installed.

A reason to skip reads "needs WHAT: HOW TO GET IT"; the end of a run says how many tests need what. With PYCOLO_CI=1
nothing may skip: a skip is a failure.
"""

import importlib
import importlib.abc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import structlog

SOURCE_ROOT = Path(__file__).resolve().parent.parent / "src"
IN_CI = os.environ.get("PYCOLO_CI") == "1"

Load = Callable[[str], ModuleType]

# An uncompiled oracle makes examples slow on a busy machine: no deadline, pytest-timeout is the bound. CI tries the
# same examples each time, in the same order of tests (see .ci/run): what is red there is red because of the change.
# New examples are for `make test`.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


# Set on some machines, and hides a test that waits for a line which its child keeps in a buffer.
os.environ.pop("PYTHONUNBUFFERED", None)

# `make test &` in a script, or nohup, starts us with signals ignored, and whatever tests start would inherit that and
# not end by them. A handler of ours is not inherited; we ourselves go on ignoring them.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda _number, _frame: None)


# ── both builds of a module ─────────────────────────────────────────────────────────────────────────────────


class _SourceFinder(importlib.abc.MetaPathFinder):
    """Finds `pycolo` modules as source files only, whatever extension modules lie beside them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "pycolo":
            return None
        place = SOURCE_ROOT.joinpath(*fullname.split("."))
        if (place / "__init__.py").is_file():
            return _source_spec(fullname, place / "__init__.py", [str(place)])
        if place.with_suffix(".py").is_file():
            return _source_spec(fullname, place.with_suffix(".py"), None)
        return None


def _source_spec(fullname: str, file: Path, locations: list[str] | None) -> ModuleSpec | None:
    loader = SourceFileLoader(fullname, str(file))
    return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=locations)


class _UncompiledTree:
    """A second `pycolo`, run from source, that shares no module with the one in `sys.modules`.

    Except errors and limits: they are never compiled, import nothing, and exceptions must be the same classes
    in both. A module must import what it needs at its top: an import inside a function would run later and
    find the ordinary tree.
    """

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {
            name: importlib.import_module(name) for name in ("pycolo.errors", "pycolo.limits")
        }

    def load(self, name: str) -> ModuleType:
        with self._swapped_in():
            module = importlib.import_module(name)
        assert not is_compiled(module), f"{name} was asked for uncompiled, but {module.__file__} was loaded"
        return module

    @contextmanager
    def _swapped_in(self) -> Iterator[None]:
        """`sys.modules` holds this tree's `pycolo` for the time of an import."""
        finder = _SourceFinder()
        ordinary = _taken_out_of_sys_modules()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            self._modules = _taken_out_of_sys_modules()
            sys.modules.update(ordinary)


def _taken_out_of_sys_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "pycolo"]
    return {name: sys.modules.pop(name) for name in names}


def is_compiled(module: ModuleType) -> bool:
    return (module.__file__ or "").endswith(tuple(EXTENSION_SUFFIXES))


def _load_compiled(name: str) -> ModuleType:
    module = importlib.import_module(name)
    if not is_compiled(module):
        pytest.skip("needs the compiled packet path: as root, apt-get install gcc libc6-dev python3-dev; make setup")
    return module


_load_uncompiled = _UncompiledTree().load


@pytest.fixture(scope="session")
def compiled() -> Load:
    """Imports a module and skips the test when it is not compiled."""
    return _load_compiled


@pytest.fixture(scope="session")
def uncompiled() -> Load:
    """Imports a module from its source, with everything of pycolo that it imports."""
    return _load_uncompiled


@pytest.fixture(scope="session", params=["compiled", "uncompiled"])
def build(request: pytest.FixtureRequest) -> Load:
    """Runs the test with the compiled and with the uncompiled hot path."""
    return _load_compiled if request.param == "compiled" else _load_uncompiled


# ── skips, and none in CI ───────────────────────────────────────────────────────────────────────────────────


@cache
def namespaces_refusal() -> str | None:
    """Why this machine lets us make no network namespace; None when it does."""
    as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_user, "--net", "--mount", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return "the command unshare (package util-linux) is not installed"
    except subprocess.TimeoutExpired:
        return "unshare did not answer within 20 s"
    return None if done.returncode == 0 else f"`{' '.join(command)}` says: {done.stderr.strip()}"


@pytest.fixture(autouse=True)
def _log_as_nobody_configured_it() -> Iterator[None]:
    """A test that runs a command configures the log; the next one is not to inherit it."""
    yield
    structlog.reset_defaults()


@cache
def tun_refusal() -> str | None:
    """Why we may not open /dev/net/tun; None when we may."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return None


def nginx_refusal() -> str | None:
    """Why the page with nginx cannot be run here; None when it can."""
    if os.geteuid() != 0:
        return "needs root: what a page tells root to do is done as root"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = [name for name in ("nginx", "curl", "ip") if shutil.which(name, path=path) is None]
    packages = " ".join({"nginx": "nginx-light", "curl": "curl", "ip": "iproute2"}[name] for name in missing)
    return f"needs nginx, curl and ip: as root, apt-get install {packages}" if missing else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("namespaces") and (why := namespaces_refusal()):
        pytest.skip(f"needs network namespaces: run it as root, or allow user namespaces ({why})")
    if item.get_closest_marker("qemu") and shutil.which("qemu-system-x86_64") is None:
        pytest.skip("needs QEMU: as root, apt-get install qemu-system-x86")
    if item.get_closest_marker("etcd") and shutil.which("etcd") is None:
        pytest.skip("needs etcd: as root, apt-get install etcd-server")
    if item.get_closest_marker("nginx") and (why := nginx_refusal()):
        pytest.skip(why)
    if item.get_closest_marker("tun") and (why := tun_refusal()):
        pytest.skip(f"needs a TAP device: run it as root ({why})")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return (where[2] if isinstance(where, tuple) else str(where)).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Last before pytest's own closing line: how many tests need what, and how to get it."""
    yield
    counts = Counter(map(_reason, terminalreporter.stats.get("skipped", [])))
    for reason, count in counts.most_common():
        tests, need = ("1 test", "needs") if count == 1 else (f"{count} tests", "need")
        if reason.startswith("needs "):
            terminalreporter.write_line(f"{tests} {need} {reason.removeprefix('needs ')}")
        else:
            terminalreporter.write_line(f"{tests} skipped: {reason}")


def _failed_if_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is reported as skipped too, with `wasxfail`; it did run.
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = _reason(report)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may skip in CI (PYCOLO_CI=1). {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _failed_if_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _failed_if_skipped_in_ci(report)
    return report
