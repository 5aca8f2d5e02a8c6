// SPDX-License-Identifier: Apache-2.0
/* copy-settings: what was changed at the site that sends is told to the one that keeps the replica,
 * whose judgement of the replica's age depends on it. The row is read anew for every try and
 * compared at the end: the newest settings arrive last, also when they changed on the way. */
#include "base/mem.h"
#include "link/ask.h"
#include "run/job_kind.h"

#include <stdio.h>

#define PEER_MS 15000
#define WAIT_MS 5000

/* NULL: the group is no longer sent to that peer, and there is nothing to tell. */
static int question(struct job *job, json_t **ret_question, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct job_settings settings;

    *ret_question = NULL;
    if (state_protection_get(job_world(job)->state, job->object, &row, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        return 0;
    }
    if (!str_eq(row.role, "source") || !str_eq(row.peer, json_get_str(job->args, "peer", "")))
        return 0;
    if (job_settings_parse(row.settings, &settings, err) < 0)
        return -1;
    *ret_question = json_pack("{s:s, s:s}", "op", "replica.settings", "group", job->object);
    job_settings_put(&settings, *ret_question);
    (void)json_object_set_new(*ret_question, "networks", job_networks_get(row.settings));
    return 0;
}

static int load(struct job *job, struct err *err)
{
    json_t *now;

    if (question(job, &now, err) < 0)
        return -1;
    json_decref(job->data);
    job->data = now;
    return 0;
}

static int copy_work(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(world->clock, job->base.cancel, PEER_MS);
    const char *peer = json_get_str(job->args, "peer", "");

    if (!job->data
        || link_ask(world->open_link, world->ctx, peer, job->data, NULL, world->clock, cancel, err)
               == 0)
        return 0;
    /* Somebody else at the peer's address is not the peer's answer. */
    if (!err_is_retryable(err->code) && err->code != ERR_AUTH)
        return err_wrap(err, "%s was not told the settings of %s", peer, job->object);
    return job_wait(job, WAIT_MS, err);
}

/* Whoever changed them while they travelled saw this job open and started no other. */
static int copy_end(struct job *job, struct err *err)
{
    CLEANUP(json_freep) json_t *now = NULL;
    int64_t next;

    if (question(job, &now, err) < 0)
        return -1;
    if (!now || json_equal(now, job->data))
        return 0;
    return job_start(job->jobs, job->kind, job->object, json_incref(job->args), job->who, &next,
                     err);
}

static void data_free(void *data)
{
    json_decref(data);
}

const struct job_kind *job_kind_copy_settings(void)
{
    static const struct job_task tasks[] = {{"tell the peer", load, copy_work, copy_end, load}};
    static const struct job_kind kind = {
        .name = "copy-settings",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .data_free = data_free,
    };

    return &kind;
}

int jobs_copy_settings(struct jobs *jobs, const char *group, const char *peer, const char *who,
                       int64_t *ret_job, struct err *err)
{
    const struct job *open = job_find(jobs, job_kind_copy_settings(), group, peer);

    if (open) {
        *ret_job = open->id;
        return 0;
    }
    return job_start(jobs, job_kind_copy_settings(), group, json_pack("{s:s}", "peer", peer), who,
                     ret_job, err);
}
