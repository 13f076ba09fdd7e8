"""What every test may use: marks for what a test shows and what it needs, and skips that say why.

* `@pytest.mark.namespaces` and `@pytest.mark.tun` skip a test where the machine does not allow it,
  `@pytest.mark.qemu` and `@pytest.mark.etcd` where these are not installed.
* `@pytest.mark.rule("C3")` says which rule of docs/rules.md a test shows; `pytest --rule C3` runs only those tests.

The end of a run says how long each group of tests took: the folders below tests/.

A reason to skip reads "needs WHAT: HOW TO GET IT"; the end of a run says how many tests need what. With PYCOLO_CI=1
nothing may skip: a skip is a failure.
"""

import gc
import logging
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from functools import cache

import hypothesis
import pytest
import structlog

IN_CI = os.environ.get("PYCOLO_CI") == "1"

# Examples are slow on a busy machine: no deadline, pytest-timeout is the bound, and no health check of their time (a
# test that suppresses another check suppresses that one, too). CI tries the same examples each time, in the same
# order of tests (see .ci/run): what is red there is red because of the change. New examples are for `make test`.
PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("local", PATIENT)
hypothesis.settings.register_profile("ci", PATIENT, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("quick", PATIENT, max_examples=10)  # for `make check`
hypothesis.settings.load_profile("ci" if IN_CI else "local")


# Set on some machines, and hides a test that waits for a line which its child keeps in a buffer.
os.environ.pop("PYTHONUNBUFFERED", None)

# `make test &` in a script, or nohup, starts us with signals ignored, and whatever tests start would inherit that and
# not end by them. A handler of ours is not inherited; we ourselves go on ignoring them.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda _number, _frame: None)


# ── rules ───────────────────────────────────────────────────────────────────────────────────────────────────


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "only tests of this rule of docs/rules.md, such as C3; may be repeated"
    parser.addoption("--rule", action="append", default=[], metavar="RULE", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--rule"))
    if wanted:
        chosen = [item for item in items if wanted & {rule for mark in item.iter_markers("rule") for rule in mark.args}]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


# ── how long each group took ────────────────────────────────────────────────────────────────────────────────

SECONDS: Counter[str] = Counter()
TESTS: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    folder, _, path = report.nodeid.partition("/")
    group, in_a_folder, _ = path.partition("/")
    if folder == "tests" and in_a_folder:
        SECONDS[group] += report.duration
        TESTS[group] += report.when == "call"


def _write_groups(terminalreporter: pytest.TerminalReporter) -> None:
    for group, seconds in SECONDS.most_common():
        tests = "1 test" if TESTS[group] == 1 else f"{TESTS[group]} tests"
        terminalreporter.write_line(f"tests/{group}: {tests}, {seconds:.0f} s")


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
def _log_as_not_configured() -> Iterator[None]:
    """A test that runs a command configures the log; the next one is not to inherit it."""
    yield
    structlog.reset_defaults()


MEMORY_GROWS_PAGES = (1 << 30) // os.sysconf("SC_PAGE_SIZE")
memory_pages = [0]


def pytest_runtest_logfinish() -> None:
    """A data path with its buffers is in a cycle, for which Python seldom looks: they came to six gigabytes once."""
    if _pages() > memory_pages[0] + MEMORY_GROWS_PAGES:
        gc.collect()
        memory_pages[0] = _pages()


def _pages() -> int:
    """The memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1])


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """What this test has logged, also what asyncio says of tasks and futures as they are collected: of this test's."""
    gc.collect()
    caplog.clear()

    def found() -> list[logging.LogRecord]:
        gc.collect()
        return caplog.records

    return found


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
    """Last before pytest's own closing line: how long groups took; how many tests need what, and how to get it."""
    yield
    _write_groups(terminalreporter)
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
