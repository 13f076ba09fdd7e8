/* The driver of bench_proxy.py, and the relay and the sink that it is compared with; called through engine.py.
 *
 * drive() sends cycles of frames (loads.py) into one or more sockets, renewing sequence numbers as it goes, and checks
 * what comes out: every frame's length and sequence number against the one that its connection is to continue with,
 * and of one frame in SAMPLE the payload and the checksum. Frames out of their order are counted, and `sum` is 0 when
 * in the end each has come once. Bare ACKs are counted, and the parts of a frame that was split are put together.
 * drive() looks again for SPIN_NS before it sleeps.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (128u << 10)
#define BUFFER (1u << 20)
#define FRAME_MAX (4096u + 65536u + 8u)
#define SAMPLE 61
#define SPIN_NS 50000
#define STALL_NS 3000000000ull

struct source {
    int32_t fd, number_pos, checksum_pos, unused;
    uint32_t seq_step, ack_step;
    unsigned char *octets;
    const uint64_t *starts;
    uint64_t frames, size, at, renewed, cycles;
};

struct outlet {
    int32_t fd, words, is_udp, is_checked, client_pos, number_pos;
    int32_t checks_ack, broken;
    uint32_t flows, seq_step, seq_delta, ack_step, ack_delta, unused;
    const unsigned char *original; /* the cycle as it was at first */
    const uint64_t *starts;        /* of its frames, and where it ends */
    const uint32_t *first, *order; /* of a connection: order[first[flow]] … are its frames with a payload */
    uint32_t *next, *passes, *taken; /* of a connection: its frame, the cycle, and how much of that frame has come */
    uint64_t octets_per_cycle, whole_per_cycle, bare_per_cycle;
    uint64_t octets, frames, whole, bare, parts, wrong, reordered, sampled, sum;
    uint64_t last_ns, pause_ns; /* when something came, and the longest time between */
    unsigned char *buffer;
    uint64_t kept;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Leaves the other threads of this core and the sockets' locks alone for a moment. */
static void rest(void)
{
#if defined(__x86_64__)
    for (int i = 0; i < 16; i++)
        __builtin_ia32_pause();
#endif
}

static uint32_t load32(const unsigned char *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return __builtin_bswap32(word);
}

static void store32(unsigned char *at, uint32_t word)
{
    word = __builtin_bswap32(word);
    memcpy(at, &word, 4);
}

static uint32_t load16(const unsigned char *at) { return (uint32_t)at[0] << 8 | at[1]; }

static uint32_t folded(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

/* ── sending ─────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t step_word(unsigned char *at, uint32_t step)
{
    uint32_t before = load32(at);
    store32(at, before + step);
    return (uint64_t)(uint32_t)~before + (uint32_t)(before + step);
}

static void renew(const struct source *in, unsigned char *frame)
{
    uint64_t sum = in->seq_step ? step_word(frame + in->number_pos, in->seq_step) : 0;
    if (in->ack_step)
        sum += step_word(frame + in->number_pos + 4, in->ack_step);
    if (in->checksum_pos) {
        unsigned char *at = frame + in->checksum_pos;
        uint32_t check = ~folded(sum + (uint16_t)~load16(at)) & 0xffff;
        at[0] = (unsigned char)(check >> 8);
        at[1] = (unsigned char)check;
    }
}

/* Whether anything went. */
static int pump(struct source *in)
{
    uint64_t limit = in->at + CHUNK < in->size ? in->at + CHUNK : in->size;
    while (in->renewed < in->frames && in->starts[in->renewed] < limit)
        renew(in, in->octets + in->starts[in->renewed++]);
    ssize_t sent = send(in->fd, in->octets + in->at, limit - in->at, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0)
        return 0;
    in->at += (uint64_t)sent;
    if (in->at == in->size) {
        in->at = in->renewed = 0; /* all of it has gone: the next one may be made of it */
        in->cycles++;
    }
    return 1;
}

/* ── checking ────────────────────────────────────────────────────────────────────────────────────────────── */

static int has_right_checksum(const unsigned char *ip, uint32_t length)
{
    uint64_t sum = 6 + (length - 20);
    for (uint32_t at = 12; at + 1 < length; at += 2)
        sum += load16(ip + at);
    if (length & 1)
        sum += (uint32_t)ip[length - 1] << 8;
    return folded(sum) == 0xffff;
}

static uint64_t mixed(uint32_t flow, uint32_t number, uint32_t size)
{
    uint64_t word = ((uint64_t)flow << 32 | number) * 0x9E3779B97F4A7C15ull + size;
    word ^= word >> 29;
    word *= 0xBF58476D1CE4E5B9ull;
    return word ^ word >> 32;
}

static int is_right(struct outlet *out, const unsigned char *frame, uint32_t size)
{
    const unsigned char *ip = frame + out->words + (out->words == 8 ? 12 : 0) + 14;
    if (frame + size < ip + 40 - 12 * out->is_udp)
        return 0;
    uint32_t length = load16(ip + 2), head = out->is_udp ? 28 : 40;
    if (ip[9] != (out->is_udp ? 17 : 6) || length < head || ip + length > frame + size)
        return 0;
    if (length == head) {
        out->bare++;
        return 1;
    }
    uint32_t client = load32(ip + out->client_pos) - 0x0A010000u;
    uint32_t flow = (client << 14) + load16(ip + (out->client_pos == 12 ? 20 : 22)) - 1024u;
    if (flow >= out->flows)
        return 0;
    uint32_t count = out->first[flow + 1] - out->first[flow];
    uint32_t number = out->order[out->first[flow] + out->next[flow]];
    const unsigned char *expected = out->original + out->starts[number];
    uint32_t seq = load32(expected + out->number_pos) + out->passes[flow] * out->seq_step + out->seq_delta;
    uint32_t ack = load32(expected + out->number_pos + 4) + out->passes[flow] * out->ack_step + out->ack_delta;
    uint32_t skipped = (uint32_t)(ip - frame) + head, taken = out->taken[flow];
    uint32_t said = load32(frame + out->number_pos), wanted = (uint32_t)(out->starts[number + 1] - out->starts[number]);
    seq += taken;
    if (said == seq && size < wanted - taken) { /* split: the rest of it follows */
        out->taken[flow] += size - skipped;
        out->parts++;
        return !out->is_udp;
    }
    out->taken[flow] = 0;
    out->whole++;
    if (++out->next[flow] == count) {
        out->next[flow] = 0;
        out->passes[flow]++;
    }
    if (said != seq) { /* another one's turn: over all of them the sums are equal */
        out->reordered++;
        out->sum += mixed(flow, said, size) - mixed(flow, seq, wanted);
        return 1;
    }
    if (size != wanted - taken || (out->checks_ack && load32(frame + out->number_pos + 4) != ack))
        return 0;
    if (out->frames % SAMPLE)
        return 1;
    out->sampled++;
    skipped += out->is_udp ? 4 : 0;
    if (memcmp(frame + skipped, expected + skipped + taken, size - skipped))
        return 0;
    return out->is_udp || has_right_checksum(ip, length);
}

/* Whether anything came. */
static int empty(struct outlet *out, uint64_t now)
{
    ssize_t got = recv(out->fd, out->buffer + out->kept, BUFFER, MSG_DONTWAIT);
    if (got <= 0)
        return 0;
    if (out->last_ns && now - out->last_ns > out->pause_ns)
        out->pause_ns = now - out->last_ns;
    out->last_ns = now;
    out->octets += (uint64_t)got;
    if (!out->is_checked || out->broken)
        return 1;
    unsigned char *at = out->buffer, *end = out->buffer + out->kept + got;
    while (end - at >= 4) {
        uint32_t size = load32(at) + (uint32_t)out->words;
        if (size > FRAME_MAX) {
            out->broken = 1;
            out->wrong++;
            return 1;
        }
        if ((uint64_t)(end - at) < size)
            break;
        if (!is_right(out, at, size))
            out->wrong++;
        out->frames++;
        at += size;
    }
    out->kept = (uint64_t)(end - at);
    memmove(out->buffer, at, out->kept);
    return 1;
}

/* ── driving ─────────────────────────────────────────────────────────────────────────────────────────────── */

static int is_done(struct source *in, int ins, struct outlet *out, int outs, uint64_t cycles)
{
    for (int i = 0; i < ins; i++)
        if (in[i].cycles < cycles)
            return 0;
    for (int i = 0; i < outs; i++) {
        if (!out[i].is_checked && out[i].octets < cycles * out[i].octets_per_cycle)
            return 0;
        if (out[i].is_checked && out[i].whole < cycles * out[i].whole_per_cycle)
            return 0;
        if (out[i].is_checked && out[i].bare < cycles * out[i].bare_per_cycle)
            return 0;
    }
    return 1;
}

static uint64_t begun(const struct source *in, int ins)
{
    uint64_t most = 1;
    for (int i = 0; i < ins; i++)
        if (in[i].cycles + (in[i].at > 0) > most)
            most = in[i].cycles + (in[i].at > 0);
    return most;
}

/* For about so long, in whole cycles (at least one); until all has come out, or nothing has for STALL_NS. How long it
 * took is returned, in ns; `cycles` of each source and the counters of each outlet are of this call. */
uint64_t drive(struct source *in, int ins, struct outlet *out, int outs, uint64_t duration_ns)
{
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event, events[8];
    for (int i = 0; i < ins; i++) {
        in[i].cycles = 0;
        event.events = EPOLLOUT | EPOLLET;
        event.data.u32 = 0;
        epoll_ctl(poller, EPOLL_CTL_ADD, in[i].fd, &event);
    }
    for (int i = 0; i < outs; i++) {
        out[i].octets = out[i].frames = out[i].whole = out[i].bare = out[i].parts = 0;
        out[i].wrong = out[i].reordered = out[i].sampled = out[i].sum = 0;
        out[i].last_ns = out[i].pause_ns = 0;
        event.events = EPOLLIN | EPOLLET;
        event.data.u32 = 1;
        epoll_ctl(poller, EPOLL_CTL_ADD, out[i].fd, &event);
    }
    uint64_t start = now_ns(), moved = start, now = start, cycles = 0;
    while (cycles == 0 || !is_done(in, ins, out, outs, cycles)) {
        int any = 0;
        for (int i = 0; i < ins; i++)
            if (cycles == 0 || in[i].cycles < cycles)
                any |= pump(&in[i]);
        for (int i = 0; i < outs; i++)
            any |= empty(&out[i], now);
        now = now_ns();
        if (cycles == 0 && now - start >= duration_ns)
            cycles = begun(in, ins);
        if (any) {
            moved = now;
        } else if (now - moved > STALL_NS) {
            now = moved;
            break;
        } else if (now - moved > SPIN_NS) {
            epoll_wait(poller, events, 8, 100);
        } else {
            rest();
        }
    }
    close(poller);
    return now - start;
}

/* ── latency ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* One pair after the other, each when the one before has come back and `silence_ns` have passed: from before the
 * secondary's frame and right behind it the primary's are sent until that is back, in ns, into `took`. How many came
 * back is returned. */
int latency(int primary, int secondary, int outlet, struct source *in, int count, uint64_t silence_ns, uint32_t *took)
{
    unsigned char into[FRAME_MAX];
    for (int number = 0; number < count; number++) {
        uint64_t begin = now_ns(), until = begin + silence_ns;
        if (in->renewed++)
            renew(in, in->octets);
        while (now_ns() < until)
            rest();
        begin = now_ns();
        if (send(secondary, in->octets, in->size, MSG_NOSIGNAL) != (ssize_t)in->size)
            return number;
        if (send(primary, in->octets, in->size, MSG_NOSIGNAL) != (ssize_t)in->size)
            return number;
        for (uint64_t got = 0; got < in->size;) {
            ssize_t now = recv(outlet, into, sizeof into, MSG_DONTWAIT);
            if (now > 0)
                got += (uint64_t)now;
            else if (now == 0 || now_ns() - begin > STALL_NS)
                return number;
        }
        took[number] = (uint32_t)(now_ns() - begin);
    }
    return count;
}

/* ── relay and sink ──────────────────────────────────────────────────────────────────────────────────────── */

static int write_all(int fd, const unsigned char *octets, ssize_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, octets, (size_t)size, MSG_NOSIGNAL);
        if (sent < 0)
            return 0;
        octets += sent;
        size -= sent;
    }
    return 1;
}

/* What comes from from[i] goes to to[i], or nowhere where that is -1, until a stream ends. `spin_ns`: look again for
 * so long before sleeping. */
void relay(const int *from, const int *to, int count, uint64_t spin_ns)
{
    unsigned char *buffer = malloc(BUFFER);
    struct pollfd wanted[8];
    uint64_t moved = now_ns();
    for (int i = 0; i < count; i++)
        wanted[i] = (struct pollfd){from[i], POLLIN, 0};
    for (;;) {
        int is_spinning = spin_ns && now_ns() - moved < spin_ns;
        if (poll(wanted, (nfds_t)count, is_spinning ? 0 : -1) < 0 && errno != EINTR)
            break;
        for (int i = 0; i < count; i++) {
            if (!wanted[i].revents)
                continue;
            ssize_t got = recv(from[i], buffer, BUFFER, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN))
                goto ended;
            if (got > 0 && to[i] >= 0 && !write_all(to[i], buffer, got))
                goto ended;
            moved = spin_ns ? now_ns() : moved;
        }
    }
ended:
    free(buffer);
}
