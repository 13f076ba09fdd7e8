"""Where the links of a node whose role changes come from, over loopback: listening in either role, dialing in one."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pycolo.config import PairConfig
from pycolo.config.reading import parse
from pycolo.errors import ConfigError, PeerError
from pycolo.failover.pair import Pair, Settings
from pycolo.failover.pairstates import Role, State
from pycolo.link.codec import Channel
from pycolo.link.hello import HelloError
from pycolo.transport.certs import create
from pycolo.transport.linksetup import Address, Established, RawLink, dial
from pycolo.vm.sides import RoleSides
from support.configs import changed
from support.ports import unused_port

DEADLINE_S = 20


class Node:
    """The sides of one node; what they bring is kept."""

    bound_instance = 0

    def __init__(self, state: State, listen: str, peer: str, also: str, **link: Any) -> None:
        keys = {"link.listen": listen, "link.peer": peer, "link.also_listen": [also], "link.tls": None}
        given = {"link.insecure": True} if "tls" not in link else {"link.tls": str(link["tls"])}
        self.config: PairConfig = parse(changed(keys | given).encode(), "vm.toml")
        self.pair = Pair(Settings(500), state, term=3)
        self.linked: list[tuple[Established, ...]] = []
        self.asked: list[Established] = []
        self.sides = RoleSides(
            self.config,
            lambda: self.pair,
            lambda: 5,
            self,
            7 if state is State.PRIMARY_WAITING else 9,
            self.asked.append,
        )  # type: ignore[arg-type]

    def accepted(self, made: Established) -> None:
        self.linked.append((made,))

    def dialed(self, control: Established, data: Established) -> None:
        self.linked.append((control, data))
        self.pair = self.pair._replace(state=State.SECONDARY_LINKED)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.01)

    async def ask(self, address: Address, channel: Channel = Channel.PATH) -> Established:
        context = self.sides.client_context()
        return await asyncio.to_thread(dial, address, self.sides.hello(channel), context)

    async def close(self) -> None:
        await self.sides.close()
        for made in (*self.asked, *(one for link in self.linked for one in link)):
            made.link.close()


def with_both(work: Callable[[Node, Node], Awaitable[None]], first: State, **link: Any) -> None:
    """`work(one, secondary)`; the first one is in state `first`."""

    async def run() -> None:
        addresses = [f"127.0.0.1:{unused_port()}" for _ in range(4)]
        one = Node(first, addresses[0], addresses[1], addresses[2], **link)
        other = Node(State.SECONDARY_WAITING, addresses[1], addresses[0], addresses[3], **link)
        try:
            one.sides.become(one.pair.role)
            await work(one, other)
        finally:
            await one.close()
            await other.close()

    asyncio.run(run())


def test_a_secondary_dials_and_says_what_it_is() -> None:
    async def work(primary: Node, secondary: Node) -> None:
        secondary.sides.become(Role.SECONDARY)
        await secondary.until(lambda: secondary.linked and len(primary.linked) == 2)
        control, data = secondary.linked[0]
        assert (control.theirs.term, control.theirs.epoch, control.theirs.instance) == (3, 5, 7)
        assert data.theirs.channel is Channel.DATA
        assert {made.theirs.channel for (made,) in primary.linked} == {Channel.CONTROL, Channel.DATA}

    with_both(work, State.PRIMARY_WAITING)


@pytest.mark.parametrize("state", [State.PRIMARY_WAITING, State.SECONDARY_WAITING])
def test_in_either_role_a_node_can_be_asked_at_each_of_its_addresses(state: State) -> None:
    async def work(asked: Node, asking: Node) -> None:
        link = asked.config.link
        for number, address in enumerate((link.listen, *link.also_listen), 1):
            made = await asking.ask(address)
            await asked.until(lambda number=number: len(asked.asked) == number)
            assert made.theirs.role.value == asked.pair.role.value
            made.link.close()

    with_both(work, state)


def test_two_secondaries_do_not_link_and_hear_why() -> None:
    async def work(one: Node, other: Node) -> None:
        with pytest.raises(HelloError, match="both nodes are secondary"):
            await other.ask(one.config.link.listen, Channel.CONTROL)
        assert one.linked == []

    with_both(work, State.SECONDARY_WAITING)


def test_a_node_that_becomes_the_primary_dials_no_more() -> None:
    async def work(primary: Node, secondary: Node) -> None:
        secondary.sides.become(Role.SECONDARY)
        await secondary.until(lambda: secondary.linked)
        secondary.sides.become(Role.PRIMARY)
        secondary.pair = secondary.pair._replace(state=State.SERVING)
        with pytest.raises(PeerError, match="not the secondary"):
            secondary.sides.dial_raw(Channel.MIGRATION)
        secondary.sides.become(Role.SECONDARY)
        secondary.pair = secondary.pair._replace(state=State.SECONDARY_WAITING)
        await secondary.until(lambda: len(secondary.linked) == 2)

    with_both(work, State.PRIMARY_WAITING)


def test_the_migration_stream_is_taken_when_it_is_expected() -> None:
    async def work(primary: Node, secondary: Node) -> None:
        secondary.sides.become(Role.SECONDARY)
        arrival = primary.sides.expect_link(Channel.MIGRATION)
        link = await asyncio.to_thread(secondary.sides.dial_raw, Channel.MIGRATION)
        assert isinstance(link, RawLink)
        async with asyncio.timeout(DEADLINE_S):
            taken = await arrival
        late = await asyncio.to_thread(secondary.sides.dial_raw, Channel.MIGRATION)
        assert await asyncio.to_thread(late.sock.recv, 1) == b"", "a second one is closed"
        for one in (link, taken, late):
            one.close()

    with_both(work, State.PRIMARY_WAITING)


def test_over_tls_each_role_shows_both_certificates(tmp_path: Path) -> None:
    create(tmp_path, "vm1", 30, datetime.now(UTC))

    async def work(one: Node, other: Node) -> None:
        made = await other.ask(one.config.link.listen)
        made.link.close()

    for state in (State.PRIMARY_WAITING, State.SECONDARY_WAITING):
        with_both(work, state, tls=tmp_path)


def test_a_missing_certificate_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        with_both(lambda one, other: asyncio.sleep(0), State.SECONDARY_WAITING, tls=tmp_path)
