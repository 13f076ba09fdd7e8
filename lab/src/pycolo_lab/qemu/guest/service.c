/* The service in the guest of the laboratory: one process, one thread, TCP and UDP.
 *
 * TCP port 5000, a command per line; `ask`, `get` and `put` are those of the demo's server (pycolo_lab.guest_server),
 * with the same answers:
 *
 *     ask TEXT    "COUNT HASH": this connection's lines so far, and the hash over all of them
 *     get N       N bytes of the pattern, going on where this connection's last `get` ended
 *     put N       takes N bytes, answers the SHA-256 over everything that was put on this connection
 *     count TEXT  "N LAST TEXT": N counts every `count` and `rnd` of all connections; LAST is the last random number
 *     rnd         "N LAST rnd": draws a new random number first, which no two machines draw alike
 *     dirty BYTES RATE SECONDS
 *                 "dirty": a process of its own changes each page of BYTES again and again, RATE bytes a second
 *                 (0: as fast as it can), for SECONDS (0: each page once), and keeps that memory
 *     reboot      "reboot": the machine resets itself a moment later
 *     poweroff    "poweroff": the machine switches itself off a moment later
 *     append TEXT "N TEXT": adds that as the Nth line to the file /data/log; the answer follows when it is on the disk
 *     appended    "N HASH": how many lines the file has, read from the disk, and the SHA-256 over them
 *
 * UDP port 5000: every datagram comes back as it was, but for those that begin with "hash" and a number of 8 bytes.
 * Their answer is 24 bytes, little-endian: that number, how many of them have come from that sender's network, and
 * FNV-1a over all their bytes in the order in which they came. So one answer shows whether the guest has had the same input as its replica.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT = 5000,
    CONNECTIONS_MAX = 512,
    INPUT_BYTES = 65536,
    OUTPUT_BYTES = 65536,
    ANSWER_BYTES_MAX = 4352, /* of one line: the longest TEXT, and what stands before it */
    LINE_BYTES_MAX = 4096,
    HASH_CHARACTERS = 16,
    PAGE_BYTES = 4096,
    SLEEP_BYTES = 1 << 18, /* looked at the clock so often */
    SLEEP_US = 2000,
    REBOOT_US = 200000, /* until the answer is on its way */
};

/* ── SHA-256 (FIPS 180-4) ─────────────────────────────────────────────────────────────────────────────────── */

struct sha256 {
    uint32_t h[8];
    uint64_t bytes;
    uint8_t block[64];
};

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotated(uint32_t word, int bits)
{
    return word >> bits | word << (32 - bits);
}

static void sha256_start(struct sha256 *sha)
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memcpy(sha->h, first, sizeof first);
    sha->bytes = 0;
}

static void sha256_block(uint32_t h[8], const uint8_t *block)
{
    uint32_t w[64], v[8];

    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] + (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t t1 = v[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + K[i] + w[i];
        uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        h[i] += v[i];
    }
}

static void sha256_add(struct sha256 *sha, const uint8_t *data, size_t length)
{
    size_t used = sha->bytes % 64;

    sha->bytes += length;
    while (length) {
        size_t part = 64 - used < length ? 64 - used : length;
        if (part == 64) {
            sha256_block(sha->h, data);
        } else {
            memcpy(sha->block + used, data, part);
            if (used + part == 64) {
                sha256_block(sha->h, sha->block);
            }
        }
        used = (used + part) % 64;
        data += part;
        length -= part;
    }
}

/* In hex, of a copy: the hash goes on. */
static void sha256_hex(const struct sha256 *sha, char hex[65])
{
    static const uint8_t padding[64] = {0x80};
    struct sha256 copy = *sha;
    uint8_t bits[8];

    for (int i = 0; i < 8; i++) {
        bits[i] = (uint8_t)(sha->bytes * 8 >> (56 - 8 * i));
    }
    sha256_add(&copy, padding, 1 + (119 - sha->bytes % 64) % 64);
    sha256_add(&copy, bits, 8);
    for (int i = 0; i < 8; i++) {
        sprintf(hex + 8 * i, "%08x", copy.h[i]);
    }
}

/* ── connections ──────────────────────────────────────────────────────────────────────────────────────────── */

struct connection {
    struct sha256 history, received;
    uint64_t lines, position, get_left, put_left;
    size_t in, out, sent;
    char input[INPUT_BYTES], output[OUTPUT_BYTES];
};

static struct pollfd polled[CONNECTIONS_MAX + 2]; /* the first two: the listener, UDP */
static struct connection *connections[CONNECTIONS_MAX + 2];
static int used = 2;

static const char *pattern;
static size_t pattern_bytes;

static uint64_t counter;
static uint32_t last_random;

static void draw(void)
{
    struct timespec now;

    if (getrandom(&last_random, sizeof last_random, GRND_NONBLOCK) < 0) {
        last_random = 0;
    }
    clock_gettime(CLOCK_REALTIME, &now); /* two machines with one random state read different clocks */
    last_random ^= (uint32_t)now.tv_nsec * 2654435761u;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* One word of each page: QEMU copies whole pages. */
static void dirty(uint64_t bytes, uint64_t rate, uint64_t seconds)
{
    uint64_t began = now_ns(), done = 0, word = 0;
    char *memory;

    if (!bytes || fork()) {
        return;
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    while (memory != MAP_FAILED && (seconds ? now_ns() - began < seconds * 1000000000 : done < bytes)) {
        *(volatile uint64_t *)(memory + done % bytes) = ++word;
        done += PAGE_BYTES;
        if (rate && done % SLEEP_BYTES == 0 && (double)done / (double)rate > (double)(now_ns() - began) / 1e9) {
            usleep(SLEEP_US);
        }
    }
    for (;;) {
        pause();
    }
}

/* At once, as with a button on the machine: connections end without a word. */
static void leave(int how)
{
    if (!fork()) {
        usleep(REBOOT_US);
        reboot(how);
        _exit(1);
    }
}

/* ── a file on the disk ───────────────────────────────────────────────────────────────────────────────────── */

static const char log_path[] = "/data/log";
static uint64_t appended;

/* Returns the answer's length; an error is an answer too. */
static int append(char *answer, size_t room, const char *text)
{
    int file = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int length = snprintf(answer, room, "%llu %s\n", (unsigned long long)appended + 1, text);

    if (file < 0 || write(file, answer, (size_t)length) != length || fsync(file)) {
        length = snprintf(answer, room, "error %s\n", strerror(errno));
    } else {
        appended++;
    }
    if (file >= 0) {
        close(file);
    }
    return length;
}

static int read_appended(char *answer, size_t room)
{
    static char part[65536];
    struct sha256 hash;
    char hex[65];
    unsigned long long lines = 0;
    ssize_t got;
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

    sync();
    if (file < 0 || write(file, "3", 1) != 1) {
        return snprintf(answer, room, "error drop_caches %s\n", strerror(errno));
    }
    close(file);
    file = open(log_path, O_RDONLY | O_CLOEXEC);
    sha256_start(&hash);
    while (file >= 0 && (got = read(file, part, sizeof part)) > 0) {
        sha256_add(&hash, (uint8_t *)part, (size_t)got);
        for (ssize_t i = 0; i < got; i++) {
            lines += part[i] == '\n';
        }
    }
    if (file >= 0) {
        close(file);
    }
    sha256_hex(&hash, hex);
    return snprintf(answer, room, "%llu %s\n", lines, hex);
}

static void say(struct connection *c, const char *text, int length)
{
    memcpy(c->output + c->out, text, (size_t)length);
    c->out += (size_t)length;
}

/* Returns whether the line was a command. `line` is without its newline, which the history has seen. */
static int obey(struct connection *c, char *line)
{
    char answer[ANSWER_BYTES_MAX], hex[65];
    uint64_t bytes, rate, seconds;

    if (!strncmp(line, "ask ", 4)) {
        sha256_hex(&c->history, hex);
        say(c, answer, snprintf(answer, sizeof answer, "%llu %.*s\n", (unsigned long long)c->lines, HASH_CHARACTERS, hex));
    } else if (!strncmp(line, "count ", 6)) {
        counter++;
        say(c, answer, snprintf(answer, sizeof answer, "%llu %08x %s\n", (unsigned long long)counter, last_random, line + 6));
    } else if (!strcmp(line, "rnd")) {
        draw();
        counter++;
        say(c, answer, snprintf(answer, sizeof answer, "%llu %08x rnd\n", (unsigned long long)counter, last_random));
    } else if (sscanf(line, "dirty %" SCNu64 " %" SCNu64 " %" SCNu64, &bytes, &rate, &seconds) == 3) {
        dirty(bytes, rate, seconds);
        say(c, "dirty\n", 6);
    } else if (!strcmp(line, "reboot")) {
        leave(RB_AUTOBOOT);
        say(c, "reboot\n", 7);
    } else if (!strcmp(line, "poweroff")) {
        leave(RB_POWER_OFF);
        say(c, "poweroff\n", 9);
    } else if (!strncmp(line, "append ", 7)) {
        say(c, answer, append(answer, sizeof answer, line + 7));
    } else if (!strcmp(line, "appended")) {
        say(c, answer, read_appended(answer, sizeof answer));
    } else if (!strncmp(line, "get ", 4)) {
        c->get_left = strtoull(line + 4, NULL, 10);
    } else if (!strncmp(line, "put ", 4)) {
        c->put_left = strtoull(line + 4, NULL, 10);
    } else {
        return 0;
    }
    return 1;
}

static void take_put(struct connection *c, size_t *used_up)
{
    size_t part = c->in - *used_up < c->put_left ? c->in - *used_up : (size_t)c->put_left;
    char hex[66];

    sha256_add(&c->received, (uint8_t *)c->input + *used_up, part);
    *used_up += part;
    c->put_left -= part;
    if (!c->put_left) {
        sha256_hex(&c->received, hex);
        hex[64] = '\n';
        say(c, hex, 65);
    }
}

/* Answers what has come, as far as there is room for the answers. Returns 0 when the client speaks nonsense. */
static int work(struct connection *c)
{
    size_t used_up = 0;
    int fine = 1;

    while (fine && used_up < c->in && !c->get_left && OUTPUT_BYTES - c->out > ANSWER_BYTES_MAX) {
        char *start = c->input + used_up, *end;
        if (c->put_left) {
            take_put(c, &used_up);
            continue;
        }
        end = memchr(start, '\n', c->in - used_up);
        if (!end) {
            fine = c->in - used_up < LINE_BYTES_MAX;
            break;
        }
        fine = end - start < LINE_BYTES_MAX;
        if (fine) {
            sha256_add(&c->history, (uint8_t *)start, (size_t)(end + 1 - start));
            c->lines++;
            *end = 0;
            fine = obey(c, start);
        }
        used_up = (size_t)(end + 1 - c->input);
    }
    c->in -= used_up;
    memmove(c->input, c->input + used_up, c->in);
    return fine;
}

/* Writes answers, then what `get` asked for. Returns 0 when the connection is gone. */
static int flush(int file, struct connection *c)
{
    while (c->sent < c->out || c->get_left) {
        ssize_t done;
        if (c->sent < c->out) {
            done = send(file, c->output + c->sent, c->out - c->sent, MSG_NOSIGNAL);
        } else {
            size_t offset = (size_t)(c->position % pattern_bytes), part = pattern_bytes - offset;
            part = part < c->get_left ? part : (size_t)c->get_left;
            done = send(file, pattern + offset, part, MSG_NOSIGNAL);
        }
        if (done < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (c->sent < c->out) {
            c->sent += (size_t)done;
        } else {
            c->position += (uint64_t)done;
            c->get_left -= (uint64_t)done;
        }
        if (c->sent == c->out) {
            c->sent = c->out = 0;
        }
    }
    return 1;
}

/* Returns 0 when the connection has ended. */
static int serve(int slot)
{
    struct connection *c = connections[slot];
    int file = polled[slot].fd;
    size_t before;

    if (polled[slot].revents & ~POLLOUT) {
        ssize_t done = recv(file, c->input + c->in, INPUT_BYTES - c->in, 0);
        if (done == 0 || (done < 0 && errno != EAGAIN && errno != EINTR)) {
            return 0;
        }
        c->in += done > 0 ? (size_t)done : 0;
    }
    do { /* what was asked for first, then the next command, until one of the two has to wait */
        if (!flush(file, c)) {
            return 0;
        }
        before = c->in;
        if (!work(c)) {
            flush(file, c); /* nonsense ends the connection; what was asked before it is answered */
            return 0;
        }
    } while (c->in != before);
    polled[slot].events = (short)((c->in < INPUT_BYTES ? POLLIN : 0) | (c->out || c->get_left ? POLLOUT : 0));
    return 1;
}

static void take_connection(int listener)
{
    int file = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *c;

    if (file < 0) {
        return;
    }
    c = used < CONNECTIONS_MAX + 2 ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        close(file);
        return;
    }
    sha256_start(&c->history);
    sha256_start(&c->received);
    polled[used] = (struct pollfd){file, POLLIN, 0};
    connections[used++] = c;
}

static void end_connection(int slot)
{
    close(polled[slot].fd);
    free(connections[slot]);
    used--;
    polled[slot] = polled[used];
    connections[slot] = connections[used];
}

static uint64_t hashed[256], hash[256];

/* Take a datagram, and make its answer of it; the answer's length is returned. Frames of two cards have no order. */
static size_t take_hashed(char *datagram, size_t length, const struct sockaddr_in *from)
{
    int network = ntohl(from->sin_addr.s_addr) >> 8 & 255;
    uint64_t answer[3], value = hashed[network] ? hash[network] : 14695981039346656037u;

    for (size_t i = 0; i < length; i++) {
        value = (value ^ (uint8_t)datagram[i]) * 1099511628211u;
    }
    memcpy(answer, datagram + 4, 8);
    answer[1] = ++hashed[network];
    answer[2] = hash[network] = value;
    memcpy(datagram, answer, sizeof answer);
    return sizeof answer;
}

static void echo(int file)
{
    static char datagram[65536];
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t got;

    while ((got = recvfrom(file, datagram, sizeof datagram, MSG_DONTWAIT, (struct sockaddr *)&from, &length)) >= 0) {
        if (got >= 24 && !memcmp(datagram, "hash", 4)) {
            got = (ssize_t)take_hashed(datagram, (size_t)got, &from);
        }
        while (sendto(file, datagram, (size_t)got, MSG_DONTWAIT, (struct sockaddr *)&from, length) < 0 &&
               (errno == EAGAIN || errno == ENOBUFS)) {
            usleep(200); /* an answer that is not sent would be one that only one of two guests sends */
        }
        length = sizeof from;
    }
}

/* ── start ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void load_pattern(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    off_t length = file < 0 ? -1 : lseek(file, 0, SEEK_END);
    char *bytes = length > 0 ? malloc((size_t)length) : NULL;

    if (!bytes || pread(file, bytes, (size_t)length, 0) != length) {
        die(path);
    }
    close(file);
    pattern = bytes;
    pattern_bytes = (size_t)length;
}

static int open_socket(int type)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int file = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1, much = 16 << 20;

    setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (type == SOCK_STREAM) {
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* inherited by every connection */
    } else {
        setsockopt(file, SOL_SOCKET, SO_RCVBUFFORCE, &much, sizeof much); /* or two guests would drop differently */
        setsockopt(file, SOL_SOCKET, SO_SNDBUFFORCE, &much, sizeof much);
    }
    if (bind(file, (struct sockaddr *)&any, sizeof any) || (type == SOCK_STREAM && listen(file, 1024))) {
        die("service: bind");
    }
    return file;
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: service PATTERN-FILE\n");
        return 2;
    }
    load_pattern(arguments[1]);
    polled[0] = (struct pollfd){open_socket(SOCK_STREAM), POLLIN, 0};
    polled[1] = (struct pollfd){open_socket(SOCK_DGRAM), POLLIN, 0};
    if (daemon(1, 1)) { /* returns to init when everybody can connect */
        die("service: daemon");
    }
    for (;;) {
        poll(polled, (nfds_t)used, -1);
        for (int slot = used - 1; slot > 1; slot--) {
            if (polled[slot].revents && !serve(slot)) {
                end_connection(slot);
            }
        }
        if (polled[1].revents) {
            echo(polled[1].fd);
        }
        if (polled[0].revents) {
            take_connection(polled[0].fd);
        }
    }
}
