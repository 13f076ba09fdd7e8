/* Where callgrind begins and ends to count: requests that cost a few instructions outside of valgrind. */
#include <valgrind/callgrind.h>

void counting_on(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void counting_off(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}

int counting_is_possible(void)
{
    return RUNNING_ON_VALGRIND != 0;
}
