cimport cython
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.rewrite.offsets cimport SeqOffsets
from pycolo.rewrite.progress cimport Progress
from pycolo.wire.packet cimport Packet

@cython.final
cdef class OffsetTable:
    cdef readonly ConnectionTable connections
    cdef readonly SeqOffsets offsets
    cdef readonly Progress progress
    cdef unsigned int[::1] _key

    cdef Py_ssize_t _table_bytes(self) except -1 nogil
    cdef bint _is_ipv4(self, int row) except -1 nogil
    cdef int _write_table(self, unsigned char[::1] out) except -1 nogil
    cdef Py_ssize_t _write_record(self, int row, int words, unsigned char[::1] out, Py_ssize_t pos) except -1 nogil
    cdef Py_ssize_t _check_record(self, unsigned char[::1] table, Py_ssize_t pos) except -1 nogil
    cdef int read_key(self, unsigned char[::1] table, Py_ssize_t pos, Packet packet) except -1 nogil
    cdef Py_ssize_t adopt(self, int row, long long now_us, unsigned char[::1] table, Py_ssize_t pos) except -1 nogil
