"""Two guests that agree or not, over several lives of a connection, held to the specification.

What they do is drawn at random: payload, again and other bytes, FIN, RST, a new SYN, each by one or both, with waits,
checkpoints, and a client whose word may be a lie. The referee judges every frame that leaves and every report.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.referee import Judged
from support.segments import Tcp

EXAMPLES = settings(max_examples=300)
SECONDARY_ISN = 0x51515151
LIFE = 70_000  # between the primary's numbers of two lives
CLIENT_LIFE = 50_000


class Guest:
    """What one of the two has said in its present life. `sent`: bytes; FIN counts as one more."""

    def __init__(self) -> None:
        self.life = 0
        self.is_open = False
        self.begin()

    def begin(self) -> None:
        self.sent = self.acked = 0
        self.has_ended = self.has_reset = False

    def copy(self, other: "Guest") -> None:
        self.__dict__.update(other.__dict__)


class Lives:
    """One run; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.trace = Judged(commits_input=self.dice.random() < 0.9)
        self.isn = self.dice.choice([0, 999, 0xFFFFFFF0])
        self.client_isn = self.dice.choice([0, 5000, 0xFFFFFFFA])
        self.said = self.dice.randbytes(40)
        self.primary, self.secondary = Guest(), Guest()

    def run(self) -> None:
        guests = [self.primary, self.secondary]
        if self.dice.random() < 0.85:
            self.dice.shuffle(guests)
            for guest in guests:
                self._syn(guest)
        for guest in guests:
            guest.is_open = True
        for _ in range(self.dice.randint(1, 16)):
            self._step(self.dice.choice(guests))
        self.trace.wait(self.dice.choice([10, 4001, 8000]))
        self.trace.commit()
        self.trace.wait(10)

    def _step(self, guest: Guest) -> None:
        if guest is self.secondary and guest.life > self.primary.life:
            return  # the client goes on when the primary's SYN|ACK has left, and not before
        draw = self.dice.random()
        if draw < 0.2:
            self.trace.wait(self.dice.choice([1, 3, 20, 500, 3000, 5000]))
        elif guest.has_reset and draw < 0.9:
            if draw < 0.5:
                self._give(guest, "R", guest.sent)
            elif draw < 0.7:
                self._syn(guest)
        elif draw < 0.55:
            self._payload(guest)
        elif draw < 0.68:
            self._give(guest, "A", guest.sent + guest.has_ended)
        elif draw < 0.75:
            self._give(guest, "FA", guest.sent)
            guest.has_ended = True
        elif draw < 0.80:
            self._give(guest, self.dice.choice(["R", "RA"]), guest.sent + guest.has_ended)
            guest.has_reset = True
        elif draw < 0.84:
            self._syn(guest)
        elif draw < 0.95:
            self._client()
        else:
            self.trace.commit()
            self.secondary.copy(self.primary)

    def _syn(self, guest: Guest) -> None:
        guest.life += guest.is_open
        guest.is_open = True
        guest.begin()
        isn = self.isn + LIFE * guest.life if guest is self.primary else SECONDARY_ISN + 9 * guest.life
        self._take(guest, Tcp(isn, "SA", ack=self.client_isn + 1 + CLIENT_LIFE * guest.life))

    def _payload(self, guest: Guest) -> None:
        is_new = self.dice.random() < 0.8 and not guest.has_ended
        start = guest.sent if is_new else self.dice.randint(0, guest.sent)
        data = self.said[start : start + self.dice.randint(1, 6)]
        if guest.has_ended:
            data = data[: guest.sent - start]
        if data and self.dice.random() < 0.05:
            data = bytes([data[0] ^ 1]) + data[1:]
        if data:
            self._give(guest, "A", start, data)
            guest.sent = max(guest.sent, start + len(data))

    def _give(self, guest: Guest, flags: str, at: int, data: bytes = b"") -> None:
        guest.acked = self.dice.randint(guest.acked, 30)
        ack = self.client_isn + 1 + CLIENT_LIFE * guest.life + guest.acked if "A" in flags else 0
        seq = self.isn + 1 + LIFE * guest.life + at
        self._take(guest, Tcp(seq, flags, data, ack=ack, window=self.dice.randint(0, 300)))

    def _take(self, guest: Guest, segment: Tcp) -> None:
        give = self.trace.primary if guest is self.primary else self.trace.secondary
        give(segment)

    def _client(self) -> None:
        at = self.client_isn + 1 + CLIENT_LIFE * self.primary.life + self.dice.choice([0, 5, 10, 100_000])
        ack = self.isn + 1 + LIFE * self.primary.life + self.dice.randint(0, self.primary.sent)
        if self.dice.random() < 0.2:  # a stranger's
            ack = self.dice.choice([ack + 1, self.isn, self.dice.getrandbits(32)])
        self.trace.client(Tcp(at, self.dice.choice("AAS"), ack=ack, from_client=True))


@pytest.mark.rule("C1", "C2", "C3", "C5", "C8", "C9", "C11")
@EXAMPLES
@given(seed=st.integers(0, 2**32))
def test_whatever_two_guests_do(seed):
    Lives(seed).run()
