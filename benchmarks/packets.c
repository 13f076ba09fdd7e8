/* Ways to receive from a packet socket, for device_batches.py: recv(2), as FrameFd does; recvmmsg(2) into slots whose
 * gaps are closed afterwards; and a ring that the kernel fills (PACKET_MMAP, TPACKET_V2), where a frame that is larger
 * than a slot waits in the socket (PACKET_COPY_THRESH). Each drains what waits, beginning its batch anew when that is
 * full, and returns the number of frames; negative is an error's number. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { FRAME_MAX = 4096 + 65536, WORDS = 8, SLOTS_MAX = 64 };

long receive_each(int fd, unsigned char *buf, long room)
{
    for (long frames = 0, pos = 0;; frames++) {
        if (room - pos < FRAME_MAX + WORDS)
            pos = 0;
        long length = recv(fd, buf + pos + WORDS, FRAME_MAX, MSG_DONTWAIT | MSG_TRUNC);
        if (length < 0)
            return errno == EAGAIN ? frames : -errno;
        *(unsigned *)(buf + pos) = htonl((unsigned)length);
        pos += WORDS + length;
    }
}

long receive_many(int fd, unsigned char *buf, long room, int slots)
{
    struct iovec places[SLOTS_MAX];
    struct mmsghdr messages[SLOTS_MAX] = {0};
    long frames = 0, pos = 0;

    for (;;) {
        if (room - pos < FRAME_MAX + WORDS)
            pos = 0;
        int asked = (int)((room - pos) / (FRAME_MAX + WORDS));
        if (asked > slots)
            asked = slots;
        for (int i = 0; i < asked; i++) {
            places[i] = (struct iovec){buf + pos + (long)i * (FRAME_MAX + WORDS) + WORDS, FRAME_MAX};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &places[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(fd, messages, (unsigned)asked, MSG_DONTWAIT, NULL);
        if (count < 0)
            return errno == EAGAIN ? frames : -errno;
        for (int i = 0; i < count; i++) {
            *(unsigned *)(buf + pos) = htonl(messages[i].msg_len);
            memmove(buf + pos + WORDS, places[i].iov_base, messages[i].msg_len);
            pos += WORDS + messages[i].msg_len;
        }
        frames += count;
        if (count < asked)
            return frames;
    }
}

void *ring_open(int fd, int slot_bytes, int slots)
{
    int version = TPACKET_V2, large_wait = 1, block = slot_bytes < 4096 ? 4096 : slot_bytes;
    struct tpacket_req wanted = {
        .tp_block_size = (unsigned)block, .tp_block_nr = (unsigned)((long)slot_bytes * slots / block),
        .tp_frame_size = (unsigned)slot_bytes, .tp_frame_nr = (unsigned)slots};

    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(fd, SOL_PACKET, PACKET_COPY_THRESH, &large_wait, sizeof large_wait) ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &wanted, sizeof wanted))
        return NULL;
    void *found = mmap(NULL, (size_t)slot_bytes * (size_t)slots, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return found == MAP_FAILED ? NULL : found;
}

long receive_ring(int fd, unsigned char *ring, int slot_bytes, int slots, int *next, unsigned char *buf, long room,
                  int vnet_len)
{
    long frames = 0, pos = 0;

    for (;; frames++, *next = (*next + 1) % slots) {
        struct tpacket2_hdr *slot = (void *)(ring + (long)*next * slot_bytes);
        unsigned status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
        if (!(status & TP_STATUS_USER))
            return frames;
        if (room - pos < FRAME_MAX + WORDS)
            pos = 0;
        long length = (long)slot->tp_snaplen + vnet_len;
        if (status & TP_STATUS_COPY)
            length = recv(fd, buf + pos + WORDS, FRAME_MAX, MSG_DONTWAIT | MSG_TRUNC);
        else if (slot->tp_snaplen == slot->tp_len)
            memcpy(buf + pos + WORDS, (unsigned char *)slot + slot->tp_mac - vnet_len, (size_t)length);
        else
            length = -1;
        if (length != (long)slot->tp_len + vnet_len)
            return -EMSGSIZE;
        *(unsigned *)(buf + pos) = htonl((unsigned)length);
        pos += WORDS + length;
        __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
}

void ring_close(void *ring, int slot_bytes, int slots)
{
    munmap(ring, (size_t)slot_bytes * (size_t)slots);
}
