"""Noise masks for `fuzz_core`: patterns that a file may have or must not, and streams that differ where they match."""

import random

from pycolo.compare.flows import Flow as CompareFlow
from pycolo.compare.noise import Mask
from pycolo.compare.patterns import PatternError, compile_pattern
from pycolo.config import ConfigFileError, parse
from pycolo.config.exemptions import masks as masks_of
from support.configs import example
from support.segments import Flow, Tcp

TEXT_BYTES = 1 << 13
TURN_PIECES = 6
READS = 0.05
SPANS = (1, 1, 2, 7, 30, 200, 1448, 9000)
PORTS = ("80", "443", "22", '80, "400-500"', '"1-65535"')

EVERYWHERE = (CompareFlow(6),)

WORDS = (
    rb"Date: [A-Z][a-z]{2}, \d\d \d\d:\d\d:\d\d GMT\r\n",
    rb"Id: [0-9a-f]{32};",
    rb"id=[0-9]{1,10}",
    rb"(a|b){1,64}c",
    rb"((a?b?){1,9}c?){1,9}d",
    rb"[^\r\n]{1,200}\r\n",
    rb".{1024}",
    rb".",
    rb"(?:x|xx|xxx|xxxx){1,40}",
    rb"\x00[\x00-\xff]{0,3}\xff",
    rb"(a|b|)(c|d|)(e|f|)",
)
"""Usual ones, the longest that is allowed, many ways through the same bytes, repeats at the end."""

SIGNS = r"ab01.\dwsDWSnrtx[]^-(){},?*+|:=;$ é" + "\0\n"


def _some_pattern(rng: random.Random) -> str:
    """One of `WORDS`, often damaged, several at once, or signs by chance."""
    text = rng.choice(WORDS).decode()
    match rng.randrange(6):
        case 0:
            return "".join(rng.choice(SIGNS) for _ in range(rng.randrange(40)))
        case 1:
            at = rng.randrange(len(text))
            return text[:at] + rng.choice(SIGNS) + text[at + rng.randrange(2) :]
        case 2:
            return f"({text}|{rng.choice(WORDS).decode()}){{{rng.randrange(5)},{rng.randrange(2000)}}}"
        case 3:
            return "(" * rng.choice([1, 31, 32, 33, 5000]) + text
    return text


def read_a_pattern(rng: random.Random) -> None:
    """As a file's key is read, now and then: an automaton within its bounds, or the refusal at a place in the text."""
    if rng.random() > READS:
        return
    text = _some_pattern(rng)
    try:
        found = compile_pattern(text)
    except PatternError as error:
        column = error.column
    else:
        column = 1
        assert 0 < found.longest <= len(found.takes) <= 1024
    assert 1 <= column <= len(text) + 1


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(sign):08x}" for sign in text) + '"'


def some_masks(rng: random.Random) -> list[Mask]:
    """Of a file, if the whole of it may be read."""
    is_hostile = rng.random() < 0.2
    file = example()
    for _ in range(rng.choice([1, 2, 2, 4, 17])):
        direction = rng.choice(["in", "in", "both", "out"])
        pattern = _some_pattern(rng) if is_hostile else rng.choice(WORDS).decode()
        file += f'[[mask]]\nports = [{rng.choice(PORTS)}]\ndirection = "{direction}"\npattern = {_quoted(pattern)}\n'
    try:
        return masks_of(parse(file.encode(), "vm.toml").mask)
    except ConfigFileError:
        return [Mask("id", WORDS[1].decode(), EVERYWHERE), Mask("date", WORDS[0].decode(), EVERYWHERE)]


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────


def _word(rng: random.Random) -> tuple[bytes, bytes]:
    """What one guest says and what the other one does, as long: most often of a mask's kind."""
    length = rng.choice([1, 4, 32, 300])
    letters = rng.choice([b"ab", b"abc", b"0123456789abcdef", b"x", bytes(range(256))])
    mine, theirs = (bytes(rng.choices(letters, k=length)) for _ in range(2))
    before, behind = rng.choice(
        [(b"Id: ", b";"), (b"id=", b" "), (b"", b"c"), (b"", b"d"), (b"\0", b"\xff"), (b"\r\n", b"\r\n"), (b"", b"")]
    )
    if rng.random() < 0.2:
        dates = [b"Date: Mon, %02d 10:00:%02d GMT\r\n" % (rng.randrange(32), rng.randrange(60)) for _ in range(2)]
        mine, theirs = dates
    return before + mine + behind, before + (mine if rng.random() < 0.3 else theirs) + behind


class Talk:
    """One connection's two streams, each cut anywhere, sent again, out of order, or again with other bytes."""

    def __init__(self, rng: random.Random, flow: Flow, isn: int) -> None:
        self.rng, self.flow, self.isn = rng, flow, isn
        texts = [bytearray(), bytearray()]
        while len(texts[0]) < TEXT_BYTES:
            for text, said in zip(texts, _word(rng), strict=True):
                text += said
        self.texts = [bytes(text) for text in texts]
        self.said = [0, 0]

    def segments(self, side: int) -> list[Tcp]:
        """What the primary (0) or the secondary (1) says next."""
        said = [self._segment(side) for _ in range(self.rng.randrange(TURN_PIECES))]
        if self.rng.random() < 0.2:
            self.rng.shuffle(said)
        return said

    def _segment(self, side: int) -> Tcp:
        rng, at, span = self.rng, self.said[side], self.rng.choice(SPANS)
        if (chance := rng.random()) < 0.1:
            at = max(0, at - rng.choice(SPANS))
        elif chance < 0.105:
            at += span
        data = self._bytes(side, at, span)
        if rng.random() < 0.03:
            place = rng.randrange(len(data))
            data = data[:place] + rng.randbytes(1) + data[place + 1 :]
        self.said[side] = max(self.said[side], at + len(data))
        return Tcp(self.isn + 1 + at, "FA" if rng.random() < 0.001 else "A", data, 1, 65535, flow=self.flow)

    def _bytes(self, side: int, at: int, span: int) -> bytes:
        at %= TEXT_BYTES
        return self.texts[side][at : at + span]

    def confirmed(self) -> Tcp:
        """The client has read what both have said, or some of it."""
        until = self.rng.choice([min(self.said), min(self.said), self.rng.randrange(max(self.said) + 1)])
        return Tcp(1, "A", ack=self.isn + 1 + until, window=65535, flow=self.flow, from_client=True)

    def made_alike(self) -> None:
        """By a checkpoint."""
        self.said = [max(self.said)] * 2
