"""The guest's addresses, learned from its own frames: a takeover announces them on the LAN (rule R4).

Sources: ARP (sender), neighbour advertisements (target), and the guest's answers to the outside; never a packet that
the guest may only forward. Bounded; the first ones are kept.
"""


cdef int _MAX = limits.NEIGHBOURS_MAX
cdef enum:
    _WORDS = 8


@cython.final
cdef class Neighbours:
    """Rows of eight words: MAC (16 + 32 bits), IP version, address (4 words), VLAN.

    `vnet_len`: of the guest's frames, as the last one had it that was looked at.
    """

    cdef readonly int count
    cdef readonly int vnet_len
    cdef uint32_t* _words

    def __dealloc__(self):
        release_column(self._words)

    def __init__(self):
        self.count = self.vnet_len = 0
        self._words = <uint32_t*>column(self._words, _MAX * _WORDS, sizeof(uint32_t), 0)

    cdef int note_packet(self, uint8_t* buf, Packet packet) noexcept nogil:
        """Learn the sender of an IP packet that is an answer."""
        self._begin(buf, packet.frame_pos + 6, packet)
        base: cython.Py_ssize_t = self.count * _WORDS
        if self.count == _MAX:
            return 0
        self._words[base + 2] = packet.ip_version
        self._words[base + 3] = packet.source0
        self._words[base + 4] = packet.source1
        self._words[base + 5] = packet.source2
        self._words[base + 6] = packet.source3
        return self._keep_if_new(packet.source0 | packet.source1 | packet.source2 | packet.source3)

    cdef int note_arp(self, uint8_t* buf, Packet packet) noexcept nogil:
        """Learn the sender of an ARP packet (RFC 826: Ethernet and IPv4); ignore any other frame."""
        pos: cython.Py_ssize_t = packet.ip_pos
        if packet.end - pos < 28 or load16(buf, pos - 2) != 0x0806 or self.count == _MAX:
            return 0
        if load16(buf, pos) != 1 or load16(buf, pos + 2) != 0x0800 or load16(buf, pos + 4) != 0x0604:
            return 0
        self._begin(buf, pos + 8, packet)
        base: cython.Py_ssize_t = self.count * _WORDS
        self._words[base + 2] = 4
        self._words[base + 3] = load32(buf, pos + 14)
        self._words[base + 4] = self._words[base + 5] = self._words[base + 6] = 0
        return self._keep_if_new(self._words[base + 3])

    cdef int note_advertisement(self, uint8_t* buf, Packet packet) noexcept nogil:
        """Learn the target of a neighbour advertisement (RFC 4861 section 4.4), which routers do not forward."""
        pos: cython.Py_ssize_t = packet.l4_pos
        if load16(buf, packet.ip_pos - 2) != 0x86DD or packet.ip_end - pos < 24 or self.count == _MAX:
            return 0
        if buf[pos] != 136 or buf[packet.ip_pos + 7] != 255:
            return 0
        self._begin(buf, packet.frame_pos + 6, packet)
        base: cython.Py_ssize_t = self.count * _WORDS
        self._words[base + 2] = 6
        self._words[base + 3] = load32(buf, pos + 8)
        self._words[base + 4] = load32(buf, pos + 12)
        self._words[base + 5] = load32(buf, pos + 16)
        self._words[base + 6] = load32(buf, pos + 20)
        return self._keep_if_new(True)

    cdef int _begin(self, uint8_t* buf, Py_ssize_t mac_pos, Packet packet) noexcept nogil:
        if self.count == _MAX:
            return 0
        base: cython.Py_ssize_t = self.count * _WORDS
        self._words[base] = load16(buf, mac_pos)
        self._words[base + 1] = load32(buf, mac_pos + 2)
        self._words[base + 7] = packet.vlan
        self.vnet_len = packet.vnet_len
        return 0

    cdef int _keep_if_new(self, bint is_specified) noexcept nogil:
        """Keep the row under construction, unless it is the unspecified address or a duplicate."""
        if not is_specified:
            return 0
        base: cython.Py_ssize_t = self.count * _WORDS
        other: cython.Py_ssize_t = 0
        while other < base:
            i: cython.Py_ssize_t = 0
            while i < _WORDS and self._words[other + i] == self._words[base + i]:
                i += 1
            if i == _WORDS:
                return 0
            other += _WORDS
        self.count += 1
        return 0

    def add(self, neighbour):
        """One that another rewriter of this guest has learned."""
        if self.count == _MAX:
            return
        cdef uint32_t* words = self._words + self.count * _WORDS
        address = int(neighbour.address)
        words[0] = int.from_bytes(neighbour.mac[:2], "big")
        words[1] = int.from_bytes(neighbour.mac[2:6], "big")
        words[2] = neighbour.address.version
        for i in range(4):
            words[3 + i] = 0 if neighbour.address.version == 4 else (address >> (96 - 32 * i)) & 0xFFFFFFFF
        if neighbour.address.version == 4:
            words[3] = address
        words[7] = neighbour.vlan
        self._keep_if_new(address != 0)

    def all(self):
        """The addresses in the order in which they were seen."""
        found = []
        for row in range(self.count):
            words = [self._words[row * 8 + i] for i in range(8)]
            mac = words[0].to_bytes(2, "big") + words[1].to_bytes(4, "big")
            if words[2] == 4:
                address = IPv4Address(words[3])
            else:
                address = IPv6Address((words[3] << 96) | (words[4] << 64) | (words[5] << 32) | words[6])
            found.append(Neighbour(mac, address, words[7]))
        return found
