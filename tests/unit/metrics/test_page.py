"""The page for people: who gets it, what a browser is told about it, and what it is given to show."""

import asyncio
import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from pycolo.config import MetricsOptions
from pycolo.metrics.catalog import STATES
from pycolo.metrics.page import page
from pycolo.metrics.pagedata import CHECKPOINTS_SHOWN, TEXT_CHARACTERS_MAX, page_data, verdict
from pycolo.metrics.server import MetricsServer
from pycolo.transport.linksetup import Address
from support.pagestatus import MARKUP, busy, hostile
from support.statuses import checkpoint_record, vm_status

PATIENCE_S = 20


def asked(*requests, shown=None, **options):
    """(status, headers, body) of each request: (path, Host)."""

    async def status():
        return vm_status()

    async def busy_pair():
        return busy()

    async def ask(server, path, host):
        reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
        named = f"Host: {host}\r\n" if host else ""
        writer.write(f"GET {path} HTTP/1.1\r\n{named}\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        line, *headers = head.decode().split("\r\n")
        return int(line.split()[1]), dict(header.split(": ", 1) for header in headers), body.decode()

    async def life():
        async with asyncio.timeout(PATIENCE_S):
            server = MetricsServer(Address("127.0.0.1", 0), status, shown or busy_pair, **options)
            await server.start()
            try:
                return [await ask(server, path, host) for path, host in requests]
            finally:
                await server.close()

    return asyncio.run(life())


def source() -> str:
    return asyncio.run(page()).body.decode()


# ── safety ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_browser_runs_this_script_alone_and_asks_this_server_alone():
    ((status, headers, body),) = asked(("/", "127.0.0.1:9109"))
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", body, flags=re.DOTALL)
        assert rules[rule] == f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_becomes_markup_and_no_other_host_is_named():
    """The policy forbids inline handlers and styles too; the script must not need them."""
    text = source()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
        assert forbidden not in text
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}, "the name of a namespace"
    assert not re.search(r"<[^>]*\s(?:on\w+|style)=", text)
    assert not re.search(r'\bstyle: [`"\']', text), "an attribute, which the policy forbids"
    assert len(re.findall("<script", text)) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9109", "[::1]:9109", "localhost:9109", "10.1.2.3", None])
def test_who_names_the_server_by_an_address_is_served(host):
    assert [status for status, _, _ in asked(("/", host), ("/page.json", host))] == [200, 200]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9109", "localhost.evil.example", "[", ""])
def test_a_name_that_a_web_site_points_here_is_refused_but_for_metrics(host):
    host = host or "evil"
    found = asked(("/", host), ("/page.json", host), ("/metrics", host))
    assert [status for status, _, _ in found] == [421, 421, 200]
    assert not any("10.0.0.9" in body for _, _, body in found)


@pytest.mark.parametrize(
    ("listen", "page", "is_open"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        ("10.0.0.1", None, False),
        ("0.0.0.0", None, False),
        ("host-a.example", None, False),
        ("0.0.0.0", True, True),
        ("127.0.0.1", False, False),
    ],
)
def test_unless_configured_it_is_on_loopback_only(listen, page, is_open):
    assert MetricsOptions(listen=Address(listen, 0), page=page).is_page_open is is_open


def test_where_it_is_not_open_it_says_so_and_the_metrics_are():
    found = asked(("/", None), ("/page.json", None), ("/metrics", None), is_page_open=False)
    assert [status for status, _, _ in found] == [403, 403, 200]
    assert "metrics.page = true" in found[0][2]
    assert "10.0.0.9" not in found[1][2]


# ── what it is given ────────────────────────────────────────────────────────────────────────────────────────


def test_the_data_is_the_node_s_and_markup_in_it_is_text():
    async def shown():
        return hostile()

    ((status, headers, body),) = asked(("/page.json", None), shown=shown)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert body.isascii()
    assert json.loads(body)["divergences"][0]["text"] == MARKUP


def test_a_node_that_fails_is_said_to():
    async def shown():
        raise RuntimeError("no data path")

    ((status, _, body),) = asked(("/page.json", None), shown=shown)
    assert (status, body) == (503, "the node does not answer\n")


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_verdict_in_words(state):
    found = verdict(vm_status(state=state))
    assert found["title"] == state
    assert found["text"]
    assert (found["level"] == "good") == (state == "protected")


def test_a_verdict_says_what_is_wrong():
    health = vm_status()["health"]
    degraded = verdict(vm_status(health={**health, "verdict": "degraded", "why": "3 % left uncompared"}))
    assert (degraded["level"], degraded["title"]) == ("bad", "degraded")
    assert "3 % left uncompared." in degraded["text"]
    unseen = verdict(vm_status(health={**health, "verdict": "no traffic yet"}))
    assert "Nothing was compared yet" in unseen["text"]
    blocked = verdict(vm_status(state="taking-over", blocked="serve failed: no br0"))
    assert blocked == {"level": "bad", "title": "taking-over", "text": "Serve failed: no br0. It is tried again."}
    alone = verdict(vm_status(state="alone", protection={"failures": 2, "why": "the other host is down"}))
    assert alone["text"].endswith("The last attempt to protect it has failed: the other host is down.")
    lacks = verdict(vm_status(state="alone", protection={"failures": 2, "lacks": True, "why": "no guest to protect"}))
    assert lacks["text"].endswith("Protection waits: no guest to protect."), "not that it has failed"


@pytest.mark.parametrize(
    "missing",
    [
        "checkpoint",
        "masks",
        "bypassed",
        "divergences",
        "vm",
        "other_vm",
        "peer",
        "health",
        "hold_histogram",
        "warnings",
    ],
)
def test_a_node_that_has_nothing_yet_has_a_page(missing):
    status = vm_status()
    status[missing] = None
    data = page_data(status, {}, [], at_iso="2026-11-29T17:46:00.000Z", now_ns=0)
    assert json.dumps(data)


def test_what_is_shown_is_bounded():
    many = [checkpoint_record(reasons=[{"kind": "divergence", "text": "x" * 10_000}])] * 1000
    status = vm_status(warnings=[{"text": "x" * 10_000}] * 100, blocked="x" * 10_000)
    status["checkpoint"] |= {"last": many}
    status["divergences"] = busy()["divergences"] * 100
    data = page_data(status, {}, [], at_iso="", now_ns=0)
    assert len(data["checkpoints"]) == CHECKPOINTS_SHOWN
    assert len(json.dumps(data)) < 60 * 1024 + CHECKPOINTS_SHOWN * TEXT_CHARACTERS_MAX


def test_hold_times_are_counts_of_their_own_bucket():
    holds = busy()["holds"]
    assert sum(count for _, count in holds) == sum(count for _, count in vm_status()["hold_histogram"])
    assert holds[-1][0] is None


def test_the_files_exemptions_are_shown_with_what_they_let_pass():
    found = busy()
    assert found["masks"] == [{"name": "date", "matches": 7, "bytes": 12}]
    assert found["bypassed"] == [{"name": "1", "packets": 3, "bytes": 5000}]
