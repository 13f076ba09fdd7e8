"""The relay of the migration stream: nothing is lost, and no message passes its barrier early."""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Queue

import pytest

from pycolo.checkpoint.parts import Flow
from pycolo.errors import CheckpointError
from pycolo.transport.linksetup import RawLink
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.relay import Relay

DEADLINE_S = 20
REQUEST = 1
CHECKPOINT = [ColoMessage.REPLY, ColoMessage.RECEIVED, ColoMessage.LOADED]

RETURN_PATH = bytes.fromhex("0002 0004 00000001 0001 0004 00000000")
"""PONG and SHUT, as QEMU 11.1 begins."""

READY = struct.pack(">I", ColoMessage.READY)

RETURN_PATH = bytes.fromhex("0002 0004 00000001 0001 0004 00000000")
"""PONG and SHUT, as QEMU 11.1 begins."""

READY = struct.pack(">I", ColoMessage.READY)


class Stage:
    """Two relays between two guests' sockets, as on two hosts."""

    def __init__(self) -> None:
        self.primary, at_primary = socket.socketpair()
        self.secondary, at_secondary = socket.socketpair()
        link_a, link_b = socket.socketpair()
        self.seen: Queue[tuple[str, int]] = Queue()
        self.followed: Queue[tuple[str, int]] = Queue()
        self.ended: Queue[tuple[str, str]] = Queue()
        self.refuses = False
        self.answers_at_once = True
        self.asked: Queue[Future[None]] = Queue()
        self.gate, self.request_gate = threading.Event(), threading.Event()
        self.gate.set()
        self.request_gate.set()
        for sock in (self.primary, self.secondary):
            sock.settimeout(DEADLINE_S)
        self.a = self._relay(at_primary, link_a, "primary")
        self.b = self._relay(at_secondary, link_b, "secondary")

    def _relay(self, guest: socket.socket, link: socket.socket, name: str) -> Relay:
        def on_message(word: int) -> Callable[[], None]:
            if name == "primary":
                assert self.gate.wait(DEADLINE_S)
                if self.refuses:
                    raise CheckpointError("loaded", "no")
            self.seen.put((name, word))
            return lambda: self.followed.put((name, word))

        def on_request() -> None:
            assert self.request_gate.wait(DEADLINE_S)
            self.seen.put((name, REQUEST))

        relay = Relay(
            guest,
            RawLink(link, name),
            is_primary=name == "primary",
            on_message=on_message,
            on_request=on_request if name == "secondary" else None,
            ask=self._ask if name == "primary" else None,
            on_ended=lambda text: self.ended.put((name, text)),
        )
        relay.start()
        return relay

    def _ask(self) -> Future[None]:
        question: Future[None] = Future()
        if self.answers_at_once:
            question.set_result(None)
        self.asked.put(question)
        return question

    def close(self) -> None:
        self.gate.set()
        self.request_gate.set()
        for relay in (self.a, self.b):
            relay.close()
        self.primary.close()
        self.secondary.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def receive(sock: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (part := sock.recv(count - len(heard))):
        heard += part
    return heard


def test_the_state_arrives_as_it_was_sent(stage: Stage) -> None:
    state = bytes(range(256)) * 40_000
    sender = threading.Thread(target=stage.primary.sendall, args=(state,))
    sender.start()
    assert receive(stage.secondary, len(state)) == state
    sender.join(DEADLINE_S)
    stage.primary.close()
    ended = {stage.ended.get(timeout=DEADLINE_S)[0] for _ in range(2)}
    assert ended == {"primary", "secondary"}, "a relay counts what it wrote after it wrote it: look when it has ended"
    assert stage.a.forward_bytes == stage.b.forward_bytes == len(state)


def test_what_this_hosts_qemu_has_not_read_is_not_counted_as_read(stage: Stage) -> None:
    state = bytes(5_000)
    stage.primary.sendall(state)
    assert select.select([stage.secondary], [], [], DEADLINE_S)[0]
    assert stage.b.read_bytes == 0
    assert receive(stage.secondary, len(state)) == state
    stage.primary.close()
    ended = {stage.ended.get(timeout=DEADLINE_S)[0] for _ in range(2)}
    assert ended == {"primary", "secondary"}
    assert stage.b.read_bytes == len(state)


def test_every_message_is_shown_on_both_nodes_and_passed_on(stage: Stage) -> None:
    words = [ColoMessage.READY, *[ColoMessage.REPLY, ColoMessage.RECEIVED, ColoMessage.LOADED] * 50]
    sent = RETURN_PATH + b"".join(struct.pack(">I", word) for word in words)
    stage.secondary.sendall(sent)
    assert receive(stage.primary, len(sent)) == sent
    seen = [stage.seen.get(timeout=DEADLINE_S) for _ in range(2 * len(words))]
    assert [word for name, word in seen if name == "primary"] == words
    assert [word for name, word in seen if name == "secondary"] == words


def test_a_message_in_pieces_is_one_message(stage: Stage) -> None:
    for octet in RETURN_PATH + READY:
        stage.secondary.sendall(bytes([octet]))
    assert receive(stage.primary, len(RETURN_PATH + READY)) == RETURN_PATH + READY
    assert stage.seen.get(timeout=DEADLINE_S) == ("secondary", ColoMessage.READY)


def test_garbage_in_the_reverse_direction_closes_the_stream_and_names_it(stage: Stage) -> None:
    stage.secondary.sendall(RETURN_PATH + READY + b"\xff" * 3000)
    # What came before the garbage may have passed; the garbage has not.
    assert (RETURN_PATH + READY).startswith(receive(stage.primary, 4000))
    texts = dict(stage.ended.get(timeout=DEADLINE_S) for _ in range(2))
    assert "unexpected COLO message 0xffffffff at byte 20" in texts["secondary"]


@pytest.mark.rule("E1")
def test_what_follows_a_message_is_called_when_it_has_passed(stage: Stage) -> None:
    """So nothing that takes the interpreter holds a message up."""
    stage.secondary.sendall(READY)
    assert receive(stage.primary, 4) == READY
    for _ in range(2):
        stage.followed.get(timeout=DEADLINE_S)
    stage.refuses = True
    stage.secondary.sendall(REPLY)
    assert stage.followed.get(timeout=DEADLINE_S) == ("secondary", ColoMessage.REPLY)
    assert receive(stage.primary, 1) == b""
    assert stage.followed.empty(), "it has not passed"


def test_a_message_waits_for_its_barrier(stage: Stage) -> None:
    stage.gate.clear()
    stage.secondary.sendall(READY)
    assert stage.seen.get(timeout=DEADLINE_S) == ("secondary", ColoMessage.READY)
    readable, _, _ = select.select([stage.primary], [], [], 0.1)  # long enough, if nothing held it
    assert not readable
    stage.primary.settimeout(DEADLINE_S)
    stage.gate.set()
    assert receive(stage.primary, 4) == READY


def test_the_end_of_the_primary_reaches_the_secondary_whose_last_word_is_heard(stage: Stage) -> None:
    stage.primary.sendall(b"the last of the state")
    stage.primary.close()
    assert receive(stage.secondary, 100) == b"the last of the state", "and then the end"
    ended = {stage.ended.get(timeout=DEADLINE_S)[0] for _ in range(2)}
    assert ended == {"primary", "secondary"}
    stage.secondary.sendall(READY)
    assert stage.seen.get(timeout=DEADLINE_S) == ("secondary", ColoMessage.READY)


def test_a_secondary_can_be_told_of_the_end_while_the_other_node_hangs(stage: Stage) -> None:
    stage.gate.clear()
    stage.b.end_input()
    assert stage.secondary.recv(10) == b""
    stage.secondary.sendall(READY)
    assert stage.seen.get(timeout=DEADLINE_S) == ("secondary", ColoMessage.READY)


def test_the_end_of_the_secondary_reaches_the_primary(stage: Stage) -> None:
    stage.secondary.sendall(READY)
    stage.secondary.close()
    assert receive(stage.primary, 8) == READY
    assert {stage.ended.get(timeout=DEADLINE_S)[0] for _ in range(2)} == {"primary", "secondary"}


def test_close_ends_it_whatever_the_others_do(stage: Stage) -> None:
    stage.a.close()
    assert stage.primary.recv(10) == b""
    assert stage.secondary.recv(10) == b""
    assert not stage.a.is_alive()


@pytest.mark.rule("E1")
def test_a_message_whose_barrier_fails_does_not_pass(stage: Stage) -> None:
    stage.refuses = True
    stage.secondary.sendall(READY)
    assert stage.primary.recv(10) == b"", "the stream ends instead"
    texts = dict(stage.ended.get(timeout=DEADLINE_S) for _ in range(2))
    assert "checkpoint, loaded: no" in texts["primary"]


@pytest.mark.rule("E1")
@pytest.mark.parametrize("before", [[ColoMessage.READY], [ColoMessage.READY, *CHECKPOINT]])
def test_the_request_for_a_checkpoint_waits_for_its_barrier(stage: Stage, before: list[ColoMessage]) -> None:
    stage.primary.sendall(b"state")
    assert receive(stage.secondary, 5) == b"state", "nothing is held before the secondary runs"
    octets = b"".join(struct.pack(">I", word) for word in before)
    stage.secondary.sendall(octets)
    assert receive(stage.primary, len(octets)) == octets
    stage.request_gate.clear()
    stage.primary.sendall(struct.pack(">I", REQUEST))
    readable, _, _ = select.select([stage.secondary], [], [], 0.1)  # long enough, if nothing held it
    assert not readable
    stage.request_gate.set()
    assert receive(stage.secondary, 4) == struct.pack(">I", REQUEST)
    stage.primary.sendall(b"more state")
    assert receive(stage.secondary, 10) == b"more state", "only the request is held"


REPLY = struct.pack(">I", ColoMessage.REPLY)


def ask_at_a_checkpoint(stage: Stage, state: bytes) -> Future[None]:
    """The question at a checkpoint, with the whole state on its way."""
    stage.answers_at_once = False
    stage.secondary.sendall(READY + REPLY)
    assert receive(stage.primary, 8) == READY + REPLY
    threading.Thread(target=stage.primary.sendall, args=(state,), daemon=True).start()
    return stage.asked.get(timeout=DEADLINE_S)


STATE = bytes(range(256)) * 8_000


def test_the_newest_byte_of_a_state_waits_for_the_answer(stage: Stage) -> None:
    question = ask_at_a_checkpoint(stage, STATE)
    assert receive(stage.secondary, len(STATE) - 1) == STATE[:-1], "the others go on"
    readable, _, _ = select.select([stage.secondary], [], [], 0.1)  # long enough, if nothing held it
    assert not readable
    before = stage.a.flow
    question.set_result(None)
    assert receive(stage.secondary, 1) == STATE[-1:]
    while (after := stage.a.flow).last_us == before.last_us:
        time.sleep(0.001)  # a relay counts what it wrote after it wrote it
    assert 0 < before.first_us == after.first_us <= before.last_us
    assert 100_000 <= after.disks_us <= after.last_us - before.last_us + 1, "so long it was waited for"
    stage.primary.sendall(b"more state")
    assert receive(stage.secondary, 10) == b"more state"
    assert stage.asked.empty(), "once for each checkpoint"


def test_an_answer_that_is_there_at_once_holds_nothing(stage: Stage) -> None:
    stage.secondary.sendall(READY + REPLY)
    assert receive(stage.primary, 8) == READY + REPLY
    stage.primary.sendall(STATE[:999])
    assert receive(stage.secondary, 999) == STATE[:999]
    assert stage.asked.get(timeout=DEADLINE_S).done()


def test_the_times_of_a_state_begin_anew_with_each_reply(stage: Stage) -> None:
    stage.secondary.sendall(READY)
    assert receive(stage.primary, 4) == READY
    stage.primary.sendall(b"first state")
    receive(stage.secondary, 11)
    stage.secondary.sendall(REPLY)
    assert receive(stage.primary, 4) == REPLY
    assert stage.a.flow == Flow()
    stage.primary.sendall(b"state")
    receive(stage.secondary, 5)
    while not stage.a.flow.first_us:
        time.sleep(0.001)


def test_a_state_that_is_refused_never_arrives_whole(stage: Stage) -> None:
    question = ask_at_a_checkpoint(stage, STATE)
    assert receive(stage.secondary, len(STATE) - 1) == STATE[:-1]
    question.set_exception(CheckpointError("reply", "its disk is lost"))
    assert receive(stage.secondary, 1) == b"", "the stream ends instead"
    texts = dict(stage.ended.get(timeout=DEADLINE_S) for _ in range(2))
    assert "its disk is lost" in texts["primary"]


def test_a_primary_that_ends_before_the_answer_leaves_no_whole_state(stage: Stage) -> None:
    ask_at_a_checkpoint(stage, STATE)
    assert receive(stage.secondary, len(STATE) - 1) == STATE[:-1]
    stage.primary.close()
    assert receive(stage.secondary, 1) == b""
