// SPDX-License-Identifier: Apache-2.0
#include "replica/retention.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

#define TIER_TEXT 64

/* "1h for 2d". */
static bool read_tier(const char *text, struct retention_tier *ret_tier)
{
    char every[TIER_TEXT];
    char duration[TIER_TEXT];
    char more[2];

    return sscanf(text, " %63s for %63s %1s", every, duration, more) == 2
           && str_to_ms(every, &ret_tier->every_ms) && str_to_ms(duration, &ret_tier->for_ms);
}

static int check_tier(const struct retention *retention, const struct retention_tier *tier,
                      const char *text, struct err *err)
{
    const struct retention_tier *last =
        retention->tier_count ? &retention->tiers[retention->tier_count - 1] : NULL;

    if (tier->every_ms < 1000 || tier->for_ms < tier->every_ms || tier->for_ms > RETENTION_SPAN_MAX)
        return err_set(err, ERR_INVALID, 0,
                       "retention \"%s\": one point per 1 s at most, for at least as long as that, "
                       "and for ten years at most",
                       text);
    if (last && (tier->every_ms <= last->every_ms || tier->for_ms <= last->for_ms))
        return err_set(err, ERR_INVALID, 0,
                       "retention \"%s\" comes after a tier that is as sparse or as long; hint: "
                       "from the densest to the sparsest, like 15m for 4h, 1h for 2d, 1d for 30d",
                       text);
    return 0;
}

static int add_tier(struct retention *retention, const char *from, size_t len, struct err *err)
{
    char text[TIER_TEXT];
    struct retention_tier tier;

    if (retention->tier_count == RETENTION_TIERS_MAX)
        return err_set(err, ERR_INVALID, 0, "retention has more than %d tiers",
                       RETENTION_TIERS_MAX);
    while (len > 0 && *from == ' ') {
        from++;
        len--;
    }
    (void)snprintf(text, sizeof(text), "%.*s", (int)(len < TIER_TEXT ? len : TIER_TEXT - 1), from);
    if (len >= sizeof(text) || !read_tier(text, &tier))
        return err_set(err, ERR_INVALID, 0,
                       "retention \"%s\" is no tier; hint: EVERY for LONG, like 1h for 2d; or none",
                       text);
    if (check_tier(retention, &tier, text, err) < 0)
        return -1;
    retention->tiers[retention->tier_count++] = tier;
    return 0;
}

int retention_parse(const char *text, struct retention *retention, struct err *err)
{
    struct retention parsed = {.keep = retention->keep};

    if (!str_eq(text, "none"))
        for (const char *at = text, *comma; at; at = comma ? comma + 1 : NULL) {
            comma = strchr(at, ',');
            if (add_tier(&parsed, at, comma ? (size_t)(comma - at) : strlen(at), err) < 0)
                return -1;
        }
    *retention = parsed;
    return 0;
}

const char *retention_text(const struct retention *retention, char *buf, size_t len)
{
    size_t used = 0;

    (void)snprintf(buf, len, "none");
    for (size_t i = 0; i < retention->tier_count && used < len; i++) {
        char every[32];
        char duration[32];
        used += (size_t)snprintf(buf + used, len - used, "%s%s for %s", i ? ", " : "",
                                 str_ms(retention->tiers[i].every_ms, every, sizeof(every)),
                                 str_ms(retention->tiers[i].for_ms, duration, sizeof(duration)));
    }
    return buf;
}

bool retention_equal(const struct retention *a, const struct retention *b)
{
    if (a->keep != b->keep || a->tier_count != b->tier_count)
        return false;
    for (size_t i = 0; i < a->tier_count; i++)
        if (a->tiers[i].every_ms != b->tiers[i].every_ms
            || a->tiers[i].for_ms != b->tiers[i].for_ms)
            return false;
    return true;
}

/* --- Choosing ---------------------------------------------------------------------------- */

const char *retention_why_name(enum retention_why why)
{
    switch (why) {
    case RETENTION_HELD: return "held";
    case RETENTION_NEWEST: return "newest";
    case RETENTION_TIER: return "tier";
    case RETENTION_GOES: return "goes";
    }
    return "?";
}

static int64_t slot_of(int64_t ms, int64_t every_ms)
{
    return ms / every_ms - (ms % every_ms < 0);
}

/* Points between the beginnings of two slots may have been removed: the point before is then an
 * earlier one of the same slot, so the answer stays the same. */
static bool begins_slot(const struct retention_point *points, size_t i, int64_t every_ms)
{
    return i == 0
           || slot_of(points[i].received_ms, every_ms)
                  != slot_of(points[i - 1].received_ms, every_ms);
}

static int64_t sparsest_tier(const struct retention *retention,
                             const struct retention_point *points, size_t i, int64_t now_ms)
{
    for (size_t t = retention->tier_count; t-- > 0;) {
        const struct retention_tier *tier = &retention->tiers[t];
        if (points[i].received_ms >= now_ms - tier->for_ms
            && begins_slot(points, i, tier->every_ms))
            return tier->every_ms;
    }
    return 0;
}

void retention_choose(const struct retention *retention, struct retention_point *points,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct retention_point *point = &points[i];
        point->every_ms = sparsest_tier(retention, points, i, points[count - 1].received_ms);
        if (point->held)
            point->why = RETENTION_HELD;
        else if (count - i <= retention->keep)
            point->why = RETENTION_NEWEST;
        else
            point->why = point->every_ms ? RETENTION_TIER : RETENTION_GOES;
    }
}
