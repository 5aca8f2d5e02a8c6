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

#define LOOK_MS      3000
#define RECREATED_MS (24 * 3600 * 1000)

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

static void set_disks(json_t *entry, const struct session_status *status)
{
    json_t *disks = json_array();
    uint64_t left = 0;

    for (size_t i = 0; i < status->disk_count; i++) {
        const struct session_disk_progress *disk = &status->disks[i];

        left += disk->total_bytes > disk->done_bytes ? disk->total_bytes - disk->done_bytes : 0;
        (void)json_array_append_new(disks, json_pack("{s:s, s:I, s:I, s:I}", "name", disk->name,
                                                     "size", (json_int_t)disk->size, "total",
                                                     (json_int_t)disk->total_bytes, "done",
                                                     (json_int_t)disk->done_bytes));
    }
    (void)json_object_set_new(entry, "disks", disks);
    set_int(entry, "left_ms",
            status->rate_per_s ? (int64_t)(left * 1000 / status->rate_per_s) : -1);
}

static void add_session(const struct api_world *world, json_t *entry, struct session *session)
{
    struct session_status status;
    int64_t now = world->clock->wall_ms(world->clock);

    session_status(session, &status);
    (void)json_object_set_new(entry, "session", json_string(session_state_name(status.state)));
    set_point(entry, "durable", status.durable_point, status.durable_cut_ms,
              now > status.durable_cut_ms ? now - status.durable_cut_ms : 0);
    set_point(entry, "applied", status.applied_point, status.applied_cut_ms,
              now > status.applied_cut_ms ? now - status.applied_cut_ms : 0);
    /* Nobody counts any more once the machine is held or has moved. */
    set_int(entry, "pending_bytes",
            str_starts(json_get_str(entry, "state", ""), "fail") ? -1
                                                                 : (int64_t)status.pending_bytes);
    set_int(entry, "rate_per_s", (int64_t)status.rate_per_s);
    set_int(entry, "sent_bytes", (int64_t)status.sent_bytes);
    set_int(entry, "last_bytes", (int64_t)status.last_bytes);
    set_int(entry, "last_cycle_ms", status.last_cycle_ms);
    set_int(entry, "last_stall_us", status.last_stall_us);
    set_int(entry, "next_cut_ms", status.next_cut_ms);
    set_int(entry, "damaged_head", (int64_t)status.damaged_head);
    set_int(entry, "damaged_past", (int64_t)status.damaged_past);
    set_int(entry, "damaged_since_ms", status.damaged_since_ms);
    (void)json_object_set_new(entry, "note", json_string(status.note));
    set_disks(entry, &status);
    /* What it met when it sent last is over, once the machine is the other site's. */
    if (status.error.code == ERR_NONE || str_eq(json_get_str(entry, "state", ""), "failed-over"))
        return;
    set_error(entry, &status.error);
    set_int(entry, "error_since_ms", status.error_since_ms);
    set_int(entry, "retry_at_ms", status.retry_at_ms);
    set_int(entry, "failures", status.failures);
}

static void add_replica(const struct api_world *world, const char *name, json_t *entry,
                        struct cancel *cancel)
{
    static const char *const fields[] = {
        "durable_point",  "durable_cut_ms", "durable_age_ms", "applied_point",    "applied_cut_ms",
        "applied_age_ms", "damaged_head",   "damaged_past",   "damaged_since_ms",
    };
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err failure = ERR_EMPTY;

    if (api_ask_here(world, "group.observe", json_pack("{s:s, s:s}", "group", name, "run", ""),
                     &seen, cancel, &failure)
        < 0) {
        set_error(entry, &failure);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *value = json_object_get(seen, fields[i]);

        if (value)
            (void)json_object_set(entry, fields[i], value);
    }
    (void)json_object_set_new(entry, "store", json_string(json_get_str(seen, "state", "")));
    if (json_get_u64(seen, "durable_point", 0) == 0)
        set_int(entry, "durable_age_ms", -1);
    if (json_get_u64(seen, "applied_point", 0) == 0)
        set_int(entry, "applied_age_ms", -1);
}

/* Nothing may run here any more that was promoted at the peer; what does is seen by nobody else. 0:
 * it does not run, or nobody knows. */
static uint64_t runs_twice(const struct api_world *world, const json_t *entry,
                           struct cancel *cancel)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(world->clock, cancel, LOOK_MS);
    CLEANUP(json_freep) json_t *seen = NULL;
    const char *name = json_get_str(entry, "name", "");
    struct err ignored = ERR_EMPTY;
    struct estate_mark mark;

    if (!str_eq(json_get_str(entry, "role", ""), "source")
        || (!str_eq(json_get_str(entry, "state", ""), "failed-over")
            && !str_eq(json_get_str(entry, "session", ""), "fenced")))
        return 0;
    if (api_ask_here(world, "machine.observe", json_pack("{s:s}", "machine", name), &seen, limit,
                     &ignored)
        < 0)
        return 0;
    const char *state = json_get_str(seen, "state", "");
    if (!str_eq(state, instance_state_name(INSTANCE_RUNNING)))
        return 0;
    if (estate_mark_read(world->estate, name, &mark, &ignored) == 0 && mark.retired)
        return mark.retired;
    return json_get_u64(entry, "generation", 0) + 1;
}

/* Beside whatever else there is to say. */
static void add_damaged(const struct api_world *world, const json_t *entry, enum health *health,
                        char *reason, size_t len)
{
    uint64_t head = json_get_u64(entry, "damaged_head", 0);
    uint64_t past = json_get_u64(entry, "damaged_past", 0);
    int64_t since = (int64_t)json_get_u64(entry, "damaged_since_ms", 0);
    int64_t now = world->clock->wall_ms(world->clock);
    size_t have = strlen(reason);
    char age[32];

    if (*health == HEALTH_NOT_APPLICABLE || head + past == 0)
        return;
    (void)str_duration(now > since ? now - since : 0, age, sizeof(age));
    if (head > 0) {
        *health = HEALTH_CRITICAL;
        (void)snprintf(
            reason + have, len - have,
            "%s%" PRIu64 " chunks of the replica's newest point are damaged, for %s now: "
            "it is not promoted; while the source lives the next point brings them again",
            have ? "; " : "", head, age);
        return;
    }
    if (*health == HEALTH_HEALTHY)
        *health = HEALTH_WARNING;
    (void)snprintf(reason + have, len - have,
                   "%s%" PRIu64 " chunks of older points of the replica are damaged, for %s now; "
                   "`muster points %s` shows which are whole",
                   have ? "; " : "", past, age, json_get_str(entry, "name", ""));
}

/* For a day: whoever lost a database should hear what came of it. */
static void add_recreated(const struct api_world *world, const json_t *entry, enum health *health,
                          char *reason, size_t len)
{
    int64_t at = (int64_t)json_get_u64(entry, "recreated_ms", 0);
    size_t have = strlen(reason);

    if (at == 0 || world->clock->wall_ms(world->clock) - at > RECREATED_MS)
        return;
    if (*health == HEALTH_HEALTHY)
        *health = HEALTH_WARNING;
    (void)snprintf(reason + have, len - have,
                   "%sits rows were missing from state.db and were made again; runs, plans and the "
                   "audit log of before are not there",
                   have ? "; " : "");
}

static void add_health(const struct api_world *world, json_t *entry, struct cancel *cancel)
{
    char reason[1024];
    struct estate_fence fence = {.problem = ""};
    struct err unknown = ERR_EMPTY;
    bool replica = str_eq(json_get_str(entry, "role", ""), "replica");
    uint64_t promoted = runs_twice(world, entry, cancel);
    if (!replica
        && estate_fence_show(world->estate, json_get_str(entry, "name", ""), &fence, &unknown) < 0)
        fence.problem[0] = '\0';
    const struct health_of of = {
        .name = json_get_str(entry, "name", ""),
        .peer = json_get_str(entry, "peer", ""),
        .recovers_at = replica ? "this site" : json_get_str(entry, "peer", ""),
        .recovered = replica,
        .runs_twice = promoted != 0,
        .promoted = promoted,
        .fence_problem = fence.problem,
        .machine_state = json_get_str(entry, "state", ""),
        .session = json_get_str(entry, "session", ""),
        .interval_ms = (int64_t)json_get_u64(entry, "interval_ms", 0),
        .durable_age_ms = json_integer_value(json_object_get(entry, "durable_age_ms")),
    };
    enum health health = health_tell(&of, reason, sizeof(reason));

    /* A store that cannot be read is no replica to rely on. */
    if (replica && json_object_get(entry, "error") && health != HEALTH_NOT_APPLICABLE) {
        health = HEALTH_CRITICAL;
        (void)snprintf(reason, sizeof(reason), "the replica cannot be read");
    }
    add_damaged(world, entry, &health, reason, sizeof(reason));
    add_recreated(world, entry, &health, reason, sizeof(reason));
    (void)json_object_set_new(entry, "health", json_string(health_name(health)));
    (void)json_object_set_new(entry, "health_reason", json_string(reason));
}

int api_status_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                    struct cancel *cancel, struct err *err)
{
    json_t *out = json_deep_copy(in);
    json_t *entry;
    size_t i;

    (void)err;
    json_array_foreach(json_object_get(out, "protections"), i, entry) {
        const char *name = json_get_str(entry, "name", "");
        struct session *session = NULL;

        set_point(entry, "durable", 0, 0, -1);
        set_point(entry, "applied", 0, 0, -1);
        if (str_eq(json_get_str(entry, "role", ""), "replica")) {
            add_replica(world, name, entry, cancel);
        } else if ((session = estate_session_get(world->estate, name))) {
            add_session(world, entry, session);
            estate_session_put(world->estate, name);
        }
        add_health(world, entry, cancel);
    }
    *ret_out = out;
    return 0;
}
