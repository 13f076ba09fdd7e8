"""What programs ask redis for besides INCR, all at once, and the laws of the answers.

Transactions, scripts, pipelines, a queue from which several take, and messages to those who listen. Whatever dies
meanwhile: both counters of a transaction agree and have no gap, scripts that move amounts leave the sum as it is, a
pipeline's answers follow each other, everything that was put into the queue is taken once, and each listener hears each
message once, in order.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, Final

from pycolo_lab.clients import in_words
from pycolo_lab.work.incr import PORT, request
from pycolo_lab.work.result import Work, WorkResult, main, shown

CONNECTIONS: Final = 2
"""Of each kind."""

PAUSE_S: Final = 0.004
"""Between two that one client puts into the queue, and between two messages."""

TAKE_S: Final = 1
"""How long one waits for the queue; then it looks whether the run ends."""

PIPELINE: Final = 20
ACCOUNTS: Final = 10
AMOUNT: Final = 1000
LAST_MESSAGE: Final = "end"

MOVE: Final = f"""
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('INCRBY', KEYS[2], ARGV[1])
local sum = 0
for i = 0, {ACCOUNTS - 1} do sum = sum + redis.call('GET', 'account' .. i) end
return sum
"""

Reply = int | bytes | None | list["Reply"]


class Client:
    """A connection that asks and waits. Raises `ValueError` for what is no answer, and OSError."""

    def __init__(self, work: Work) -> None:
        self._socket = socket.create_connection((work.address, PORT), work.stall_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file: BinaryIO = self._socket.makefile("rb")

    def ask(self, *commands: Sequence[str]) -> list[Reply]:
        """The answers to all of them, which are sent at once."""
        self._socket.sendall(b"".join(request(*words) for words in commands))
        return [self.hear() for _ in commands]

    def hear(self) -> Reply:
        """The next answer, or message."""
        return read_reply(self._file)


def read_reply(file: BinaryIO) -> Reply:
    """One of RESP. Raises `ValueError`."""
    line = file.readline()
    kind, text = line[:1], line[1:-2]
    if not line.endswith(b"\r\n") or kind not in b":+$*":
        raise ValueError(f"wrong answer: {line[:60]!r}")
    if kind == b"+":
        return text
    count = int(text)
    if kind == b":":
        return count
    if kind == b"*":
        return None if count < 0 else [read_reply(file) for _ in range(count)]
    octets = file.read(count + 2) if count >= 0 else b""
    if count >= 0 and (len(octets) != count + 2 or not octets.endswith(b"\r\n")):
        raise ValueError("the connection ended")
    return octets[:-2] if count >= 0 else None


# ── the laws ────────────────────────────────────────────────────────────────────────────────────────────────


def counted(pairs: Iterable[Reply]) -> list[str]:
    """Of transactions, each of which has raised two counters."""
    found, numbers = [], []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] != pair[1] or not isinstance(pair[0], int):
            found.append(f"a transaction's counters are {pair!r}")
        else:
            numbers.append(pair[0])
    missing = set(range(1, len(numbers) + 1)) - set(numbers)
    if not found and missing:
        found.append(f"{len(numbers)} transactions end at {max(numbers)}, and {min(missing)} is missing")
    return found


def delivered(put: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Of the queue, once it is empty."""
    lost, twice = set(put) - set(taken), len(taken) - len(set(taken))
    return [
        *([f"{len(lost)} of {len(put)} were put into the queue and never taken: {min(lost)}"] if lost else []),
        *([f"{twice} were taken twice from the queue"] if twice else []),
        *([f"never put, but taken: {min(set(taken) - set(put))}"] if set(taken) - set(put) else []),
    ]


def heard(messages: Sequence[Reply], sent: int) -> list[str]:
    """Of one who listens: all that were sent, in order."""
    if list(messages) == [b"%d" % number for number in range(1, sent + 1)]:
        return []
    return [f"of {sent} messages one listener has heard {len(messages)}, or in another order"]


# ── at work ─────────────────────────────────────────────────────────────────────────────────────────────────


class Mixed:
    """All that is done, each kind by threads of its own."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._puts = threading.Event()
        self._listening = threading.Semaphore(0)
        self.pairs: list[Reply] = []
        self.put: list[str] = []
        self.taken: list[str] = []
        self.messages: list[list[Reply]] = []
        self.sent = 0
        self.done = 0
        self.breaches: list[str] = []

    def run(self) -> None:
        """Until the run ends it."""
        first = Client(self._work)
        first.ask(["FLUSHALL"], *(["SET", f"account{number}", str(AMOUNT)] for number in range(ACCOUNTS)))
        kinds: tuple[Callable[[int], None], ...] = (self._transactions, self._moves, self._pipelines, self._take)
        makers = [self._thread(self._put, number) for number in range(CONNECTIONS)]
        others = [self._thread(kind, number) for kind in kinds for number in range(CONNECTIONS)]
        others += [self._thread(self._listen, number) for number in range(CONNECTIONS)]
        others.append(self._thread(self._send, 0))
        for thread in makers:
            thread.join()
        self._puts.set()
        for thread in others:
            thread.join()
        self.breaches += counted(self.pairs) + delivered(self.put, self.taken)
        for messages in self.messages:
            self.breaches += heard(messages, self.sent)

    def _thread(self, what: Callable[[int], None], number: int) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(what, number), daemon=True)
        thread.start()
        return thread

    def _guarded(self, what: Callable[[int], None], number: int) -> None:
        try:
            what(number)
        except OSError as error:
            self.breaches.append(in_words(error))
        except ValueError as error:
            self.breaches.append(str(error))

    def _goes_on(self) -> bool:
        """Not after a breach: the others' ends would be waited for in vain."""
        self.done += 1
        return not self._work.is_over() and not self.breaches

    def _transactions(self, _number: int) -> None:
        client = Client(self._work)
        while self._goes_on():
            pair = client.ask(["MULTI"], ["INCR", "one"], ["INCR", "other"], ["EXEC"])[-1]
            with self._lock:
                self.pairs.append(pair)

    def _moves(self, number: int) -> None:
        client, step = Client(self._work), number
        while self._goes_on():
            step += 1
            keys = (f"account{step % ACCOUNTS}", f"account{(step * 7 + 1) % ACCOUNTS}")
            (total,) = client.ask(["EVAL", MOVE, "2", *keys, str(step % 50)])
            if total != ACCOUNTS * AMOUNT:
                self.breaches.append(f"a script has seen {total!r} in all accounts, not {ACCOUNTS * AMOUNT}")

    def _pipelines(self, number: int) -> None:
        client, last = Client(self._work), 0
        while self._goes_on():
            found = client.ask(*[["INCR", f"pipeline{number}"]] * PIPELINE)
            if found != list(range(last + 1, last + 1 + PIPELINE)):
                self.breaches.append(f"behind {last} a pipeline was answered {found[0]!r} to {found[-1]!r}")
            last += PIPELINE

    def _put(self, number: int) -> None:
        client, step = Client(self._work), 0
        while self._goes_on():
            step += 1
            client.ask(["RPUSH", "queue", f"{number}-{step}"])
            self.put.append(f"{number}-{step}")
            time.sleep(PAUSE_S)

    def _take(self, _number: int) -> None:
        """Until nothing is put any more, and nothing is left."""
        client = Client(self._work)
        while True:
            is_last = self._puts.is_set()
            (found,) = client.ask(["BLPOP", "queue", str(TAKE_S)])
            if isinstance(found, list) and isinstance(found[1], bytes):
                self.taken.append(found[1].decode())
            elif is_last:
                return

    def _listen(self, _number: int) -> None:
        client, messages = Client(self._work), list[Reply]()
        client.ask(["SUBSCRIBE", "news"])
        with self._lock:
            self.messages.append(messages)
        self._listening.release()
        while isinstance(message := client.hear(), list) and message[2] != LAST_MESSAGE.encode():
            messages.append(message[2])

    def _send(self, _number: int) -> None:
        for _ in range(CONNECTIONS):
            self._listening.acquire(timeout=self._work.stall_s)
        client = Client(self._work)
        while self._goes_on():
            self.sent += 1
            client.ask(["PUBLISH", "news", str(self.sent)])
            time.sleep(PAUSE_S)
        client.ask(["PUBLISH", "news", LAST_MESSAGE])


def run(work: Work) -> WorkResult:
    """Until the run ends it."""
    mixed = Mixed(work)
    try:
        mixed.run()
    except OSError as error:
        mixed.breaches.append(in_words(error))
    account = (
        f"{len(mixed.pairs)} transactions of redis, {len(mixed.taken)} taken from its queue, {mixed.sent} messages, "
        f"{mixed.done} requests in all"
    )
    return WorkResult(mixed.done, account, shown(mixed.breaches))


if __name__ == "__main__":
    main("mixed", run)
