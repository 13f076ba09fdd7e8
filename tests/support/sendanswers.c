/* send(2) and sendmmsg(2) that answer from a list: the number of messages that it takes, or an error as a negative number. What
 * it takes is noted, one length and the bytes of each. Behind the list it takes everything. */

#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static const int *answers;
static int answers_left;
static unsigned char *noted;
static long noted_bytes;

void begin(const int *list, int count, unsigned char *notes)
{
    answers = list;
    answers_left = count;
    noted = notes;
    noted_bytes = 0;
}

long end_of_notes(void)
{
    return noted_bytes;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    int answer = (int)count;

    (void)fd;
    (void)flags;
    if (answers_left > 0) {
        answer = *answers++;
        answers_left--;
    }
    if (answer < 0) {
        errno = -answer;
        return -1;
    }
    if (answer > (int)count)
        answer = (int)count;
    for (int i = 0; i < answer; i++) {
        const struct iovec *place = messages[i].msg_hdr.msg_iov;
        unsigned int length = (unsigned int)place->iov_len;
        memcpy(noted + noted_bytes, &length, sizeof length);
        memcpy(noted + noted_bytes + sizeof length, place->iov_base, length);
        noted_bytes += (long)(sizeof length + length);
        messages[i].msg_len = length;
    }
    return answer;
}

ssize_t send(int fd, const void *octets, size_t length, int flags)
{
    struct iovec place = {(void *)octets, length};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &place, .msg_iovlen = 1}};

    return sendmmsg(fd, &message, 1, flags) < 0 ? -1 : (ssize_t)length;
}
