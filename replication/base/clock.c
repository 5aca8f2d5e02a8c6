// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
    struct timespec ts;

    if (clock_gettime(id, &ts) < 0)
        abort();
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t real_now(struct clock *clock)
{
    (void)clock;
    return read_ms(CLOCK_MONOTONIC);
}

static int64_t real_wall(struct clock *clock)
{
    (void)clock;
    return read_ms(CLOCK_REALTIME);
}

struct clock *clock_real(void)
{
    static struct clock real = {.now_ms = real_now, .wall_ms = real_wall};

    return &real;
}

/* `clock` is the first member of the fake. */
static int64_t fake_now(struct clock *clock)
{
    return atomic_load(&((struct clock_fake *)clock)->now);
}

static int64_t fake_wall(struct clock *clock)
{
    return atomic_load(&((struct clock_fake *)clock)->wall);
}

void clock_fake_init(struct clock_fake *fake, int64_t wall_ms)
{
    fake->clock.now_ms = fake_now;
    fake->clock.wall_ms = fake_wall;
    atomic_init(&fake->now, 0);
    atomic_init(&fake->wall, wall_ms);
}

void clock_fake_advance(struct clock_fake *fake, int64_t ms)
{
    (void)atomic_fetch_add(&fake->now, ms);
    (void)atomic_fetch_add(&fake->wall, ms);
}
