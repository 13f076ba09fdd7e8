"""For tests: a tree of `ordered` on its own. The program does not use it."""


@cython.final
cdef class OneTree:
    """Its records have a number and nothing else."""

    cdef Pool pool
    cdef Trees trees
    cdef int _tree

    def __init__(self, pool: Pool):
        self.pool = pool
        self.trees = Trees(pool, pool.records_max)
        self._tree = self.trees.make()

    cdef int _record(self, uint32_t seq) except -1:
        cdef int record = self.pool.alloc(1)
        if record == _NONE:
            raise MemoryError
        self.pool.at[record].seq = seq
        return record

    def append(self, seq):
        """Append a record with the largest number; returns it."""
        cdef int record = self._record(seq)
        self.trees.append(self._tree, record)
        return record

    def put_first(self, seq):
        """Insert a record with the smallest number; returns it."""
        cdef int record = self._record(seq)
        self.trees.put_first(self._tree, record)
        return record

    def insert(self, seq):
        """Insert a record; returns it."""
        cdef int record = self._record(seq)
        self.trees.insert(self._tree, record)
        return record

    def take_first(self, record):
        """Remove the first record, or one that the tree does not have."""
        self.trees.take_first(self._tree, record)

    def take_out(self, record):
        """Remove a record, the first with its number."""
        check_range(self.pool._untouched, record, record + 1)
        self.trees.take_out(self._tree, record)
        self.pool.free(record)

    def find(self, seq):
        """The last record with that number or a smaller one, or -1."""
        return self.trees.find(self._tree, _NONE, seq, False)

    def nodes(self):
        """The number of nodes in use."""
        cdef int node = self.trees._free_node
        cdef int count = self.trees._untouched_nodes
        while node != _NONE:
            node = self.trees._nodes[node].free
            count -= 1
        return count

    def listed(self):
        """The records, in order."""
        return self.trees.listed(self._tree)

    def renew(self):
        """Free the tree, and begin another one."""
        self.trees.give_back(self._tree)
        assert self.nodes() == 0
        self._tree = self.trees.make()
