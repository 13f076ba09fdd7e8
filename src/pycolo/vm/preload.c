/* For QEMU under software emulation, preloaded (LD_PRELOAD): lets a COLO checkpoint end.
 *
 * While it saves the guest's memory, QEMU's checkpoint thread waits on a condition variable that belongs to the big
 * lock without holding that lock. pthread_cond_wait() then unlocks another thread's mutex and comes back owning it,
 * and the next thread that wants the big lock waits for ever. Here such a wait takes the mutex first and gives it back
 * afterwards. A thread that queued its work without the lock can also miss its wake-up; so no wait lasts longer than
 * a millisecond (with ten, a third of each checkpoint's pause was such a wait). POSIX allows a wait to return for no
 * reason, and every caller has to look at its condition again.
 *
 * Works with glibc, whose mutexes know their owner. Hardware virtualisation (KVM) needs none of this.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, OWNED_WAIT_NS = 1000000, UNOWNED_WAIT_NS = 100000 };

static int own_thread_id(void)
{
    static __thread int id;

    if (id == 0) {
        id = (int)syscall(SYS_gettid);
    }
    return id;
}

static struct timespec soon(long nanoseconds)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += nanoseconds;
    if (at.tv_nsec >= NS_PER_S) {
        at.tv_nsec -= NS_PER_S;
        at.tv_sec++;
    }
    return at;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    const int owned = mutex->__data.__owner == own_thread_id();
    const struct timespec until = soon(owned ? OWNED_WAIT_NS : UNOWNED_WAIT_NS);

    if (!owned) {
        pthread_mutex_lock(mutex);
    }
    pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &until); /* a time-out is a spurious wake-up */
    if (!owned) {
        pthread_mutex_unlock(mutex);
    }
    return 0;
}
