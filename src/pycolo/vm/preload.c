/* For QEMU under software emulation, preloaded (LD_PRELOAD): lets a COLO checkpoint end, and the secondary's guest run
 * the code that it has brought.
 *
 * The end. While it saves the guest's memory, QEMU's checkpoint thread waits on a condition variable that belongs to
 * the big lock without holding that lock. pthread_cond_wait() then unlocks another thread's mutex and comes back owning
 * it, and the next thread that wants the big lock waits for ever. Here such a wait takes the mutex first and gives it
 * back afterwards. A thread that queued its work without the lock can also miss its wake-up; so no wait lasts longer
 * than a millisecond (with ten, a third of each checkpoint's pause was such a wait). POSIX allows a wait to return for
 * no reason, and every caller has to look at its condition again.
 *
 * The code. A checkpoint overwrites the secondary's memory, and what QEMU has translated of the code there must not run
 * any more. QEMU 7.2 and 10.0 drop all translations when a processor's state is loaded. 11.1 does so only for the run
 * state `restore-vm`, which COLO does not use: programs of the guest then run what was in their place before. Here a
 * secondary drops them each time it stops, before the checkpoint is loaded: its processors stand still until it is.
 *
 * Works with glibc, whose mutexes know their owner. Hardware virtualisation (KVM) needs none of this.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
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

/* QEMU's own, exported for its modules; those that it does not have are null. The translations may be dropped while no
 * processor runs. */
#define OF_QEMU __attribute__((weak))
extern bool tcg_allowed OF_QEMU;
extern bool migration_incoming_in_colo_state(void) OF_QEMU;
extern void tb_flush__exclusive_or_serial(void) OF_QEMU;
extern void *qemu_add_vm_change_state_handler(void (*changed)(void *, bool, int), void *opaque) OF_QEMU;

static void drop_translations(void *opaque, bool running, int state)
{
    (void)opaque;
    (void)state;
    if (!running && tcg_allowed && migration_incoming_in_colo_state()) {
        tb_flush__exclusive_or_serial();
    }
}

__attribute__((constructor)) static void watch_state(void)
{
    if (&tcg_allowed && migration_incoming_in_colo_state && tb_flush__exclusive_or_serial &&
        qemu_add_vm_change_state_handler) {
        qemu_add_vm_change_state_handler(drop_translations, NULL);
    }
}
