"""A QMP connection: each command has its time, each error its line, each event its turn, and nothing stays behind."""

import asyncio
import gc
import json
import socket
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.errors import ConnectError, PeerError, QmpError, QmpTimeout, StateError
from pycolo.qmp import client as module
from pycolo.qmp.client import Qmp
from support import virtualloop
from support.fakeqmp import GREETING, HANG, FakeQmp, Raw, Refusal

pytestmark = pytest.mark.slow

LONG_S = 30.0
SHORT_S = 0.05


class Heard:
    """What a connection told."""

    def __init__(self):
        self.events = []
        self.reasons = []

    def qmp(self, path):
        return Qmp(path, "vm1", self.events.append, self.reasons.append)


@pytest.fixture(autouse=True, scope="module")
def _older_objects_are_not_looked_at():
    """Looking for garbage after each example takes as long as there are objects of other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def run(scenario):
    """The scenario, with a deadline; afterwards no task of it may be left."""

    async def bounded():
        async with asyncio.timeout(60):
            await scenario()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert left == set()

    virtualloop.run(bounded())
    gc.collect()  # a socket left open or an exception left unread becomes a warning, and so a failure


@pytest.fixture
def path(tmp_path):
    return tmp_path / "qmp.sock"


def connected(path, scenario, **options):
    """`scenario(fake, qmp, heard)` on a connection."""

    async def whole():
        async with FakeQmp(path, **options) as fake:
            heard = Heard()
            qmp = heard.qmp(path)
            await qmp.connect(LONG_S)
            try:
                await scenario(fake, qmp, heard)
            finally:
                await qmp.close()

    run(whole)


def is_one_line(error):
    text = str(error.value)
    return "\n" not in text and "vm1" in text


# ── connecting ──────────────────────────────────────────────────────────────────────────────────────────────


def test_it_connects_and_knows_the_version(path):
    async def scenario(fake, qmp, heard):
        assert qmp.is_connected
        assert qmp.version == "7.2.22"
        assert fake.received[0]["arguments"] == {"enable": ["oob"]}
        await qmp.close()
        assert not qmp.is_connected

    connected(path, scenario)


def test_it_waits_for_a_qemu_that_is_starting(path):
    async def scenario():
        qmp = Heard().qmp(path)
        connecting = asyncio.get_running_loop().create_task(qmp.connect(LONG_S))
        await asyncio.sleep(0.15)
        async with FakeQmp(path):
            await connecting
            assert qmp.is_connected
            await qmp.close()

    run(scenario)


def test_not_listening_is_a_connect_error_after_the_time(path):
    async def scenario():
        with pytest.raises(ConnectError, match=r"^vm1: QMP socket .*: no such socket") as error:
            await Heard().qmp(path).connect(SHORT_S)
        assert is_one_line(error)

    run(scenario)


def test_a_socket_that_a_killed_qemu_left_is_a_connect_error(path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def scenario():
        with pytest.raises(ConnectError, match="no program listens"):
            await Heard().qmp(path).connect(SHORT_S)

    run(scenario)


def test_a_path_that_no_socket_can_have_is_refused_at_once():
    async def scenario():
        with pytest.raises(ConnectError, match="too long") as error:
            await Heard().qmp(Path("/tmp") / ("x" * 200)).connect(LONG_S)
        assert is_one_line(error)

    run(scenario)


def test_a_full_queue_of_waiting_clients_is_no_connection(path):
    """asyncio takes EAGAIN of a unix socket for success."""

    async def scenario():
        others = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(0)
            try:
                while not others or others[-1].connect_ex(str(path)) == 0:
                    others.append(socket.socket(socket.AF_UNIX))
                    others[-1].setblocking(False)
                with pytest.raises(ConnectError, match="other clients are already waiting"):
                    await Heard().qmp(path).connect(SHORT_S)
            finally:
                for other in others:
                    other.close()

    run(scenario)


@pytest.mark.parametrize("greeting", [None, GREETING], ids=["no greeting", "no answer to qmp_capabilities"])
def test_a_qemu_that_hangs_at_the_start_costs_exactly_the_time(path, greeting):
    async def scenario():
        async with FakeQmp(path, greeting=greeting) as fake:
            fake.answers["qmp_capabilities"] = HANG
            loop = asyncio.get_running_loop()
            qmp, start = Heard().qmp(path), loop.time()
            with pytest.raises(QmpTimeout, match=r"within 0\.3 s") as error:
                await qmp.connect(0.3)
            assert loop.time() - start == pytest.approx(0.3)
            assert is_one_line(error)
            fake.greeting, fake.answers["qmp_capabilities"] = GREETING, {}
            await qmp.connect(LONG_S)
            await qmp.close()

    run(scenario)


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"HTTP/1.1 400 Bad Request", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON|cannot be parsed"),
        (b"[1, 2]", "not an object"),
        (b'{"hello": 1}', "not a greeting"),
        (b'{"QMP": 7}', "not a greeting"),
        (b'{"QMP": {"version": {}, "capabilities": 3}}', "not a greeting"),
        (b"x" * (module.LINE_BYTES_MAX * 3), "longer than"),
    ],
)
def test_what_is_no_qmp_is_refused_in_one_line(path, greeting, said):
    async def scenario():
        async with FakeQmp(path, greeting=greeting):
            qmp = Heard().qmp(path)
            with pytest.raises(ConnectError, match=said) as error:
                await qmp.connect(LONG_S)
            assert is_one_line(error)
            assert len(str(error.value)) < 500
            assert not qmp.is_connected

    run(scenario)


def test_a_version_that_is_none_is_shown_as_such(path):
    async def scenario(fake, qmp, heard):
        assert qmp.version == "?"

    connected(path, scenario, greeting={"QMP": {"version": {"qemu": 3}, "capabilities": []}})


def test_qemu_refusing_the_negotiation_is_a_connect_error(path):
    async def scenario():
        async with FakeQmp(path) as fake:
            fake.answers["qmp_capabilities"] = Refusal("GenericError", "no")
            with pytest.raises(ConnectError, match="refused") as error:
                await Heard().qmp(path).connect(LONG_S)
            assert is_one_line(error)

    run(scenario)


def test_who_accepts_and_closes_is_tried_again(path):
    async def scenario():
        async with FakeQmp(path) as fake:
            fake.answers["qmp_capabilities"] = Raw(b"", closes=True)
            qmp = Heard().qmp(path)
            connecting = asyncio.get_running_loop().create_task(qmp.connect(LONG_S))
            await fake.until(lambda: fake.connections >= 2)
            fake.answers["qmp_capabilities"] = {}
            await connecting
            await qmp.close()

    run(scenario)


def test_who_agrees_and_closes_is_tried_again(path):
    async def scenario():
        served = 0

        async def serve(reader, writer):
            nonlocal served
            served += 1
            writer.write(json.dumps(GREETING).encode() + b"\n")
            if line := await reader.readline():
                asked = json.loads(line)
                answer = {"return": {}, **({"id": asked["id"]} if "id" in asked else {})}
                writer.write(json.dumps(answer).encode() + b"\n")
            writer.close()

        server = await asyncio.start_unix_server(serve, str(path))
        async with server:
            for _ in range(10):
                qmp = Qmp(path, "vm1", lambda event: None, lambda text: None)
                try:
                    await qmp.connect(0.2)
                except (ConnectError, QmpTimeout) as error:
                    assert "\n" not in str(error)  # noqa: PT017 - or no error: the end came a moment later
                await qmp.close()
        assert served >= 10

    run(scenario)


def test_an_attempt_can_be_cancelled(path):
    async def scenario():
        async with FakeQmp(path, greeting=None) as fake:
            qmp = Heard().qmp(path)
            connecting = asyncio.get_running_loop().create_task(qmp.connect(LONG_S))
            await fake.until(lambda: fake.connections)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            fake.greeting = GREETING
            await qmp.connect(LONG_S)
            await qmp.close()

    run(scenario)


def test_connecting_twice_is_refused(path):
    async def scenario(fake, qmp, heard):
        with pytest.raises(StateError):
            await qmp.connect(LONG_S)

    connected(path, scenario)


def test_a_second_client_gets_no_greeting(path):
    async def scenario(fake, qmp, heard):
        with pytest.raises(QmpTimeout, match="another program"):
            await Heard().qmp(path).connect(SHORT_S)

    connected(path, scenario)


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_returns_what_qemu_returns(path):
    async def scenario(fake, qmp, heard):
        fake.answers["echo"] = lambda arguments: {"got": arguments}
        assert await qmp.execute("echo", {"a": [1, None, "ü"]}) == {"got": {"a": [1, None, "ü"]}}
        assert await qmp.execute("echo") == {"got": None}
        await qmp.execute("echo", oob=True)
        assert [key for key in fake.received[-1] if key != "id"] == ["exec-oob"]

    connected(path, scenario)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=st.permutations(range(12)))
def test_concurrent_commands_get_their_own_answers_in_any_order(path, order):
    async def scenario(fake, qmp, heard):
        fake.answers["echo"] = HANG
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(qmp.execute("echo", {"n": n}, timeout_s=LONG_S)) for n in range(12)]
        await fake.until(lambda: len(fake.received) == 13)
        ids = {message["arguments"]["n"]: message["id"] for message in fake.received[1:]}
        for n in order:
            fake.say(json.dumps({"return": n, "id": ids[n]}).encode())
        assert await asyncio.gather(*tasks) == list(range(12))

    connected(path, scenario)


def test_an_error_names_vm_and_command_and_says_what_qemu_says(path):
    async def scenario(fake, qmp, heard):
        fake.answers["object-add"] = Refusal("GenericError", "Vhost is\n not supported")
        with pytest.raises(QmpError) as error:
            await qmp.execute("object-add", {})
        assert error.value.error_class == "GenericError"
        assert error.value.description == "Vhost is\n not supported"
        assert str(error.value) == "vm1: object-add: QEMU says: Vhost is not supported"
        assert isinstance(error.value, PeerError)
        assert await qmp.execute("qmp_capabilities") == {}

    connected(path, scenario)


@pytest.mark.parametrize(
    ("refusal", "hint"),
    [
        (Refusal("GenericError", "Vhost is not supported"), "vhost=off"),
        (Refusal("GenericError", "multiqueue is not supported"), "queues=1"),
        (Refusal("GenericError", "Parameter 'netdev' expects a network backend id"), "info network"),
        (Refusal("GenericError", "attempt to add duplicate property 'x' to object (type 'container')"), "unprotect"),
        (Refusal("GenericError", "Migration is disabled when using feature 'x' in device 'y'"), "without it"),
        (Refusal("CommandNotFound", "The command x has not been found"), "7.2, 10.0 or 11.1"),
    ],
)
def test_a_known_error_says_what_to_do(path, refusal, hint):
    async def scenario(fake, qmp, heard):
        fake.answers["x"] = refusal
        with pytest.raises(QmpError, match=hint) as error:
            await qmp.execute("x")
        assert is_one_line(error)

    connected(path, scenario)


def test_a_command_without_answer_costs_exactly_its_time_and_a_late_answer_confuses_nothing(path):
    async def scenario(fake, qmp, heard):
        fake.answers |= {"hangs": HANG, "works": "mine"}
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(QmpTimeout, match=r"^vm1: hangs: no answer from QEMU within 0\.2 s$") as error:
            await qmp.execute("hangs", timeout_s=0.2)
        assert loop.time() - start == pytest.approx(0.2)
        assert error.value.command == "hangs"
        slow = loop.create_task(qmp.execute("hangs", timeout_s=LONG_S))
        await fake.until(lambda: fake.commands().count("hangs") == 2)
        assert fake.answer_late("late") == 2
        assert await qmp.execute("works") == "mine"
        assert await slow == "late"
        assert heard.reasons == []

    connected(path, scenario)


def test_a_cancelled_command_leaves_nothing(path):
    async def scenario(fake, qmp, heard):
        fake.answers |= {"hangs": HANG, "works": 1}
        task = asyncio.get_running_loop().create_task(qmp.execute("hangs", timeout_s=LONG_S))
        await fake.until(lambda: "hangs" in fake.commands())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fake.answer_late({})
        assert await qmp.execute("works") == 1

    connected(path, scenario)


def test_what_a_hanging_qemu_owes_is_bounded(path, monkeypatch):
    monkeypatch.setattr(module, "UNANSWERED_MAX", 5)

    async def scenario(fake, qmp, heard):
        fake.answers |= {"hangs": HANG, "works": 1}
        for _ in range(5):
            with pytest.raises(QmpTimeout):
                await qmp.execute("hangs", timeout_s=0.01)
        with pytest.raises(QmpTimeout, match="not sent"):
            await qmp.execute("works")
        await fake.until(lambda: fake.commands().count("hangs") == 5)
        assert "works" not in fake.commands()
        fake.answer_late({})

        async def works_again():
            while True:
                try:
                    return await qmp.execute("works")
                except QmpTimeout:
                    await asyncio.sleep(0.005)

        assert await works_again() == 1

    connected(path, scenario)


def test_arguments_that_are_no_json_are_the_callers_bug_and_the_connection_stays(path):
    async def scenario(fake, qmp, heard):
        with pytest.raises(TypeError):
            await qmp.execute("x", {"a": object()})
        assert await qmp.execute("qmp_capabilities") == {}

    connected(path, scenario)


def test_a_command_without_a_connection_says_why_there_is_none(path):
    async def scenario():
        with pytest.raises(ConnectError, match=r"^vm1: stop: no QMP connection to .*: never connected$"):
            await Heard().qmp(path).execute("stop")

    run(scenario)


# ── losing the connection ───────────────────────────────────────────────────────────────────────────────────


def test_a_lost_connection_fails_every_command_and_is_told_once(path):
    async def scenario(fake, qmp, heard):
        fake.answers["hangs"] = HANG
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(qmp.execute("hangs", timeout_s=LONG_S)) for _ in range(10)]
        await fake.until(lambda: fake.commands().count("hangs") == 10)
        fake.hang_up()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in found} == {ConnectError}
        assert "\n" not in str(found[0])
        assert "ended before the answer" in str(found[0])
        assert len(heard.reasons) == 1
        assert heard.reasons[0].startswith(f"vm1: QMP socket {path}: QEMU closed the connection")
        assert not qmp.is_connected
        with pytest.raises(ConnectError, match="QEMU closed the connection"):
            await qmp.execute("x")

    connected(path, scenario)


def test_after_a_loss_it_can_connect_again(path):
    async def scenario(fake, qmp, heard):
        fake.hang_up()
        assert "QEMU closed the connection" in await qmp.wait_closed()
        await qmp.connect(LONG_S)
        assert await qmp.execute("qmp_capabilities") == {}
        assert len(heard.reasons) == 1

    connected(path, scenario)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"garbage\n", "not JSON"),
        (b"\x00\xff\xfe\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"[]\n", "not an object"),
        (b'"text"\n', "not an object"),
        (b'{"event": 5}\n', "event"),
        (b'{"event": "X", "data": 5}\n', "event"),
        (b'{"event": "X", "timestamp": "now"}\n', "event"),
        (b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n', "could not parse"),
        (b'{"return": 1, "id": []}\n', "cannot be parsed"),
        (b"9" * 5000 + b"\n", "longer than|cannot be parsed|not JSON"),
        (b"[" * 200_000 + b"\n", "not JSON|cannot be parsed"),
    ],
)
def test_garbage_ends_the_connection_with_one_line(path, octets, said):
    async def scenario(fake, qmp, heard):
        fake.answers["x"] = Raw(octets)
        with pytest.raises(ConnectError, match=said) as error:
            await qmp.execute("x", timeout_s=LONG_S)
        assert is_one_line(error)
        assert len(heard.reasons) == 1
        assert "\n" not in heard.reasons[0]
        assert len(heard.reasons[0]) < 500

    connected(path, scenario)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(octets=st.binary(max_size=200), closes=st.booleans())
def test_no_bytes_can_do_worse_than_end_the_connection(path, octets, closes):
    async def scenario(fake, qmp, heard):
        fake.answers["x"] = Raw(octets, closes)
        with pytest.raises((ConnectError, PeerError)):
            await qmp.execute("x", timeout_s=0.02)
        assert len(heard.reasons) <= 1

    connected(path, scenario)


def test_an_answer_with_neither_result_nor_error_ends_the_connection(path):
    async def scenario(fake, qmp, heard):
        fake.answers["x"] = HANG
        loop = asyncio.get_running_loop()
        task = loop.create_task(qmp.execute("x", timeout_s=LONG_S))
        await fake.until(lambda: "x" in fake.commands())
        fake.say(json.dumps({"id": fake.received[-1]["id"], "hello": 1}).encode())
        with pytest.raises(PeerError, match="neither a result nor an error") as error:
            await task
        assert is_one_line(error)
        assert "neither" in await qmp.wait_closed()
        assert len(heard.reasons) == 1

    connected(path, scenario)


def test_a_message_that_breaks_off_is_named_so(path):
    async def scenario(fake, qmp, heard):
        fake.answers["x"] = Raw(b'{"return": {"ver', closes=True)
        with pytest.raises(ConnectError, match="ended in the middle"):
            await qmp.execute("x", timeout_s=LONG_S)

    connected(path, scenario)


def test_a_message_that_is_too_long_ends_the_connection(path, monkeypatch):
    monkeypatch.setattr(module, "LINE_BYTES_MAX", 10_000)

    async def scenario(fake, qmp, heard):
        fake.answers |= {"fits": "x" * 9_000, "not": "x" * 100_000}
        assert await qmp.execute("fits") == "x" * 9_000
        with pytest.raises(ConnectError, match="longer than 10000 bytes"):
            await qmp.execute("not", timeout_s=LONG_S)

    connected(path, scenario)


# ── closing ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_closing_fails_the_outstanding_and_is_not_told(path):
    async def scenario(fake, qmp, heard):
        fake.answers["hangs"] = HANG
        task = asyncio.get_running_loop().create_task(qmp.execute("hangs", timeout_s=LONG_S))
        await fake.until(lambda: "hangs" in fake.commands())
        await asyncio.gather(qmp.close(), qmp.close())
        with pytest.raises(ConnectError, match="closed by this node"):
            await task
        await qmp.close()
        assert heard.reasons == []

    connected(path, scenario)


def test_closing_takes_no_time_when_qemu_reads_nothing(path):
    async def scenario(fake, qmp, heard):
        fake.is_reading.clear()
        loop = asyncio.get_running_loop()
        big = {"x": "y" * 1_000_000}
        tasks = [loop.create_task(qmp.execute("big", big, timeout_s=LONG_S)) for _ in range(5)]
        await asyncio.sleep(0.05)
        start = loop.time()
        await qmp.close()
        assert loop.time() == start
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in found} == {ConnectError}

    connected(path, scenario)


def test_nothing_is_logged(path, caplog, capsys):
    async def scenario(fake, qmp, heard):
        fake.answers |= {"bad": Refusal("GenericError", "no"), "hangs": HANG}
        with pytest.raises(QmpError):
            await qmp.execute("bad")
        with pytest.raises(QmpTimeout):
            await qmp.execute("hangs", timeout_s=0.01)
        fake.answer_late({})
        fake.say(b"garbage")
        await qmp.wait_closed()

    with caplog.at_level("WARNING"):
        connected(path, scenario)
    assert caplog.records == []
    assert capsys.readouterr().err == ""


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_has_its_time_and_its_data(path):
    async def scenario(fake, qmp, heard):
        before = module.monotonic_ns()
        fake.emit("STOP", None, 1_700_000_000, 123_456)
        fake.emit("MIGRATION", {"status": "colo"}, -1, -1)
        await fake.until(lambda: len(heard.events) == 2)
        stop, migration = heard.events
        assert (stop.name, stop.data, stop.at_us) == ("STOP", {}, 1_700_000_000_123_456)
        assert before <= stop.received_ns <= migration.received_ns <= module.monotonic_ns()
        assert (migration.data, migration.at_us) == ({"status": "colo"}, 0)

    connected(path, scenario)


def test_events_and_answers_keep_their_order(path):
    """What QEMU tells before it answers is told before the answer."""

    async def scenario(fake, qmp, heard):
        fake.answers["stop"] = lambda _: [fake.emit("STOP", {"n": n}) for n in range(200)] and {}
        await qmp.execute("stop", timeout_s=LONG_S)
        assert [event.data["n"] for event in heard.events] == list(range(200))

    connected(path, scenario)


def test_an_event_during_the_negotiation_is_no_answer(path):
    async def scenario():
        async with FakeQmp(path) as fake:
            fake.answers["qmp_capabilities"] = lambda _: fake.emit("RESUME") or {}
            heard = Heard()
            qmp = heard.qmp(path)
            await qmp.connect(LONG_S)
            assert [event.name for event in heard.events] == ["RESUME"]
            await qmp.close()

    run(scenario)


def test_a_storm_of_events_is_told_in_order_in_bounded_memory_and_lets_others_run(path):
    count, seen = 40_000, []

    async def scenario():
        async with FakeQmp(path) as fake:
            qmp = Qmp(path, "vm1", lambda event: seen.append(event.data["n"]), lambda reason: None)
            await qmp.connect(LONG_S)
            fake.answers["x"] = 1
            ticks = 0
            tracemalloc.start()
            try:
                start, _ = tracemalloc.get_traced_memory()
                for first in range(0, count, 1000):
                    fake.say(b"\n".join(b'{"event": "E", "data": {"n": %d}}' % n for n in range(first, first + 1000)))
                    ticks += 1
                    await fake.until(lambda first=first: len(seen) >= first - 5000)
                assert await qmp.execute("x", timeout_s=LONG_S) == 1
                await fake.until(lambda: len(seen) == count)
                grown = tracemalloc.get_traced_memory()[0] - start
            finally:
                tracemalloc.stop()
            assert seen == list(range(count))
            # The numbers themselves are 28 bytes and a slot each; one kept event would be half a kilobyte.
            assert grown < count * 60
            await qmp.close()

    run(scenario)


def test_while_events_pour_in_the_loop_does_other_things(path):
    async def scenario(fake, qmp, heard):
        fake.say(b"\n".join([b'{"event": "E"}'] * 10_000))
        seen = []
        while not heard.events:
            await asyncio.sleep(0)
        while len(heard.events) < 10_000:
            seen.append(len(heard.events))
            await asyncio.sleep(0)
        steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
        assert max(steps) <= 2 * module.MESSAGES_IN_A_ROW_MAX

    connected(path, scenario)


def test_a_callback_that_fails_is_shown_and_ends_nothing(path):
    async def scenario():
        async with FakeQmp(path) as fake:
            shown = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: shown.append(context["exception"]))
            heard = []

            def on_event(event):
                heard.append(event.name)
                raise ZeroDivisionError

            def on_closed(reason):
                raise KeyError(reason)

            qmp = Qmp(path, "vm1", on_event, on_closed)
            await qmp.connect(LONG_S)
            fake.emit("A")
            fake.emit("B")
            await fake.until(lambda: len(heard) == 2)
            assert await qmp.execute("qmp_capabilities") == {}
            fake.hang_up()
            await qmp.wait_closed()
            assert [type(error) for error in shown] == [ZeroDivisionError, ZeroDivisionError, KeyError]

    run(scenario)
