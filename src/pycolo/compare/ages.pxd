cimport cython
from pycolo.compare.admission cimport Admission
from pycolo.compare.datagram cimport DatagramComparison
from pycolo.compare.held cimport Held
from pycolo.compare.tcp cimport TcpComparison

@cython.final
cdef class Ages:
    cdef Held held
    cdef TcpComparison tcp
    cdef DatagramComparison datagram
    cdef Admission admission
    cdef public long long timeout_us

    cdef int time_out(self, int row, long long now_us) except -1 nogil
    cdef int _oldest(self, int record) except? -1 nogil
    cdef Py_ssize_t _arrived_us(self, int record) except? -1 nogil
    cdef Py_ssize_t _waits_since_us(self, long long since_us, bint for_primary, long long now_us) except? -1 nogil
    cdef Py_ssize_t _bound_us(self, bint is_primary, long long now_us) except? -1 nogil
