// SPDX-License-Identifier: Apache-2.0
/* A bed with a machine of two disks, for a test on its stack: CLEANUP(fixture_done). */
#pragma once

#include "base/mem.h"
#include "support/sync/bed.h"

#define MIB (1024u * 1024u)

static const uint64_t two_disks[] = {2 * MIB, 3 * MIB + 4096 + 512};

struct fixture {
    struct fake_machine *machine;
    struct bed bed;
    uint64_t seed;
};

static inline void fixture_done(struct fixture *f)
{
    bed_done(&f->bed);
    fake_machine_free(f->machine);
}

static inline void prepare(struct fixture *f, const char *dir)
{
    memset(f, 0, sizeof(*f));
    f->seed = 1;
    f->machine = fake_machine_new(two_disks, ARRAY_LEN(two_disks));
    fake_write_random(f->machine, &f->seed, 100);
    bed_init(&f->bed, dir, f->machine);
}

static inline void start(struct fixture *f, const char *dir)
{
    prepare(f, dir);
    bed_open_session(&f->bed);
}

/* Copied, and with a first point. */
static inline void start_protected(struct fixture *f, const char *dir)
{
    start(f, dir);
    bed_turns_until(&f->bed, 1, 20);
}

static inline void write_during_scan(struct fake_machine *machine, void *ctx)
{
    fake_write_random(machine, ctx, 3);
}
