// SPDX-License-Identifier: Apache-2.0
#include "qemu/stream.h"

#include "base/str.h"
#include "base/vec.h"

#include <stdio.h>
#include <string.h>

#define LOOK_MS 20

static int list_jobs(struct qmp *qmp, json_t **ret_list, struct cancel *cancel, struct err *err)
{
    return qmp_command(qmp, "query-block-jobs", NULL, ret_list, cancel, err);
}

static void read_job(const json_t *job, struct stream_state *state)
{
    const char *status = json_get_str(job, "status", "");
    const char *io = json_get_str(job, "io-status", "ok");

    *state = (struct stream_state){
        .there = true,
        .copied = str_eq(status, "pending"),
        .paused = str_eq(status, "paused"),
        .failed = !str_eq(io, "ok"),
        .no_space = str_eq(io, "nospace"),
        .done = json_get_u64(job, "offset", 0),
        .total = json_get_u64(job, "len", 0),
    };
}

int stream_look(struct qmp *qmp, const char *job, struct stream_state *ret_state,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    json_t *entry;
    size_t i;

    if (list_jobs(qmp, &list, cancel, err) < 0)
        return -1;
    memset(ret_state, 0, sizeof(*ret_state));
    json_array_foreach(list, i, entry) {
        if (str_eq(json_get_str(entry, "device", ""), job))
            read_job(entry, ret_state);
    }
    return 0;
}

int stream_start(struct qmp *qmp, const char *job, const char *node, uint64_t rate_per_s,
                 struct cancel *cancel, struct err *err)
{
    return qmp_command(qmp, "block-stream",
                       json_pack("{s:s, s:s, s:I, s:s, s:b}", "job-id", job, "device", node,
                                 "speed", (json_int_t)rate_per_s, "on-error", "stop",
                                 "auto-finalize", 0),
                       NULL, cancel, err);
}

int stream_set_rate(struct qmp *qmp, const char *job, uint64_t rate_per_s, struct cancel *cancel,
                    struct err *err)
{
    return qmp_command(qmp, "block-job-set-speed",
                       json_pack("{s:s, s:I}", "device", job, "speed", (json_int_t)rate_per_s),
                       NULL, cancel, err);
}

static int tell(struct qmp *qmp, const char *command, const char *job, struct cancel *cancel,
                struct err *err)
{
    return qmp_command(qmp, command, json_pack("{s:s}", "device", job), NULL, cancel, err);
}

int stream_go_on(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
{
    struct stream_state state;

    /* One that waits by its error alone is resumed by its pause being taken back. */
    if (tell(qmp, "block-job-resume", job, cancel, err) == 0)
        return 0;
    if (stream_look(qmp, job, &state, cancel, NULL) == 0 && !state.paused) {
        err_clear(err);
        return 0;
    }
    return -1;
}

static int wait_gone(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
{
    struct stream_state state;

    for (;;) {
        if (stream_look(qmp, job, &state, cancel, err) < 0)
            return -1;
        if (!state.there)
            return 0;
        if (cancel_sleep(cancel, LOOK_MS, err) < 0)
            return err_wrap(err, "wait for the end of job %s", job);
    }
}

int stream_finish(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
{
    struct stream_state state;

    if (stream_look(qmp, job, &state, cancel, err) < 0)
        return -1;
    if (!state.there)
        return 0;
    if (!state.copied)
        return err_set(err, ERR_STATE, 0, "job %s has not copied all yet", job);
    if (qmp_command(qmp, "job-finalize", json_pack("{s:s}", "id", job), NULL, cancel, err) < 0)
        return -1;
    return wait_gone(qmp, job, cancel, err);
}

int stream_cancel(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
{
    struct stream_state state;
    struct err refused = ERR_EMPTY;

    if (stream_look(qmp, job, &state, cancel, err) < 0)
        return -1;
    if (!state.there)
        return 0;
    /* Refused when it has just ended: looking tells. */
    if (qmp_command(qmp, "block-job-cancel", json_pack("{s:s, s:b}", "device", job, "force", 1),
                    NULL, cancel, &refused)
            < 0
        && refused.code != ERR_STATE && refused.code != ERR_NOT_FOUND)
        return err_set(err, refused.code, refused.sys, "%s", refused.text);
    return wait_gone(qmp, job, cancel, err);
}

/* --- Stop and cont --------------------------------------------------------------------------- */

#define JOB_BYTES 64
struct job_name {
    char id[JOB_BYTES];
};
VEC_DEFINE(job_names, struct job_name)

/* Those at work: one that waits already does so for somebody else. */
static int hold_all(struct qmp *qmp, struct job_names *held, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    json_t *entry;
    size_t i;

    if (list_jobs(qmp, &list, cancel, err) < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        const char *id = json_get_str(entry, "device", "");
        struct stream_state state;
        struct err refused = ERR_EMPTY;

        read_job(entry, &state);
        if (!str_eq(json_get_str(entry, "type", ""), "stream") || state.paused
            || strlen(id) >= JOB_BYTES || tell(qmp, "block-job-pause", id, cancel, &refused) < 0)
            continue;
        (void)snprintf(job_names_push(held)->id, JOB_BYTES, "%s", id);
    }
    return 0;
}

static int wait_held(struct qmp *qmp, const struct job_names *held, struct cancel *cancel,
                     struct err *err)
{
    VEC_FOREACH(name, held) {
        struct stream_state state;

        for (;;) {
            if (stream_look(qmp, name->id, &state, cancel, err) < 0)
                return -1;
            if (!state.there || state.paused)
                break;
            if (cancel_sleep(cancel, LOOK_MS, err) < 0)
                return err_wrap(err, "wait for job %s to hold still", name->id);
        }
    }
    return 0;
}

int stream_safely(struct qmp *qmp, const char *command, struct cancel *cancel, struct err *err)
{
    CLEANUP(job_names_free) struct job_names held = VEC_EMPTY;
    struct err ignored = ERR_EMPTY;
    int rc = hold_all(qmp, &held, cancel, err);

    if (rc == 0)
        rc = wait_held(qmp, &held, cancel, err);
    if (rc == 0)
        rc = qmp_command(qmp, command, NULL, NULL, cancel, err);
    VEC_FOREACH(name, &held)
        if (tell(qmp, "block-job-resume", name->id, NULL, &ignored) < 0)
            err_clear(&ignored); /* it has ended */
    return rc;
}
