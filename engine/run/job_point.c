// SPDX-License-Identifier: Apache-2.0
/* point: a recovery point that somebody wants now, asked of the site that sends the machine. What it is
 * stands in the task as "result", as the site answered (sites/site.h, "group.point"). A restart in
 * between asks again, which makes one more point: the first may not have been there yet. */
#include "base/mem.h"
#include "run/job_kind.h"

#include <inttypes.h>
#include <stdio.h>

/* Of a group, or of a machine's: `ret_group` and who sends it, "" for this site. */
static int find_source(const struct jobs_world *world, const char *name,
                       char ret_group[NAME_MAX_BYTES], char ret_peer[64], struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_of(world->state, name, &row, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, 0,
                             "%s is not protected; hint: `muster status` lists what is", name)
                   : -1;
    (void)snprintf(ret_group, NAME_MAX_BYTES, "%s", row.group);
    (void)snprintf(ret_peer, 64, "%s", str_eq(row.role, "source") ? "" : row.peer);
    return 0;
}

/* A failover may have turned it round meanwhile. */
static int begin(struct job *job, struct err *err)
{
    char group[NAME_MAX_BYTES];
    char peer[64];

    if (find_source(job_world(job), job->object, group, peer, err) < 0)
        return -1;
    (void)json_object_set_new(job->args, "peer", json_string(peer));
    return 0;
}

static int point_work(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    const char *peer = json_get_str(job->args, "peer", "");
    CLEANUP(site_closep) struct site *remote = *peer ? site_remote_new(world->estate, peer) : NULL;
    json_t *args = json_pack("{s:s, s:s, s:s}", "group", job->object, "consistency",
                             json_get_str(job->args, "consistency", ""), "label",
                             json_get_str(job->args, "label", ""));
    json_t *result = NULL;

    if (site_ask(remote ? remote : world->here, "group.point", args, &result, job->base.cancel, err)
        < 0)
        return -1;
    json_decref(job->data);
    job->data = result;
    return 0;
}

static int point_end(struct job *job, struct err *err)
{
    const char *note = json_get_str(job->data, "note", "");

    (void)err;
    (void)json_object_set(json_array_get(job->tasks, job->task), "result", job->data);
    if (*note)
        (void)snprintf(job->progress.note, sizeof(job->progress.note),
                       "warning: not application-consistent: %.400s", note);
    return 0;
}

static void data_free(void *data)
{
    json_decref(data);
}

const struct job_kind *job_kind_point(void)
{
    static const struct job_task tasks[] = {
        {"cut, send and apply", begin, point_work, point_end, NULL},
    };
    static const struct job_kind kind = {
        .name = "point",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .data_free = data_free,
    };

    return &kind;
}

int jobs_point(struct jobs *jobs, const struct job_point *spec, int64_t *ret_job, struct err *err)
{
    char group[NAME_MAX_BYTES];
    char peer[64];

    if (find_source(jobs_world_of(jobs), spec->machine, group, peer, err) < 0)
        return -1;
    if (*spec->consistency && !str_eq(spec->consistency, "application")
        && !str_eq(spec->consistency, "crash"))
        return err_set(err, ERR_INVALID, 0,
                       "\"%.40s\" is no consistency; hint: \"application\" or \"crash\"",
                       spec->consistency);
    if (*spec->label && !str_is_name(spec->label))
        return err_set(err, ERR_INVALID, 0,
                       "\"%.80s\" is no label; hint: letters, digits, \".\", \"_\" and \"-\"",
                       spec->label);
    json_t *args = json_pack("{s:s, s:s, s:s}", "peer", peer, "consistency", spec->consistency,
                             "label", spec->label);
    return job_start(jobs, job_kind_point(), group, args, spec->who, ret_job, err);
}
