// SPDX-License-Identifier: Apache-2.0
#include "base/timetable.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const day_names[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

static void local_time(int64_t wall_ms, struct tm *ret_tm)
{
    const time_t seconds = (time_t)(wall_ms / 1000);

    if (!localtime_r(&seconds, ret_tm))
        *ret_tm = (struct tm){0};
}

/* Monday is 0. */
static unsigned weekday(const struct tm *tm)
{
    return ((unsigned)tm->tm_wday + 6) % 7;
}

/* --- Minutes of the day ---------------------------------------------------------------------- */

/* Two digits and nothing else. */
static bool two_digits(const char *text, unsigned *ret_value)
{
    if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
        return false;
    *ret_value = (unsigned)(text[0] - '0') * 10 + (unsigned)(text[1] - '0');
    return true;
}

/* "HH:MM", at most `max`. */
static bool read_minute(const char *text, size_t len, unsigned max, uint16_t *ret_minute)
{
    unsigned hours;
    unsigned minutes;

    if (len != 5 || text[2] != ':' || !two_digits(text, &hours) || !two_digits(text + 3, &minutes)
        || minutes > 59 || hours * 60 + minutes > max)
        return false;
    *ret_minute = (uint16_t)(hours * 60 + minutes);
    return true;
}

int day_minute_parse(const char *text, uint16_t *ret_minute, struct err *err)
{
    if (read_minute(text, strlen(text), DAY_MINUTES - 1, ret_minute))
        return 0;
    return err_set(err, ERR_INVALID, 0, "\"%.40s\" is no time of day; hint: HH:MM, like 22:00",
                   text);
}

int64_t day_minute_next_ms(uint16_t minute, int64_t wall_ms)
{
    struct tm tm;

    local_time(wall_ms, &tm);
    for (int day = 0; day < 3; day++) {
        struct tm at = {.tm_year = tm.tm_year,
                        .tm_mon = tm.tm_mon,
                        .tm_mday = tm.tm_mday + day,
                        .tm_hour = minute / 60,
                        .tm_min = minute % 60,
                        .tm_isdst = -1};
        const int64_t ms = (int64_t)mktime(&at) * 1000;
        if (ms >= wall_ms)
            return ms;
    }
    return wall_ms; /* mktime cannot tell: rather now than never */
}

/* --- Spans of a day -------------------------------------------------------------------------- */

int day_span_parse(const char *text, struct day_span *ret_span, struct err *err)
{
    const char *dash = strchr(text, '-');
    struct day_span span = {0, DAY_MINUTES};

    if (!str_eq(text, "always")
        && (!dash || !read_minute(text, (size_t)(dash - text), DAY_MINUTES - 1, &span.from)
            || !read_minute(dash + 1, strlen(dash + 1), DAY_MINUTES, &span.to)))
        return err_set(err, ERR_INVALID, 0,
                       "\"%.40s\" is no span of the day; hint: HH:MM-HH:MM in local time, like "
                       "18:30-06:30, or always",
                       text);
    *ret_span = span;
    return 0;
}

static bool is_always(const struct day_span *span)
{
    return span->from == span->to || (span->from == 0 && span->to == DAY_MINUTES);
}

const char *day_span_text(const struct day_span *span, char *buf, size_t len)
{
    if (is_always(span))
        (void)snprintf(buf, len, "always");
    else
        (void)snprintf(buf, len, "%02d:%02d-%02d:%02d", span->from / 60, span->from % 60,
                       span->to / 60, span->to % 60);
    return buf;
}

static bool holds_at(const struct day_span *span, unsigned minute)
{
    if (is_always(span))
        return true;
    if (span->from < span->to)
        return minute >= span->from && minute < span->to;
    return minute >= span->from || minute < span->to;
}

static unsigned minute_of(const struct tm *tm)
{
    return (unsigned)tm->tm_hour * 60 + (unsigned)tm->tm_min;
}

bool day_span_holds(const struct day_span *span, int64_t wall_ms)
{
    struct tm tm;

    local_time(wall_ms, &tm);
    return holds_at(span, minute_of(&tm));
}

int64_t day_span_next_ms(const struct day_span *span, int64_t wall_ms)
{
    return day_span_holds(span, wall_ms) ? wall_ms : day_minute_next_ms(span->from, wall_ms);
}

/* --- Spans of a week ------------------------------------------------------------------------- */

static bool read_day(const char *text, size_t len, unsigned *ret_day)
{
    for (unsigned i = 0; i < ARRAY_LEN(day_names); i++)
        if (len == 3 && memcmp(text, day_names[i], 3) == 0) {
            *ret_day = i;
            return true;
        }
    return false;
}

/* "mon", "mon-fri", "fri-mon" (past Sunday). */
static bool read_days(const char *text, size_t len, uint8_t *days)
{
    const char *dash = memchr(text, '-', len);
    unsigned first;
    unsigned last;

    if (!dash) {
        if (!read_day(text, len, &first))
            return false;
        last = first;
    } else if (!read_day(text, (size_t)(dash - text), &first)
               || !read_day(dash + 1, len - (size_t)(dash + 1 - text), &last))
        return false;
    for (unsigned i = first;; i = (i + 1) % 7) {
        *days |= (uint8_t)(1u << i);
        if (i == last)
            return true;
    }
}

/* Days up to `end`, with commas between. */
static bool read_day_list(const char *text, const char *end, uint8_t *ret_days)
{
    uint8_t days = 0;

    while (text <= end) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma ? comma : end;
        if (!read_days(text, (size_t)(stop - text), &days))
            return false;
        text = stop + 1;
    }
    *ret_days = days;
    return true;
}

int week_span_parse(const char *text, struct week_span *ret_span, struct err *err)
{
    const char *space = strchr(text, ' ');
    struct week_span span = {.days = WEEK_ALL};

    if (space && !read_day_list(text, space, &span.days))
        return err_set(err, ERR_INVALID, 0,
                       "\"%.*s\" are no days; hint: mon tue wed thu fri sat sun, like mon-fri or "
                       "sat,sun",
                       (int)(space - text), text);
    if (day_span_parse(space ? space + 1 : text, &span.span, err) < 0)
        return -1;
    *ret_span = span;
    return 0;
}

static size_t add_days(uint8_t days, char *buf, size_t len)
{
    size_t used = 0;

    if (days == WEEK_ALL)
        return 0;
    for (unsigned i = 0; i < 7; i++) {
        unsigned last = i;
        if (!(days & 1u << i))
            continue;
        while (last < 6 && days & 1u << (last + 1))
            last++;
        const char *comma = used ? "," : "";
        int n = last > i ? snprintf(buf + used, len - used, "%s%s-%s", comma, day_names[i],
                                    day_names[last])
                         : snprintf(buf + used, len - used, "%s%s", comma, day_names[i]);
        used += (size_t)n;
        i = last;
    }
    buf[used++] = ' ';
    return used;
}

const char *week_span_text(const struct week_span *span, char *buf, size_t len)
{
    size_t used = add_days(span->days, buf, len);

    (void)day_span_text(&span->span, buf + used, len - used);
    return buf;
}

bool week_span_holds(const struct week_span *span, int64_t wall_ms)
{
    struct tm tm;

    local_time(wall_ms, &tm);
    unsigned minute = minute_of(&tm);
    unsigned day = weekday(&tm);
    if (!holds_at(&span->span, minute))
        return false;
    /* The part after midnight of a span that began yesterday. */
    if (!is_always(&span->span) && span->span.from > span->span.to && minute < span->span.to)
        day = (day + 6) % 7;
    return span->days & 1u << day;
}
