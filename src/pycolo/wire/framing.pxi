"""Frames on a byte stream, as QEMU's socket chardevs and netdevs carry them.

::

    u32 big-endian length │ (only with vnet_hdr_support) u32 big-endian vnet_hdr_len │ length bytes

`length` counts the vnet header and the Ethernet frame, not the words before them. A length above QEMU's largest buffer,
or a vnet_hdr_len that no virtio device has, is a protocol error: the data after it is not trustworthy. A *batch* is
such a stream in one buffer; its last frame may be incomplete.
"""


# Bounds of `limits` that each frame is held to. The compiler knows them, which saves loads; they cannot drift apart.
cdef enum:
    _FRAMING_LENGTH_MAX = 69632
    _VNET_LENGTHS = 1 | 1 << 10 | 1 << 12  # bit n: n bytes are allowed
    _FRAME_BYTES_MIN = 14
    _TAGS_MAX = 2
    _EXTENSIONS_MAX = 8

assert _FRAMING_LENGTH_MAX == limits.STREAM_LENGTH_BYTES_MAX
assert _VNET_LENGTHS == sum(1 << size for size in limits.VNET_HEADER_BYTES)
assert _FRAME_BYTES_MIN == limits.FRAME_BYTES_MIN
assert _TAGS_MAX == limits.VLAN_TAGS_MAX
assert _EXTENSIONS_MAX == limits.IPV6_EXTENSION_HEADERS_MAX

INCOMPLETE = 0
COMPLETE = 1
IMPOSSIBLE = 2


@cython.final
cdef class Span:
    """The position of one frame of a batch; filled by `frame_at`.

    `start`: first byte after the words (the vnet header, if there is one); `end`: after the last byte; `vnet_len`:
    bytes of vnet header at `start`; `word`: after IMPOSSIBLE, the impossible length word.
    """

    cdef public Py_ssize_t start
    cdef public Py_ssize_t end
    cdef public Py_ssize_t vnet_len
    cdef public long long word


    def __init__(self):
        self.start = 0
        self.end = 0
        self.vnet_len = 0
        self.word = 0


cdef inline bint is_vnet_len(Py_ssize_t length) noexcept nogil:
    """Whether a vnet header may have this length."""
    return 0 <= length < 32 and _VNET_LENGTHS >> length & 1


cdef int frame_at(uint8_t* buf, Py_ssize_t pos, Py_ssize_t end, bint has_vnet, Span span) noexcept nogil:
    """Locate the frame whose length word is at `pos`: 0 incomplete, 1 complete (see `span`), 2 impossible."""
    words: cython.Py_ssize_t = 8 if has_vnet else 4
    if end - pos < words:
        if end - pos >= 4:
            span.word = load32(buf, pos)
            if span.word > _FRAMING_LENGTH_MAX:
                return 2
        return 0
    length: cython.longlong = load32(buf, pos)
    span.word = length
    if length > _FRAMING_LENGTH_MAX:
        return 2
    span.vnet_len = 0
    if has_vnet:
        span.vnet_len = load32(buf, pos + 4)
        if not is_vnet_len(span.vnet_len):
            span.word = span.vnet_len
            return 2
    span.start = pos + words
    span.end = span.start + length
    return 1 if span.end <= end else 0


cdef Py_ssize_t frame_boundary(uint8_t* buf, Py_ssize_t pos, Py_ssize_t limit, bint has_vnet) noexcept nogil:
    """The last frame boundary at or before `limit`, in a batch whose first length word is at `pos`."""
    words: cython.Py_ssize_t = 8 if has_vnet else 4
    following: cython.Py_ssize_t
    while limit - pos >= words:
        following = pos + words + load32(buf, pos)
        if following > limit:
            break
        pos = following
    return pos
