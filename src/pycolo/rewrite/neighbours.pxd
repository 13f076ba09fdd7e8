cimport cython
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Neighbours:
    cdef readonly int count
    cdef unsigned int[::1] _words

    cdef int note_packet(self, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int note_arp(self, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int note_advertisement(self, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int _begin(self, unsigned char[::1] buf, Py_ssize_t mac_pos, Packet packet) except -1 nogil
    cdef int _keep_if_new(self, bint is_specified) except -1 nogil
