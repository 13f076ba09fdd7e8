"""Rules of which connections something holds (rule C7): see `pycolo.compare.flows`.

A connection is looked up once, when its row is made, so a frame costs nothing, and a table without rules nothing at
all. The rules are few (FLOWS_MAX), and are read one after another.
"""

cdef enum:
    _ANY_PROTOCOL = 256
    _FLOW_WORDS = 22


cdef struct FlowRule:
    uint32_t protocol
    uint32_t version
    uint32_t[4] guest
    uint32_t[4] guest_mask
    uint32_t[4] other
    uint32_t[4] other_mask
    uint32_t guest_first
    uint32_t guest_last
    uint32_t other_first
    uint32_t other_last


cdef inline bint flow_has(const FlowRule* rule, const uint32_t* key) noexcept nogil:
    """Whether the rule means the connection with a key as in `table`."""
    cdef uint32_t guest_port = key[8] & 0xFFFF
    cdef uint32_t other_port = key[8] >> 16
    cdef int i
    if rule.protocol != _ANY_PROTOCOL and rule.protocol != key[9] & 0xFF:
        return False
    if guest_port < rule.guest_first or guest_port > rule.guest_last:
        return False
    if other_port < rule.other_first or other_port > rule.other_last:
        return False
    if not rule.version:
        return True
    if rule.version != key[9] >> 8:
        return False
    for i in range(4):
        if (key[i] ^ rule.guest[i]) & rule.guest_mask[i] or (key[4 + i] ^ rule.other[i]) & rule.other_mask[i]:
            return False
    return True


@cython.final
cdef class Flows:
    """`flows`: `Flow` values, FLOWS_MAX at most."""

    cdef readonly int count
    cdef readonly tuple tables
    cdef FlowRule* _rules

    def __dealloc__(self):
        release_column(self._rules)

    def __init__(self, flows):
        cdef uint32_t* words
        possible = [flow for flow in flows if flow.is_possible]
        given = [flow.words() for flow in possible]
        if len(given) > limits.FLOWS_MAX:
            raise ValueError(f"more than {limits.FLOWS_MAX} flows")
        self.count = len(given)
        self.tables = tuple(flow.table for flow in possible)
        self._rules = <FlowRule*>column(self._rules, self.count + 1, sizeof(FlowRule), 0)
        for number, one in enumerate(given):
            words = <uint32_t*>&self._rules[<int>number]
            for place, word in enumerate(one):
                words[<int>place] = word

    cdef inline int first(self, const uint32_t* key) noexcept nogil:
        """The first rule that means the connection, or -1."""
        cdef int i
        for i in range(self.count):
            if flow_has(&self._rules[i], key):
                return i
        return _NONE

    cdef inline bint has(self, const uint32_t* key) noexcept nogil:
        """Whether any rule means the connection."""
        return self.first(key) != _NONE
