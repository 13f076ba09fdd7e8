"""The proxy as a process: opens what the command line asks for, starts one thread per object, runs until a signal.

The main thread only waits and writes the log, so a slow terminal or scraper delays no frame.
"""

import signal
import threading
from contextlib import ExitStack
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final

from pycolo.proxy.capture import Capture
from pycolo.proxy.chain import Chain, DumpFile, Filter, Sink
from pycolo.proxy.chardev import ChardevPort
from pycolo.proxy.compare import ComparePath
from pycolo.proxy.diagnostics import lines_of, states_of
from pycolo.proxy.line import Line
from pycolo.proxy.metricsthread import MetricsThread
from pycolo.proxy.netfilter import NetdevPath
from pycolo.proxy.notifydev import NotifyDev
from pycolo.proxy.objects import DUMP, REWRITER, CompareSpec, FilterSpec, NetdevSpec, RewriterSpec
from pycolo.proxy.path import Event, ProxyPath
from pycolo.proxy.rewriter import RewriterPath, object_rewriter
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import PortKind, PortSpec

EVENTS_MAX: Final = 10_000
"""Log lines that wait for the main thread; if a guest causes more than it can write, some are lost."""


class Proxy:
    """All objects of one command line; handles SIGTERM, SIGINT and SIGUSR1.

    Opening raises `ConnectError` and then leaves nothing open. Afterwards call `start`, then `run`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._events: SimpleQueue[Event | signal.Signals | BaseException] = SimpleQueue()  # reentrant: signals put too
        self._log: Any = None
        self._lost_events = 0
        self.paths: list[ProxyPath] = []
        self._ports: dict[str, ChardevPort] = {}
        self._idle: list[ChardevPort] = []
        self._metrics: MetricsThread | None = None
        self._capture: Capture | None = None
        assert threading.current_thread() is threading.main_thread()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._signalled)
        with ExitStack() as undo:
            self._open(undo)
            undo.pop_all()

    # ── opening ───────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, undo: ExitStack) -> None:
        if self._line.pcap is not None:
            ids = [spec.id for spec in self._line.objects if isinstance(spec, CompareSpec)]
            self._capture = Capture(self._line.pcap, ids)
            undo.callback(self._capture.close)
        self._open_chardevs(undo)
        for spec in self._line.objects:
            if isinstance(spec, CompareSpec):
                self.paths.append(self._compare(spec))
            elif isinstance(spec, RewriterSpec):
                self.paths.append(self._rewriter(spec))
        for netdev in self._line.netdevs.values():
            self.paths.append(self._netdev(netdev, undo))
        if self._line.metrics is not None:
            self._metrics = MetricsThread(self._line.metrics, lambda: states_of(self.paths))
            undo.callback(self._metrics.stop)
            self._line.notes.append(f"metrics at {self._metrics.url}")

    def _open_chardevs(self, undo: ExitStack) -> None:
        """Open servers first: QEMU's own command lines connect two chardevs of the same process."""
        uses: dict[str, tuple[str, bool]] = {}
        for spec in self._line.objects:
            has_vnet = spec.options.has_vnet if isinstance(spec, CompareSpec) else spec.has_vnet
            for role, name in spec.chardevs.items():
                # Messages sent on a notify_dev have no vnet word; `NotifyDev` handles received ones.
                uses[name] = (f"{spec.id}.{role}", has_vnet and role != "notify_dev")
        ordered = sorted(self._line.chardevs.values(), key=lambda chardev: not chardev.is_server)
        for chardev in ordered:
            if chardev.id not in uses and not chardev.is_server:
                continue  # as a client it would only disturb its peer
            use, has_vnet = uses.get(chardev.id, ("unused", False))
            port = ChardevPort(chardev, use, has_vnet)
            undo.callback(port.close)
            self._ports[chardev.id] = port
            if chardev.id not in uses:
                self._idle.append(port)

    def _roles(self, spec: CompareSpec | RewriterSpec | FilterSpec) -> dict[str, ChardevPort]:
        """Property → port, without the notify_dev."""
        return {role: self._ports[chardev] for role, chardev in spec.chardevs.items() if role != "notify_dev"}

    def _notify(self, spec: CompareSpec | RewriterSpec | FilterSpec, has_vnet: bool) -> NotifyDev | None:  # noqa: FBT001
        chardev = spec.chardevs.get("notify_dev")
        return None if chardev is None else NotifyDev(self._ports[chardev], has_vnet)

    def _compare(self, spec: CompareSpec) -> ComparePath:
        notify = self._notify(spec, spec.options.has_vnet)
        return ComparePath(
            spec.id, spec.options, **self._roles(spec), notify=notify, capture=self._capture, **self._base()
        )

    def _rewriter(self, spec: RewriterSpec) -> RewriterPath:
        notify = self._notify(spec, spec.has_vnet)
        return RewriterPath(spec.id, spec.has_vnet, **self._roles(spec), notify=notify, **self._base())

    def _netdev(self, netdev: NetdevSpec, undo: ExitStack) -> NetdevPath:
        specs = self._line.chains[netdev.id]
        has_vnet = any(spec.has_vnet for spec in specs)
        if netdev.vnet_hdr and not has_vnet:
            self._line.notes.append(f"netdev '{netdev.id}': vnet_hdr=on has no effect: no filter has vnet_hdr_support")
        filters = [self._filter(spec, undo) for spec in specs]
        port_spec = PortSpec(text=f"tap:{netdev.ifname}", kind=PortKind.TAP, target=netdev.ifname, vnet_hdr=has_vnet)
        device = open_device(port_spec, f"{netdev.id}.ifname")
        undo.callback(device.close)
        return NetdevPath(netdev.id, device, Chain(filters, Sink(device), has_vnet), **self._base())

    def _filter(self, spec: FilterSpec, undo: ExitStack) -> Filter:
        ports = self._roles(spec)
        if not spec.is_on:
            self._line.notes.append(f"{spec.id}: status=off, and nothing here can switch it on: it is skipped")
        dump = None
        if spec.kind == DUMP:
            dump = DumpFile(spec.file, spec.bytes_max, spec.id)
            undo.callback(dump.close)
        rewriter = None
        if spec.kind == REWRITER:
            rewriter = object_rewriter(spec.has_vnet, client_name=f"{spec.id} tx", guest_name=f"{spec.id} rx")
        return Filter(
            spec,
            outdev=Sink(ports["outdev"]) if "outdev" in ports else None,
            indev=ports.get("indev"),
            rewriter=rewriter,
            notify=self._notify(spec, spec.has_vnet),
            dump=dump,
        )

    def _base(self) -> dict[str, Any]:
        return {"on_event": self._tell, "on_fatal": self._events.put, "spin_us": self._line.spin_us}

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to move frames; log lines wait for `run`."""
        for path in self.paths:
            path.start()
        if self._metrics is not None:
            self._metrics.start()

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Returns the exit code. Raises the error that ended an object's thread."""
        import structlog  # noqa: PLC0415 - takes as long as all the rest, and frames need none

        self._log = structlog.get_logger()
        for note in self._line.notes:
            self._log.info(f"note: {note}")
        try:
            return self._serve()
        finally:
            if self._metrics is not None:
                self._metrics.stop()
            for path in self.paths:
                path.stop()
            self._end_capture()
            for port in self._idle:
                port.close()
            while not self._events.empty():
                self._write(self._events.get())

    def _end_capture(self) -> None:
        if self._capture is None:
            return
        for path in self.paths:
            if isinstance(path, ComparePath):
                path.end_capture()
        self._capture.close()

    def _serve(self) -> int:
        while True:
            event = self._events.get()
            if event is signal.SIGUSR1:
                self._show_state()
                continue
            if isinstance(event, signal.Signals):
                self._log.info(f"{event.name}: ending")
                return 0
            if isinstance(event, BaseException):
                raise event
            self._write(event)

    def _show_state(self) -> None:
        for state in states_of(self.paths):
            for text in lines_of(state):
                self._log.info(text)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._events.put(signal.Signals(number))

    def _tell(self, event: Event) -> None:
        if self._events.qsize() < EVENTS_MAX:
            self._events.put(event)
        else:
            self._lost_events += 1

    def _note_lost(self) -> None:
        if self._lost_events:
            lost, self._lost_events = self._lost_events, 0
            self._log.warning(f"{lost} log lines were lost: they came faster than they could be written")

    def _write(self, event: Event | signal.Signals | BaseException) -> None:
        self._note_lost()
        if isinstance(event, Event):
            write = self._log.warning if event.level == "warning" else self._log.info
            write(event.text, object=event.object_id, **event.fields)
