"""`from pycolo import Comparator, Rewriter, frames`: the same in bytes, in batches and in the compiled cores."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycolo
from pycolo import Comparator, DivergencePolicy, Rewriter, core, frames
from pycolo.errors import FramingError
from support.segments import SACK_PERMITTED, Flow, Tcp, frame, mss, udp, vnet_header

FLOWS = (Flow(), Flow(client_port=5001), Flow(version=6))


def segments(from_client: bool) -> st.SearchStrategy[Tcp]:
    """Of few connections and few numbers, so that they meet."""
    options = st.sampled_from([b"", mss(1460), mss(1400) + SACK_PERMITTED])
    return st.builds(
        Tcp,
        seq=st.sampled_from([0, 999, 1000, 1001, 1011]),
        flags=st.sampled_from(["S", "SA", "A", "PA", "FA", "R"]),
        data=st.sampled_from([b"", b"0123456789", b"01234567X9"]),
        ack=st.sampled_from([0, 1, 999, 1000, 1001, 1011]),
        options=options,
        flow=st.sampled_from(FLOWS),
        from_client=st.just(from_client),
    )


def one_frame(from_client: bool) -> st.SearchStrategy[bytes]:
    datagrams = st.builds(udp, st.sampled_from([b"a", b"b"]))
    return st.one_of(segments(from_client).map(frame), datagrams, st.binary(max_size=80))


VNET = st.sampled_from([None, 0, 10, 12])
SIDES = st.sampled_from(["primary", "secondary", "client"])
GUESTS = st.lists(st.tuples(SIDES, st.lists(one_frame(False), max_size=4)))
WAYS = st.lists(st.tuples(st.sampled_from(["client", "guest"]), st.lists(segments(False).map(frame), max_size=4)))


BEGIN_US = 1_700_000_000_000_000
"""As in captures: a comparator's clock need not begin at 0."""


def headed(octets: list[bytes], vnet: int | None) -> list[bytes]:
    return [vnet_header(size=vnet or 0) + each for each in octets]


@given(facts=GUESTS, vnet=VNET, policy=st.sampled_from(DivergencePolicy))
def test_a_comparator_in_bytes_in_batches_and_compiled_is_one(
    facts: list[tuple[str, list[bytes]]], vnet: int | None, policy: DivergencePolicy
) -> None:
    options = {"policy": policy, "held_bytes_max": 1 << 20, "held_packets_max": 64, "connections_max": 8}
    single, batched = (Comparator(vnet_header_bytes=vnet, seed=1, **options) for _ in range(2))
    compiled = core.Comparator(1, has_vnet=vnet is not None, **options)
    out = bytearray(1 << 18)
    now_us = BEGIN_US
    for number, (side, octets) in enumerate(facts):
        at_us = BEGIN_US + number * 700_000
        given_frames = headed(octets, vnet)
        batch = frames.batch(given_frames, vnet_header_bytes=vnet)
        for each in (single, batched):
            each.advance(to_us=at_us)
        while number and (due := compiled.deadline_us()) is not None and due < at_us:
            now_us = max(due, now_us)
            compiled.timer_fired(now_us)
        now_us = at_us
        compiled.timer_fired(now_us)
        if side == "client":
            passed = batched.client_batch(batch, at_us=at_us)
            assert passed.taken == len(batch)
            found = [each for one in given_frames for each in single.client(one, at_us=at_us)]
            assert frames.unbatch(passed.batch, has_vnet=vnet is not None) == found
            pos = 0
            while pos < len(batch):
                _, pos = compiled.client_frames(batch, pos, len(batch), at_us)
        else:
            taken = getattr(batched, f"{side}_batch")(bytes(batch), at_us=at_us)
            assert getattr(single, side)(*given_frames, at_us=at_us) == len(
                frames.unbatch(batch[:taken], has_vnet=vnet is not None)
            )
            if batch:
                assert getattr(compiled, f"{side}_frames")(batch, 0, len(batch), at_us) == taken
        left = batched.released_batch()
        assert frames.unbatch(left, has_vnet=vnet is not None) == single.released()
        assert left == bytes(out[: compiled.drain(out, 0)])
        commands = batched.commands()
        assert commands == single.commands() == compiled.commands()
        if commands and number % 3 == 0:
            for each in (single, batched):
                each.checkpoint_committed(at_us=at_us)
            compiled.checkpoint_committed(at_us)
    assert batched.counters() == single.counters()
    assert (batched.held_packets, batched.held_bytes) == (compiled.held_packets(), compiled.held_bytes())


@given(facts=WAYS, vnet=VNET)
def test_a_rewriter_in_bytes_in_batches_and_compiled_is_one(
    facts: list[tuple[str, list[bytes]]], vnet: int | None
) -> None:
    single, batched = (Rewriter(vnet_header_bytes=vnet, seed=1, connections_max=8) for _ in range(2))
    compiled = core.Rewriter(1, has_vnet=vnet is not None, connections_max=8)
    out = bytearray(1 << 18)
    for number, (side, octets) in enumerate(facts):
        at_us = number * 700_000
        given_frames = headed(octets, vnet)
        batch = frames.batch(given_frames, vnet_header_bytes=vnet)
        passed = getattr(batched, f"{side}_batch")(memoryview(bytes(batch)), at_us=at_us)
        assert passed.taken == len(batch)
        assert frames.unbatch(passed.batch, has_vnet=vnet is not None) == getattr(single, side)(
            *given_frames, at_us=at_us
        )
        if batch:
            getattr(compiled, f"{side}_frames")(batch, 0, len(batch), at_us, out, 0)
            assert passed.batch == bytes(out[: compiled.out_end])
        waiting = batched.to_guest_batch()
        assert frames.unbatch(waiting, has_vnet=vnet is not None) == single.to_guest()
        assert waiting == bytes(out[: compiled.drain_guest(out, 0)])
    assert batched.export_offsets() == single.export_offsets() == compiled.export_offsets()
    for each in (single, batched, compiled):
        each.takeover()
    assert frames.unbatch(batched.to_client_batch(), has_vnet=vnet is not None) == single.to_client()
    assert batched.counters() == single.counters()


@given(cut=st.integers(0, 200))
def test_the_beginning_of_a_frame_is_left_for_the_next_batch(cut: int) -> None:
    given_frames = [udp(b"a"), udp(b"b"), udp(b"c")]
    batch = bytes(frames.batch(given_frames))
    first = batch[: min(cut, len(batch))]
    comparator, rewriter = Comparator(seed=1), Rewriter(seed=1)
    for take in (comparator.primary_batch, comparator.secondary_batch):
        taken = take(first, at_us=0)
        assert taken <= len(first)
        assert take(batch[taken:], at_us=0) == len(batch) - taken
    assert sorted(comparator.released()) == sorted(given_frames)
    passed = rewriter.guest_batch(first, at_us=0)
    assert passed.batch + rewriter.guest_batch(batch[passed.taken :], at_us=0).batch == batch
    passed = comparator.client_batch(first, at_us=0)
    assert passed.batch + comparator.client_batch(batch[passed.taken :], at_us=0).batch == batch


def test_more_frames_than_one_buffer_come_out_at_once() -> None:
    comparator = Comparator(queue_packets_max=4096)
    given_frames = [frame(Tcp(1, flow=Flow(client_port=port), data=bytes(1400))) for port in range(1000, 1600)]
    assert comparator.primary(*given_frames, at_us=0) == comparator.secondary(*given_frames, at_us=0) == 600
    assert sorted(comparator.released()) == sorted(given_frames)


def test_an_impossible_length_word_is_named() -> None:
    with pytest.raises(FramingError, match="primary_in: length word 4294967295"):
        Comparator().primary_batch(b"\xff" * 8, at_us=0)
    with pytest.raises(FramingError, match="guest frames: length word"):
        Rewriter().guest_batch(b"\xff" * 8, at_us=0)


def test_a_row_without_a_handshake_has_no_offset() -> None:
    assert Rewriter().offset_of(frame(Tcp(1))) is None
    assert Rewriter(vnet_header_bytes=12).offset_of(vnet_header() + frame(Tcp(1))) is None


# ── the package ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", pycolo.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(pycolo, name) is not None
    assert name in dir(pycolo)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Comparater'"):
        _ = pycolo.Comparater


def test_what_a_type_checker_sees_is_what_is_there() -> None:
    tree = ast.parse(Path(pycolo.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == pycolo._PLACES | {"frames": "pycolo"}
    assert {*seen, "__version__"} == {*pycolo.__all__}


def test_options_are_keywords() -> None:
    for taker in (Comparator, Rewriter, Comparator.advance, Rewriter.adopt_offsets, frames.batch, frames.unbatch):
        kinds = {each.kind for each in inspect.signature(taker).parameters.values() if each.default is not each.empty}
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY}, taker


def test_import_costs_nothing_until_a_name_is_used() -> None:
    there = "print('pycolo.core' in sys.modules)"
    script = f"import sys, pycolo; {there}; pycolo.frames; {there}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
