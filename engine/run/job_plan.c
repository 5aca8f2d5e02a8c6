// SPDX-License-Identifier: Apache-2.0
/* copy-plan: a plan is at both sites, so that it is there when the other site is not. The plan is
 * read anew for every try: the newest one travels. */
#include "base/mem.h"
#include "run/job_kind.h"

#define PEER_MS 15000
#define WAIT_MS 10000

static int load(struct job *job, struct err *err)
{
    CLEANUP(state_plan_done) struct state_plan plan = {0};

    if (state_plan_get(job_world(job)->state, job->object, &plan, err) < 0)
        return -1;
    json_decref(job->data);
    job->data =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "op", "plan.put", "name", plan.name, "source",
                  plan.source, "document", plan.document, "hash", plan.hash, "origin", plan.origin);
    return job->data ? 0 : err_set(err, ERR_CORRUPT, 0, "plan %s is not valid text", plan.name);
}

static int copy_work(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(world->clock, job->base.cancel, PEER_MS);
    CLEANUP(link_closep) struct link *link = NULL;
    const char *peer = json_get_str(job->args, "peer", "");

    if (world->open_link(world->ctx, peer, &link, cancel, err) == 0
        && link_call(link, job->data, NULL, 0, NULL, cancel, err) == 0)
        return 0;
    return job_wait_for_peer(job, WAIT_MS, err);
}

static void data_free(void *data)
{
    json_decref(data);
}

const struct job_kind *job_kind_copy_plan(void)
{
    static const struct job_task tasks[] = {{"copy the plan", load, copy_work, NULL, load}};
    static const struct job_kind kind = {
        .name = "copy-plan",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .data_free = data_free,
    };

    return &kind;
}

int jobs_copy_plan(struct jobs *jobs, const char *plan, const char *peer, const char *who,
                   int64_t *ret_job, struct err *err)
{
    CLEANUP(state_plan_done) struct state_plan row = {0};

    if (state_plan_get(jobs_world_of(jobs)->state, plan, &row, err) < 0)
        return -1;
    const struct job *open = job_find(jobs, job_kind_copy_plan(), plan, peer);
    if (open) {
        *ret_job = open->id;
        return 0;
    }
    return job_start(jobs, job_kind_copy_plan(), plan, json_pack("{s:s}", "peer", peer), who,
                     ret_job, err);
}
