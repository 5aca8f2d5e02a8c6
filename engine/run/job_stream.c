// SPDX-License-Identifier: Apache-2.0
/* stream: after the commit of a failover the recovered machine's disks become its own, while it works,
 * so that it no longer reads from the replica. The work is QEMU's and outlives the daemon; the job
 * looks how far it is. It waits while the machine is off, and is over when the machine has left. */
#include "base/mem.h"
#include "run/job_kind.h"

#include <stdio.h>

#define LOOK_MS 1000
#define WAIT_MS 5000

static json_t *args_for(const struct job *job, const char *machine)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "machine", machine, "group",
                     json_get_str(job->args, "group", job->object), "run",
                     json_get_str(job->args, "instance", ""), "test", 0);
}

static json_t *ask_args(const struct job *job)
{
    return args_for(job, job->object);
}

static void show(struct job *job, const json_t *seen)
{
    const json_t *stream = json_object_get(seen, "stream");
    struct job_progress *p = &job->progress;

    p->unit = "bytes";
    p->left_ms = -1;
    if (!json_is_object(stream))
        return;
    p->done = json_get_u64(stream, "done", p->done);
    p->total = json_get_u64(stream, "total", p->total);
}

static int again(struct job *job, int64_t wait_ms, const char *note)
{
    (void)snprintf(job->progress.note, sizeof(job->progress.note), "%.500s", note);
    job->again_ms = wait_ms;
    return JOB_AGAIN;
}

/* Another machine of its group has disks that are not all its own yet. */
static int point_is_needed(struct job *job, bool *ret_needed, struct err *err)
{
    const json_t *name;
    size_t i;

    *ret_needed = false;
    json_array_foreach(json_object_get(job->args, "machines"), i, name) {
        CLEANUP(json_freep) json_t *seen = NULL;

        if (site_ask(job_world(job)->here, "instance.observe",
                     args_for(job, json_string_value(name)), &seen, job->base.cancel, err)
            < 0)
            return -1;
        *ret_needed =
            *ret_needed
            || (json_get_bool(seen, "exists", false) && !json_get_bool(seen, "streamed", false));
    }
    return 0;
}

/* It needs the point no longer; the last one of its run lets it go. */
static int let_go(struct job *job, struct err *err)
{
    bool needed;

    if (point_is_needed(job, &needed, err) < 0)
        return -1;
    if (needed)
        return 0;
    return site_ask(job_world(job)->here, "group.unpin", ask_args(job), NULL, job->base.cancel,
                    err);
}

static int stream_work(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err why = ERR_EMPTY;

    if (site_ask(world->here, "instance.observe", ask_args(job), &seen, job->base.cancel, err) < 0)
        return -1;
    show(job, seen);
    if (!json_get_bool(seen, "exists", false))
        return 0; /* it went back to where it came from */
    if (json_get_bool(seen, "streamed", false))
        return let_go(job, err);
    if (!str_eq(json_get_str(seen, "state", ""), "running"))
        return again(job, WAIT_MS, "waits until the machine runs");
    CLEANUP(cancel_freep)
    struct cancel *look = cancel_new(world->clock, job->base.cancel, LOOK_MS);
    if (site_ask(world->here, "instance.stream", ask_args(job), NULL, look, &why) == 0)
        return again(job, 0, "");
    if (cancel_check(job->base.cancel, err) < 0)
        return -1;
    if (err_is_retryable(why.code) || why.code == ERR_CANCELLED || why.code == ERR_STATE)
        return again(job, why.code == ERR_TIMEOUT || why.code == ERR_CANCELLED ? 0 : WAIT_MS,
                     why.code == ERR_TIMEOUT || why.code == ERR_CANCELLED ? "" : why.text);
    *err = why;
    return -1;
}

static bool wants_undo(struct job *job)
{
    return job->cancel_asked;
}

static int undo(struct job *job, struct err *err)
{
    return site_ask(job_world(job)->here, "instance.stream-stop", ask_args(job), NULL,
                    job->base.cancel, err);
}

const struct job_kind *job_kind_stream(void)
{
    static const struct job_task tasks[] = {
        {"give it disks of its own", NULL, stream_work, NULL, NULL},
    };
    static const struct job_kind kind = {
        .name = "stream",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .wants_undo = wants_undo,
        .undo = undo,
    };

    return &kind;
}

int jobs_stream(struct jobs *jobs, const char *machine, const char *who, int64_t *ret_job,
                struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct machine_names machines;
    struct err none = ERR_EMPTY;
    char run[NAME_MAX_BYTES];

    if (job_instance_of(jobs, machine, run, err) < 0)
        return -1;
    *ret_job = 0;
    if (!*run)
        return 0;
    bool known = state_protection_of(jobs_world_of(jobs)->state, machine, &row, &none) == 0;
    if (known && job_machines(&row, &machines, err) < 0)
        return -1;
    if (!known)
        machine_names_alone(&machines, machine);
    if (known && str_eq(row.state, "failed-over"))
        return err_set(err, ERR_STATE, 0,
                       "%s awaits its commit, and may still go back or get another point; hint: "
                       "`muster commit %s` first",
                       machine, machine);
    json_t *args =
        json_pack("{s:s, s:s, s:o}", "instance", run, "group", known ? row.group : machine,
                  "machines", machine_names_json(&machines));
    return job_start(jobs, job_kind_stream(), machine, args, who, ret_job, err);
}
