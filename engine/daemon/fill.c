// SPDX-License-Identifier: Apache-2.0
/* One machine or group that cannot be used must not keep the daemon from the others: it is logged
 * and left out, its rows stay. */
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>

static int fill_machine(struct daemon *daemon, const struct state_machine *row, struct err *err)
{
    CLEANUP(json_freep) json_t *definition = NULL;
    CLEANUP(machine_done) struct machine machine;

    machine_init(&machine);
    if (json_parse(row->definition, strlen(row->definition), &definition, err) < 0
        || machine_from_json(definition, &machine, err) < 0)
        return -1;
    estate_machine_put(daemon->estate, &machine);
    return 0;
}

static int fill_source(struct daemon *daemon, const struct state_protection *row, struct err *err)
{
    struct estate_group group = {.generation = row->generation};
    CLEANUP(json_freep) json_t *json = NULL;
    struct job_settings settings;

    if (job_settings_parse(row->settings, &settings, err) < 0
        || job_machines(row, &group.machines, err) < 0
        || json_parse(row->settings, strlen(row->settings), &json, err) < 0)
        return -1;
    (void)snprintf(group.run, sizeof(group.run), "%s", json_get_str(json, "instance", ""));
    (void)snprintf(group.group, sizeof(group.group), "%s", row->group);
    (void)snprintf(group.peer, sizeof(group.peer), "%s", row->peer);
    group.policy = settings.policy;
    (void)estate_seeds_set(daemon->estate, row->group, json_object_get(json, "seeds"));
    return estate_group_add(daemon->estate, &group, err);
}

/* The row follows the mark of a failover: a daemon that was killed in between has written only that
 * one. */
static int follow_mark(struct daemon *daemon, struct state_protection *row, struct err *err)
{
    const char *state = row->state;
    struct estate_mark mark;

    if (estate_mark_read(daemon->estate, row->group, &mark, err) < 0)
        return -1;
    if (mark.retired)
        state = "failed-over";
    else if (mark.held[0])
        state = "failing-over";
    else if (str_eq(state, "failing-over"))
        state = "protected";
    bool returned = mark.generation > row->generation;
    if (returned) {
        row->generation = mark.generation;
        state = mark.retired ? state : "protected";
    }
    if (str_eq(state, row->state) && !returned)
        return 0;
    log_info("daemon", "group=%s was=%s state=%s", row->group, row->state, state);
    char *copy = mem_strdup(state);
    free(row->state);
    row->state = copy;
    row->since_ms = daemon->clock->wall_ms(daemon->clock);
    return state_protection_put(daemon->state, row, err);
}

static int fill_replica(struct daemon *daemon, const struct state_protection *row, struct err *err)
{
    CLEANUP(json_freep) json_t *settings = NULL;
    struct estate_replica replica = {.group = ""};
    const char *key;

    if (json_parse(row->settings, strlen(row->settings), &settings, err) < 0
        || job_machines(row, &replica.machines, err) < 0
        || json_need_str(settings, "writer_key", "settings of a replica", &key, err) < 0)
        return -1;
    if (!str_unhex(key, replica.writer_key, sizeof(replica.writer_key)))
        return err_set(err, ERR_CORRUPT, 0, "settings of a replica: writer_key is no key");
    replica.at_rest = str_eq(json_get_str(settings, "encryption", ""), "at-rest");
    (void)snprintf(replica.group, sizeof(replica.group), "%s", row->group);
    (void)snprintf(replica.peer, sizeof(replica.peer), "%s", row->peer);
    estate_networks_set(daemon->estate, row->group, json_object_get(settings, "networks"));
    return estate_replica_add(daemon->estate, &replica, err);
}

/* Before the relationship stands there is nothing to send, and what is being given up is not taken
 * up again. */
static bool is_sent(const struct state_protection *row)
{
    return !str_starts(row->state, "enabling") && !str_starts(row->state, "disabling");
}

/* A source whose machine was recovered here: from a replica that is still there. */
static bool keeps_replica(const struct state_protection *row)
{
    CLEANUP(json_freep) json_t *settings = NULL;

    return json_parse(row->settings, strlen(row->settings), &settings, NULL) == 0
           && json_object_get(settings, "instance") && json_object_get(settings, "writer_key");
}

static void fill_protection(struct daemon *daemon, struct state_protection *row)
{
    struct err err = ERR_EMPTY;
    int rc = 0;

    if (str_eq(row->role, "replica") || keeps_replica(row))
        rc = fill_replica(daemon, row, &err);
    if (rc == 0 && !str_eq(row->role, "replica") && is_sent(row))
        rc = follow_mark(daemon, row, &err) < 0 ? -1 : fill_source(daemon, row, &err);
    if (rc < 0)
        log_error("daemon", "left out group=%s role=%s error=\"%s\"", row->group, row->role,
                  err.text);
}

int daemon_fill(struct daemon *daemon, struct err *err)
{
    CLEANUP(state_machines_done) struct state_machines machines = VEC_EMPTY;
    CLEANUP(state_protections_done) struct state_protections protections = VEC_EMPTY;

    if (state_machine_list(daemon->state, &machines, err) < 0
        || state_protection_list(daemon->state, &protections, err) < 0)
        return -1;
    VEC_FOREACH(row, &machines) {
        struct err failure = ERR_EMPTY;
        if (fill_machine(daemon, row, &failure) < 0)
            log_error("daemon", "left out machine=%s error=\"%s\"", row->name, failure.text);
    }
    VEC_FOREACH(row, &protections)
        fill_protection(daemon, row);
    log_info("daemon", "filled machines=%zu protections=%zu", machines.len, protections.len);
    return 0;
}
