"""The functions over bytes for Python: the same names, with a range check on each buffer.

Positions of a `Packet` are valid for the buffer that `parse_frame` parsed.
"""


cdef uint8_t* _inside(uint8_t[::1] buf, Packet packet) except NULL:
    """The buffer that a packet was parsed from. Raises IndexError if it is too short."""
    check_range(len(buf), packet.start, packet.end)
    return &buf[0]


class views:
    """Namespace of functions, which become module functions below."""

    @staticmethod
    def seq_add(long long seq, long long count):
        return seq_add(seq, count)

    @staticmethod
    def seq_diff(long long a, long long b):
        return seq_diff(a, b)

    @staticmethod
    def seq_max(long long a, long long b):
        return seq_max(a, b)

    @staticmethod
    def seq_min(long long a, long long b):
        return seq_min(a, b)

    @staticmethod
    def fold(long long total):
        return fold(total)

    @staticmethod
    def ones_sum(uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t length, long long initial=0):
        check_range(len(buf), pos, pos + length)
        return ones_sum(&buf[0], pos, length, initial)

    @staticmethod
    def use_wide_sum(bint wanted):
        """Whether long sums use the wide instructions if the processor has them; True at start."""
        global _has_wide_sum
        _has_wide_sum = wanted and HAS_WIDE_SUM()

    @staticmethod
    def pseudo_sum(uint8_t[::1] buf, Py_ssize_t address_pos, Py_ssize_t address_bytes, long long proto,
            long long length):
        check_range(len(buf), address_pos, address_pos + address_bytes)
        return pseudo_sum(&buf[0], address_pos, address_bytes, proto, length)

    @staticmethod
    def replace16(uint8_t[::1] buf, Py_ssize_t checksum_pos, long long old, long long new):
        check_range(len(buf), checksum_pos, checksum_pos + 2)
        return replace16(&buf[0], checksum_pos, old, new)

    @staticmethod
    def replace32(uint8_t[::1] buf, Py_ssize_t checksum_pos, long long old, long long new, bint is_odd):
        check_range(len(buf), checksum_pos, checksum_pos + 2)
        return replace32(&buf[0], checksum_pos, old, new, is_odd)

    @staticmethod
    def first_difference(uint8_t[::1] a, Py_ssize_t a_pos, uint8_t[::1] b, Py_ssize_t b_pos, Py_ssize_t length):
        check_range(len(a), a_pos, a_pos + length)
        check_range(len(b), b_pos, b_pos + length)
        return first_difference(&a[0], a_pos, &b[0], b_pos, length)

    @staticmethod
    def load16(uint8_t[::1] buf, Py_ssize_t pos):
        check_range(len(buf), pos, pos + 2)
        return load16(&buf[0], pos)

    @staticmethod
    def load32(uint8_t[::1] buf, Py_ssize_t pos):
        check_range(len(buf), pos, pos + 4)
        return load32(&buf[0], pos)

    @staticmethod
    def store16(uint8_t[::1] buf, Py_ssize_t pos, long long value):
        check_range(len(buf), pos, pos + 2)
        return store16(&buf[0], pos, value)

    @staticmethod
    def store32(uint8_t[::1] buf, Py_ssize_t pos, long long value):
        check_range(len(buf), pos, pos + 4)
        return store32(&buf[0], pos, value)

    @staticmethod
    def frame_at(uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t end, bint has_vnet, Span span):
        check_range(len(buf), pos, end)
        return frame_at(&buf[0], pos, end, has_vnet, span)

    @staticmethod
    def frame_boundary(uint8_t[::1] buf, Py_ssize_t pos, Py_ssize_t limit, bint has_vnet):
        check_range(len(buf), pos, limit)
        return frame_boundary(&buf[0], pos, limit, has_vnet)

    @staticmethod
    def parse_frame(uint8_t[::1] buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len, Packet packet):
        check_range(len(buf), start, end)
        return parse_frame(&buf[0], start, end, vnet_len, packet)

    @staticmethod
    def shift_seq(uint8_t[::1] buf, Packet packet, long long delta):
        return shift_seq(_inside(buf, packet), packet, delta)

    @staticmethod
    def set_ack(uint8_t[::1] buf, Packet packet, long long ack):
        return set_ack(_inside(buf, packet), packet, ack)

    @staticmethod
    def set_window(uint8_t[::1] buf, Packet packet, int window):
        return set_window(_inside(buf, packet), packet, window)

    @staticmethod
    def shift_sack(uint8_t[::1] buf, Packet packet, long long delta):
        return shift_sack(_inside(buf, packet), packet, delta)

    @staticmethod
    def shift_timestamps(uint8_t[::1] buf, Packet packet, long long value_delta, long long echo_delta):
        return shift_timestamps(_inside(buf, packet), packet, value_delta, echo_delta)

    @staticmethod
    def keep_sack_blocks(uint8_t[::1] buf, Packet packet, int kept):
        return keep_sack_blocks(_inside(buf, packet), packet, kept)

    @staticmethod
    def strip_options(uint8_t[::1] buf, Packet packet):
        return strip_options(_inside(buf, packet), packet)

    @staticmethod
    def has_authentication(uint8_t[::1] buf, Packet packet):
        return has_authentication(_inside(buf, packet), packet)

    @staticmethod
    def make_part(uint8_t[::1] target, Py_ssize_t start, uint8_t[::1] source, Packet packet, Py_ssize_t first,
            Py_ssize_t last):
        check_range(len(target), start, start + packet.payload_pos - packet.start + last - first)
        check_range(packet.payload_len, first, last)
        return make_part(&target[0], start, _inside(source, packet), packet, first, last)

    @staticmethod
    def make_bare(uint8_t[::1] target, Py_ssize_t start, uint8_t[::1] source, Packet packet, int flags, long long seq,
            long long ack, int window):
        check_range(len(target), start, start + packet.l4_pos - packet.start + 32)
        return make_bare(&target[0], start, _inside(source, packet), packet, flags, seq, ack, window)

    @staticmethod
    def make_ack(uint8_t[::1] target, Py_ssize_t start, Packet packet, uint8_t[::1] header, Py_ssize_t header_pos,
            Py_ssize_t header_len, long long seq, long long ack, int window):
        check_range(len(target), start, start + packet.l4_pos - packet.start + 20)
        check_range(len(header), header_pos, header_pos + header_len)
        return make_ack(&target[0], start, packet, &header[0], header_pos, header_len, seq, ack, window)

    @staticmethod
    def add_timestamps(uint8_t[::1] target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len, long long value,
            long long echo):
        check_range(len(target), start, start + packet.l4_pos - packet.start + segment_len + 12)
        return add_timestamps(&target[0], start, packet, segment_len, value, echo)

    @staticmethod
    def add_sack_blocks(uint8_t[::1] target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
            uint32_t[::1] edges, Py_ssize_t first, int count):
        check_range(len(target), start, start + packet.l4_pos - packet.start + segment_len + 4 + 8 * count)
        check_range(len(edges), first, first + 2 * count)
        return add_sack_blocks(&target[0], start, packet, segment_len, &edges[0], first, count)


globals().update({name: each.__func__ for name, each in vars(views).items() if isinstance(each, staticmethod)})
del views
