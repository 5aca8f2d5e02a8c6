// SPDX-License-Identifier: Apache-2.0
/* Jobs as JSON: the durable row, and what people and programs are shown. */
#include "base/mem.h"
#include "run/job_kind.h"

#define LIST_MAX 500

int64_t jobs_wall_ms(const struct jobs *jobs)
{
    return jobs->world.clock->wall_ms(jobs->world.clock);
}

json_t *job_task_new(const char *name)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:s, s:i, s:i, s:s, s:s, s:i, s:i, s:[]}", "name", name,
                     "state", "waiting", "done", 0, "total", 0, "unit", "", "started_ms", 0,
                     "ended_ms", 0, "error", "", "note", "", "rate_per_s", 0, "left_ms", -1,
                     "disks");
}

static json_t *disks_json(const struct job_progress *progress)
{
    json_t *disks = json_array();

    for (size_t i = 0; i < progress->disk_count; i++) {
        const struct session_disk_progress *disk = &progress->disks[i];
        (void)json_array_append_new(disks, json_pack("{s:s, s:I, s:I, s:I}", "name", disk->name,
                                                     "size", (json_int_t)disk->size, "done",
                                                     (json_int_t)disk->done_bytes, "total",
                                                     (json_int_t)disk->total_bytes));
    }
    return disks;
}

void job_show_progress(struct job *job)
{
    json_t *task = json_array_get(job->tasks, job->task);
    struct job_progress *p = &job->progress;

    (void)json_object_set_new(task, "done", json_integer((json_int_t)p->done));
    (void)json_object_set_new(task, "total", json_integer((json_int_t)p->total));
    (void)json_object_set_new(task, "unit", json_string(p->unit ? p->unit : ""));
    (void)json_object_set_new(task, "rate_per_s", json_integer((json_int_t)p->rate_per_s));
    (void)json_object_set_new(task, "left_ms", json_integer(p->left_ms));
    (void)json_object_set_new(task, "note", json_string(p->note));
    (void)json_object_set_new(task, "disks", disks_json(p));
    if (p->checks)
        (void)json_object_set_new(task, "checks", TAKE(p->checks));
}

void job_task_state(struct job *job, const char *state, const char *error)
{
    json_t *task = json_array_get(job->tasks, job->task);
    const char *when = str_eq(state, "running") ? "started_ms" : "ended_ms";

    (void)json_object_set_new(task, "state", json_string(state));
    (void)json_object_set_new(task, when, json_integer(jobs_wall_ms(job->jobs)));
    (void)json_object_set_new(task, "error", json_string(error));
}

static json_t *row_json(const struct jobs *jobs, const struct state_job *row)
{
    json_t *tasks = NULL;

    for (const struct job *job = jobs->first; job && !tasks; job = job->next)
        if (job->id == row->id)
            tasks = json_deep_copy(job->tasks);
    if (!tasks && json_parse(row->tasks, strlen(row->tasks), &tasks, NULL) < 0)
        tasks = json_array();
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "id",
                     (json_int_t)row->id, "kind", row->kind, "object", row->object, "state",
                     row->state, "error", row->error, "error_code", row->error_code, "who",
                     row->who, "started_ms", (json_int_t)row->started_ms, "ended_ms",
                     (json_int_t)row->ended_ms, "tasks", tasks);
}

int jobs_get(struct jobs *jobs, int64_t id, json_t **ret_json, struct err *err)
{
    CLEANUP(state_job_done) struct state_job row = {0};

    if (state_job_get(jobs->world.state, id, &row, err) < 0)
        return -1;
    *ret_json = row_json(jobs, &row);
    return 0;
}

int jobs_list(struct jobs *jobs, bool open_only, json_t **ret_json, struct err *err)
{
    CLEANUP(state_jobs_done) struct state_jobs rows = VEC_EMPTY;

    if (state_job_list(jobs->world.state, open_only, &rows, err) < 0)
        return -1;
    *ret_json = json_array();
    for (size_t i = 0; i < rows.len && i < LIST_MAX; i++)
        (void)json_array_append_new(*ret_json, row_json(jobs, &rows.at[i]));
    return 0;
}

uint64_t jobs_changes(const struct jobs *jobs)
{
    return jobs->changes;
}
