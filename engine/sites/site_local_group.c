// SPDX-License-Identifier: Apache-2.0
/* What is asked about a group on either side, and of the replica on the recovery side. Ages are the
 * larger of what the writer's clock and our own say: never better than the truth when they agree. */
#include "base/mem.h"
#include "sites/estate_base.h"
#include "sites/keeping.h"
#include "sites/site_local.h"
#include "sites/verified.h"

#include <inttypes.h>
#include <stdio.h>

/* A store that failed like this must be opened anew, which recovers it. */
static bool must_reopen(const struct err *err)
{
    return err->code == ERR_IO || err->code == ERR_SPACE;
}

static const char *store_state_name(enum store_state state)
{
    switch (state) {
    case STORE_EMPTY: return "empty";
    case STORE_COPYING: return "copying";
    case STORE_COPIED: return "copied";
    case STORE_READY: return "ready";
    }
    return "?";
}

static int64_t age_ms(const struct store_point *point, int64_t now_ms)
{
    int64_t by_writer = now_ms - point->cut_wall_ms;
    int64_t by_us = now_ms - point->received_wall_ms;
    int64_t age = by_writer > by_us ? by_writer : by_us;

    return age > 0 ? age : 0;
}

static void add_point(json_t *result, const char *which, const struct store_points *points,
                      uint64_t number, int64_t now_ms)
{
    char key[32];

    (void)snprintf(key, sizeof(key), "%s_point", which);
    (void)json_object_set_new(result, key, json_integer((json_int_t)number));
    VEC_FOREACH(point, points) {
        if (point->point != number)
            continue;
        (void)snprintf(key, sizeof(key), "%s_cut_ms", which);
        (void)json_object_set_new(result, key, json_integer(point->cut_wall_ms));
        (void)snprintf(key, sizeof(key), "%s_age_ms", which);
        (void)json_object_set_new(result, key, json_integer(age_ms(point, now_ms)));
        (void)snprintf(key, sizeof(key), "%s_damaged", which);
        (void)json_object_set_new(result, key, json_integer((json_int_t)point->damaged_chunks));
    }
}

static json_t *point_json(const struct store_point *point)
{
    return json_pack("{s:I, s:I}", "point", (json_int_t)point->point, "cut_ms",
                     (json_int_t)point->cut_wall_ms);
}

static json_t *pin_json(struct store *store, const struct store_points *points, const char *run)
{
    CLEANUP(store_pins_free) struct store_pins pins = VEC_EMPTY;

    store_dir_pins(store, &pins);
    VEC_FOREACH(pin, &pins)
        VEC_FOREACH(point, points)
            if (point->point == pin->point && str_eq(pin->label, run))
                return point_json(point);
    return json_null();
}

static int replica_json(struct estate *estate, struct store *store, const json_t *args,
                        json_t **ret_result, struct err *err)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    struct clock *clock = estate_clock(estate);
    const char *run = json_get_str(args, "run", "");
    struct store_info info;

    if (store->ops->info(store, &info, err) < 0 || store->ops->points(store, &points, err) < 0)
        return -1;
    int64_t now = clock->wall_ms(clock);
    json_t *result =
        json_pack("{s:s, s:s, s:I, s:o, s:I, s:I, s:I}", "role", "replica", "state",
                  store_state_name(info.state), "generation", (json_int_t)info.generation, "pinned",
                  pin_json(store, &points, run), "damaged_head", (json_int_t)info.damaged_head,
                  "damaged_past", (json_int_t)info.damaged_past, "damaged_since_ms",
                  (json_int_t)info.damaged_since_ms);
    (void)json_object_set_new(result, "verified",
                              verified_read(estate, json_get_str(args, "group", "")));
    add_point(result, "durable", &points, info.durable_point, now);
    add_point(result, "applied", &points, info.applied_point, now);
    add_point(result, "asked", &points, json_get_u64(args, "point", 0), now);
    *ret_result = result;
    return 0;
}

static int observe_session(struct estate *estate, const char *group, struct session *session,
                           json_t **ret_result, struct err *err)
{
    CLEANUP(mem_freep) struct session_status *status = mem_new(struct session_status);
    struct estate_mark mark;

    if (estate_mark_read(estate, group, &mark, err) < 0)
        return -1;
    session_status(session, status);
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    uint64_t tip = sender ? sender->tip_point : 0;
    estate_unlock(estate);
    *ret_result = json_pack(
        "{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I}", "role", "source",
        "state", session_state_name(status->state), "generation", (json_int_t)status->generation,
        "held", mark.held, "final_point", (json_int_t)mark.final_point, "retired",
        (json_int_t)mark.retired, "durable_point", (json_int_t)status->durable_point,
        "durable_cut_ms", (json_int_t)status->durable_cut_ms, "applied_point",
        (json_int_t)status->applied_point, "applied_cut_ms", (json_int_t)status->applied_cut_ms,
        "error", status->error.text, "tip_point", (json_int_t)tip, "clean", (json_int_t)mark.clean);
    return 0;
}

int ask_group_observe(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    const char *group;
    struct store *store;

    (void)cancel;
    if (json_need_str(args, "group", "ask", &group, err) < 0)
        return -1;
    struct session *session = estate_session_get(estate, group);
    if (session) {
        int rc = observe_session(estate, group, session, ret_result, err);
        estate_session_put(estate, group);
        return rc;
    }
    uint64_t generation;
    int own = estate_base_look(estate, group, &generation, err);
    if (own != 0)
        return own < 0 ? -1 : estate_base_observe(estate, group, ret_result, err);
    if (estate_store_get(estate, group, &store, err) < 0)
        return -1;
    int rc = store_dir_check_own(store, err);
    if (rc == 0)
        rc = replica_json(estate, store, args, ret_result, err);
    estate_store_put(estate, group, store, rc < 0 && must_reopen(err));
    return rc;
}

static json_t *whole_point_json(const struct store_point *point, const struct store_pins *pins,
                                int64_t now_ms)
{
    static const char *const names[] = {
        [CONSISTENCY_CRASH] = "crash",
        [CONSISTENCY_APPLICATION] = "application",
    };
    char hash[65];

    str_hex(&point->hash, sizeof(point->hash), hash);
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:b, s:s, s:o, s:I, s:I, s:s, s:I, s:I, s:s}",
        "point", (json_int_t)point->point, "generation", (json_int_t)point->generation, "cut_ms",
        (json_int_t)point->cut_wall_ms, "received_ms", (json_int_t)point->received_wall_ms,
        "age_ms", (json_int_t)age_ms(point, now_ms), "stall_us", (json_int_t)point->stall_us,
        "consistency", names[point->consistency], "applied", point->applied, "pinned",
        point->pinned, "promotion", point->promotion, "label", pin_shown(point->label), "pins",
        pins_json(pins, point->point), "bytes", (json_int_t)point->bytes, "undo_bytes",
        (json_int_t)point->undo_bytes, "why", retention_why_name(point->why), "every_ms",
        (json_int_t)point->every_ms, "damaged", (json_int_t)point->damaged_chunks, "hash", hash);
}

/* A page of them: all that may be kept would not fit a message. */
static json_t *points_page(const struct store_points *points, const struct store_pins *pins,
                           uint64_t before, int64_t now_ms)
{
    json_t *list = json_array();
    bool more = false;

    for (size_t i = points->len; i > 0 && !more; i--) {
        const struct store_point *point = &points->at[i - 1];

        if (before && point->point >= before)
            continue;
        more = json_array_size(list) == SITE_POINTS_PAGE;
        if (!more)
            (void)json_array_append_new(list, whole_point_json(point, pins, now_ms));
    }
    return json_pack("{s:o, s:b}", "points", list, "more", more);
}

int ask_group_points(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    CLEANUP(store_pins_free) struct store_pins pins = VEC_EMPTY;
    struct clock *clock = estate_clock(estate);
    struct retention retention;
    const char *group;
    struct store *store;

    (void)cancel;
    if (json_need_str(args, "group", "ask", &group, err) < 0
        || estate_store_get(estate, group, &store, err) < 0)
        return -1;
    bool known = site_retention(store, args, &retention);
    int rc = store_dir_plan(store, known ? &retention : NULL, &points, err);
    store_dir_pins(store, &pins);
    estate_store_put(estate, group, store, rc < 0);
    if (rc == 0)
        *ret_result =
            points_page(&points, &pins, json_get_u64(args, "before", 0), clock->wall_ms(clock));
    return rc;
}

static int pin(struct store *store, uint64_t wanted, const char *run, bool whole,
               json_t **ret_result, struct err *err)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    uint64_t number;

    if (whole && store_dir_check_point(store, wanted, err) < 0)
        return -1;
    if (store->ops->pin(store, wanted, run, &number, err) < 0
        || store->ops->points(store, &points, err) < 0)
        return -1;
    VEC_FOREACH(point, &points)
        if (point->point == number) {
            *ret_result = point_json(point);
            return 0;
        }
    return err_set(err, ERR_CORRUPT, 0, "point %" PRIu64 " was pinned but is not listed", number);
}

int ask_group_pin(struct estate *estate, const json_t *args, json_t **ret_result,
                  struct cancel *cancel, struct err *err)
{
    const char *group;
    const char *run;
    struct store *store;

    (void)cancel;
    if (json_need_str(args, "group", "ask", &group, err) < 0
        || json_need_str(args, "run", "ask", &run, err) < 0
        || estate_store_get(estate, group, &store, err) < 0)
        return -1;
    int rc = pin(store, json_get_u64(args, "point", 0), run, json_get_bool(args, "whole", false),
                 ret_result, err);
    estate_store_put(estate, group, store, rc < 0 && must_reopen(err));
    return rc;
}

int ask_group_unpin(struct estate *estate, const json_t *args, json_t **ret_result,
                    struct cancel *cancel, struct err *err)
{
    const char *group;
    const char *run;
    struct store *store;

    (void)ret_result;
    (void)cancel;
    if (json_need_str(args, "group", "ask", &group, err) < 0
        || json_need_str(args, "run", "ask", &run, err) < 0)
        return -1;
    if (estate_store_get(estate, group, &store, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err); /* its protection ended: there is nothing that is kept */
        return 0;
    }
    int rc = store->ops->unpin(store, run, err);
    if (rc < 0 && err->code == ERR_NOT_FOUND) {
        err_clear(err);
        rc = 0;
    }
    estate_store_put(estate, group, store, rc < 0 && must_reopen(err));
    return rc;
}

/* Promotion applies what is durable, and when an older point was chosen head goes back to it: the
 * replica is whole when this returns, or the store rolls forward when it is opened next. */
static int promote(struct estate *estate, struct store *store, const json_t *args, const char *run,
                   json_t **ret_result, struct cancel *cancel, struct err *err)
{
    struct clock *clock = estate_clock(estate);
    uint64_t expected = json_get_u64(args, "expected", 0);
    uint64_t generation;
    uint64_t point;
    uint64_t applied;

    if (store->ops->promote(store, expected, json_get_u64(args, "point", 0), run,
                            estate_site(estate), estate->config.sign_key, clock->wall_ms(clock),
                            &generation, &point, err)
        < 0)
        return -1;
    do {
        if (store->ops->point_apply(store, &applied, NULL, cancel, err) < 0) {
            if (!err_is_retryable(err->code))
                err->code = ERR_CORRUPT; /* never one that reads as a refusal: it is promoted */
            return err_wrap(err, "promoted to generation %" PRIu64 ", but not applied", generation);
        }
    } while (applied != 0);
    *ret_result =
        json_pack("{s:I, s:I}", "generation", (json_int_t)generation, "point", (json_int_t)point);
    return 0;
}

int ask_group_promote(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    const char *group;
    const char *run;
    struct store *store;

    if (json_need_str(args, "group", "ask", &group, err) < 0
        || json_need_str(args, "run", "ask", &run, err) < 0)
        return -1;
    /* For the other side, it must not be retired by it. */
    bool yield = json_get_bool(args, "yield", false);
    if (yield)
        estate_retiring_over(estate, group);
    else if (estate_retiring_begin(estate, group, run, json_get_u64(args, "expected", 0) + 1, err)
             < 0)
        return -1;
    if (estate_store_get(estate, group, &store, err) < 0)
        return -1;
    int rc = promote(estate, store, args, run, ret_result, cancel, err);
    bool own = store_dir_has_own_disks(store);
    if (rc < 0 && err->code == ERR_NOT_FOUND)
        estate_retiring_over(estate, group); /* nothing was changed: nobody is to be retired */
    estate_store_put(estate, group, store, rc < 0 && must_reopen(err));
    /* What an earlier failover away from here left is over. A machine's own disks are the replica's
     * until it is started on them. */
    if (rc == 0 && !own)
        rc = estate_mark_clear(estate, group, err);
    if (rc == 0)
        estate_tell(estate, group, "promoted", json_get_u64(*ret_result, "generation", 0));
    return rc;
}
