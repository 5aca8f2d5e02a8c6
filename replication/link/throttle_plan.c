// SPDX-License-Identifier: Apache-2.0
#include "link/throttle_plan.h"

#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PART_BYTES 96

static int read_rate(const char *text, uint64_t *ret_rate, struct err *err)
{
    uint64_t rate = 0;

    if (!str_eq(text, "none") && (!str_to_bytes(text, &rate) || rate < THROTTLE_MIN_PER_S))
        return err_set(err, ERR_INVALID, 0,
                       "throttle \"%s\" is no rate; hint: bytes per second, 64KiB or more, like "
                       "50MiB; or none",
                       text);
    *ret_rate = rate;
    return 0;
}

/* "mon-fri 08:00-18:00 10MiB": the rate is the last word. */
static int read_window(char *text, struct throttle_window *ret_window, struct err *err)
{
    char *space = strrchr(text, ' ');

    if (!space)
        return err_set(err, ERR_INVALID, 0,
                       "throttle \"%s\" is no window; hint: DAYS HH:MM-HH:MM RATE, like mon-fri "
                       "08:00-18:00 10MiB",
                       text);
    *space = '\0';
    if (week_span_parse(text, &ret_window->span, err) < 0
        || read_rate(space + 1, &ret_window->bytes_per_s, err) < 0)
        return -1;
    return 0;
}

static int add_part(struct throttle_plan *plan, size_t number, const char *from, size_t len,
                    struct err *err)
{
    char text[PART_BYTES];

    while (len > 0 && *from == ' ') {
        from++;
        len--;
    }
    while (len > 0 && from[len - 1] == ' ')
        len--;
    if (len >= sizeof(text))
        return err_set(err, ERR_INVALID, 0, "throttle \"%.40s...\" is too long", from);
    memcpy(text, from, len);
    text[len] = '\0';
    if (number == 0)
        return read_rate(text, &plan->bytes_per_s, err);
    if (plan->window_count == THROTTLE_WINDOWS_MAX)
        return err_set(err, ERR_INVALID, 0, "a throttle has more than %d windows",
                       THROTTLE_WINDOWS_MAX);
    return read_window(text, &plan->windows[plan->window_count++], err);
}

int throttle_plan_parse(const char *text, struct throttle_plan *ret_plan, struct err *err)
{
    struct throttle_plan plan = {0};
    size_t number = 0;

    for (const char *at = text, *end; at; at = end ? end + 1 : NULL) {
        end = strchr(at, ';');
        if (add_part(&plan, number++, at, end ? (size_t)(end - at) : strlen(at), err) < 0)
            return -1;
    }
    *ret_plan = plan;
    return 0;
}

/* As str_to_bytes reads it. */
static const char *rate_text(uint64_t rate, char *buf, size_t len)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    if (rate == 0)
        return "none";
    for (; rate % 1024 == 0 && unit + 1 < ARRAY_LEN(units); unit++)
        rate /= 1024;
    (void)snprintf(buf, len, "%" PRIu64 "%s", rate, units[unit]);
    return buf;
}

const char *throttle_plan_text(const struct throttle_plan *plan, char *buf, size_t len)
{
    char rate[32];
    size_t used =
        (size_t)snprintf(buf, len, "%s", rate_text(plan->bytes_per_s, rate, sizeof(rate)));

    for (size_t i = 0; i < plan->window_count && used < len; i++) {
        char span[TIMETABLE_TEXT];
        used += (size_t)snprintf(buf + used, len - used, "; %s %s",
                                 week_span_text(&plan->windows[i].span, span, sizeof(span)),
                                 rate_text(plan->windows[i].bytes_per_s, rate, sizeof(rate)));
    }
    return buf;
}

uint64_t throttle_plan_at(const struct throttle_plan *plan, int64_t wall_ms)
{
    for (size_t i = 0; i < plan->window_count; i++)
        if (week_span_holds(&plan->windows[i].span, wall_ms))
            return plan->windows[i].bytes_per_s;
    return plan->bytes_per_s;
}

bool throttle_plan_equal(const struct throttle_plan *a, const struct throttle_plan *b)
{
    char left[THROTTLE_TEXT_BYTES];
    char right[THROTTLE_TEXT_BYTES];

    return str_eq(throttle_plan_text(a, left, sizeof(left)),
                  throttle_plan_text(b, right, sizeof(right)));
}
