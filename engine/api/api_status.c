// SPDX-License-Identifier: Apache-2.0
#include "api/api_status.h"

#include "api/api_health.h"
#include "api/api_tables.h"
#include "base/mem.h"
#include "providers/provider.h"
#include "sites/estate.h"
#include "sync/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 3000

/* --- Status -------------------------------------------------------------------------------- */

static void set_int(json_t *entry, const char *key, int64_t value)
{
    (void)json_object_set_new(entry, key, json_integer((json_int_t)value));
}

static void set_point(json_t *entry, const char *which, uint64_t point, int64_t cut_ms,
                      int64_t age_ms)
{
    CLEANUP(mem_freep) char *point_key = mem_printf("%s_point", which);
    CLEANUP(mem_freep) char *cut_key = mem_printf("%s_cut_ms", which);
    CLEANUP(mem_freep) char *age_key = mem_printf("%s_age_ms", which);

    set_int(entry, point_key, (int64_t)point);
    set_int(entry, cut_key, cut_ms);
    set_int(entry, age_key, point ? age_ms : -1);
}

static void set_error(json_t *entry, const struct err *failure)
{
    json_t *json = api_error_json(failure);

    (void)json_object_set(entry, "error", json_object_get(json, "error"));
    json_decref(json);
}

/* What was learned of one group, besides its entry. */
struct learned {
    struct session_status status;
    bool sent;      /* by a session: `status` is its */
    json_t *seen;   /* group.observe of its replica; NULL */
    struct err err; /* why that could not be asked */
};

static void set_disks(json_t *entry, const struct session_status *status)
{
    json_t *disks = json_array();
    uint64_t left = 0;

    for (size_t i = 0; i < status->disk_count; i++) {
        const struct session_disk_progress *disk = &status->disks[i];

        left += disk->total_bytes > disk->done_bytes ? disk->total_bytes - disk->done_bytes : 0;
        (void)json_array_append_new(disks, json_pack("{s:s, s:I, s:I, s:I, s:I}", "name",
                                                     disk->name, "size", (json_int_t)disk->size,
                                                     "total", (json_int_t)disk->total_bytes, "done",
                                                     (json_int_t)disk->done_bytes, "pending_bytes",
                                                     (json_int_t)disk->pending_bytes));
    }
    (void)json_object_set_new(entry, "disks", disks);
    set_int(entry, "left_ms",
            status->rate_per_s ? (int64_t)(left * 1000 / status->rate_per_s) : -1);
}

static json_t *resync_json(const struct session_resync *resync)
{
    return json_pack("{s:s, s:b, s:b, s:I, s:I, s:s}", "cause", resync_cause_name(resync->cause),
                     "now", resync->now, "waits", resync->waits, "since_ms",
                     (json_int_t)resync->since_ms, "next_ms", (json_int_t)resync->next_ms, "why",
                     resync->why);
}

static json_t *lag_json(const struct session_lag *lag)
{
    return json_pack("{s:I, s:I, s:I, s:s}", "since_ms", (json_int_t)lag->since_ms, "changed_per_s",
                     (json_int_t)lag->changed_per_s, "sent_per_s", (json_int_t)lag->sent_per_s,
                     "advice", lag->advice);
}

static void set_application(json_t *entry, const struct session_status *status)
{
    set_point(entry, "application", status->application_point, status->application_cut_ms,
              status->application_age_ms);
    set_int(entry, "application_next_ms", status->application_next_ms);
    set_int(entry, "application_failing_ms", status->application_failing_ms);
    (void)json_object_set_new(entry, "application_note", json_string(status->application_note));
}

static void add_session(json_t *entry, const struct session_status *status)
{
    (void)json_object_set_new(entry, "session", json_string(session_state_name(status->state)));
    set_point(entry, "durable", status->durable_point, status->durable_cut_ms,
              status->durable_age_ms);
    set_point(entry, "applied", status->applied_point, status->applied_cut_ms,
              status->applied_age_ms);
    /* Nobody counts any more once the machine is held or has moved. */
    set_int(entry, "pending_bytes",
            str_starts(json_get_str(entry, "state", ""), "fail") ? -1
                                                                 : (int64_t)status->pending_bytes);
    set_int(entry, "rate_per_s", (int64_t)status->rate_per_s);
    set_int(entry, "sent_bytes", (int64_t)status->sent_bytes);
    set_int(entry, "last_bytes", (int64_t)status->last_bytes);
    set_int(entry, "last_cycle_ms", status->last_cycle_ms);
    set_int(entry, "last_stall_us", status->last_stall_us);
    set_int(entry, "next_cut_ms", status->next_cut_ms);
    set_int(entry, "damaged_head", (int64_t)status->damaged_head);
    set_int(entry, "damaged_past", (int64_t)status->damaged_past);
    set_int(entry, "damaged_since_ms", status->damaged_since_ms);
    set_application(entry, status);
    if (status->packing[0]) {
        (void)json_object_set_new(entry, "packing", json_string(status->packing));
        set_int(entry, "packed_percent", status->packed_percent);
    }
    (void)json_object_set_new(entry, "note", json_string(status->note));
    if (status->seed_data_bytes) {
        set_int(entry, "seed_data_bytes", (int64_t)status->seed_data_bytes);
        set_int(entry, "seed_same_bytes", (int64_t)status->seed_same_bytes);
    }
    set_disks(entry, status);
    if (status->resync.cause != RESYNC_NONE)
        (void)json_object_set_new(entry, "resync", resync_json(&status->resync));
    if (status->lag.since_ms)
        (void)json_object_set_new(entry, "not_converging", lag_json(&status->lag));
    /* What it met when it sent last is over, once the machine is the other site's. */
    if (status->error.code == ERR_NONE || str_eq(json_get_str(entry, "state", ""), "failed-over"))
        return;
    set_error(entry, &status->error);
    set_int(entry, "error_since_ms", status->error_since_ms);
    set_int(entry, "retry_at_ms", status->retry_at_ms);
    set_int(entry, "failures", status->failures);
}

static void add_replica(const struct api_world *world, const char *name, json_t *entry,
                        struct learned *learned, struct cancel *cancel)
{
    static const char *const fields[] = {
        "durable_point",  "durable_cut_ms", "durable_age_ms", "applied_point",    "applied_cut_ms",
        "applied_age_ms", "damaged_head",   "damaged_past",   "damaged_since_ms",
    };
    if (api_ask_here(world, "group.observe", json_pack("{s:s, s:s}", "group", name, "run", ""),
                     &learned->seen, cancel, &learned->err)
        < 0) {
        set_error(entry, &learned->err);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *value = json_object_get(learned->seen, fields[i]);

        if (value)
            (void)json_object_set(entry, fields[i], value);
    }
    if (json_is_object(json_object_get(learned->seen, "verified")))
        (void)json_object_set(entry, "verified", json_object_get(learned->seen, "verified"));
    (void)json_object_set_new(entry, "store",
                              json_string(json_get_str(learned->seen, "state", "")));
    if (json_get_u64(learned->seen, "durable_point", 0) == 0)
        set_int(entry, "durable_age_ms", -1);
    if (json_get_u64(learned->seen, "applied_point", 0) == 0)
        set_int(entry, "applied_age_ms", -1);
}

static bool runs_here(const struct api_world *world, const char *machine, struct cancel *cancel)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(world->clock, cancel, LOOK_MS);
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err ignored = ERR_EMPTY;

    return api_ask_here(world, "machine.observe", json_pack("{s:s}", "machine", machine), &seen,
                        limit, &ignored)
               == 0
           && str_eq(json_get_str(seen, "state", ""), instance_state_name(INSTANCE_RUNNING));
}

/* Nothing may run here any more that was promoted at the peer; what does is seen by nobody else. 0:
 * it does not run, or nobody knows. */
static uint64_t runs_twice(const struct api_world *world, const json_t *entry,
                           struct cancel *cancel)
{
    const char *name = json_get_str(entry, "name", "");
    struct err ignored = ERR_EMPTY;
    struct estate_mark mark;
    const json_t *machine;
    bool runs = false;
    size_t i;

    if (!str_eq(json_get_str(entry, "role", ""), "source")
        || (!str_eq(json_get_str(entry, "state", ""), "failed-over")
            && !str_eq(json_get_str(entry, "session", ""), "fenced")))
        return 0;
    json_array_foreach(json_object_get(entry, "machines"), i, machine)
        runs = runs || runs_here(world, json_string_value(machine), cancel);
    if (!runs)
        return 0;
    if (estate_mark_read(world->estate, name, &mark, &ignored) == 0 && mark.retired)
        return mark.retired;
    return json_get_u64(entry, "generation", 0) + 1;
}

static void add_health(const struct api_world *world, json_t *entry, const struct learned *learned,
                       struct cancel *cancel)
{
    CLEANUP(health_reasons_free) struct health_reasons reasons = VEC_EMPTY;
    struct estate_fence fence = {.problem = ""};
    struct err unknown = ERR_EMPTY;
    bool replica = str_eq(json_get_str(entry, "role", ""), "replica");
    uint64_t promoted = runs_twice(world, entry, cancel);
    if (!replica
        && estate_fence_show(world->estate, json_get_str(entry, "name", ""), &fence, &unknown) < 0)
        fence.problem[0] = '\0';
    int64_t apart = 0;
    int64_t apart_since = 0;
    (void)estate_clock_look(world->estate, json_get_str(entry, "peer", ""), &apart, &apart_since);
    const struct health_of of = {
        .clock_apart_ms = apart,
        .clock_since_ms = apart_since,
        .name = json_get_str(entry, "name", ""),
        .peer = json_get_str(entry, "peer", ""),
        .recovers_at = replica ? "this site" : json_get_str(entry, "peer", ""),
        .machine_state = json_get_str(entry, "state", ""),
        .state_since_ms = (int64_t)json_get_u64(entry, "since_ms", 0),
        .now_ms = world->clock->wall_ms(world->clock),
        .rpo_ms = (int64_t)json_get_u64(entry, "rpo_target_ms", 0),
        .durable_age_ms = json_integer_value(json_object_get(entry, "durable_age_ms")),
        .recreated_ms = (int64_t)json_get_u64(entry, "recreated_ms", 0),
        .fence_problem = fence.problem,
        .marked_ms = fence.mark.since_ms,
        .promoted = promoted,
        .recovered = replica,
        .runs_twice = promoted != 0,
        .status = learned->sent ? &learned->status : NULL,
        .unread = learned->err.code != ERR_NONE ? &learned->err : NULL,
        .seen = learned->seen,
        .verify_ms = (int64_t)json_get_u64(entry, "verify_ms", 0),
        .tests = json_object_get(entry, "tests"),
    };
    enum health health = health_tell(&of, &reasons);

    (void)json_object_set_new(entry, "health", json_string(health_name(health)));
    (void)json_object_set_new(entry, "health_reasons", health_reasons_json(&reasons));
}

static void learn(const struct api_world *world, json_t *entry, struct cancel *cancel)
{
    const char *name = json_get_str(entry, "name", "");
    struct learned *learned = mem_new(struct learned);
    struct session *session = NULL;

    set_point(entry, "durable", 0, 0, -1);
    set_point(entry, "applied", 0, 0, -1);
    if (str_eq(json_get_str(entry, "role", ""), "replica")) {
        add_replica(world, name, entry, learned, cancel);
    } else if ((session = estate_session_get(world->estate, name))) {
        session_status(session, &learned->status);
        learned->sent = true;
        add_session(entry, &learned->status);
        estate_session_put(world->estate, name);
    }
    add_health(world, entry, learned, cancel);
    json_decref(learned->seen);
    free(learned);
}

int api_status_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                    struct cancel *cancel, struct err *err)
{
    json_t *out = json_deep_copy(in);
    json_t *entry;
    size_t i;

    (void)err;
    json_array_foreach(json_object_get(out, "protections"), i, entry)
        learn(world, entry, cancel);
    *ret_out = out;
    return 0;
}

/* --- Since when ---------------------------------------------------------------------------- */

/* `known`: code -> time, of this group before; a new reference to what is known now. */
static json_t *date_reasons(json_t *entry, const json_t *known, int64_t now)
{
    json_t *dated = json_object();
    json_t *reason;
    size_t i;

    json_array_foreach(json_object_get(entry, "health_reasons"), i, reason) {
        const char *code = json_get_str(reason, "code", "");
        int64_t since = (int64_t)json_get_u64(known, code, (uint64_t)now);

        if (json_get_u64(reason, "since_ms", 0) != 0)
            continue;
        set_int(dated, code, since);
        set_int(reason, "since_ms", since);
    }
    return dated;
}

static void date_all(const struct api_request *req, const json_t *out)
{
    const struct api_world *world = api_world_of(req);
    json_t *seen = api_memory(req, "health");
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(out, "protections"), i, entry) {
        const char *name = json_get_str(entry, "name", "");
        json_t *dated =
            date_reasons(entry, json_object_get(seen, name), world->clock->wall_ms(world->clock));

        (void)json_object_set_new(seen, name, dated);
        if (json_object_size(dated) == 0)
            (void)json_object_del(seen, name);
    }
}

int api_status_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                      struct err *err)
{
    (void)in;
    (void)err;
    date_all(req, out);
    *ret_reply = json_incref(out);
    return 0;
}

int api_status_finish_one(struct api_request *req, const json_t *in, json_t *out,
                          json_t **ret_reply, struct err *err)
{
    (void)in;
    (void)err;
    date_all(req, out);
    *ret_reply = json_incref(json_array_get(json_object_get(out, "protections"), 0));
    return 0;
}
