// SPDX-License-Identifier: Apache-2.0
/* The clock seam: nothing else calls clock_gettime. Any thread. */
#pragma once

#include <stdint.h>

struct clock {
    int64_t (*now_ms)(struct clock *clock);  /* monotonic */
    int64_t (*wall_ms)(struct clock *clock); /* since 1970, UTC */
};

/* The system's clock; static, never freed. */
struct clock *clock_real(void);

/* A clock that moves only when told to. Moving it wakes nobody: whoever waits on a fake clock
 * polls it (loop, cancel). */
struct clock_fake {
    struct clock clock;
    _Atomic int64_t now;
    _Atomic int64_t wall;
};
void clock_fake_init(struct clock_fake *fake, int64_t wall_ms);
void clock_fake_advance(struct clock_fake *fake, int64_t ms);
