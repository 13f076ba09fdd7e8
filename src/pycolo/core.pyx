"""The per-packet path, compiled as one: what is included here can be inlined into what follows it.

Read it in this order. The Python view of it is `core.pyi`.
"""


from ipaddress import IPv4Address, IPv6Address

cimport cython
from libc.errno cimport errno
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free as free_memory
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport pread, read, write

from pycolo.compare.kinds cimport DifferenceKind, DivergencePolicy, PacketFate, PassReason, RowFlag, Verdict
from pycolo.rewrite.kinds cimport ConnectionFlag, OffsetState
from pycolo.wire.kinds cimport IpProto, PacketKind, Refusal, TcpFlag, VnetFlag

import errno as errors

from pycolo import limits
from pycolo.compare.difference import Difference, ReportDifference, RequestCheckpoint
from pycolo.compare.kinds import DifferenceKind as DifferenceName
from pycolo.compare.kinds import PassReason as _PassReason
from pycolo.compare.kinds import RowFlag as _Row
from pycolo.compare.noise import tables
from pycolo.compare.trace import traced_packets
from pycolo.compare.wait import Wait
from pycolo.conntrack.key import key_from_words
from pycolo.errors import FramingError, LinkError
from pycolo.link.codec import MessageType as _MessageType
from pycolo.rewrite.kinds import ConnectionFlag as _Flag
from pycolo.rewrite.neighbours import Neighbour

# What Cython's posix.time declares stands here; its own header for it, sys/time.h, need not include this one.
cdef extern from "time.h" nogil:
    pass

cdef extern from "arpa/inet.h" nogil:
    uint16_t ntohs(uint16_t word)
    uint32_t ntohl(uint32_t word)
    uint32_t htonl(uint32_t word)

cdef extern from "endian.h" nogil:
    uint64_t le64toh(uint64_t word)

cdef extern from "sys/socket.h" nogil:
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    Py_ssize_t receive_bytes "recv"(int fd, void* buf, size_t size, int flags)
    Py_ssize_t send_bytes "send"(int fd, const void* buf, size_t size, int flags)
    int MSG_TRUNC
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        void* msg_name
        uint32_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        int cmsg_level
        int cmsg_type
    cmsghdr* CMSG_FIRSTHDR(msghdr* message)
    cmsghdr* CMSG_NXTHDR(msghdr* message, cmsghdr* control)
    uint8_t* CMSG_DATA(cmsghdr* control)
    Py_ssize_t recvmsg(int fd, msghdr* message, int flags)
    struct mmsghdr:
        msghdr msg_hdr
    int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags)

cdef extern from "linux/if_packet.h" nogil:
    enum:
        PACKET_AUXDATA
        PACKET_OUTGOING
        TP_STATUS_VLAN_VALID
        TP_STATUS_VLAN_TPID_VALID
    struct sockaddr_ll:
        uint8_t sll_pkttype
    struct tpacket_auxdata:
        uint32_t tp_status
        uint16_t tp_vlan_tci
        uint16_t tp_vlan_tpid

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    const uint32_t EPOLLIN
    const uint32_t EPOLLOUT
    const uint32_t EPOLLERR
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    int EPOLL_CTL_MOD
    int epoll_ctl(int epoll_fd, int what, int fd, epoll_event* event)
    int epoll_wait(int epoll_fd, epoll_event* events, int count, int timeout_ms)

cdef extern from "wire/wide.h" nogil:
    bint HAS_WIDE_SUM() noexcept
    uint64_t wide_sum(const uint8_t* octets, Py_ssize_t blocks) noexcept

cdef extern from *:
    int __builtin_clzll(unsigned long long word) noexcept nogil
    void prefetch "__builtin_prefetch"(const void* line) noexcept nogil
    # The compiler moves no store across it.
    void keep_order "__atomic_signal_fence"(int order) noexcept nogil
    int __ATOMIC_SEQ_CST

include "storage/column.pxi"
include "wire/octets.pxi"
include "wire/seq.pxi"
include "wire/checksum.pxi"
include "wire/framing.pxi"
include "wire/packet.pxi"
include "wire/patch.pxi"
include "wire/views.pxi"
include "conntrack/jhash.pxi"
include "conntrack/siphash.pxi"
include "conntrack/table.pxi"
include "storage/arena.pxi"
include "storage/pool.pxi"
include "storage/views.pxi"
include "compare/trace.pxi"
include "compare/rows.pxi"
include "compare/flows.pxi"
include "compare/uncompared.pxi"
include "compare/probe.pxi"
include "compare/payloads.pxi"
include "compare/ordered.pxi"
include "compare/onetree.pxi"
include "compare/segments.pxi"
include "compare/reports.pxi"
include "compare/outbox.pxi"
include "compare/asides.pxi"
include "compare/held.pxi"
include "compare/waits.pxi"
include "compare/shaper.pxi"
include "compare/promises.pxi"
include "compare/history.pxi"
include "compare/masks.pxi"
include "compare/stream.pxi"
include "compare/onesided.pxi"
include "compare/tcp.pxi"
include "compare/clients.pxi"
include "compare/uso.pxi"
include "compare/datagram.pxi"
include "compare/straight.pxi"
include "compare/steady.pxi"
include "compare/slots.pxi"
include "compare/fragments.pxi"
include "compare/relief.pxi"
include "compare/admission.pxi"
include "compare/ages.pxi"
include "compare/mutual.pxi"
include "compare/openings.pxi"
include "compare/comparator.pxi"
include "wire/segmenting.pxi"
include "transport/framefd.pxi"
include "transport/tapfd.pxi"
include "transport/sleepers.pxi"
include "rewrite/rows.pxi"
include "rewrite/offsets.pxi"
include "rewrite/copies.pxi"
include "rewrite/neighbours.pxi"
include "rewrite/progress.pxi"
include "rewrite/quotes.pxi"
include "rewrite/tables.pxi"
include "rewrite/saved.pxi"
include "rewrite/waiting.pxi"
include "rewrite/translator.pxi"
include "rewrite/straight.pxi"
include "rewrite/rewriter.pxi"
include "path/batch.pxi"
include "order/kinds.pxi"
include "order/lanes.pxi"
include "order/mirror.pxi"
include "order/primary.pxi"
include "order/secondary.pxi"
include "path/streams.pxi"
include "path/link.pxi"
include "path/pump.pxi"
include "path/comparing.pxi"
include "path/rewriting.pxi"
include "path/nodes.pxi"
include "path/primary.pxi"
include "path/secondary.pxi"
