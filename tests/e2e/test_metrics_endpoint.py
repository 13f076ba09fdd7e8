"""Real nodes with real traffic: what a scrape says is what `colo status` says, also across a takeover."""

import asyncio
import http.client
import json
import os
import sys
import threading
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pycolo.metrics import server
from pycolo.metrics.server import MetricsServer
from pycolo.transport.linksetup import Address
from support.nodes import PATIENCE_S, World, wait_for


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


@contextmanager
def endpoint(node):
    """Metrics of a node's status answer, served from a loop in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    metrics = MetricsServer(Address("127.0.0.1", 0), lambda: asyncio.to_thread(node.status))
    asyncio.run_coroutine_threadsafe(metrics.start(), loop).result(PATIENCE_S)
    try:
        yield metrics
    finally:
        asyncio.run_coroutine_threadsafe(metrics.close(), loop).result(PATIENCE_S)
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def scrape(metrics):
    """Sample → value, by an HTTP client and Prometheus' parser."""
    connection = http.client.HTTPConnection(*metrics.address, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        text = answer.read().decode()
    finally:
        connection.close()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape_at_rest(metrics, node):
    """A scrape and the counters, where both are of one moment: a client may ask again, and its answer be under way."""

    def found():
        before, scraped, after = node.counters(), scrape(metrics), node.counters()
        names = {"compared", "secondary_frames", "rewritten", "held"} & before.keys()
        return before["held"] == 0 and all(before[name] == after[name] for name in names) and (scraped, after)

    return wait_for(found, "the counters to rest")


def test_a_scrape_says_what_the_status_says_before_and_after_a_takeover(world, monkeypatch):
    monkeypatch.setattr(server, "KEEP_MS", 0)
    world.protected()
    connection = world.connect()
    for i in range(20):
        connection.ask(b"%03d" % i)
    with endpoint(world.primary) as primary, endpoint(world.secondary) as secondary:
        found, counters = scrape_at_rest(primary, world.primary)
        assert found[("colo_state", "protected")] == 1
        assert found[("colo_link_up",)] == 1
        assert found[("colo_packets_total", "compared", "primary")] == counters["compared"] >= 20
        assert found[("colo_frames_total", "secondary")] == counters["secondary_frames"]
        assert found[("colo_connections",)] == 1
        assert found[("colo_port_up", "lan")] == 1
        found, counters = scrape_at_rest(secondary, world.secondary)
        assert found[("colo_packets_total", "rewriter", "rewritten")] == counters["rewritten"] > 0
        assert found[("colo_state", "serving")] == 0

        world.primary.kill()
        world.secondary.wait_state("serving")
        wait_for(lambda: world.secondary.status()["takeover"].get("done_ns"), "the takeover")
        found = scrape(secondary)
        takeover = world.secondary.status()["takeover"]
        assert found[("colo_state", "serving")] == 1
        assert found[("colo_link_up",)] == 0
        expected = (takeover["done_ns"] - takeover["suspected_ns"]) / 1e9
        assert found[("colo_failover_seconds",)] == pytest.approx(expected)
        # The primary's process is gone: its endpoint still answers, and says so.
        found = scrape(primary)
        assert found[("colo_status_up",)] == 0
        assert ("colo_epoch",) not in found


LOGGING = """
import asyncio, logging, sys
from pycolo.cli.logfile import LogFile, configure_log
import structlog
file = LogFile(sys.stderr.fileno())
configure_log(file, format="json", facts=lambda: {"pair": "vm1", "role": "primary", "term": 3, "epoch": 5})
structlog.get_logger("colo").info("listening", address="10.0.0.1:9000", token=b"\\x00\\x01")
async def main():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.05)
asyncio.run(main())
file.close()
"""


def test_everything_on_standard_error_of_a_process_is_json(tmp_path):
    """Also what asyncio has to say of a callback that failed."""

    async def life():
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LOGGING), stderr=asyncio.subprocess.PIPE, env=environment, cwd=tmp_path
        )
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
        assert process.returncode == 0
        return errors

    first, second = (json.loads(line) for line in asyncio.run(life()).decode().splitlines())
    assert (first["event"], first["token"], first["epoch"]) == ("listening", "0001", 5)
    assert (second["logger"], second["level"], second["pair"]) == ("asyncio", "error", "vm1")
    assert "ZeroDivisionError" in second["exception"]
