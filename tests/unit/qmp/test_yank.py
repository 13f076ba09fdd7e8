"""Yank: of what is asked for, exactly what exists is shut down, out of band, within the time."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.errors import PeerError, QmpError, QmpTimeout
from pycolo.qmp.client import Qmp
from pycolo.qmp.yank import MIGRATION, YankInstance, chardev, yank
from support import virtualloop
from support.fakeqmp import HANG, FakeQmp, Refusal

INSTANCES = [MIGRATION, *(chardev(name) for name in ("a", "b", "c"))]
OTHERS = [{"type": "block-node", "node-name": "n0"}, {"type": "chardev", "id": "compat_monitor0"}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "yank.sock"


def with_line(path, scenario):
    async def whole():
        async with asyncio.timeout(60), FakeQmp(path) as fake:
            line = Qmp(path, "vm1", lambda event: None, lambda reason: None)
            await line.connect(30)
            try:
                await scenario(fake, line)
            finally:
                await line.close()

    virtualloop.run(whole())


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(present=st.sets(st.sampled_from(INSTANCES)), wanted=st.lists(st.sampled_from(INSTANCES)))
def test_exactly_what_is_wanted_and_present_is_yanked_once_and_out_of_band(path, present, wanted):
    async def scenario(fake, line):
        fake.answers["query-yank"] = [instance.as_argument() for instance in present] + OTHERS
        fake.answers["yank"] = {}
        done = await yank(line, wanted, 30)
        assert set(done) == present & set(wanted)
        assert len(done) == len(set(done))
        said = [message["arguments"]["instances"] for message in fake.received if message.get("exec-oob") == "yank"]
        assert said == ([[instance.as_argument() for instance in done]] if done else [])
        assert "yank" not in [message.get("execute") for message in fake.received]

    with_line(path, scenario)


def test_what_vanishes_in_between_is_asked_for_again(path):
    async def scenario(fake, line):
        answers = iter([[{"type": "migration"}, {"type": "chardev", "id": "a"}], [{"type": "chardev", "id": "a"}]])
        fake.answers["query-yank"] = lambda _: next(answers)
        fake.answers["yank"] = lambda arguments: (
            Refusal("DeviceNotFound", "Instance not found") if len(arguments["instances"]) == 2 else {}
        )
        assert await yank(line, [MIGRATION, chardev("a")], 30) == (chardev("a"),)

    with_line(path, scenario)


def test_it_does_not_take_longer_than_its_time(path):
    def refuses_after_10_ms(_):
        asyncio.get_running_loop().now += 0.01
        return Refusal("DeviceNotFound", "Instance not found")

    async def scenario(fake, line):
        fake.answers["query-yank"] = [{"type": "migration"}]
        fake.answers["yank"] = refuses_after_10_ms
        with pytest.raises(QmpTimeout, match="could not be shut down"):
            await yank(line, [MIGRATION], 0.1)
        fake.answers["yank"] = HANG
        with pytest.raises(QmpTimeout):
            await yank(line, [MIGRATION], 0.1)

    with_line(path, scenario)


def test_other_refusals_and_unreadable_answers_are_told(path):
    async def scenario(fake, line):
        fake.answers["query-yank"] = Refusal("GenericError", "no")
        with pytest.raises(QmpError, match="vm1: query-yank: QEMU says: no"):
            await yank(line, [MIGRATION])
        fake.answers |= {"query-yank": [{"type": "migration"}], "yank": Refusal("GenericError", "no")}
        with pytest.raises(QmpError, match="vm1: yank: QEMU says: no"):
            await yank(line, [MIGRATION])
        for nonsense in (7, [3], [{}], {"a": 1}, [{"type": "chardev", "id": {}}]):
            fake.answers["query-yank"] = nonsense
            with pytest.raises(PeerError, match="query-yank: the answer cannot be parsed"):
                await yank(line, [MIGRATION])

    with_line(path, scenario)


def test_instances_are_named_for_people():
    assert [str(instance) for instance in INSTANCES] == ["migration", "chardev a", "chardev b", "chardev c"]
    assert chardev("a") == YankInstance("chardev", "a")
