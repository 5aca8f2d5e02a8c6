// SPDX-License-Identifier: Apache-2.0
/* Which points a replica keeps: the newest `keep` of them, and older ones ever more sparsely, by
 * tiers. Values; any thread. Pins and what they need are kept besides, and the newest
 * application-consistent point. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RETENTION_TIERS_MAX  8
#define RETENTION_KEEP_MAX   10000
#define RETENTION_TEXT_BYTES 256 /* holds any tiers' text */
#define RETENTION_SPAN_MAX   (INT64_C(10) * 366 * 24 * 3600 * 1000)

/* For points younger than `for_ms` one per `every_ms` is kept. */
struct retention_tier {
    int64_t every_ms; /* 1 s at least */
    int64_t for_ms;   /* at least every_ms; ten years at most */
};

struct retention {
    uint64_t keep; /* 1 to RETENTION_KEEP_MAX */
    size_t tier_count;
    struct retention_tier tiers[RETENTION_TIERS_MAX]; /* ascending in both */
};

/* Tiers as people write them: "15m for 4h, 1h for 2d, 1d for 30d"; "none". ERR_INVALID says which
 * part is wrong. `keep` is left alone. */
int retention_parse(const char *text, struct retention *retention, struct err *err) MUST_CHECK;
const char *retention_text(const struct retention *retention, char *buf, size_t len);
bool retention_equal(const struct retention *a, const struct retention *b);

/* Why a point stays; the first of these that holds. */
enum retention_why {
    RETENTION_HELD,   /* a pin, or what is under way, needs it */
    RETENTION_NEWEST, /* one of the newest `keep` */
    RETENTION_TIER,
    RETENTION_GOES, /* nothing keeps it */
};
const char *retention_why_name(enum retention_why why); /* "held", "newest", "tier", "goes" */

struct retention_point {
    int64_t received_ms; /* by the clock of who keeps it */
    bool held;
    enum retention_why why; /* written by retention_choose */
    int64_t every_ms;       /* of the sparsest tier that keeps it; 0: none does */
};
/* Says of each of a history's points, from the oldest to the newest, whether it stays. Ages are
 * counted back from the newest point, so that a history of which nothing new comes does not melt
 * away, and one that a clock set back received in the future is young. A tier keeps the points that
 * begin one of its slots (whole multiples of every_ms since 1970): those whose slot is not the one
 * of the point before. A point is chosen, or not, when it comes: what was left out is never missed
 * by a sparser tier later, however often points were removed by an earlier call. */
void retention_choose(const struct retention *retention, struct retention_point *points,
                      size_t count);
