// SPDX-License-Identifier: Apache-2.0
/* Spans of the day and of the week in local time, as people write them. Values; any thread. Days
 * have the length that the time zone gives them: a span goes by what a clock on the wall shows. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAY_MINUTES    1440
#define TIMETABLE_TEXT 48 /* bytes that hold any span's text */

/* Minutes since midnight, [from, to). `to` not above `from`: it goes on past midnight; both equal:
 * all day. `to` may be DAY_MINUTES. */
struct day_span {
    uint16_t from;
    uint16_t to;
};
/* "18:30-06:30", "always" (00:00-24:00). ERR_INVALID says what is wrong. */
int day_span_parse(const char *text, struct day_span *ret_span, struct err *err) MUST_CHECK;
const char *day_span_text(const struct day_span *span, char *buf, size_t len);
bool day_span_holds(const struct day_span *span, int64_t wall_ms);
/* When it begins next, wall clock; `wall_ms` itself when it holds then. */
int64_t day_span_next_ms(const struct day_span *span, int64_t wall_ms);
/* "22:00" as minutes since midnight. */
int day_minute_parse(const char *text, uint16_t *ret_minute, struct err *err) MUST_CHECK;
/* The next time that a clock shows this minute, from `wall_ms` on. */
int64_t day_minute_next_ms(uint16_t minute, int64_t wall_ms);

/* Bit 0: Monday. A span that goes past midnight belongs to the day on which it begins. */
struct week_span {
    uint8_t days;
    struct day_span span;
};
#define WEEK_ALL 0x7f
/* "mon-fri 08:00-18:00", "sat,sun always", "22:00-06:00" (every day). */
int week_span_parse(const char *text, struct week_span *ret_span, struct err *err) MUST_CHECK;
const char *week_span_text(const struct week_span *span, char *buf, size_t len);
bool week_span_holds(const struct week_span *span, int64_t wall_ms);
