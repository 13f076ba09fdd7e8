"""The two roles' own part of a node's life."""

from time import monotonic_ns

import structlog

from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import Hello
from pycolo.node.linksides import DialingSide, ListeningSide
from pycolo.node.options import NodeOptions
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.node.supervisor import NodeState, PortOpener, Supervisor, open_port
from pycolo.path.cores import new_comparator, new_rewriter
from pycolo.transport import tls
from pycolo.transport.linksetup import Established
from pycolo.transport.ports import Port

log = structlog.get_logger("colo")


def _open_ports(options: NodeOptions, open_one: PortOpener) -> tuple[Port, Port, Port, Port | None]:
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
            opened[spec.text] = open_one(spec, name)
        ports.append(opened[spec.text])
    lan_in, lan_out, guest_in, guest_out = ports
    assert lan_in is not None
    assert lan_out is not None
    assert guest_in is not None
    return lan_in, lan_out, guest_in, guest_out


class PrimaryNode(Supervisor):
    """`colo primary`: listens for the secondary."""

    path: PrimaryPath

    def __init__(self, options: NodeOptions, open_one: PortOpener = open_port) -> None:
        """`open_one` opens each of its ports. Raises `ConnectError`, `ConfigError`."""
        super().__init__(options)
        self._interface = None
        self._context = None
        if options.tls is not None:
            self._context = tls.server_context(options.tls, options.pair)
        else:
            self._interface = tls.check_plaintext_allowed(
                options.link.host, insecure=options.insecure, allowed_link=options.insecure_link
            )
        comparator = new_comparator(
            has_vnet=options.has_vnet,
            policy=options.on_divergence,
            commits_input=options.commits_input,
            needs_handshake=True,
            compare_timeout_ms=options.compare_timeout_ms,
            queue_packets_max=options.queue_packets_max,
            primary_name="--guest",
            secondary_name="data link",
        )
        lan_in, lan_out, guest_in, guest_out = _open_ports(options, open_one)
        self.path = PrimaryPath(
            comparator,
            lan_in,
            lan_out,
            guest_in,
            guest_out,
            on_commands=lambda commands: self._call(self._divergences.note, commands),
            compares=options.without != "compare",
            **self._path_callbacks(),
        )
        self._listening: ListeningSide | None = None

    async def _begin(self) -> None:
        if self.options.without:
            log.warning(f"NEGATIVE CONTROL: this node works without {self.options.without}")
        self._listening = ListeningSide(
            self.options.link,
            self._context,
            self._interface,
            self.hello,
            lambda made: self._bind(made.theirs.channel, made),
            self._call,
        )

    async def _end(self) -> None:
        if self._listening is not None:
            await self._listening.close()
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


class SecondaryNode(Supervisor):
    """`colo secondary`: dials the primary."""

    path: SecondaryPath

    def __init__(self, options: NodeOptions, open_one: PortOpener = open_port) -> None:
        """`open_one` opens each of its ports. Raises `ConnectError`, `ConfigError`."""
        super().__init__(options)
        self._interface = None
        self._context = None
        if options.tls is not None:
            self._context = tls.client_context(options.tls, options.pair)
        else:
            self._interface = tls.check_plaintext_allowed(
                options.link.host, insecure=options.insecure, allowed_link=options.insecure_link
            )
        rewriter = new_rewriter(
            keeps_copies=True, has_vnet=options.has_vnet, client_name="data link", guest_name="--guest"
        )
        rewriter.is_passing = options.without == "rewrite"
        lan_in, lan_out, guest_in, guest_out = _open_ports(options, open_one)
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
        self._dialing: DialingSide | None = None

    async def _begin(self) -> None:
        if self.options.without:
            log.warning(f"NEGATIVE CONTROL: this node works without {self.options.without}")
        self._dialing = DialingSide(
            self.options.link, self._context, self._interface, self._hello_for, self._is_free, self._dialed
        )

    async def _end(self) -> None:
        if self._dialing is not None:
            await self._dialing.close()
        await super()._end()

    def _is_free(self) -> bool:
        """There is no pair, and this node does not serve."""
        return self.state in (NodeState.WAITING, NodeState.SUSPECT)

    def _dialed(self, control: Established, data: Established) -> None:
        self._close_control(GoodbyeReason.REPLACED, "a new connection replaces this one")
        self._data = None
        self._bind(Channel.CONTROL, control)
        self._bind(Channel.DATA, data)

    def _hello_for(self, channel: Channel, peer_instance: int) -> Hello:
        self._peer_instance = peer_instance
        return self.hello(channel)

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
