// SPDX-License-Identifier: Apache-2.0
/* How a blocking call is ended from outside: a deadline, a flag and a descriptor to wake it.
 * Every call that may block takes one. The owner creates and frees it; cancel_fire may be
 * called by any thread. A NULL cancel never ends anything. */
#pragma once

#include "base/clock.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct cancel;

#define CANCEL_NEVER INT64_MAX

/* `within_ms` counts from now; CANCEL_NEVER for no deadline. `parent` (may be NULL) ends this
 * one too and must outlive it. */
struct cancel *cancel_new(struct clock *clock, struct cancel *parent, int64_t within_ms);
void cancel_free(struct cancel *cancel);
void cancel_freep(struct cancel **cancel);
void cancel_fire(struct cancel *cancel);
bool cancel_is_fired(const struct cancel *cancel);

/* ERR_CANCELLED or ERR_TIMEOUT when it is over, else 0. */
int cancel_check(struct cancel *cancel, struct err *err) MUST_CHECK;

/* Waits until `fd` shows one of `events` (poll(2)): 0, or -1 with ERR_CANCELLED / ERR_TIMEOUT.
 * `fd` -1 waits for the end only. */
int cancel_poll(struct cancel *cancel, int fd, short events, struct err *err) MUST_CHECK;

/* Sleeps `ms` by the cancel's clock: 0 after that time, -1 when it was ended before. */
int cancel_sleep(struct cancel *cancel, int64_t ms, struct err *err) MUST_CHECK;

/* Milliseconds left; CANCEL_NEVER without a deadline. */
int64_t cancel_left_ms(const struct cancel *cancel);
