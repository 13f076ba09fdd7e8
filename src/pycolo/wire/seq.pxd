cpdef long long seq_add(long long seq, long long count) noexcept nogil
cpdef long long seq_diff(long long a, long long b) noexcept nogil
cpdef long long seq_max(long long a, long long b) noexcept nogil
cpdef long long seq_min(long long a, long long b) noexcept nogil
