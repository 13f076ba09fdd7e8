"""Both nodes' data paths, between QEMU's sockets and over a link."""

from pycolo.core import Comparator, Rewriter
from pycolo.link.hello import ORDERING
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from support.nodes import wait_for
from support.paths import Qemu, Threads, link_pair, tell

FOR_EVER_NS = 1 << 62
PATIENT = {"compare_timeout_ms": 60_000}
"""A frame that is held is a difference after the default 3 s: a machine may stand still for as long."""


def for_ever():
    return FOR_EVER_NS


class Pair:
    """A primary that serves and a secondary that waits for its first state."""

    def __init__(self, place, tuner=None, **options):
        self.threads = Threads()
        self.p, self.s = Qemu(place / "p"), Qemu(place / "s")
        self.served, self.commands, self.waits = [], [], []
        comparator = Comparator(1, **PATIENT | options)
        ports = self.p.ports()
        self.primary = self.threads.start(
            PrimaryPath(
                comparator,
                **ports,
                on_commands=self.commands.extend,
                on_waits=lambda *told: self.waits.append(told),
                compares=True,
                mirrors_at_once=False,
                tuner=tuner,
                **self.threads.base,
            )
        )
        self.secondary = self.threads.start(
            SecondaryPath(Rewriter(2), **self.s.ports(), on_serving=self.served.append, **self.threads.base)
        )
        self.p.accept()
        self.s.accept()
        mine, theirs = link_pair(features=frozenset({ORDERING}))
        tell(self.secondary, self.secondary.hold)
        tell(self.primary, self.primary.attach, mine)
        tell(self.secondary, self.secondary.attach, theirs)

    def synchronised(self, epoch=1):
        """READY: the secondary's node sees it first."""
        tell(self.secondary, self.secondary.loaded, epoch)
        tell(self.primary, self.primary.start_comparing, epoch, for_ever)
        wait_for(lambda: self.mode == "service", "the secondary to go on")
        return self

    def checkpoint(self, epoch, between=lambda: None):
        """REPLY, RECEIVED, LOADED."""
        tell(self.secondary, self.secondary.hold)
        tell(self.primary, self.primary.send_offsets, epoch)
        between()
        tell(self.secondary, self.secondary.loaded, epoch)
        answer = tell(self.primary, self.primary.commit, epoch)
        wait_for(lambda: self.mode == "service", "the secondary to go on")
        return answer

    @property
    def mode(self):
        return self.secondary.ask(self.secondary.snapshot).result(20)["mode"]

    def counters(self, path):
        return path.ask(path.snapshot).result(20)["counters"]

    def close(self):
        self.threads.close()
        self.p.close()
        self.s.close()
