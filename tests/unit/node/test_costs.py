"""What traffic costs, at a node: answers, and what outlives a restart."""

import asyncio
import json
import os
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.wait import Wait
from pycolo.conntrack.key import ConnectionKey
from pycolo.costs.suggestions import SENT_BACK
from pycolo.errors import ConnectError
from pycolo.node import costs as costs_module
from pycolo.node.costs import Costs
from pycolo.node.costsfile import BYTES_MAX, costs_file

KEY = ConnectionKey(6, IPv4Address("10.0.0.2"), IPv4Address("10.0.0.9"), 5432, 40_000)
QUESTION = {"command": "costs", "by": "port", "over": "start"}


def one_checkpoint(costs: Costs, epoch: int = 1) -> None:
    costs.difference(Difference(DifferenceKind.PAYLOAD, KEY, 1, 0, b"a", 0, b"b", 0))
    costs.waited(epoch, [Wait(KEY, 1, 5_000, 5_000, 10)])
    reasons = (Reason(ReasonKind.DIVERGENCE, "text", str(KEY)),)
    costs.checkpoint(CheckpointRecord(epoch, reasons, 0, 0, 0, 0, Outcome.COMMITTED, pause_us=1_000))


async def a_life(directory, count: int) -> dict:
    """A node that is started, sees so many checkpoints, and ends; what it says at its end."""
    costs = Costs(costs_file(directory))
    await costs.start()
    for epoch in range(count):
        one_checkpoint(costs, epoch)
    answer = costs.request(QUESTION)
    await costs.close()
    return answer


def checkpoints(answer: dict) -> int:
    return answer["total"]["checkpoints"]


def test_costs_outlive_a_restart(tmp_path):
    assert checkpoints(asyncio.run(a_life(tmp_path, 3))) == 3
    again = asyncio.run(a_life(tmp_path, 2))
    assert checkpoints(again) == 5
    assert [row["name"] for row in again["rows"]] == ["tcp port 5432"]
    assert os.stat(tmp_path / "costs.json").st_mode & 0o077 == 0


def test_a_node_without_a_file_answers_too():
    async def life() -> dict:
        costs = Costs()
        await costs.start()
        one_checkpoint(costs)
        await costs.close()
        return costs.request(QUESTION)

    assert checkpoints(asyncio.run(life())) == 1


def test_masks_are_proposed_where_it_is_asked_for_them():
    costs = Costs()
    question = {"command": "costs", "suggest": True}
    assert costs.request(question) == {"masks": []}
    for port in (40_000, 40_001, 40_002):
        key = KEY._replace(source_port=80, destination_port=port)
        costs.difference(Difference(DifferenceKind.PAYLOAD, key, 1, 0, b"token=12; ok", 7, b"token=13; ok", 7))
    mask = {"ports": [80], "direction": "in", "pattern": r"token=\d{2};", "differences": 3, "caution": SENT_BACK}
    assert costs.request(question) == {"masks": [mask]}


def test_an_idle_node_writes_nothing(tmp_path):
    asyncio.run(a_life(tmp_path, 0))
    assert not (tmp_path / "costs.json").exists()


def test_it_is_written_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(costs_module, "WRITE_S", 0.001)

    async def life() -> None:
        costs = Costs(costs_file(tmp_path))
        await costs.start()
        one_checkpoint(costs)
        async with asyncio.timeout(60):
            while not (tmp_path / "costs.json").exists():
                await asyncio.sleep(0.001)
        await costs.close()

    asyncio.run(life())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> bytes:
    place = tmp_path_factory.mktemp("written")
    asyncio.run(a_life(place, 3))
    return (place / "costs.json").read_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cut=st.integers(0, 10_000), noise=st.binary(max_size=20))
def test_a_torn_or_damaged_file_is_no_reason_not_to_start(tmp_path, written, cut, noise):
    """It is read as what was written, or not at all."""
    (tmp_path / "costs.json").write_bytes(written[: cut % len(written)] + noise)
    assert checkpoints(asyncio.run(a_life(tmp_path, 1))) in (1, 4)


@pytest.mark.parametrize(
    "octets",
    [b"", b"null", b"[" * 99_999, b'{"version": 2, "kept": {"all": [0], "hour": []}}', b" " * (BYTES_MAX + 1), b"\xff"],
    ids=["empty", "null", "deep", "of another version", "too long", "no text"],
)
def test_what_cannot_be_read_is_named(tmp_path, octets):
    (tmp_path / "costs.json").write_bytes(octets)
    with pytest.raises(ConnectError, match=r"costs\.json: .*; what traffic has cost is counted anew"):
        costs_file(tmp_path).read()


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "costs.new").mkdir()
    assert checkpoints(asyncio.run(a_life(tmp_path, 1))) == 1


@pytest.mark.parametrize("wrong", [{"by": "colour"}, {"over": "week"}, {"by": None}, {"over": ["hour"]}, {"by": {}}])
def test_a_wrong_question_is_refused_in_one_line(wrong):
    answer = Costs().request({**QUESTION, **wrong})
    assert set(answer) == {"error"}
    assert "connection" in answer["error"]


def test_the_labels_for_a_monitoring_system_are_few_and_their_counters_only_grow():
    costs = Costs()
    before: dict[str, int] = {}
    for port in range(1, 100):
        key = KEY._replace(source_port=port)
        costs.waited(port, [Wait(key, 1, 1_000, 1_000, 0)])
        now = {name: sums["waited_us"] for name, sums in costs.status()["services"].items()}
        assert all(now[name] >= count for name, count in before.items())
        before = now
    assert len(before) <= 17
    assert sum(before.values()) == 99_000


def test_an_answer_is_json():
    costs = Costs()
    one_checkpoint(costs)
    for by in ("port", "connection", "reason"):
        json.dumps(costs.request({**QUESTION, "by": by}))
