"""The HTTP endpoint: what it answers, and what no client can do to it."""

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from pycolo.errors import ConnectError
from pycolo.metrics import scraping, server
from pycolo.metrics.scraping import CLIENTS_MAX, HEAD_BYTES_MAX
from pycolo.metrics.server import MetricsServer
from pycolo.transport.linksetup import Address
from support.statuses import vm_status

pytestmark = pytest.mark.slow

PATIENCE_S = 20
ANYWHERE = Address("127.0.0.1", 0)


@asynccontextmanager
async def serving(status=None, address=ANYWHERE):
    async def answer():
        return vm_status()

    metrics = MetricsServer(address, status or answer)
    await metrics.start()
    try:
        yield metrics
    finally:
        await metrics.close()


def run(coroutine):
    """Also sees that nothing is left behind."""

    async def bounded():
        async with asyncio.timeout(3 * PATIENCE_S):
            await coroutine
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others

    asyncio.run(bounded())


async def talk(metrics, request):
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection(metrics.address.host, metrics.address.port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(request)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def get(metrics, path="/metrics", headers="", method="GET"):
    reply = await talk(metrics, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    head, _, body = reply.partition(b"\r\n\r\n")
    return head.decode(), body


async def scraped(metrics):
    _, body = await get(metrics)
    families = text_string_to_metric_families(body.decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


# ── what it answers ─────────────────────────────────────────────────────────────────────────────────────────


def test_both_formats_and_the_process():
    async def life():
        async with serving() as metrics:
            head, body = await get(metrics)
            assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n")
            assert f"Content-Length: {len(body)}\r\n" in head
            names = {family.name for family in text_string_to_metric_families(body.decode())}
            assert {"colo_state", "colo_info", "process_resident_memory_bytes"} <= names
            asked = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
            head, body = await get(metrics, headers=asked)
            assert "Content-Type: application/openmetrics-text; version=" in head
            assert body.endswith(b"# EOF\n")
            assert {"colo_state", "colo"} <= {family.name for family in parse_openmetrics(body.decode())}
            head, body = await get(metrics, "/metrics?x=1", method="HEAD")
            assert head.startswith("HTTP/1.1 200 OK")
            assert body == b""

    run(life())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/x HTTP/1.0\r\n\r\n", b"404"),
        (b"GET http://elsewhere/metrics HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\n", b"405"),
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", b"431"),
    ],
)
def test_anything_else_is_refused_in_one_line(request_, status):
    async def life():
        async with serving() as metrics:
            head, _, body = (await talk(metrics, request_)).partition(b"\r\n\r\n")
            assert head.split(b" ")[1] == status
            assert body.count(b"\n") == 1

    run(life())


def test_an_http_client_of_python_gets_it():
    async def life():
        async with serving() as metrics:
            url = f"http://{metrics.address}"

            def ask(path):
                with urllib.request.urlopen(url + path, timeout=PATIENCE_S) as answer:
                    return answer.read()

            assert b"colo_epoch 7.0" in await asyncio.to_thread(ask, "/metrics")
            with pytest.raises(urllib.error.HTTPError, match="404") as caught:
                await asyncio.to_thread(ask, "/")
            caught.value.close()

    run(life())


# ── asking the node ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_node_is_asked_once_a_second_however_many_scrape(monkeypatch):
    asked = []

    async def status():
        asked.append(1)
        await asyncio.sleep(0)
        return vm_status(epoch=len(asked))

    async def life():
        async with serving(status) as metrics:
            monkeypatch.setattr(server, "KEEP_MS", 3_600_000)
            monkeypatch.setattr(scraping, "HEAD_S", PATIENCE_S)  # not less than all that wait before it take
            monkeypatch.setattr(scraping, "REQUEST_S", PATIENCE_S)
            found = await asyncio.gather(*(scraped(metrics) for _ in range(2 * CLIENTS_MAX)))
            assert {one["colo_epoch"] for one in found} == {1}
            assert len(asked) == 1

    run(life())


def test_an_answer_is_not_kept_for_longer_than_it_should_be(monkeypatch):
    now_ms = [10_000]
    monkeypatch.setattr(server, "_now_ms", lambda: now_ms[0])
    epochs = iter(range(1, 100))

    async def status():
        return vm_status(epoch=next(epochs))

    async def life():
        async with serving(status) as metrics:
            assert (await scraped(metrics))["colo_epoch"] == 1
            now_ms[0] += server.KEEP_MS - 1
            assert (await scraped(metrics))["colo_epoch"] == 1
            now_ms[0] += 1
            assert (await scraped(metrics))["colo_epoch"] == 2

    run(life())


def test_a_node_that_does_not_answer_is_a_scrape_that_says_so_and_its_question_is_not_cancelled(monkeypatch):
    monkeypatch.setattr(server, "STATUS_S", 0.05)

    async def life():
        answers = asyncio.Event()
        asked = []

        async def status():
            asked.append(1)
            await answers.wait()
            return vm_status(epoch=len(asked))

        with capture_logs() as lines:
            async with serving(status) as metrics:
                for _ in range(3):
                    found = await scraped(metrics)
                    assert found["colo_status_up"] == 0
                    assert "colo_epoch" not in found
                assert len(asked) == 1
                answers.set()
                until_s = time.monotonic() + PATIENCE_S
                while (found := await scraped(metrics))["colo_status_up"] == 0:
                    assert time.monotonic() < until_s
                assert found["colo_epoch"] >= 1
        assert lines[0]["event"] == "metrics: the node did not report its status within 0.05 s"

    run(life())


def test_a_question_that_fails_is_told_once_and_asked_again(monkeypatch):
    monkeypatch.setattr(server, "KEEP_MS", 0)

    async def life():
        answers = []

        async def status():
            if not answers:
                raise RuntimeError("no data path")
            return answers[0]

        with capture_logs() as lines:
            async with serving(status) as metrics:
                for _ in range(3):
                    assert (await scraped(metrics))["colo_status_up"] == 0
        assert len([line for line in lines if "no data path" in line["event"]]) == 1

    run(life())


def test_the_end_does_not_wait_for_a_node_that_never_answers(monkeypatch):
    monkeypatch.setattr(server, "STATUS_S", 0.05)

    async def status():
        await asyncio.Event().wait()

    async def life():
        async with serving(status) as metrics:
            assert (await scraped(metrics))["colo_status_up"] == 0

    run(life())


# ── hostile clients ─────────────────────────────────────────────────────────────────────────────────────────


def test_clients_that_say_nothing_are_closed_and_others_get_their_turn(monkeypatch):
    monkeypatch.setattr(scraping, "HEAD_S", 0.2)

    async def life():
        async with serving() as metrics:
            mute = [socket.create_connection(tuple(metrics.address)) for _ in range(2 * CLIENTS_MAX)]
            try:
                until_s = time.monotonic() + PATIENCE_S
                while (await scraped(metrics)).get("colo_status_up") != 1:  # on a busy machine it is too slow as well
                    assert time.monotonic() < until_s
                    assert len(metrics._server._clients) <= CLIENTS_MAX
                assert len(metrics._server._clients) <= CLIENTS_MAX
            finally:
                for client in mute:
                    client.close()

    run(life())


def test_a_client_that_sends_byte_by_byte_is_closed(monkeypatch):
    monkeypatch.setattr(scraping, "HEAD_S", 0.2)

    async def life():
        async with serving() as metrics:
            with socket.create_connection(tuple(metrics.address)) as client:
                client.setblocking(False)
                until_s = time.monotonic() + PATIENCE_S
                while True:
                    assert time.monotonic() < until_s
                    await asyncio.sleep(0.02)
                    try:
                        client.send(b"G")
                        assert client.recv(1) == b""
                        break
                    except BlockingIOError:
                        continue
                    except ConnectionError:
                        break

    run(life())


def test_a_client_that_does_not_read_is_given_up(monkeypatch):
    monkeypatch.setattr(scraping, "REQUEST_S", 0.3)
    monkeypatch.setattr(MetricsServer, "_body", lambda *_: asyncio.sleep(0, (b"x" * (64 << 20), "text/plain")))

    async def life():
        async with serving() as metrics:
            with socket.create_connection(tuple(metrics.address)) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                until_s = time.monotonic() + PATIENCE_S
                while not metrics._server._clients:
                    assert time.monotonic() < until_s
                    await asyncio.sleep(0.01)
                while metrics._server._clients:
                    assert time.monotonic() < until_s
                    await asyncio.sleep(0.01)

    run(life())


def test_many_clients_at_once_do_not_keep_the_loop_from_its_work():
    """What else lives in the loop still runs; places rest between clients."""

    async def life():
        async with serving() as metrics:
            is_over = threading.Event()

            def flood():
                while not is_over.is_set():
                    try:
                        with socket.create_connection(tuple(metrics.address), timeout=1) as client:
                            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                            client.recv(1000)
                    except OSError:
                        pass

            threads = [threading.Thread(target=flood) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(50):  # within the time that `run` gives
                await asyncio.sleep(0.01)
            is_over.set()
            await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
            assert (await scraped(metrics))["colo_status_up"] == 1

    run(life())


def test_the_end_closes_each_connection():
    async def life():
        async with serving() as metrics:
            reader, writer = await asyncio.open_connection(*metrics.address)
            until_s = time.monotonic() + PATIENCE_S
            while not metrics._server._clients:
                assert time.monotonic() < until_s
                await asyncio.sleep(0.01)
            await metrics.close()
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*metrics.address)

    run(life())


def test_a_client_that_came_last_is_closed_too():
    """Its task is cancelled before it has begun."""

    async def life():
        async with serving() as metrics:
            with socket.create_connection(tuple(metrics.address)):
                metrics._server._accept()
                assert metrics._server._clients
                server_ = metrics._server
                await metrics.close()
                assert not server_._clients

    run(life())


# ── listening ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_that_is_taken_is_one_line_that_names_the_key():
    async def life():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = Address("127.0.0.1", taken.getsockname()[1])
            with pytest.raises(ConnectError, match=rf"^metrics.listen {address}: cannot listen: already running: "):
                async with serving(address=address):
                    pass

    run(life())


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_somewhere_else_is_one_line(host):
    async def life():
        with pytest.raises(ConnectError, match=f"^metrics.listen {host}:9: cannot listen: .*own") as caught:
            async with serving(address=Address(host, 9)):
                pass
        assert "\n" not in str(caught.value)

    run(life())


def test_closing_twice_or_before_the_start_does_no_harm():
    async def life():
        async with serving() as metrics:
            await metrics.close()
        await MetricsServer(ANYWHERE, None).close()

    run(life())
