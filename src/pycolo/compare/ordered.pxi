"""The position in a long list of segments, found by sequence number at a cost that does not grow with the list.

A list in sequence order has a *tree* when it is long: a B+-tree (Bayer and McCreight, 1972; Comer, 1979) whose nodes
have fifteen numbers each, in one cache line, and their records or nodes in a second one. So a search in 100,000
segments reads five nodes and no segment but the one that it finds, whatever numbers a guest chooses. Appending and
removing the first read one node; fourteen times in fifteen nothing else happens.

A full node is split. A node that has become small is merged with a small neighbour, so that there are fewer nodes than
segments. Numbers in inner nodes are bounds, and the first of each does not matter: all compared numbers lie between
numbers in the list, so they have its order.
"""


cdef enum:
    _FAN = 15
    _FULL = 12  # a split at the end of a list leaves so many in a leaf: room for late ones
    _FEW = 4  # a node with so many, and a neighbour with no more, are merged
    _LEVELS = 13
    _TREE_FROM = 32
    _TREE_UNTIL = 8


cdef struct Node:
    # Two cache lines. `at`: records in a leaf, nodes above; `free` links free nodes.
    int count
    uint32_t[15] seq
    int free
    int[15] at


cdef struct Tree:
    # `gone`: the number of entries removed from the front of the first leaf. `root` links free trees.
    int root
    int height
    int first_leaf
    int last_leaf
    int gone


@cython.final
cdef class Trees:
    """`_path` and `_slot` are the last path, by level, leaves first.

    `_way`: the tree in which `find` has followed it for `_way_seq`, while that tree is unchanged; otherwise -1.
    """

    cdef Pool pool
    cdef Tree* _trees
    cdef Node* _nodes
    cdef int _free_tree
    cdef int _free_node
    cdef int _untouched_trees
    cdef int _untouched_nodes
    cdef int[13] _path
    cdef int[13] _slot
    cdef int _way
    cdef uint32_t _way_seq

    def __dealloc__(self):
        release_column(self._trees)
        release_column(self._nodes)

    def __init__(self, pool: Pool, records_max):
        """`records_max`: the maximum of records in all trees. A list with a tree has _TREE_UNTIL at least."""
        self.pool = pool
        self._trees = <Tree*>column(self._trees, records_max // _TREE_UNTIL + 2, sizeof(Tree), 0)
        self._nodes = <Node*>column(self._nodes, records_max + _LEVELS, sizeof(Node), 0)
        self._free_tree = self._free_node = self._way = _NONE
        self._untouched_trees = self._untouched_nodes = 0

    cdef int make(self) noexcept nogil:
        """Make an empty tree."""
        cdef int tree = self._free_tree
        cdef Tree* t
        if tree == _NONE:
            tree = self._untouched_trees
            self._untouched_trees += 1
        else:
            self._free_tree = self._trees[tree].root
        t = &self._trees[tree]
        t.root = t.first_leaf = t.last_leaf = self._take_node()
        t.height = 1
        t.gone = 0
        return tree

    cdef int give_back(self, int tree) noexcept nogil:
        """Free a tree: its list is short, or empty."""
        cdef Tree* t
        if tree != _NONE:
            t = &self._trees[tree]
            self._way = _NONE
            self._free_below(t.root, t.height - 1)
            t.root = self._free_tree
            self._free_tree = tree
        return _NONE

    cdef void _free_below(self, int node, int level) noexcept nogil:
        cdef int i
        if level:
            for i in range(self._nodes[node].count):
                self._free_below(self._nodes[node].at[i], level - 1)
        self._give_node(node)

    cdef inline int _take_node(self) noexcept nogil:
        cdef int node = self._free_node
        if node == _NONE:
            node = self._untouched_nodes
            self._untouched_nodes += 1
        else:
            self._free_node = self._nodes[node].free
        self._nodes[node].count = 0
        return node

    cdef inline void _give_node(self, int node) noexcept nogil:
        self._nodes[node].free = self._free_node
        self._free_node = node

    # ── both ends ─────────────────────────────────────────────────────────────────────────────────────────────

    cdef inline int append(self, int tree, int record) noexcept nogil:
        """The record is now the last of the list."""
        cdef Tree* t = &self._trees[tree]
        cdef Node* leaf = &self._nodes[t.last_leaf]
        if leaf.count >= _FULL:
            return self._append_leaf(t, record)
        leaf.seq[leaf.count] = self.pool.at[record].seq
        leaf.at[leaf.count] = record
        leaf.count += 1
        return 0

    cdef int _append_leaf(self, Tree* t, int record) noexcept nogil:
        """Whether the last leaf has as many as a split leaves in it."""
        self._close_gap(t)
        self._go_to_end(t, False)
        return self._put(t, self.pool.at[record].seq, record, _FULL)

    cdef inline int take_first(self, int tree, int record) noexcept nogil:
        """The record was the first of the list; it may be missing here, see `put_first`."""
        cdef Tree* t = &self._trees[tree]
        cdef Node* leaf = &self._nodes[t.first_leaf]
        if t.gone == leaf.count or leaf.at[t.gone] != record:
            return 0
        t.gone += 1
        if t.gone == leaf.count and t.height > 1:
            return self._remove_first_leaf(t)
        return 0

    cdef int _remove_first_leaf(self, Tree* t) noexcept nogil:
        self._nodes[t.first_leaf].count = 1
        t.gone = 0
        self._go_to_end(t, True)
        return self._remove(t)

    cdef int put_first(self, int tree, int record) noexcept nogil:
        """The record is now the first of the list.

        It is not entered if the next one begins no later, and so contains it: the rest of a split frame, when its first
        part had been retransmitted as part of a longer one.
        """
        cdef Tree* t = &self._trees[tree]
        cdef Node* leaf = &self._nodes[t.first_leaf]
        self._close_gap(t)
        if leaf.count and seq_diff(leaf.seq[0], self.pool.at[record].seq) <= 0:
            return 0
        self._go_to_end(t, True)
        return self._put(t, self.pool.at[record].seq, record, _FAN)

    cdef int _close_gap(self, Tree* t) noexcept nogil:
        """Close the gap at the front of the first leaf."""
        cdef Node* leaf = &self._nodes[t.first_leaf]
        if t.gone:
            self._way = _NONE
            leaf.count -= t.gone
            memmove(&leaf.seq[0], &leaf.seq[t.gone], leaf.count * sizeof(uint32_t))
            memmove(&leaf.at[0], &leaf.at[t.gone], leaf.count * sizeof(int))
            t.gone = 0
        return 0

    cdef int _go_to_end(self, Tree* t, bint to_first) noexcept nogil:
        """Set the path before the first entry, or after the last."""
        cdef int node = t.root
        cdef int level = t.height - 1
        self._way = _NONE
        while True:
            self._path[level] = node
            self._slot[level] = 0 if to_first else self._nodes[node].count - (level != 0)
            if level == 0:
                return 0
            node = self._nodes[node].at[self._slot[level]]
            level -= 1

    # ── anywhere ──────────────────────────────────────────────────────────────────────────────────────────────

    cdef int find(self, int tree, int first, uint32_t seq, bint is_secondary) noexcept nogil:
        """The last of the list that begins at `seq` or before it, or -1. `tree` -1: a list without one.

        `first`: of the list, which is linked by `next` on the secondary's side, and by `kept_next` elsewhere.
        """
        cdef int found = _NONE
        cdef int other = first
        cdef Tree* t
        cdef Node* leaf
        if tree == _NONE:
            while other != _NONE and seq_diff(self.pool.at[other].seq, seq) <= 0:
                self.pool.walked += 1
                found = other
                other = self.pool.at[other].next if is_secondary else self.pool.at[other].kept_next
            return found
        t = &self._trees[tree]
        leaf = &self._nodes[t.first_leaf]
        if leaf.count == t.gone or seq_diff(leaf.seq[t.gone], seq) > 0:
            return _NONE
        leaf = &self._nodes[t.last_leaf]
        if seq_diff(leaf.seq[leaf.count - 1], seq) <= 0:
            return leaf.at[leaf.count - 1]
        self._descend(t, seq)
        self._way = tree
        self._way_seq = seq
        # The caller examines the next one after the one that is found.
        leaf = &self._nodes[self._path[0]]
        if self._slot[0] < leaf.count:
            prefetch(&self.pool.at[leaf.at[self._slot[0]]])
        return self._in_front(t)

    cdef inline int _descend(self, Tree* t, uint32_t seq) noexcept nogil:
        """Set the path after the last that begins at `seq` or before it."""
        cdef int level = t.height - 1
        cdef int node = t.root
        cdef int i
        cdef Node* n
        while True:
            n = &self._nodes[node]
            prefetch(&n.free)
            i = 1
            if level == 0:
                i = t.gone if node == t.first_leaf else 0
            while i < n.count and seq_diff(n.seq[i], seq) <= 0:
                i += 1
            self.pool.walked += i
            self._path[level] = node
            if level == 0:
                self._slot[0] = i
                return 0
            self._slot[level] = i - 1
            node = n.at[i - 1]
            level -= 1

    cdef inline int _in_front(self, Tree* t) noexcept nogil:
        """The record before the path, or -1."""
        cdef int level = 1
        cdef int node = self._path[0]
        if self._slot[0] > (t.gone if node == t.first_leaf else 0):
            return self._nodes[node].at[self._slot[0] - 1]
        while level < t.height and self._slot[level] == 0:
            level += 1
        if level >= t.height:
            return _NONE
        node = self._nodes[self._path[level]].at[self._slot[level] - 1]
        while level > 1:
            node = self._nodes[node].at[self._nodes[node].count - 1]
            level -= 1
        return self._nodes[node].at[self._nodes[node].count - 1]

    cdef int insert(self, int tree, int record) noexcept nogil:
        """Insert the record after others that begin at the same number."""
        cdef Tree* t = &self._trees[tree]
        self._close_gap(t)
        if self._way != tree or self._way_seq != self.pool.at[record].seq:
            self._descend(t, self.pool.at[record].seq)
        return self._put(t, self.pool.at[record].seq, record, _FAN)

    cdef int take_out(self, int tree, int record) noexcept nogil:
        """Remove the record, the first of those that begin at its number.

        It may be missing here, see `put_first`.
        """
        cdef Tree* t = &self._trees[tree]
        self._close_gap(t)
        self._way = _NONE
        self._descend(t, self.pool.at[record].seq - 1)
        if self._slot[0] == self._nodes[self._path[0]].count and not self._to_next_leaf(t):
            return 0
        return self._remove(t) if self._nodes[self._path[0]].at[self._slot[0]] == record else 0

    cdef bint _to_next_leaf(self, Tree* t) noexcept nogil:
        """Set the path before the next leaf's first entry; False: this is the last leaf."""
        cdef int level = 1
        while level < t.height and self._slot[level] + 1 == self._nodes[self._path[level]].count:
            level += 1
        if level >= t.height:
            return False
        self._slot[level] += 1
        while level:
            self._path[level - 1] = self._nodes[self._path[level]].at[self._slot[level]]
            level -= 1
            self._slot[level] = 0
        return True

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────────────────

    cdef int _put(self, Tree* t, uint32_t seq, int what, int room) noexcept nogil:
        """Insert an entry at the path; a leaf with `room` entries, and full nodes, are split."""
        cdef int level = 0
        cdef int slot = self._slot[0]
        cdef int node, right
        self._way = _NONE
        while level < t.height:
            node = self._path[level]
            if self._nodes[node].count < room:
                return self._open(node, slot, seq, what)
            right = self._split(node, slot, seq, what)
            if node == t.last_leaf and level == 0:
                t.last_leaf = right
            seq = self._nodes[right].seq[0]
            what = right
            room = _FAN
            level += 1
            slot = self._slot[level] + 1
        node = self._take_node()
        self._open(node, 0, seq, t.root)
        self._open(node, 1, seq, what)
        t.root = node
        t.height += 1
        return 0

    cdef int _open(self, int node, int slot, uint32_t seq, int what) noexcept nogil:
        """Insert an entry into a node that has room."""
        cdef Node* n = &self._nodes[node]
        memmove(&n.seq[slot + 1], &n.seq[slot], (n.count - slot) * sizeof(uint32_t))
        memmove(&n.at[slot + 1], &n.at[slot], (n.count - slot) * sizeof(int))
        n.seq[slot] = seq
        n.at[slot] = what
        n.count += 1
        return 0

    cdef int _split(self, int node, int slot, uint32_t seq, int what) noexcept nogil:
        """Split a node, with one more entry; returns the second node. Beyond the end, the new entry is alone in it."""
        cdef int right = self._take_node()
        cdef Node* n = &self._nodes[node]
        cdef int kept = n.count if slot == n.count else n.count // 2 + 1
        cdef Node* other = &self._nodes[right]
        other.count = n.count - kept
        memcpy(&other.seq[0], &n.seq[kept], other.count * sizeof(uint32_t))
        memcpy(&other.at[0], &n.at[kept], other.count * sizeof(int))
        n.count = kept
        if other.count and slot <= kept:
            self._open(node, slot, seq, what)
        else:
            self._open(right, slot - kept, seq, what)
        return right

    cdef int _remove(self, Tree* t) noexcept nogil:
        """Remove the entry at the path; free empty nodes, merge small neighbours."""
        cdef int level = 0
        cdef int node
        cdef Node* n
        self._way = _NONE
        while True:
            node = self._path[level]
            n = &self._nodes[node]
            n.count -= 1
            memmove(&n.seq[self._slot[level]], &n.seq[self._slot[level] + 1],
                (n.count - self._slot[level]) * sizeof(uint32_t))
            memmove(&n.at[self._slot[level]], &n.at[self._slot[level] + 1],
                (n.count - self._slot[level]) * sizeof(int))
            if level == t.height - 1 or not (self._vanishes(level) if n.count else self._give_up(node)):
                break
            level += 1
        while t.height > 1 and self._nodes[t.root].count == 1:
            node = t.root
            t.root = self._nodes[node].at[0]
            t.height -= 1
            self._give_node(node)
        if level:
            self._go_to_end(t, True)
            t.first_leaf = self._path[0]
            self._go_to_end(t, False)
            t.last_leaf = self._path[0]
        return 0

    cdef inline bint _give_up(self, int node) noexcept nogil:
        """Free an empty node, and its entry in the node above."""
        self._give_node(node)
        return True

    cdef bint _vanishes(self, int level) noexcept nogil:
        """Whether a node that has lost an entry merges with a neighbour; `_slot` above is the entry to remove."""
        cdef Node* above = &self._nodes[self._path[level + 1]]
        cdef int slot = self._slot[level + 1]
        cdef Node* left
        cdef Node* right
        if self._nodes[self._path[level]].count != _FEW:
            return False
        if slot + 1 < above.count and self._nodes[above.at[slot + 1]].count <= _FEW:
            slot += 1
        elif slot == 0 or self._nodes[above.at[slot - 1]].count > _FEW:
            return False
        left = &self._nodes[above.at[slot - 1]]
        right = &self._nodes[above.at[slot]]
        right.seq[0] = above.seq[slot] if level else right.seq[0]
        memcpy(&left.seq[left.count], &right.seq[0], right.count * sizeof(uint32_t))
        memcpy(&left.at[left.count], &right.at[0], right.count * sizeof(int))
        left.count += right.count
        self._give_node(above.at[slot])
        self._slot[level + 1] = slot
        return True

    cdef listed(self, int tree):
        """For tests: the records in the tree, in order, or None."""
        cdef Tree* t
        cdef Node* n
        cdef int i
        if tree == _NONE:
            return None
        t = &self._trees[tree]
        found = []
        self._list(t, t.root, t.height - 1, found)
        assert t.gone < max(1, self._nodes[t.first_leaf].count) or t.height == 1
        found = found[t.gone:]
        if found:
            assert found[0] == self._nodes[t.first_leaf].at[t.gone]
            assert found[len(found) - 1] == self._nodes[t.last_leaf].at[self._nodes[t.last_leaf].count - 1]
        return found

    cdef _list(self, Tree* t, int node, int level, list found):
        cdef int i
        assert 0 < self._nodes[node].count <= _FAN or t.height == 1
        for i in range(self._nodes[node].count):
            if level:
                self._list(t, self._nodes[node].at[i], level - 1, found)
            else:
                found.append(self._nodes[node].at[i])
