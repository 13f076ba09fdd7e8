"""Keeps the node's record on disk: the pair's part, when the table says so, and the pid of this host's QEMU.

Writes take as long as the disk does, so they are done in a thread of their own, in order.
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import structlog

from pycolo.checkpoint.epoch import Epoch
from pycolo.errors import PycoloError
from pycolo.failover.pair import Record
from pycolo.failover.pairstates import Role as PairRole
from pycolo.link.hello import Role
from pycolo.node.loopcall import LoopCall
from pycolo.node.records import OnKept
from pycolo.vm.statefile import NodeRecord, StateFile

log = structlog.get_logger("colo")


class StateKeeper:
    """A `RecordKeeper`. `first`: the record of a node that has none yet. In asyncio's thread."""

    def __init__(self, file: StateFile, first: NodeRecord) -> None:
        """Raises `ConfigError` for a record that cannot be read."""
        self._file = file
        self._record = file.read(first)
        self._writer = ThreadPoolExecutor(1, "record")
        self._call = LoopCall()
        self.epoch = Epoch(self._record.epoch)

    @property
    def pid(self) -> int:
        """Of this host's QEMU, as far as is known; 0: none."""
        return self._record.pid

    @property
    def pair_record(self) -> Record:
        """What the pair begins with."""
        record = self._record
        return Record(PairRole(record.role.value), record.term, record.was_protected, record.is_wished)

    def keep(self, record: Record, on_kept: OnKept) -> None:
        """See `RecordKeeper`."""
        self._write(
            NodeRecord(
                role=Role(record.role.value),
                term=record.term,
                epoch=self.epoch.number,
                was_protected=record.was_protected,
                is_wished=record.is_wished,
                pid=self._record.pid,
            ),
            on_kept,
        )

    def note_pid(self, pid: int) -> None:
        """This host's QEMU is another one now, or none. A node that cannot note it leaves that QEMU running."""
        if pid != self._record.pid:
            self._write(msgspec.structs.replace(self._record, pid=pid, epoch=self.epoch.number), self._noted)

    async def close(self) -> None:
        """When everything is written."""
        await asyncio.to_thread(self._writer.shutdown)

    def _write(self, record: NodeRecord, on_kept: OnKept) -> None:
        self._record = record

        def written(future: "Future[None]") -> None:
            error = future.exception()
            assert error is None or isinstance(error, PycoloError), error
            self._call(on_kept, str(error) if error is not None else "")

        self._writer.submit(self._file.write, record).add_done_callback(written)

    def _noted(self, why: str) -> None:
        if why:
            log.error(why)
