// SPDX-License-Identifier: Apache-2.0
/* follow: the peer was promoted and committed, and wants our side for its replica. Asked for by the
 * peer's reprotect, which watches this job by its number. The row turns from source to replica when
 * the disks are taken over; before that a restart finds the old row, and does it again. */
#include "base/mem.h"
#include "run/job_kind.h"

#include <stdio.h>
#include <string.h>

static int follow_begin(struct job *job, struct err *err)
{
    return job_protection_state(job, job->object, "reprotecting", err);
}

static int machines_of(const struct job *job, struct machine_names *ret_machines, struct err *err)
{
    return machine_names_parse(json_object_get(job->args, "machines"), job->object, ret_machines,
                               err);
}

static int ask_here(struct job *job, const char *what, const char *machine, struct err *err)
{
    return site_ask(job_world(job)->here, what,
                    json_pack("{s:s, s:s, s:s, s:b}", "machine", machine, "group", job->object,
                              "run", json_get_str(job->args, "instance", ""), "test", 0),
                    NULL, job->base.cancel, err);
}

/* What was recovered here is over: all that it wrote is at the peer. */
static int remove_recovered(struct job *job, struct err *err)
{
    struct machine_names machines;

    if (!*json_get_str(job->args, "instance", ""))
        return 0;
    if (machines_of(job, &machines, err) < 0)
        return -1;
    for (size_t i = 0; i < machines.count; i++)
        if (ask_here(job, "instance.remove", machines.at[i], err) < 0)
            return -1;
    return ask_here(job, "group.unpin", machines.at[0], err);
}

static void show_progress(void *ctx, const char *disk, uint64_t done_bytes, uint64_t size)
{
    struct job *job = ctx;
    struct job_progress *p = &job->progress;
    struct session_disk_progress *at = NULL;

    for (size_t i = 0; i < p->disk_count; i++)
        if (str_eq(p->disks[i].name, disk))
            at = &p->disks[i];
    if (!at && p->disk_count == SESSION_DISKS_MAX)
        return;
    if (!at)
        at = &p->disks[p->disk_count++];
    (void)snprintf(at->name, sizeof(at->name), "%s", disk);
    at->size = size;
    at->total_bytes = size;
    at->done_bytes = done_bytes;
    p->unit = "bytes";
    p->left_ms = -1;
    p->done = p->total = 0;
    for (size_t i = 0; i < p->disk_count; i++) {
        p->done += p->disks[i].done_bytes;
        p->total += p->disks[i].total_bytes;
    }
}

static int follow_work(struct job *job, struct err *err)
{
    struct estate_follow what = {
        .group = job->object,
        .peer = json_get_str(job->args, "peer", ""),
        .generation = json_get_u64(job->args, "generation", 0),
        .tip = json_get_str(job->args, "tip", ""),
        .first = json_get_str(job->args, "first", ""),
        .proof = json_object_get(job->args, "proof"),
        .ctx = job,
        .progress = show_progress,
    };

    if (!str_unhex(json_get_str(job->args, "writer_key", ""), what.writer_key,
                   sizeof(what.writer_key)))
        return err_set(err, ERR_INVALID, 0, "the writer's key of %s is no key", what.peer);
    if (estate_follow(job_world(job)->estate, &what, job->progress.note, sizeof(job->progress.note),
                      job->base.cancel, err)
        < 0)
        return -1;
    return remove_recovered(job, err);
}

static int list_machines(struct job *job, json_t *settings, struct err *err)
{
    CLEANUP(json_freep) json_t *agents = json_array();
    struct machine_names machines;

    if (machines_of(job, &machines, err) < 0)
        return -1;
    for (size_t i = 0; i < machines.count; i++) {
        CLEANUP(machine_done) struct machine machine;

        machine_init(&machine);
        if (estate_machine_get(job_world(job)->estate, machines.at[i], &machine, NULL) < 0)
            return 0; /* recovered here once: what the row says of them stays */
        if (machine.agent)
            (void)json_array_append_new(agents, json_string(machine.name));
    }
    (void)json_object_set(settings, "agents", agents);
    return 0;
}

static int put_replica(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *settings = NULL;

    if (state_protection_get(world->state, job->object, &row, err) < 0
        || json_parse(row.settings, strlen(row.settings), &settings, err) < 0)
        return -1;
    (void)json_object_set(settings, "writer_key", json_object_get(job->args, "writer_key"));
    job_settings_copy(job->args, settings);
    (void)json_object_del(settings, "instance");
    (void)json_object_del(settings, "seeds");
    (void)json_object_del(settings, "networks"); /* they were those of the other direction */
    row.since_ms = world->clock->wall_ms(world->clock);
    (void)json_object_set_new(settings, "created_ms", json_integer(row.since_ms));
    if (list_machines(job, settings, err) < 0)
        return -1;
    free(row.role);
    free(row.settings);
    row.role = mem_strdup("replica");
    row.settings = json_text(settings);
    row.generation = json_get_u64(job->args, "generation", row.generation);
    return state_protection_put(world->state, &row, err);
}

/* The recovered machines' rows go with them. */
static int forget_instances(struct job *job, struct err *err)
{
    const char *run = json_get_str(job->args, "instance", "");
    struct machine_names machines;

    if (!*run)
        return 0;
    if (machines_of(job, &machines, err) < 0)
        return -1;
    for (size_t i = 0; i < machines.count; i++) {
        struct err failure = ERR_EMPTY;

        if (state_instance_remove(job_world(job)->state, run, machines.at[i], &failure) == 0
            || failure.code == ERR_NOT_FOUND)
            continue;
        *err = failure;
        return -1;
    }
    return 0;
}

static int settled(struct job *job, const struct err *failure, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    int64_t now = world->clock->wall_ms(world->clock);

    if (failure) {
        if (job_protection_state(job, job->object, "reprotecting-failed", err) < 0)
            return -1;
        return state_audit(world->state, now, job->who, "replica.follow-failed", job->object,
                           failure->text, err);
    }
    if (put_replica(job, err) < 0 || forget_instances(job, err) < 0)
        return -1;
    return state_audit(world->state, now, job->who, "replica.follow", job->object, "", err);
}

const struct job_kind *job_kind_follow(void)
{
    static const struct job_task tasks[] = {
        {"take the disks over", follow_begin, follow_work, NULL, NULL},
    };
    static const struct job_kind kind = {
        .name = "follow",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .exclusive = true,
        .settled = settled,
    };

    return &kind;
}

/* --- Asked for by the peer -------------------------------------------------------------------- */

static int check_row(const struct state_protection *row, const struct job_follow *spec,
                     struct err *err)
{
    if (!str_eq(row->peer, spec->peer))
        return err_set(err, ERR_DENIED, 0, "%s is not shared with %s, but with %s", spec->group,
                       spec->peer, row->peer);
    if (row->generation > spec->generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s is at generation %llu here, the promotion is of generation %llu",
                       spec->group, (unsigned long long)row->generation,
                       (unsigned long long)spec->generation);
    return 0;
}

int jobs_follow(struct jobs *jobs, const struct job_follow *spec, int64_t *ret_job, struct err *err)
{
    const struct jobs_world *world = jobs_world_of(jobs);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *settings = NULL;
    struct machine_names machines;

    if (state_protection_get(world->state, spec->group, &row, err) < 0
        || check_row(&row, spec, err) < 0 || job_machines(&row, &machines, err) < 0
        || json_parse(row.settings, strlen(row.settings), &settings, err) < 0)
        return -1;
    if (str_eq(row.role, "replica") && row.generation == spec->generation) {
        *ret_job = 0;
        return 0;
    }
    const struct job *open = job_find(jobs, job_kind_follow(), spec->group, spec->peer);
    if (open) {
        *ret_job = open->id;
        return 0;
    }
    json_t *args = json_pack("{s:s, s:s, s:s, s:s, s:O?, s:I, s:s, s:o}", "peer", spec->peer,
                             "writer_key", spec->writer_key, "tip", spec->tip, "first", spec->first,
                             "proof", spec->proof, "generation", (json_int_t)spec->generation,
                             "instance", json_get_str(settings, "instance", ""), "machines",
                             machine_names_json(&machines));
    job_settings_put(&spec->settings, args);
    return job_start(jobs, job_kind_follow(), spec->group, args, spec->who, ret_job, err);
}
