/* The only process of a guest whose memory is compared: one writer for each processor, which rewrites the same pages every
 * few milliseconds and sleeps in between. The first one counts on the console.
 *
 * Software emulation notices a change of a page whose dirty bit is clear only when the page's TLB entry says so. These
 * pages keep their entries, since no other process runs that would have the TLB emptied; so theirs are the changes that are
 * lost when QEMU forgets to empty it. The pauses let QEMU find no new dirty page in its last look before the switch,
 * which is when it forgets. Each write fills 64 bytes of a page, so a lost one differs in more than a few. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, WORDS = 8, PAGES = 64, PAUSE_NS = 30000000, TURNS_PER_TICK = 7 };

static int first_of(int writers)
{
    int number = 0;
    cpu_set_t own;

    for (int other = 1; other < writers && number == 0; other++) {
        if (fork() == 0) {
            number = other;
        }
    }
    CPU_ZERO(&own);
    CPU_SET(number, &own);
    sched_setaffinity(0, sizeof own, &own);
    return number == 0;
}

int main(int count, char **words)
{
    int counts = first_of(count > 1 ? atoi(words[1]) : 1);
    char *place = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (place == MAP_FAILED) {
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint64_t turn = 1;; turn++) {
        struct timespec pause = {0, PAUSE_NS};

        nanosleep(&pause, NULL);
        for (int page = 0; page < PAGES; page++) {
            volatile uint64_t *at = (uint64_t *)(place + page * PAGE_BYTES);

            for (int word = 0; word < WORDS; word++) {
                at[word] = turn * 0x9e3779b97f4a7c15u + (uint64_t)word;
            }
        }
        if (counts && turn % TURNS_PER_TICK == 0) {
            printf("tick %lu\n", (unsigned long)turn);
        }
    }
}
