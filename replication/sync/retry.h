// SPDX-License-Identifier: Apache-2.0
/* When a failed session is tried again. Plain values and functions; times are of one monotonic
 * clock, in ms. */
#pragma once

#include <stdint.h>

/* Attempts at 1, 2, 4, 8, 10 minutes after the first failure, then every 30 minutes. */
struct retry {
    int64_t first_ms;  /* of the first failure in a row */
    uint32_t failures; /* in a row; 0: all is well */
    uint32_t slot;     /* of the schedule that is next */
};

#define RETRY_JITTER_PERMILLE 100

/* Notes a failure at `now_ms` and gives the time of the next attempt: the schedule's next slot
 * that is still ahead, its wait made longer or shorter by `jitter_permille` (from
 * -RETRY_JITTER_PERMILLE to RETRY_JITTER_PERMILLE), so that groups do not return all at once. */
int64_t retry_next(struct retry *retry, int64_t now_ms, int jitter_permille);
/* Notes a failure that is tried again outside the schedule: at `now_ms` + `wait_ms`. */
int64_t retry_soon(struct retry *retry, int64_t now_ms, int64_t wait_ms);
void retry_reset(struct retry *retry);
/* Uniform in the allowed range. */
int retry_jitter(void);
