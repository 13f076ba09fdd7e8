"""What becomes of a pair: one node of a pair of QEMUs, in either role, through any number of failovers. ::

    primary      WAITING ─► LINKED ──protect──► PROTECTING ─► PROTECTED ─► SUSPECT ─► ALONE ──► LINKED
    secondary    WAITING ─► LINKED ──prepare──► PROTECTING ─► PROTECTED ─► SUSPECT ─► TAKING_OVER ─► SERVING
                                                                            = the primary from now on

LINKED: both nodes talk, the guest runs unprotected. What breaks while both nodes live (a QEMU, the migration stream,
the data connection) needs no arbiter: the node whose guest is gone says so and serves no more, and the other goes on.
Only silence does: see `pycolo.node.supervisor`. A node that learns of a higher term ends its guest and becomes the
secondary; a primary without a link asks for the other's term itself, for it may be the one that was away.
"""

import asyncio
from contextlib import suppress
from time import monotonic_ns
from typing import Final

import structlog

from pycolo.errors import ConnectError, PeerError, PycoloError, QmpTimeout, StateError
from pycolo.failover.plans import GO_ALONE, TAKE_OVER
from pycolo.link.codec import GoodbyeReason
from pycolo.link.hello import Role
from pycolo.node.supervisor import NodeState
from pycolo.transport import controlchannel as control
from pycolo.transport.controlchannel import ControlChannel, ControlEvent
from pycolo.vm.guestnode import GuestNode
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.primaryguest import PrimaryGuest

HANG_S: Final = 1.0
"""For a monitor to say anything at all, once a checkpoint has been overdue for seconds."""

RETRY_S: Final = 1.0
"""Between two attempts at what must be done in the end."""

RESIGN_S: Final = 0.5
"""For the arbiter to hear that this node serves no more; clients wait for the other one."""

log = structlog.get_logger("colo")


class SurvivingNode(GuestNode):
    """Base of `VmNode`: who goes on when something breaks."""

    # ── the link ──────────────────────────────────────────────────────────────────────────────────────────────

    def _pair(self) -> None:
        """Both connections are there: the nodes are linked. A handshake alone decides nothing about a pair."""
        link, self._data = self._data, None
        assert link is not None
        is_taking_over = self.is_in(NodeState.TAKING_OVER, NodeState.SERVING) and self.role is Role.SECONDARY
        if self._is_leaving or is_taking_over or self.is_in(NodeState.FENCED):
            # No goodbye: who may serve is being decided, and the other node may be the only one that is left.
            link.close()
            self._close_control(None)
            return
        if self._link_data is not None:
            self._link_data.close()
        self._link_data = link
        self._forget_timers()
        if self.is_in(NodeState.PROTECTED, NodeState.SUSPECT):
            self._relinked()
        elif self.is_in(NodeState.PROTECTING):
            if self.primary is not None:
                self.primary.peer_gone("the other node has linked anew")  # the plan that is at work fails by it
        else:
            self._live.paired(self.term)
            self._suspected_ns = 0
            self._enter(NodeState.LINKED, "linked with the other node")

    def _relinked(self) -> None:
        """What becomes of the pair is still open: the primary answers it, once the secondary has given its word.

        The secondary waits for that, or for the arbiter.
        """
        if self.is_in(NodeState.PROTECTED):
            self._suspected_ns = monotonic_ns()
            self._enter(NodeState.SUSPECT, "linked anew: COLO is broken")
        if self.role is Role.PRIMARY:
            self.spawn(self._reconcile())

    async def _reconcile(self) -> None:
        """The primary's part. Without the other node's word silence decides, as ever."""
        if not self.guest_lives:
            await self._resign("the guest of this host is gone")
        elif await self._has_promise("the link was lost"):
            self._live.paired(self.term)
            await self._go_alone("the link was lost", NodeState.LINKED)
        elif self.is_in(NodeState.SUSPECT):
            self._live.suspected(monotonic_ns() // 1_000_000)
            self._consult()

    async def _has_promise(self, text: str) -> bool:
        """Have the secondary throw its guest away; whether it has said so, and this node is still to go on.

        Asked again until then: what COLO has left of the pair is worth nothing.
        """
        log.warning(f"the pair is dissolved: {text}")
        self._is_dissolving = True
        try:
            while self.is_in(NodeState.PROTECTED, NodeState.SUSPECT) and self._control is not None:
                try:
                    await self.ask_peer("discard")
                    return self.is_in(NodeState.PROTECTED, NodeState.SUSPECT)
                except PeerError as error:
                    log.warning(str(error))
                await asyncio.sleep(RETRY_S)
            return False
        finally:
            self._is_dissolving = False

    def _forget_timers(self) -> None:
        """The pair that they were about is over."""
        for timer in (self._data_timer, self._broken_timer):
            if timer is not None:
                timer.cancel()
        self._data_timer = self._broken_timer = None

    def _formed(self) -> None:
        return

    # ── news ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _heard(self, channel: ControlChannel, event: ControlEvent) -> None:
        if channel is not self._control or self._is_over:
            return
        if isinstance(event, control.PeerOrder):
            self.questions.heard(event.payload)
        elif isinstance(event, control.PeerGoodbye) and event.reason is GoodbyeReason.RESIGNED:
            self._control = None
            self.questions.link_lost(event.text)
            self._resigned(event.text)
        else:
            super()._heard(channel, event)

    def _suspect(self, at_ns: int, text: str) -> None:
        if self._control is None:
            self.questions.link_lost(text)
        if self.is_in(NodeState.LINKED) and self._control is None:
            self._unlink()
            self._enter(NodeState.WAITING, f"the link is lost: {text}")
            return
        if self.is_in(NodeState.PROTECTING) and self._control is None:
            self._unlink()
            self._state_after_break(text)
            return
        super()._suspect(at_ns, text)

    def _state_after_break(self, text: str) -> None:
        """Protection was being set up or taken down when the link broke: the running plan fails by itself."""
        self._enter(NodeState.WAITING, f"the link is lost: {text}")
        if self.role is Role.SECONDARY:
            self.spawn(self._discard_guest(text))

    def _peer_left(self, text: str) -> None:
        """The other node said goodbye, or we did: it will not serve under this pair any more."""
        if self.is_in(NodeState.TAKING_OVER, NodeState.SERVING):
            return
        self.questions.link_lost(text)
        was_protected = self.is_in(NodeState.PROTECTED, NodeState.SUSPECT, NodeState.PROTECTING)
        self._unlink()
        self._enter(NodeState.WAITING, f"the other node has left: {text}")
        if self.role is Role.SECONDARY:
            self.spawn(self._discard_guest(text))
        elif was_protected and self.primary is not None:
            self.spawn(self._go_alone(f"the secondary has left: {text}", NodeState.WAITING))

    def _resigned(self, text: str) -> None:
        """The primary's guest is gone and its node says that it will not serve: permission enough."""
        if self.role is Role.SECONDARY and self.is_in(NodeState.PROTECTED, NodeState.SUSPECT):
            self._suspected_ns = self._suspected_ns or monotonic_ns()
            if self.is_in(NodeState.PROTECTED):
                self._enter(NodeState.SUSPECT, f"the primary has resigned: {text}")
            self._live.peer_resigned(monotonic_ns() // 1_000_000, text)
            self._consult()
        else:
            self._peer_left(text)

    def _recovered(self) -> None:
        super()._recovered()
        if not self.is_in(NodeState.PROTECTED):
            return
        if self.role is Role.PRIMARY and self.primary is not None and self.primary.broken is not None:
            self.pair_broken(self.primary.broken)  # it was heard while nobody could act on it

    def guest_gone(self, text: str) -> None:
        """This host's QEMU has ended."""
        if self._is_over:
            return
        log.error(text)
        if self.role is Role.SECONDARY:
            if self.is_in(NodeState.PROTECTED, NodeState.PROTECTING, NodeState.SUSPECT):
                self.spawn(self._report_gone(text))
        elif self.is_in(NodeState.PROTECTED, NodeState.SUSPECT):
            self.spawn(self._resign(text))

    async def _report_gone(self, text: str) -> None:
        """The primary need not wait for a guest that is dead, and nobody may take over with it."""
        if not self.is_in(NodeState.PROTECTED, NodeState.PROTECTING, NodeState.SUSPECT):
            return
        self._live.recovered(monotonic_ns() // 1_000_000)
        state = NodeState.LINKED if self._control is not None else NodeState.WAITING
        self._enter(state, "this host's guest is gone; it will not take over")
        with suppress(PeerError):
            await self.ask_peer("gone", {"why": text})
        await self._discard_guest(text)

    async def _resign(self, text: str) -> None:
        """Serve no more, say so, and become the secondary."""
        if self._is_leaving or self._is_dissolving:
            return
        self._is_leaving = True
        try:
            self.path.post(self.path.halt)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._live.resign(), RESIGN_S)
            self._close_control(GoodbyeReason.RESIGNED, text)
            self._unlink()
            await self._retire(f"resigned: {text}")
        finally:
            self._is_leaving = False

    def check_can_resign(self) -> None:
        """Raises `StateError` while the other node is being told to throw its guest away: one of the two must live."""
        if self._is_dissolving or not self.is_in(NodeState.PROTECTED, NodeState.SUSPECT):
            raise StateError("resign", "not in a whole pair", "protected")

    def pair_broken(self, text: str) -> None:
        """If the other node lives it says so within the heartbeat's time-out; else silence decides."""
        if self.is_in(NodeState.PROTECTED) and self.role is Role.PRIMARY and self._broken_timer is None:
            delay_s = self.options.heartbeat_timeout_ms / 1000
            self._broken_timer = self._loop.call_later(delay_s, self._broken_alone, text)

    def _broken_alone(self, text: str) -> None:
        self._broken_timer = None
        if self.is_in(NodeState.PROTECTED) and self.role is Role.PRIMARY:
            self.spawn(self._dissolve(text))

    def _data_lost_alone(self) -> None:
        """The data connection is lost while the other node lives."""
        if self.role is Role.SECONDARY:
            super()._data_lost_alone()
            return
        self._data_timer = None
        if self.is_in(NodeState.PROTECTED) and not self._is_over:
            self.spawn(self._dissolve("the data connection is lost while the other node lives"))

    async def _dissolve(self, text: str) -> None:
        """COLO is broken while both nodes live: the secondary throws its guest away, the primary goes on."""
        if not self._is_dissolving and await self._has_promise(text):
            await self._go_alone(text, NodeState.LINKED)

    def checkpoint_overdue(self, text: str) -> None:
        """A checkpoint that does not come to its end: one of the two QEMUs hangs, or the way between them."""
        log.error(text)
        self.spawn(self._find_who_hangs(text))

    async def _find_who_hangs(self, text: str) -> None:
        """A guest of ours that does not even answer its monitor serves nobody: the other one can."""
        side = self.primary
        if side is None or not self.is_in(NodeState.PROTECTED):
            return
        try:
            await side.machine.execute("query-status", timeout_s=HANG_S)
        except QmpTimeout:
            if self.is_in(NodeState.PROTECTED):
                await self._resign(f"QEMU of this host hangs: {text}")
            return
        except (PeerError, ConnectError):  # it is gone: that is heard by itself
            return
        self.pair_broken(text)

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────────────────

    def _granted(self, text: str) -> None:
        kind = "go-alone" if self.role is Role.PRIMARY else "take-over"
        self.failovers[kind] = self.failovers.get(kind, 0) + 1
        self.questions.link_lost("this node serves alone now")
        self._unlink()
        if self.role is Role.PRIMARY:
            self._enter(NodeState.ALONE, f"going on alone: {text}")
            self.spawn(self._go_alone(text, NodeState.ALONE))
        else:
            self._enter(NodeState.TAKING_OVER, f"taking over: {text}")
            self.spawn(self._take_over())

    async def _go_alone(self, text: str, state: NodeState) -> None:
        """There is no way back: what fails is tried again."""
        self.checkpoints.disarm(text)
        if self.state is not state:
            self._enter(state, f"going on alone: {text}")
        while self.primary is not None and not self._is_leaving:
            try:
                await self._run(GO_ALONE, self.primary.alone_handlers())
                break
            except PycoloError as error:
                log.error(f"going on alone is not done yet: {error}")
                await asyncio.sleep(RETRY_S)
        if self.takeover is not None:
            self.takeover["done_ns"] = monotonic_ns()
        if self.is_in(NodeState.LINKED):
            self._form_anew("this node goes on alone")

    async def _take_over(self) -> None:
        """There is no way back: what fails is tried again, and until all is done this node does not serve."""
        side = self.secondary
        if side is None:
            log.critical("permission to take over, and no guest to do it with")
            self._enter(NodeState.WAITING, "no guest")
            return
        while not self._is_over:
            try:
                await self._run(TAKE_OVER, side.takeover_handlers())
                break
            except PycoloError as error:
                log.error(f"the takeover is not done yet: {error}")
                await asyncio.sleep(RETRY_S)
        if self.takeover is not None:
            self.takeover["done_ns"] = monotonic_ns()
            took_us = (self.takeover["done_ns"] - self.takeover["suspected_ns"]) // 1000
            log.info("the takeover is done", ms_since_suspicion=round(took_us / 1000, 1))
        if self._is_over or self.is_in(NodeState.FENCED):
            return
        self._enter(NodeState.SERVING, "serving")
        self.secondary = None
        self.primary = PrimaryGuest(self)
        self.primary.adopt(side)
        await self._become(Role.PRIMARY)

    def _fenced(self, text: str) -> None:
        """The other node serves: end this guest and become the secondary."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self.path.post(self.path.halt)
        self._enter(NodeState.FENCED, text)
        for advice in self._if_nobody_was_dead("heartbeat.timeout_ms in both files"):
            log.warning(advice)
        self._close_control(GoodbyeReason.OTHER, "fenced")
        self._unlink()
        self.spawn(self._retire_fenced(text))

    async def _retire_fenced(self, text: str) -> None:
        try:
            await self._retire(text)
        finally:
            self._is_leaving = False

    async def _retire(self, text: str) -> None:
        """From primary to secondary. First the guest ends: it is dead, or must be."""
        self._enter(NodeState.FENCED, text)
        self.checkpoints.disarm(text)
        self._forget_timers()
        primary, self.primary = self.primary, None
        secondary, self.secondary = self.secondary, None
        if primary is not None:
            await primary.end()
        if secondary is not None:
            await secondary.discard()
        try:
            await self.leave_network()
        except PycoloError as error:
            log.error(str(error))
        self._live.paired(self.term)
        await self._become(Role.SECONDARY)
        self.save(was_protected=False)
        self._enter(NodeState.WAITING, "secondary from now on")

    async def _become(self, role: Role) -> None:
        """Change this node's role: another way to the link, another hello."""
        self.options = node_options(self.config, role)
        await self._close_sides()
        self._peer_instance = 0
        while not self._is_over:
            try:
                self._open_sides()
                break
            except PycoloError as error:  # an address that went with its cable, a certificate that has expired
                log.error(str(error))
                await asyncio.sleep(RETRY_S)
