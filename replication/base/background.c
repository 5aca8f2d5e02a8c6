// SPDX-License-Identifier: Apache-2.0
/* In Linux a nice value belongs to the thread: setpriority(2), "C library/kernel differences". */
#include "base/background.h"

#include <sys/resource.h>
#include <unistd.h>

void background_thread(void)
{
    pid_t self = gettid();
    int now = getpriority(PRIO_PROCESS, (id_t)self);

    /* To give way needs no privilege; beyond 19 the kernel clamps. */
    (void)setpriority(PRIO_PROCESS, (id_t)self, now + BACKGROUND_NICE);
}
