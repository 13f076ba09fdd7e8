"""The two roles' own part of a node's life."""

import asyncio
import secrets
from time import monotonic_ns
from typing import Final

import structlog

from pycolo import limits
from pycolo.compare.comparator import Comparator
from pycolo.compare.difference import Command
from pycolo.errors import ConnectError, LinkError
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import Hello
from pycolo.node.options import NodeOptions
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.node.supervisor import NodeState, Supervisor, open_port
from pycolo.rewrite.rewriter import Rewriter
from pycolo.transport import tls
from pycolo.transport.linksetup import Established, Listener, dial
from pycolo.transport.ports import Port

DIFFERENCES_LOGGED_PER_S: Final = 5
"""More than that are counted, not written: a broken pair differs in every packet."""

REFUSAL_REPEAT_S: Final = 60
REFUSALS_KEPT: Final = 32
"""So many different reasons a minute are written; whoever makes up more is not worth the log."""

log = structlog.get_logger("colo")


def _open_ports(options: NodeOptions, guest: Port | None) -> tuple[Port, Port, Port, Port | None]:
    """(lan_in, lan_out, guest_in, guest_out); a port that is given twice is opened once."""
    opened: dict[str, Port] = {}
    names = ("--lan", "--lan", "--guest", "--guest")
    ports: list[Port | None] = []
    specs = (options.lan_in, options.lan_out, options.guest_in, options.guest_out)
    for spec, name in zip(specs, names, strict=True):
        if spec is None:
            ports.append(None)
            continue
        if spec.text not in opened:
            is_guest = guest is not None and name == "--guest"
            opened[spec.text] = guest if is_guest and guest is not None else open_port(spec, name)
        ports.append(opened[spec.text])
    lan_in, lan_out, guest_in, guest_out = ports
    assert lan_in is not None
    assert lan_out is not None
    assert guest_in is not None
    return lan_in, lan_out, guest_in, guest_out


class PrimaryNode(Supervisor):
    """`colo primary`: listens for the secondary."""

    path: PrimaryPath

    def __init__(self, options: NodeOptions, guest: Port | None = None) -> None:
        """`guest`: an opened port to use in the place of --guest. Raises `ConnectError`, `ConfigError`."""
        super().__init__(options)
        self._interface = None
        self._context = None
        if options.tls is not None:
            self._context = tls.server_context(options.tls, options.pair)
        else:
            self._interface = tls.check_plaintext_allowed(
                options.link.host, insecure=options.insecure, allowed_link=options.insecure_link
            )
        self._logged_second = 0
        self._logged = 0
        comparator = Comparator(
            secrets.randbits(32),
            has_vnet=options.has_vnet,
            policy=options.on_divergence,
            commits_input=options.commits_input,
            needs_handshake=True,
            compare_timeout_ms=options.compare_timeout_ms,
            queue_packets_max=options.queue_packets_max,
            primary_name="--guest",
            secondary_name="data link",
        )
        lan_in, lan_out, guest_in, guest_out = _open_ports(options, guest)
        self.path = PrimaryPath(
            comparator,
            lan_in,
            lan_out,
            guest_in,
            guest_out,
            on_commands=lambda commands: self._call(self._differ, commands),
            compares=options.without != "compare",
            **self._path_callbacks(),
        )
        self._listener: Listener | None = None
        self._refusals: dict[str, int] = {}

    async def _begin(self) -> None:
        if self.options.without:
            log.warning(f"NEGATIVE CONTROL: this node works without {self.options.without}")
        self._listener = Listener(
            self.options.link,
            self._context,
            lambda: self.hello(Channel.DATA),
            lambda made: self._call(self._bind, made.theirs.channel, made),
            lambda line: self._call(self._refused, line),
            interface=self._interface,
        )
        log.info("listening for the secondary", link=str(self._listener.address), tls=self._context is not None)

    def _refused(self, line: str) -> None:
        """Say each reason once a minute: a secondary that does not fit tries again five times a second."""
        reason = line.partition(": ")[2]
        now_s = monotonic_ns() // 1_000_000_000
        self._refusals = {text: at_s for text, at_s in self._refusals.items() if now_s - at_s < REFUSAL_REPEAT_S}
        if reason not in self._refusals and len(self._refusals) < REFUSALS_KEPT:
            self._refusals[reason] = now_s
            log.warning(line)

    async def _end(self) -> None:
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)
        await super()._end()

    def _formed(self) -> None:
        channel = self._control
        assert channel is not None
        self.path.post(lambda: self.path.pair_formed(lambda: channel.trusted_until_ns))

    def _granted(self, text: str) -> None:
        self.path.post(self.path.go_alone)
        self._enter(NodeState.ALONE, f"going on alone: {text}")

    def _peer_left(self, text: str) -> None:
        """A secondary that says goodbye does not serve: going on needs nobody's permission."""
        self._unbind()
        self.path.post(self.path.go_alone)
        self._enter(NodeState.WAITING, f"the secondary has left: {text}")

    def _differ(self, commands: list[Command]) -> None:
        for command in commands:
            difference = command.difference
            self._differences.append(
                {
                    "connection": str(difference.connection) if difference.connection else None,
                    "kind": difference.kind.name.lower(),
                    "seq": difference.seq,
                    "waited_ms": difference.waited_ms,
                    "text": str(difference),
                    "primary": difference.primary.hex(),
                    "primary_index": difference.primary_index,
                    "secondary": difference.secondary.hex(),
                    "secondary_index": difference.secondary_index,
                    "at_ns": monotonic_ns(),
                }
            )
            second = monotonic_ns() // 1_000_000_000
            if second != self._logged_second:
                self._logged_second, self._logged = second, 0
            self._logged += 1
            if self._logged <= DIFFERENCES_LOGGED_PER_S:
                log.warning(
                    f"divergence: {difference}",
                    kind=difference.kind.name.lower(),
                    primary=difference.primary[difference.primary_index :][:16].hex(" "),
                    secondary=difference.secondary[difference.secondary_index :][:16].hex(" "),
                    policy=self.options.on_divergence.name.lower(),
                )


class SecondaryNode(Supervisor):
    """`colo secondary`: dials the primary."""

    path: SecondaryPath

    def __init__(self, options: NodeOptions, guest: Port | None = None) -> None:
        """`guest`: an opened port to use in the place of --guest. Raises `ConnectError`, `ConfigError`."""
        super().__init__(options)
        self._interface = None
        self._context = None
        if options.tls is not None:
            self._context = tls.client_context(options.tls, options.pair)
        else:
            self._interface = tls.check_plaintext_allowed(
                options.link.host, insecure=options.insecure, allowed_link=options.insecure_link
            )
        rewriter = Rewriter(
            secrets.randbits(32), has_vnet=options.has_vnet, client_name="data link", guest_name="--guest"
        )
        rewriter.is_passing = options.without == "rewrite"
        lan_in, lan_out, guest_in, guest_out = _open_ports(options, guest)
        assert guest_out is not None
        self.path = SecondaryPath(
            rewriter,
            lan_in,
            lan_out,
            guest_in,
            guest_out,
            on_serving=lambda resent: self._call(self._serving, resent),
            **self._path_callbacks(),
        )
        self._dialing: asyncio.Task[None] | None = None
        self._last_failure = ""

    async def _begin(self) -> None:
        if self.options.without:
            log.warning(f"NEGATIVE CONTROL: this node works without {self.options.without}")
        log.info("dialing the primary", link=str(self.options.link), tls=self._context is not None)
        self._dialing = self._loop.create_task(self._dial())

    async def _end(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.gather(self._dialing, return_exceptions=True)
        await super()._end()

    async def _dial(self) -> None:
        """Whenever there is no pair and this node does not serve: try to form one."""
        while True:
            if self.state in (NodeState.WAITING, NodeState.SUSPECT):
                try:
                    await self._dial_once()
                except (ConnectError, LinkError) as error:
                    self._dial_failed(error)
            await asyncio.sleep(limits.LINK_RETRY_MS / 1000)

    async def _dial_once(self) -> None:
        made: list[Established] = []
        try:
            for channel in (Channel.CONTROL, Channel.DATA):
                made.append(await asyncio.to_thread(self._connect, self._hello_for(channel, made)))
        except BaseException:
            for one in made:
                one.link.close()
            raise
        if self.state not in (NodeState.WAITING, NodeState.SUSPECT):
            for one in made:  # decided meanwhile
                one.link.close()
            return
        self._last_failure = ""
        self._close_control(GoodbyeReason.REPLACED, "a new connection replaces this one")
        self._data = None
        for channel, one in zip((Channel.CONTROL, Channel.DATA), made, strict=True):
            self._bind(channel, one)

    def _hello_for(self, channel: Channel, made: list[Established]) -> Hello:
        self._peer_instance = made[0].theirs.instance if made else 0
        return self.hello(channel)

    def _connect(self, hello: Hello) -> Established:
        return dial(self.options.link, hello, self._context, interface=self._interface)

    def _dial_failed(self, error: ConnectError | LinkError) -> None:
        """Say each failure once, not each time."""
        if str(error) != self._last_failure:
            self._last_failure = str(error)
            log.warning(f"no pair yet: {error}")

    def _formed(self) -> None:
        return

    def _granted(self, text: str) -> None:
        self.path.post(self.path.take_over)
        self._enter(NodeState.SERVING, f"taking over: {text}")

    def _serving(self, resent: int) -> None:
        if self.takeover is not None:
            self.takeover |= {"done_ns": monotonic_ns(), "resent": resent}
            took_us = (self.takeover["done_ns"] - self.takeover["suspected_ns"]) / 1000
            log.info("serving", resent=resent, ms_since_suspicion=round(took_us / 1000, 1))

    def _peer_left(self, text: str) -> None:
        """The primary goes on without this node: it must not take over, and may come back."""
        if self.state is NodeState.SERVING:
            return
        self._unbind()
        self._enter(NodeState.WAITING, f"the primary has left: {text}")
