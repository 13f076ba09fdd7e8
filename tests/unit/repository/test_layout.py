"""Where tests are: the tests of a module in a file of its name.

Tests of `src/pycolo/wire/packet.pxi` are in `tests/unit/wire/test_packet.py`. An exception has its reason below.
"""

import ast
import re
from pathlib import Path

from support.documentation import ROOT

PRODUCT = ROOT / "src" / "pycolo"
LABORATORY = ROOT / "lab" / "src" / "pycolo_lab"
TESTS = ROOT / "tests"
UNIT = TESTS / "unit"

# the tests that cover them instead -> why, modules
ELSEWHERE: dict[str, tuple[str, str]] = {
    "property/test_compare_model.py": (
        "the specification: both sides of a comparison test each other",
        (
            "model/comparator model/facts model/incarnation model/numbers model/packet model/tcp "
            "model/verdicts model/voice"
        ),
    ),
    "property/test_mask_model.py": ("the specification likewise", "model/masks"),
    "property/test_datagram_model.py": ("the specification likewise", "model/datagrams model/fragments"),
    "property/test_forged_handshakes.py": ("what strangers send is drawn at random", "compare/clients"),
    "property/test_order_model.py": (
        "the specification likewise",
        "model/order order/kinds order/lanes order/mirror order/primary order/secondary",
    ),
    "property/test_segment_laws.py": ("the kernel cuts the same frames", "wire/segmenting"),
    "property/test_rewrite_model.py": ("the specification likewise", "model/edits model/rewriter model/tracked"),
    "property/test_rewrite_offset_tables.py": ("laws of two rewriters", "rewrite/tables"),
    "property/test_rewrite_straight.py": ("a law: it does what the general path does", "rewrite/straight"),
    "e2e/test_etcd_arbiter.py": ("waits for requests: needs a store that answers", "arbiters/runner"),
    "e2e/test_metrics_endpoint.py": ("servers of whole processes", "proxy/exposition proxy/metricsthread"),
    "e2e/test_proxy.py": (
        "threads of a process, between sockets",
        "proxy/compare proxy/diagnostics proxy/netfilter proxy/path proxy/process proxy/rewriter",
    ),
    "e2e/test_vm_node.py": (
        "what two processes and two QEMUs do together",
        "node/nopath vm/assembly vm/host vm/memory",
    ),
    "e2e/test_network_restore.py": ("processes that are killed", "cli/network hostnet/recovery"),
    "unit/arbiters/test_command.py": ("what the command arbiter starts", "arbiters/usercommand"),
    "unit/arbiters/test_etcdclient.py": ("its only user", "arbiters/httprequest"),
    "unit/arbiters/test_resourceagent.py": ("the agent is there for its own sake", "cli/resourceagent"),
    "unit/cli/test_commands.py": ("`python -m pycolo`", "__main__"),
    "unit/cli/test_status.py": (
        "what `colo status` and `colo explain` show",
        "cli/explain cli/ordering cli/target cli/watch node/sidebyside",
    ),
    "unit/cli/test_vm.py": ("every error of a command is one line", "errors"),
    "unit/hostnet/test_openvswitch.py": ("its only user", "hostnet/ovsdb"),
    "unit/hostnet/test_wire.py": (
        "what the kernel is asked and told for the sake of a wire",
        "hostnet/execution hostnet/facts hostnet/looking",
    ),
    "unit/compare/test_admission.py": ("reached by a full memory only", "compare/relief"),
    "unit/compare/test_comparator.py": ("counters and reports of the whole", "compare/reports compare/rows"),
    "unit/compare/test_datagram.py": ("reached by frames only", "compare/payloads compare/straight compare/uso"),
    "unit/compare/test_fragments.py": ("reached by frames only", "compare/slots"),
    "unit/compare/test_held.py": ("what is held is what leaves", "compare/outbox"),
    "unit/compare/test_onesided.py": ("time-outs are of one side or of both", "compare/ages"),
    "unit/compare/test_ordered.py": ("a tree by itself, for these tests", "compare/onetree"),
    "unit/compare/test_tcp.py": (
        "reached by frames only",
        "compare/segments compare/shaper compare/steady compare/stream",
    ),
    "unit/costs/test_ledger.py": (
        "sums of what is told, and their words",
        "costs/labelled costs/reasons costs/sums costs/words",
    ),
    "unit/node/test_costs.py": ("what it keeps", "node/costsfile node/shownfile"),
    "unit/config/test_reading.py": ("what a key may hold shows in a file", "config/keys config/section"),
    "unit/failover/test_lease.py": ("what a lease asks and hears", "failover/store"),
    "unit/failover/test_pair.py": (
        "the table as a whole",
        "failover/pairdiagram failover/pairstates failover/pairtable",
    ),
    "unit/link/test_codec.py": ("the codec, with a buffer", "transport/decoder"),
    "unit/metrics/test_collector.py": ("the values that it collects", "metrics/readings"),
    "unit/metrics/test_page.py": ("what it shows, by a server", "metrics/pagedata vm/page"),
    "unit/metrics/test_server.py": ("the parts of the server", "metrics/listening metrics/scraping"),
    "unit/node/test_cluster.py": ("the parts of one arbiter", "node/pacemaker"),
    "unit/node/test_secondarypath.py": ("a takeover announces", "node/announcer"),
    "unit/node/test_node.py": (
        "a node's parts, by what they do together",
        (
            "node/datalinks node/gate node/links node/linksides node/loopcall node/opening "
            "node/ownside node/plainguest node/records node/roles"
        ),
    ),
    "unit/path/test_nodes.py": ("both nodes' loops, one against the other", "path/link path/primary path/secondary"),
    "unit/path/test_pump.py": ("stages of the loop", "path/clock path/comparing path/rewriting path/streams"),
    "unit/proxy/test_capture.py": ("a packet's fate, as a capture shows it", "compare/trace"),
    "unit/proxy/test_line.py": ("what a command line says", "proxy/objects"),
    "unit/proxy/test_notifydev.py": ("a chardev's messages", "proxy/chardev"),
    "unit/rewrite/test_rewriter.py": ("reached by frames only", "rewrite/progress rewrite/translator rewrite/waiting"),
    "unit/storage/test_pool.py": ("the memory of the pool, and how tests see it", "storage/column storage/views"),
    "unit/test_api.py": ("the other half of the Python API", "frames"),
    "unit/test_core.py": ("what Python may hand to the core", "wire/views"),
    "unit/transport/test_guesttap.py": ("its only user, with a real interface", "transport/tapinterface"),
    "unit/transport/test_certs.py": ("`colo certs` and what it writes", "cli/certs transport/certificates"),
    "unit/checkpoint/test_coordinator.py": ("what runs, as the coordinator follows it", "checkpoint/running"),
    "unit/vm/test_barrier.py": ("what both nodes' barriers count", "checkpoint/epoch"),
    "unit/vm/test_guest.py": (
        "the guest as its node sees it",
        (
            "vm/attempt vm/guesthost vm/guestsearch vm/guestwiring vm/incolo vm/pathslot vm/primaryguest "
            "vm/primarypaths vm/secondaryguest"
        ),
    ),
    "unit/domain/test_monitor.py": ("its only user", "domain/events"),
    "unit/vm/test_domainguest.py": ("both ways to a monitor", "qmp/monitor vm/monitorsource"),
    "unit/vm/test_disksettling.py": ("its parts, put together", "vm/hostdisks"),
    "unit/vm/test_parts.py": ("small parts of a node", "link/orders vm/hooks vm/leftover"),
    "unit/vm/test_paths.py": ("what a configuration means for the data path", "vm/nodeoptions"),
}

# files of a package's folder with tests that belong to no single module -> why
TOPICS = {
    "config/test_guest.py": "a domain, and what may be left out with it",
    "config/test_cards.py": "one table of the file, with all that it excludes",
    "cli/test_commands.py": "what all commands have in common",
    "cli/test_imports.py": "what a command imports",
    "compare/test_growth.py": "steps of the whole comparator, counted",
    "compare/test_older.py": "connections from before the pair",
    "conntrack/test_million.py": "both cores with a large table",
    "hostnet/test_settle.py": "a guest that serves without the node, from whatever was left",
    "node/test_checkpoint.py": "both nodes' data paths in a checkpoint",
    "rewrite/test_claims.py": "rule R1, whatever part keeps it",
    "vm/test_guest_commands.py": "every command in every state of the guest",
    "vm/test_guest_facts.py": "what the guest tells unasked",
    "vm/test_parts.py": "small parts of a node in one file",
}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def has_functions(path: Path) -> bool:
    """Whether something can be tested: constants, data classes and interfaces are declarations."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return bool(re.search(r"^ *(?:cdef|cpdef|def) (?!class|struct|enum|extern)[^=\n]*\(", text, re.MULTILINE))
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return not all(ast.unparse(function.body[-1]) == "..." or is_docstring(function.body) for function in functions)


def is_docstring(body: list[ast.stmt]) -> bool:
    return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def modules() -> dict[str, Path]:
    """Of the product, by the name that their tests have: `wire/packet`."""
    paths = [path for path in sorted(PRODUCT.rglob("*")) if path.suffix in {".py", ".pxi", ".pyx"}]
    return {path.relative_to(PRODUCT).with_suffix("").as_posix(): path for path in paths if path.stem != "__init__"}


def mirror(module: str) -> Path:
    folder, _, name = module.rpartition("/")
    return UNIT / folder / f"test_{name}.py"


COVERED = {module: test for test, (_, names) in ELSEWHERE.items() for module in names.split()}


# ── modules ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_module_has_a_test_of_its_name_or_its_line_in_the_table():
    found = [
        f"{shown(path)}: no {shown(mirror(name))}, no line in {Path(__file__).name}"
        for name, path in modules().items()
        if not mirror(name).is_file() and name not in COVERED and has_functions(path)
    ]
    assert found == []


def test_the_table_says_what_is_so():
    assert [name for name in COVERED if name not in modules()] == [], "modules that are not there"
    assert [name for name in COVERED if mirror(name).is_file()] == [], "modules with a test of their name"
    assert [test for test in ELSEWHERE if not (TESTS / test).is_file()] == [], "tests that are not there"
    assert sum(len(names.split()) for _, names in ELSEWHERE.values()) == len(COVERED), "modules with two lines"


def test_every_unit_test_has_the_name_of_a_module_or_of_a_topic():
    """`repository` has the tests of what is no module, `lab` those of `pycolo_lab`, by its packages."""
    mirrors = {mirror(name) for name in modules()}
    topics = {UNIT / name for name in TOPICS}
    assert [name for name in TOPICS if not (UNIT / name).is_file()] == []
    assert [shown(path) for path in topics & mirrors] == []
    found = [path for path in sorted(UNIT.rglob("test_*.py")) if path not in mirrors | topics]
    assert [shown(path) for path in found if path.relative_to(UNIT).parts[0] not in {"lab", "repository"}] == []


def test_every_folder_of_unit_tests_is_a_package():
    for folder in (path for path in UNIT.rglob("*") if path.is_dir() and path.name != "__pycache__"):
        first, *rest = folder.relative_to(UNIT).parts
        package = LABORATORY.joinpath(*rest) if first == "lab" else PRODUCT.joinpath(first, *rest)
        assert first == "repository" or (package / "__init__.py").is_file(), shown(folder)
