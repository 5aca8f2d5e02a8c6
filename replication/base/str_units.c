// SPDX-License-Identifier: Apache-2.0
/* Numbers, sizes, durations and times as people write and read them. */
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)

static const char *skip_space(const char *text)
{
    return text + strspn(text, " \t\r\n");
}

/* Digits at the front of `text`; NULL when there are none or they pass 64 bits, else what
 * follows them. */
static const char *read_digits(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (*text < '0' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(value, 10, &value)
            || __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return NULL;
    *ret_value = value;
    return text;
}

bool str_to_u64(const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *rest = text ? read_digits(skip_space(text), &value) : NULL;

    if (!rest || *skip_space(rest))
        return false;
    *ret_value = value;
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit *unit_find(const struct unit *units, const char *name)
{
    for (; units->name; units++)
        if (strcmp(units->name, name) == 0)
            return units;
    return NULL;
}

/* NUMBER UNIT without a space between them. */
static bool read_with_unit(const char *text, const struct unit *units, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *rest = text ? read_digits(text, &value) : NULL;
    const struct unit *unit = rest ? unit_find(units, rest) : NULL;

    if (!unit || __builtin_mul_overflow(value, unit->factor, &value))
        return false;
    *ret_value = value;
    return true;
}

bool str_to_bytes(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
        {NULL, 0},
    };
    return read_with_unit(text, units, ret_bytes);
}

bool str_to_ms(const char *text, int64_t *ret_ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", SECOND_MS}, {"m", MINUTE_MS}, {"h", HOUR_MS}, {"d", DAY_MS}, {NULL, 0},
    };
    uint64_t ms;

    /* INT64_MAX means "never" (CANCEL_NEVER); nobody writes that as a number. */
    if (!read_with_unit(text, units, &ms) || ms >= INT64_MAX)
        return false;
    *ret_ms = (int64_t)ms;
    return true;
}

const char *str_ms(int64_t ms, char *buf, size_t len)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"d", DAY_MS}, {"h", HOUR_MS}, {"m", MINUTE_MS}, {"s", SECOND_MS}, {"ms", 1}};
    size_t unit = 0;

    while (ms % units[unit].ms != 0)
        unit++;
    (void)snprintf(buf, len, "%" PRId64 "%s", ms / units[unit].ms, units[unit].name);
    return buf;
}

const char *str_bytes(uint64_t bytes, char *buf, size_t len)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(buf, len, "%" PRIu64 " B", bytes);
        return buf;
    }
    /* 1023.95 and more would be shown as 1024.0. */
    for (; value >= 1023.95 && unit < 5; unit++)
        value /= 1024;
    (void)snprintf(buf, len, "%.1f %s", value, units[unit]);
    return buf;
}

/* "3 m 20 s"; the smaller unit is left out when there is none of it. */
static void two_units(char *buf, size_t len, const char *sign, int64_t big, const char *big_unit,
                      int64_t small, const char *small_unit)
{
    if (small)
        (void)snprintf(buf, len, "%s%" PRId64 " %s %" PRId64 " %s", sign, big, big_unit, small,
                       small_unit);
    else
        (void)snprintf(buf, len, "%s%" PRId64 " %s", sign, big, big_unit);
}

const char *str_duration(int64_t ms, char *buf, size_t len)
{
    const char *sign = ms < 0 ? "-" : "";

    if (ms < 0)
        ms = ms == INT64_MIN ? INT64_MAX : -ms;
    if (ms < SECOND_MS)
        (void)snprintf(buf, len, "%s%" PRId64 " ms", sign, ms);
    else if (ms < MINUTE_MS) /* cut, not rounded: 59.96 s is not 60.0 s */
        (void)snprintf(buf, len, "%s%" PRId64 ".%" PRId64 " s", sign, ms / SECOND_MS,
                       ms % SECOND_MS / 100);
    else if (ms < HOUR_MS)
        two_units(buf, len, sign, ms / MINUTE_MS, "m", ms % MINUTE_MS / SECOND_MS, "s");
    else if (ms < DAY_MS)
        two_units(buf, len, sign, ms / HOUR_MS, "h", ms % HOUR_MS / MINUTE_MS, "m");
    else
        two_units(buf, len, sign, ms / DAY_MS, "d", ms % DAY_MS / HOUR_MS, "h");
    return buf;
}

const char *str_time(int64_t wall_ms, char *buf, size_t len)
{
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    if (!gmtime_r(&seconds, &tm)) {
        (void)snprintf(buf, len, "%" PRId64 " ms", wall_ms);
        return buf;
    }
    (void)snprintf(buf, len, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ms);
    return buf;
}
