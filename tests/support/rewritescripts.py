"""Scripts for the rewriter: honest connections, and any segment of either side near the numbers that matter."""

import struct
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from support.rewritereferee import JudgedRewriting
from support.segments import Flow, Tcp, fragments, frame, icmp_error, ip_body, sack, scale, timestamps
from support.strategies import SEQ

FLOWS = [Flow(), Flow(client_port=9), Flow(version=6), Flow(tags=(5, 6))]
CLIENT_KINDS = ["S", "SA", "A", "A", "A", "A", "PA", "FA", "R", "RA", ""]
GUEST_KINDS = ["S", "SA", "SA", "A", "A", "A", "PA", "FA", "R", "RA"]
FORMS = ["whole", "whole", "whole", "whole", "damaged", "fragments", "quoted", "forwarded"]


@dataclass(frozen=True)
class Ends:
    """Where the numbers begin. The client's is where the guest's acknowledgements lie, and so on."""

    client: int
    primary: int
    secondary: int


ENDS = st.builds(Ends, SEQ, SEQ, SEQ)
# Mostly the numbers of a handshake and of what follows it; sometimes far away, at the edges of what may be believed.
NEAR = st.integers(-2, 6) | st.integers(-2, 6) | st.sampled_from([1000, 65_535, 65_536, -70_000, 1 << 20, 1 << 30])


@st.composite
def steps(draw: Any, ends: Ends) -> tuple[str, Any]:
    """One thing that happens. Any segment of either side, near the numbers that matter."""
    what = draw(st.sampled_from(["client"] * 6 + ["guest"] * 6 + ["wait", "commit", "take over"]))
    if what == "wait":
        return what, draw(st.sampled_from([50, 500, 3_500, 61_000, 125_000, 7_450_000]))
    if what in {"commit", "take over"}:
        return what, None
    from_client = what == "client"
    flags = draw(st.sampled_from(CLIENT_KINDS if from_client else GUEST_KINDS))
    mine, theirs = (ends.client, ends.primary) if from_client else (ends.secondary, ends.client)
    options = draw(st.sampled_from([b"", b"", timestamps(50, 60), timestamps(70, 0), sack(theirs + 5, theirs + 9)]))
    if "S" in flags:
        options += draw(st.sampled_from([b"", scale(7)]))
    segment = Tcp(
        mine + (draw(st.sampled_from([0, 0, 5000])) if "S" in flags else draw(NEAR)),
        flags,
        draw(st.sampled_from([b"", b"", b"x", b"four"])) if "S" not in flags else b"",
        theirs + draw(NEAR),
        draw(st.sampled_from([0, 4, 1000])),
        options,
        draw(st.sampled_from(FLOWS[:2] if draw(st.booleans()) else FLOWS)),
        from_client,
    )
    return what, (draw(st.sampled_from(FORMS)), segment)


def formed(form: str, segment: Tcp, vnet: bytes) -> list[bytes]:
    """The frames in which a segment comes."""
    octets = frame(segment, vnet)
    if form == "damaged" and not vnet:
        body = ip_body(octets)
        at = len(octets) - len(body) + 16
        wrong = struct.unpack_from(">H", octets, at)[0] ^ 0x0100
        return [octets[:at] + struct.pack(">H", wrong) + octets[at + 2 :]]
    if form == "fragments" and not vnet:
        body = ip_body(frame(replace(segment, data=segment.data + bytes(16))))
        return fragments(6, body, [(len(body) - 8) & ~7], 7, segment.flow, from_client=segment.from_client)
    if form == "quoted" and not vnet:
        about = replace(segment, from_client=not segment.from_client)
        size = [28, 36, 40, 60, 2000][(len(segment.data) + segment.seq) % 5] + 20 * (segment.flow.version == 6)
        kind = 2 if segment.flow.version == 6 else 3
        return [icmp_error(frame(about), kind, size=size, flow=segment.flow, from_client=segment.from_client)]
    return [octets]


def play(trace: JudgedRewriting, script: list[tuple[str, Any]], vnet: bytes = b"") -> None:
    for what, item in script:
        if what == "wait":
            trace.wait(item)
        elif what == "commit":
            trace.commit()
        elif what == "take over":
            trace.take_over()
        else:
            give = trace.client if what == "client" else trace.guest
            give(*formed(*item, vnet))
            if item[0] == "forwarded" and what == "client":
                trace.guest(*formed(*item, vnet))  # to another host, by way of the guest
            trace.now_ms += 1


@st.composite
def lives(draw: Any, ends: Ends, flow: Flow) -> list[tuple[str, Any]]:
    """An honest connection, from its first SYN to its last ACK, or a part of it."""
    sent = {"client": 1, "guest": 1}
    begins = {"client": (ends.client, ends.primary), "guest": (ends.secondary, ends.client)}

    def say(who: str, flags: str, data: bytes = b"", *, at: int | None = None) -> tuple[str, Any]:
        other = "guest" if who == "client" else "client"
        mine, theirs = begins[who]
        seq = sent[who] if at is None else at
        options = timestamps(1000 + sent[who], 2000 + sent[other])
        segment = Tcp(
            mine + seq, flags, data, (theirs + sent[other]) * ("A" in flags), 1000, options, flow, who == "client"
        )
        if at is None:
            sent[who] += len(data) + ("F" in flags)
        return who, ("whole", segment)

    opener, other = draw(st.sampled_from([("client", "guest"), ("client", "guest"), ("guest", "client")]))
    script = [say(opener, "S", at=0), say(other, "SA", at=0), say(opener, "A")]
    turns = ["client data", "guest data", "client A", "guest A"]
    for turn in draw(st.lists(st.sampled_from(turns), max_size=6)):
        who, _, what = turn.partition(" ")
        script.append(say(who, "PA", draw(st.sampled_from([b"x", b"four"]))) if what == "data" else say(who, "A"))
    match draw(st.sampled_from(["open", "both", "both", "half", "client R", "guest RA"])):
        case "both":
            for who in draw(st.sampled_from([("client", "guest"), ("guest", "client")])):
                script += [say(who, "FA"), say("guest" if who == "client" else "client", "A")]
        case "half":
            script += [say("guest", "FA"), say("client", "A")]
        case "client R":
            script.append(say("client", "R"))
        case "guest RA":
            script.append(say("guest", "RA"))
    return script


@st.composite
def scripts(draw: Any) -> list[tuple[str, Any]]:
    """Honest lives of which some things get lost, come twice or late, with anything else in between."""
    ends = draw(ENDS)
    script = []
    for _ in range(draw(st.integers(1, 2))):
        late: list[tuple[str, Any]] = []
        for item in draw(lives(ends, draw(st.sampled_from(FLOWS)))):
            fate = draw(st.sampled_from(["comes"] * 8 + ["is lost", "comes twice", "comes late", "is damaged"]))
            if fate == "is damaged":
                item = (item[0], ("damaged", item[1][1]))
            if fate == "comes late":
                late.append(item)
            elif fate != "is lost":
                script += [item] * (1 + (fate == "comes twice"))
            script += draw(st.lists(steps(ends), max_size=2)) if draw(st.integers(0, 3)) == 0 else []
        script += late
    return script


SCRIPTS = scripts() | ENDS.flatmap(lambda ends: st.lists(steps(ends), min_size=1, max_size=20))
