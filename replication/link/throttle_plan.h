// SPDX-License-Identifier: Apache-2.0
/* How much may be sent per second, by the time of the week (local time). Values; any thread. */
#pragma once

#include "base/timetable.h"

#define THROTTLE_WINDOWS_MAX 16
#define THROTTLE_TEXT_BYTES  1024        /* holds any plan's text */
#define THROTTLE_MIN_PER_S   (64 * 1024) /* less would not carry a frame within a timeout */

struct throttle_window {
    struct week_span span;
    uint64_t bytes_per_s; /* 0: no limit */
};

/* The first window that holds has the say, then the plan's own rate. */
struct throttle_plan {
    uint64_t bytes_per_s; /* 0: no limit */
    size_t window_count;
    struct throttle_window windows[THROTTLE_WINDOWS_MAX];
};

/* "50MiB", "none", "none; mon-fri 08:00-18:00 10MiB; sat,sun always none": the rate at other times,
 * then windows. ERR_INVALID says which part is wrong. */
int throttle_plan_parse(const char *text, struct throttle_plan *ret_plan, struct err *err)
    MUST_CHECK;
const char *throttle_plan_text(const struct throttle_plan *plan, char *buf, size_t len);
/* Bytes per second at that time; 0: no limit. */
uint64_t throttle_plan_at(const struct throttle_plan *plan, int64_t wall_ms);
bool throttle_plan_equal(const struct throttle_plan *a, const struct throttle_plan *b);
