"""The internet checksum: RFC 1071 over a range, RFC 1624 for a change of one field.

Sums are one's-complement sums folded to 16 bits; a header's checksum field is the complement of such a sum.
"""

import cython

if cython.compiled:
    from cython.cimports.pycolo.wire.octets import _check, load16, store16
else:
    from pycolo.wire.octets import _check, load16, store16


def fold(total: cython.longlong) -> cython.longlong:
    """A sum of 16-bit words folded to 16 bits with end-around carry."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@cython.boundscheck(False)  # both ends are looked at before
def ones_sum(
    buf: cython.uchar[::1], pos: cython.Py_ssize_t, length: cython.Py_ssize_t, initial: cython.longlong = 0
) -> cython.longlong:
    """One's-complement sum of `length` bytes (an odd last byte is padded with zero), plus `initial`, folded."""
    _check(len(buf), pos, length)
    total: cython.longlong = initial
    end: cython.Py_ssize_t = pos + (length & ~1)
    while pos < end:
        total += (buf[pos] << 8) | buf[pos + 1]
        pos += 2
    if length & 1:
        total += buf[pos] << 8
    return fold(total)


def pseudo_sum(
    buf: cython.uchar[::1],
    address_pos: cython.Py_ssize_t,
    address_bytes: cython.Py_ssize_t,
    proto: cython.longlong,
    length: cython.longlong,
) -> cython.longlong:
    """Folded sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).

    `address_pos`, `address_bytes`: where source and destination stand, one behind the other (8 or 32 bytes in all).
    """
    return ones_sum(buf, address_pos, address_bytes, proto + (length >> 16) + (length & 0xFFFF))


def replace16(
    buf: cython.uchar[::1], checksum_pos: cython.Py_ssize_t, old: cython.longlong, new: cython.longlong
) -> cython.int:
    """Correct the checksum at `checksum_pos` for one 16-bit word that changed from `old` to `new`.

    RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
    """
    total: cython.longlong = (0xFFFF - load16(buf, checksum_pos)) + (0xFFFF - old) + new
    return store16(buf, checksum_pos, 0xFFFF - fold(total))


def replace32(
    buf: cython.uchar[::1],
    checksum_pos: cython.Py_ssize_t,
    old: cython.longlong,
    new: cython.longlong,
    is_odd: cython.bint,
) -> cython.int:
    """The same for a 32-bit field; `is_odd` if it starts at an odd byte of the checksummed range.

    A field at an odd position (an unaligned TCP option) has its bytes swapped within the words of the sum; by
    RFC 1071 section 2(B) the sum of the swapped words is the swapped sum.
    """
    difference: cython.longlong = fold(
        (0xFFFF - (old >> 16)) + (0xFFFF - (old & 0xFFFF)) + (new >> 16) + (new & 0xFFFF)
    )
    if is_odd:
        difference = ((difference & 0xFF) << 8) | (difference >> 8)
    total: cython.longlong = (0xFFFF - load16(buf, checksum_pos)) + difference
    return store16(buf, checksum_pos, 0xFFFF - fold(total))
