cimport cython
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.wire.packet cimport Packet

@cython.final
cdef class SeqOffsets:
    cdef int[::1] state
    cdef int[::1] flags
    cdef unsigned int[::1] seq_offset
    cdef unsigned int[::1] ts_offset
    cdef unsigned int[::1] _secondary_isn
    cdef unsigned int[::1] _secondary_value
    cdef unsigned int[::1] _client_isn
    cdef unsigned int[::1] _echoed
    cdef unsigned int[::1] _sent_value
    cdef unsigned int[::1] _key

    cdef int open_row(self, int row, int state) except -1 nogil
    cdef int client_syn(self, int row, Packet packet) except -1 nogil
    cdef bint follows_syn(self, int row, Packet packet) except -1 nogil
    cdef bint must_wait(self, int row, Packet packet) except -1 nogil
    cdef bint guest_syn(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int learn(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int committed(self, int row) except -1 nogil
    cdef int to_secondary(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int shift(self, int row, unsigned char[::1] buf, Packet packet, int sign) except -1 nogil
    cdef int _note_echo(self, int row, long long echo) except -1 nogil
    cdef int from_secondary(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int catch_up(self, int row) except -1 nogil
    cdef int lift(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef Py_ssize_t _table_bytes(self, ConnectionTable table) except -1 nogil
    cdef bint _is_told(self, ConnectionTable table, int row) except -1 nogil
    cdef bint _is_ipv4(self, ConnectionTable table, int row) except -1 nogil
    cdef int _write_table(self, ConnectionTable table, unsigned char[::1] out) except -1 nogil
    cdef Py_ssize_t _write_record(self, int row, int words, unsigned char[::1] out, Py_ssize_t pos) except -1 nogil
    cdef Py_ssize_t _check_record(self, unsigned char[::1] table, Py_ssize_t pos) except -1 nogil
    cdef Py_ssize_t read_key(self, unsigned char[::1] table, Py_ssize_t pos, Packet packet) except -1 nogil
    cdef bint adopt(self, int row, long long kind, unsigned char[::1] table, Py_ssize_t pos) except -1 nogil
