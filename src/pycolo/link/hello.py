"""The first message of each connection, and the verdict on it.

The connecting node sends a `Hello`, the listening one answers with its own (WELCOME) or a reason (REFUSED). Both sides
decide by the same pure function. A hello is JSON, because people read it in captures, and it is sent only once per
connection; `protocol`, `highest` and `program` stay readable for every later version, whatever happens to the other
fields.

**Terms.** The term counts takeovers of a pair. A secondary learns its primary's term, so the primary's is never the
lower one: a primary below its secondary's term, or below another primary's, is an outdated one that has returned.
"""

import re
from enum import IntEnum, StrEnum
from typing import Annotated, Final

import msgspec

from pycolo import limits
from pycolo.errors import ConfigError, LinkError
from pycolo.link.codec import Channel, pack_text, unpack_text
from pycolo.link.versions import Versions

PROTOCOL_VERSION: Final = 6
"""Incremented by every change that an older node would misunderstand."""

PROTOCOL_LOWEST: Final = 5
"""The oldest version that this program speaks as well. Version 6 has the words of `colo switchover` besides; nothing
else differs."""

ORDERING: Final = "ordering"
"""A node that makes this offer understands ROUNDS: the two use it if both do."""

SPOKEN: Final = Versions(PROTOCOL_LOWEST, PROTOCOL_VERSION)

PAIR_DEFAULT: Final = "colo"
"""Name of a pair without a given name."""

PAIR_PATTERN: Final = r"^[A-Za-z0-9_.-]{1,64}\Z"
"""Characters of a pair's name, which becomes a part of certificate URIs, file names and log lines."""

_U64_MAX: Final = (1 << 64) - 1

Program = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,64}\Z")]
PairName = Annotated[str, msgspec.Meta(pattern=PAIR_PATTERN)]
Feature = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_.-]{1,32}(=[A-Za-z0-9_.-]{1,32})?\Z")]
Features = Annotated[frozenset[Feature], msgspec.Meta(max_length=32)]


class Role(StrEnum):
    """The replica that a node serves."""

    PRIMARY = "primary"
    SECONDARY = "secondary"

    @property
    def other(self) -> "Role":
        """The other node's role."""
        return Role.SECONDARY if self is Role.PRIMARY else Role.PRIMARY


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A node's description of itself.

    It speaks the versions from `protocol` to `highest` (None: only the one, see `pycolo.link.versions`). `features`:
    ``name=value`` must be the same on both nodes (``vnet_hdr=1``); a bare ``name`` is an offer, used if both make it.
    Each process draws `instance` at random when it starts (64 bits, not 0); `peer_instance` is the instance at the
    other end of this node's other connection, 0 for none.
    """

    protocol: int = PROTOCOL_LOWEST
    highest: int | None = None
    program: Program
    pair: PairName
    role: Role
    channel: Channel
    term: int
    epoch: int
    features: Features
    instance: int
    peer_instance: int = 0

    def __post_init__(self) -> None:
        for name in ("term", "epoch", "instance", "peer_instance"):
            if not 0 <= getattr(self, name) <= _U64_MAX:
                raise ValueError(f"{name} is not an unsigned 64-bit number")
        _check_range(self)

    @property
    def versions(self) -> Versions:
        """Those that it speaks."""
        return _range(self)


class RefusalReason(IntEnum):
    """Why a connection is refused; the numbers are the protocol's."""

    OTHER = 0
    BAD_HELLO = 1
    VERSION = 2
    PAIR = 3
    ROLE = 4
    STALE_TERM = 5
    FEATURES = 6
    CHANNEL = 7
    INSTANCE = 8

    @classmethod
    def _missing_(cls, value: object) -> "RefusalReason":
        return cls.OTHER  # an unknown reason of a later version is still a refusal, with its text

    @property
    def is_passing(self) -> bool:
        """Whether the same two processes may agree later: one is still bound to an instance that has ended."""
        return self is RefusalReason.INSTANCE


class Welcome(msgspec.Struct, frozen=True):
    """The nodes may connect: under the primary's `term`, with the `features` that both have, in version `protocol`."""

    term: int
    features: frozenset[str]
    protocol: int = PROTOCOL_VERSION


class Refusal(msgspec.Struct, frozen=True):
    """The nodes may not connect. `text` is one line, the same on both nodes."""

    reason: RefusalReason
    text: str


class HelloError(LinkError):
    """A hello is not readable, or one of the two nodes refused the other's."""

    def __init__(self, reason: RefusalReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _AnyVersion(msgspec.Struct):
    """The fields that a hello has in every version."""

    protocol: int
    program: Program
    highest: int | None = None

    def __post_init__(self) -> None:
        _check_range(self)


def _check_range(hello: Hello | _AnyVersion) -> None:
    if hello.highest is not None and hello.highest < hello.protocol:
        raise ValueError(f"the highest protocol version, {hello.highest}, is below the lowest, {hello.protocol}")


def _range(hello: Hello | _AnyVersion) -> Versions:
    return Versions(hello.protocol, hello.protocol if hello.highest is None else hello.highest)


_hello_encoder: Final = msgspec.json.Encoder(order="deterministic")
_hello_decoder: Final = msgspec.json.Decoder(Hello)
_any_version_decoder: Final = msgspec.json.Decoder(_AnyVersion)


def check_pair_name(name: str) -> str:
    """`name` itself. Raises `ConfigError` if it is not a valid name of a pair."""
    if not re.fullmatch(PAIR_PATTERN, name):
        raise ConfigError("--pair", "1 to 64 letters, digits, dots, dashes or underscores", name)
    return name


def encode_hello(hello: Hello) -> bytes:
    """Payload of HELLO and WELCOME. Raises `HelloError` if the other node would refuse to read it."""
    payload = _hello_encoder.encode(hello)
    decode_hello(payload, "own hello")
    return payload


def decode_hello(payload: bytes | memoryview, stream: str, spoken: Versions = SPOKEN) -> Hello:
    """Raises `HelloError` (BAD_HELLO or VERSION, with the line for both nodes) unless it is a hello.

    `spoken`: the versions of which this node can read one.
    """
    if len(payload) > limits.HELLO_BYTES_MAX:
        raise HelloError(RefusalReason.BAD_HELLO, f"{stream}: hello longer than {limits.HELLO_BYTES_MAX} bytes")
    try:
        found = _any_version_decoder.decode(payload)
        if spoken.common_with(_range(found)) is None:
            raise HelloError(RefusalReason.VERSION, f"{stream}: {_version_text(_range(found), found.program, spoken)}")
        return _hello_decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = unpack_text(pack_text(str(error)))
        raise HelloError(RefusalReason.BAD_HELLO, f"{stream}: hello cannot be parsed: {detail}") from error


def encode_refusal(refusal: Refusal) -> bytes:
    """Payload of REFUSED."""
    return bytes([refusal.reason]) + pack_text(refusal.text)


def decode_refusal(payload: bytes | memoryview) -> Refusal:
    """Parse a payload; the codec has checked its length. Never raises."""
    return Refusal(RefusalReason(payload[0]), unpack_text(payload[1:]))


def judge(own: Hello, theirs: Hello) -> Welcome | Refusal:
    """Whether these two nodes may use this connection.

    Symmetric: from the same two hellos both nodes reach the same verdict with the same text.
    """
    protocol = own.versions.common_with(theirs.versions)
    if protocol is None:
        low, high = sorted((own, theirs), key=lambda hello: hello.versions)
        return Refusal(
            RefusalReason.VERSION,
            f"no protocol version in common: {low.versions} ({low.program}) and {high.versions} ({high.program}); "
            f"{_UPGRADE}",
        )
    if own.pair != theirs.pair:
        first, second = sorted((own.pair, theirs.pair))
        return Refusal(RefusalReason.PAIR, f"the nodes belong to different pairs: {first} and {second} (--pair)")
    if own.channel is not theirs.channel:
        return Refusal(RefusalReason.CHANNEL, "one node opened a control connection, the other a data connection")
    if own.channel is Channel.PATH:  # a question; its answer says what each of the two is
        return Welcome(max(own.term, theirs.term), own.features & theirs.features, protocol)
    refusal = _judge_roles(own, theirs) or _judge_features(own, theirs) or _judge_instances(own, theirs)
    return refusal or Welcome(max(own.term, theirs.term), own.features & theirs.features, protocol)


def _judge_roles(own: Hello, theirs: Hello) -> Refusal | None:
    low, high = sorted((own.term, theirs.term))
    if own.role is theirs.role is Role.PRIMARY and low != high:
        return Refusal(
            RefusalReason.STALE_TERM,
            f"a primary of term {low} returned after the takeover of term {high}; start it as secondary",
        )
    if own.role is theirs.role:
        return Refusal(RefusalReason.ROLE, f"both nodes are {own.role}; one must be primary, one secondary")
    primary, secondary = (own, theirs) if own.role is Role.PRIMARY else (theirs, own)
    if primary.term < secondary.term:
        return Refusal(
            RefusalReason.STALE_TERM,
            f"the primary is of term {primary.term}, its secondary has seen term {secondary.term}: this "
            f"primary was replaced in a takeover and must not serve; start it as secondary",
        )
    return None


def _judge_features(own: Hello, theirs: Hello) -> Refusal | None:
    differing = sorted(feature for feature in own.features ^ theirs.features if "=" in feature)
    if not differing:
        return None
    return Refusal(
        RefusalReason.FEATURES,
        f"the nodes must agree on {' and '.join(differing[:4])}; "
        "give both the same options (vnet_hdr of the ports, --heartbeat-timeout)",
    )


def _judge_instances(own: Hello, theirs: Hello) -> Refusal | None:
    primary, secondary = (own, theirs) if own.role is Role.PRIMARY else (theirs, own)
    for hello, other in ((primary, secondary), (secondary, primary)):
        if hello.peer_instance not in (0, other.instance):
            return Refusal(
                RefusalReason.INSTANCE,
                f"the {hello.role} is connected to another process of the {other.role} "
                f"(instance {hello.peer_instance:016x}, not {other.instance:016x}); "
                "try again when that process has ended",
            )
    return None


_UPGRADE: Final = "upgrade the node that speaks the lower one"


def _version_text(theirs: Versions, program: str, spoken: Versions) -> str:
    return f"the other node speaks protocol version {theirs} ({program}), this one version {spoken}; {_UPGRADE}"
