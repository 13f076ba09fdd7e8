"""What something has cost, and bounded tables of that."""

from typing import Final

import msgspec

ROWS_MAX: Final = 32
"""Rows of a table: more than a person reads, and a guest cannot make it grow."""

SHAPES_MAX: Final = 8
"""Shapes of one row: the names of headers among them are a guest's."""

OTHER_SHAPES: Final = ""


class Sums(msgspec.Struct, array_like=True):
    """Over some time. `waits`: how often a connection waited for a checkpoint; `shapes`: differences by shape."""

    checkpoints: int = 0
    paused_us: int = 0
    waits: int = 0
    waited_us: int = 0
    longest_us: int = 0
    differences: int = 0
    uncompared_bytes: int = 0
    shapes: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: "Sums") -> None:
        """Both together; with too many shapes the rarest counts as another."""
        self.checkpoints += other.checkpoints
        self.paused_us += other.paused_us
        self.waits += other.waits
        self.waited_us += other.waited_us
        self.longest_us = max(self.longest_us, other.longest_us)
        self.differences += other.differences
        self.uncompared_bytes += other.uncompared_bytes
        for shape, count in other.shapes.items():
            self._count(shape, count)

    def _count(self, shape: str, count: int) -> None:
        shapes = self.shapes
        if shape not in shapes and len(shapes) - (OTHER_SHAPES in shapes) >= SHAPES_MAX and shape != OTHER_SHAPES:
            rarest = min((one for one in shapes if one != OTHER_SHAPES), key=lambda one: shapes[one])
            shapes[OTHER_SHAPES] = shapes.get(OTHER_SHAPES, 0) + shapes.pop(rarest)
        shapes[shape] = shapes.get(shape, 0) + count

    @property
    def weight(self) -> tuple[int, int, int]:
        """What is to be seen first, and given up last."""
        return self.checkpoints, self.waited_us, self.differences


class Table(msgspec.Struct, array_like=True):
    """Rows by name, up to twice `ROWS_MAX`. For new ones the least make room; what they had cost goes to `others`."""

    rows: dict[str, Sums] = msgspec.field(default_factory=dict)
    others: Sums = msgspec.field(default_factory=Sums)

    def add(self, name: str | None, sums: Sums) -> None:
        """`name` None: it cannot be told."""
        if name is None:
            self.others.add(sums)
            return
        row = self.rows.get(name)
        if row is None:
            if len(self.rows) >= 2 * ROWS_MAX:
                self.trim()
            row = self.rows[name] = Sums()
        row.add(sums)

    def trim(self) -> None:
        """Keep the `ROWS_MAX` rows that cost most."""
        ordered = sorted(self.rows.items(), key=lambda row: row[1].weight, reverse=True)
        for name, sums in ordered[ROWS_MAX:]:
            del self.rows[name]
            self.others.add(sums)

    def merge(self, other: "Table") -> None:
        """Add all that `other` has."""
        for name, sums in other.rows.items():
            self.add(name, sums)
        self.others.add(other.others)


class Part(msgspec.Struct, array_like=True):
    """The costs of one span of time, which began at `began_s`: all together, and by each of the three."""

    began_s: int
    total: Sums = msgspec.field(default_factory=Sums)
    ports: Table = msgspec.field(default_factory=Table)
    connections: Table = msgspec.field(default_factory=Table)
    reasons: Table = msgspec.field(default_factory=Table)

    def merge(self, other: "Part") -> None:
        """Add all that `other` has."""
        self.total.add(other.total)
        self.ports.merge(other.ports)
        self.connections.merge(other.connections)
        self.reasons.merge(other.reasons)

    def trim(self) -> None:
        """See `Table`."""
        for table in (self.ports, self.connections, self.reasons):
            table.trim()

    def by(self, what: str) -> Table:
        """`port`, `connection` or `reason`."""
        return {"port": self.ports, "connection": self.connections, "reason": self.reasons}[what]
