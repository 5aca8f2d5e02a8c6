// SPDX-License-Identifier: Apache-2.0
/* A bed on the way back: the replica is what a failed site's disks hold (head, at point 2), the
 * machine was recovered elsewhere from an image that is kept (base) and differs from that, its
 * changes are in map 1 since its first instruction. For a test on its stack: CLEANUP(reverse_done). */
#pragma once

#include "support/sync/bed.h"

#define REVERSE_DISKS 2
#define REVERSE_TIP   7u /* number of the promotion; the first reverse point is the next */

struct reverse {
    struct bed bed;
    struct fake_machine *machine;
    uint64_t seed;
    uint8_t *head[REVERSE_DISKS];
    uint8_t *base[REVERSE_DISKS];
    struct digester *digester;
    struct sha256 tip;
    uint64_t base_reads;       /* chunks */
    enum err_code base_fails;  /* with this, if not ERR_NONE */
    uint64_t base_fails_after; /* so many reads */
};

/* The replica is made, at point 2; nothing differs yet. */
void reverse_begin(struct reverse *r, const char *dir, const uint64_t sizes[REVERSE_DISKS]);
void reverse_done(struct reverse *r); /* also for CLEANUP */
/* Blocks of 4 KiB of random bytes, `run` of them one after the other, `count` times anywhere. */
void reverse_write(struct reverse *r, unsigned count, unsigned run);
/* What the machine's disks hold now is the base; the machine starts, tracked by map 1. */
void reverse_start_machine(struct reverse *r);
/* The replica follows the promotion; the bed's config knows tip and base. */
void reverse_prepare(struct reverse *r);
/* The same, and a fresh session is open. */
void reverse_follow(struct reverse *r);
/* Bytes of the blocks in which head and the latest cut differ. */
uint64_t reverse_difference(const struct reverse *r);
