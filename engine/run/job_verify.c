// SPDX-License-Identifier: Apache-2.0
/* verify: a replica is read and compared, slice by slice, here or at the peer that keeps it. Points are
 * taken in between: after each slice the job waits for as long as that took. Where it is stands in
 * job->data, {cursor, texts, kept_ms}, and every now and then in the job's row as "kept", so that a
 * restart of the daemon is no new beginning. */
#include "base/mem.h"
#include "run/job_kind.h"

#include <inttypes.h>
#include <stdio.h>

#define PAUSE_MIN_MS 5
#define PAUSE_MAX_MS 2000
#define WAIT_MS      5000
#define GENTLE       4 /* times as much rest as work: a fifth of a disk's time */
#define TEXTS_MAX    4
#define KEEP_MS      5000

/* "" for a replica that is here. */
static int find_peer(const struct jobs_world *world, const char *group, char ret_peer[64],
                     struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_get(world->state, group, &row, err) < 0)
        return -1;
    (void)snprintf(ret_peer, 64, "%s", str_eq(row.role, "replica") ? "" : row.peer);
    return 0;
}

static int begin(struct job *job, struct err *err)
{
    char peer[64];

    /* A failover may have turned it round while it was waiting. */
    if (find_peer(job_world(job), job->object, peer, err) < 0)
        return -1;
    (void)json_object_set_new(job->args, "peer", json_string(peer));
    json_decref(job->data);
    const json_t *kept = json_object_get(job->args, "kept");
    job->data = kept ? json_deep_copy(kept) : json_pack("{s:[]}", "texts");
    return 0;
}

/* On the loop, between two slices. */
static int keep(struct job *job, struct err *err)
{
    int64_t now = job_world(job)->clock->now_ms(job_world(job)->clock);
    json_t *data = job->data;

    (void)err;
    if (now - (int64_t)json_get_u64(data, "kept_ms", 0) < KEEP_MS)
        return 0;
    (void)json_object_set_new(data, "kept_ms", json_integer(now));
    (void)json_object_set_new(job->args, "kept", json_deep_copy(data));
    job_keep(job);
    return 0;
}

static json_t *ask_args(const struct job *job)
{
    const json_t *cursor = json_object_get(job->data, "cursor");
    json_t *args = json_pack("{s:s, s:I, s:I, s:I}", "group", job->object, "subset",
                             (json_int_t)json_get_u64(job->args, "subset", 0), "of",
                             (json_int_t)json_get_u64(job->args, "of", 0), "at",
                             (json_int_t)json_get_u64(job->args, "point", 0));

    if (cursor)
        (void)json_object_set_new(args, "cursor", json_deep_copy(cursor));
    return args;
}

static void take_slice(struct job *job, const json_t *seen, int64_t took_ms)
{
    struct job_progress *p = &job->progress;
    json_t *texts = json_object_get(job->data, "texts");
    json_t *text;
    size_t i;

    json_array_foreach(json_object_get(seen, "texts"), i, text)
        if (json_array_size(texts) < TEXTS_MAX)
            (void)json_array_append(texts, text);
    (void)json_object_set(job->data, "cursor", json_object_get(seen, "cursor"));
    uint64_t before = p->done;
    p->unit = "bytes";
    p->done = json_get_u64(seen, "done_bytes", p->done);
    p->total = json_get_u64(seen, "total_bytes", p->total);
    if (took_ms > 0 && p->done > before)
        p->rate_per_s = (p->done - before) * 1000 / (2 * (uint64_t)took_ms);
    p->left_ms = p->rate_per_s && p->total >= p->done
                     ? (int64_t)((p->total - p->done) * 1000 / p->rate_per_s)
                     : -1;
    uint64_t found = json_get_u64(seen, "damaged_head", 0) + json_get_u64(seen, "damaged_past", 0)
                     + json_get_u64(seen, "faults", 0);
    p->note[0] = '\0';
    if (found)
        (void)snprintf(p->note, sizeof(p->note), "damaged so far: %" PRIu64 " chunks or files",
                       found);
}

/* Named, as far as there is room for it. */
static int judge(struct job *job, const json_t *seen, struct err *err)
{
    const json_t *texts = json_object_get(job->data, "texts");
    uint64_t head = json_get_u64(seen, "damaged_head", 0);
    uint64_t past = json_get_u64(seen, "damaged_past", 0);
    uint64_t faults = json_get_u64(seen, "faults", 0);
    CLEANUP(str_free) struct str named = STR_EMPTY;
    const json_t *text;
    size_t i;

    if (head + past + faults == 0)
        return 0;
    json_array_foreach(texts, i, text) {
        const char *one = json_string_value(text);
        const char *hint = strstr(one, "; hint: ");
        if (named.len + strlen(one) < 600)
            str_addf(&named, "%s%.*s", named.len ? "; " : "",
                     (int)(hint ? hint - one : (ptrdiff_t)strlen(one)), one);
    }
    return err_set(err, ERR_CORRUPT, 0,
                   "damaged in the replica of %s: %" PRIu64 " chunks of 64 KiB at its newest point,"
                   " %" PRIu64 " of older points, %" PRIu64 " other files: %s; hint: %s",
                   job->object, head, past, faults, str_text(&named),
                   head ? "while the source lives, the next point brings again what the newest one"
                          " lacks; verify once more then"
                        : "`muster points` shows which points are whole; the others go with"
                          " retention");
}

static int verify_work(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    const char *peer = json_get_str(job->args, "peer", "");
    CLEANUP(site_closep)
    struct site *site =
        *peer ? site_remote_new(world->estate, peer) : site_local_new(world->estate);
    CLEANUP(json_freep) json_t *seen = NULL;
    int64_t began = world->clock->now_ms(world->clock);

    if (site_ask(site, "group.verify", ask_args(job), &seen, job->base.cancel, err) < 0) {
        if (err->code == ERR_STATE && json_object_get(job->data, "cursor"))
            return job_wait(job, WAIT_MS, err); /* an apply was cut, and ends first */
        return *peer ? job_wait_for_peer(job, WAIT_MS, err) : -1;
    }
    int64_t took = world->clock->now_ms(world->clock) - began;
    take_slice(job, seen, took);
    if (json_get_bool(seen, "done", false))
        return judge(job, seen, err);
    bool gently = json_get_bool(job->args, "gently", false);
    int64_t rest = gently ? GENTLE * took : took;
    int64_t most = gently ? GENTLE * PAUSE_MAX_MS : PAUSE_MAX_MS;
    job->again_ms = rest < PAUSE_MIN_MS ? PAUSE_MIN_MS : rest > most ? most : rest;
    return JOB_AGAIN;
}

static void data_free(void *data)
{
    json_decref(data);
}

const struct job_kind *job_kind_verify(void)
{
    static const struct job_task tasks[] = {
        {"read and compare", begin, verify_work, NULL, keep},
    };
    static const struct job_kind kind = {
        .name = "verify",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .data_free = data_free,
    };

    return &kind;
}

int jobs_verify(struct jobs *jobs, const struct job_verify *spec, int64_t *ret_job, struct err *err)
{
    char peer[64];

    if (find_peer(jobs_world_of(jobs), spec->machine, peer, err) < 0)
        return -1;
    if (spec->of ? spec->subset == 0 || spec->subset > spec->of || spec->of > 1000000
                 : spec->subset != 0)
        return err_set(err, ERR_INVALID, 0,
                       "subset %" PRIu64 " of %" PRIu64 "; hint: 1 of 5 to 5 of 5 are five fifths",
                       spec->subset, spec->of);
    const struct job *open = job_find(jobs, job_kind_verify(), spec->machine, peer);
    if (open)
        return err_set(err, ERR_STATE, 0,
                       "job %" PRId64 " reads the replica of %s already; hint: `muster jobs watch"
                       " %" PRId64 "`",
                       open->id, spec->machine, open->id);
    json_t *args = json_pack("{s:s, s:I, s:I, s:I, s:b}", "peer", peer, "subset",
                             (json_int_t)spec->subset, "of", (json_int_t)spec->of, "point",
                             (json_int_t)spec->point, "gently", spec->gently);
    return job_start(jobs, job_kind_verify(), spec->machine, args, spec->who, ret_job, err);
}
