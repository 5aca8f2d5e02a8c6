// SPDX-License-Identifier: Apache-2.0
#include "qemu/blocks.h"

#include <stdio.h>
#include <string.h>

/* How often a job is looked for whose end may have been told before we listened. */
#define JOB_LOOK_MS 200
#define JOB_PAUSES  6

/* --- Nodes --------------------------------------------------------------------------------- */

void blocks_nodes_done(struct blocks_nodes *nodes)
{
    VEC_FOREACH(node, nodes) {
        blocks_bitmaps_free(&node->bitmaps);
    }
    blocks_nodes_free(nodes);
}

/* Also false when it would not fit: a name cut short would be another name. */
static bool copy_name(char *to, size_t len, const char *name)
{
    if (strlen(name) >= len)
        return false;
    memcpy(to, name, strlen(name) + 1);
    return true;
}

static void read_bitmaps(const json_t *list, struct blocks_bitmaps *bitmaps)
{
    json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry) {
        const char *name = json_get_str(entry, "name", NULL);
        struct blocks_bitmap bitmap = {
            .granularity = json_get_u64(entry, "granularity", 0),
            .count = json_get_u64(entry, "count", 0),
            .recording = json_get_bool(entry, "recording", false),
            .busy = json_get_bool(entry, "busy", false),
            .inconsistent = json_get_bool(entry, "inconsistent", false),
        };
        if (name && copy_name(bitmap.name, sizeof(bitmap.name), name))
            *blocks_bitmaps_push(bitmaps) = bitmap;
    }
}

int blocks_list(struct qmp *qmp, struct blocks_nodes *ret_nodes, struct cancel *cancel,
                struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    CLEANUP(json_freep) json_t *list = NULL;
    json_t *entry;
    size_t i;

    if (qmp_command(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), &list, cancel,
                    err)
        < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        const json_t *image = json_object_get(entry, "image");
        const char *name = json_get_str(entry, "node-name", NULL);
        struct blocks_node node = {
            .size = json_get_u64(image, "virtual-size", 0),
            .actual_bytes = json_get_u64(image, "actual-size", 0),
        };
        if (!name || !copy_name(node.name, sizeof(node.name), name))
            continue;
        read_bitmaps(json_object_get(entry, "dirty-bitmaps"), &node.bitmaps);
        *blocks_nodes_push(&nodes) = node;
    }
    *ret_nodes = nodes;
    memset(&nodes, 0, sizeof(nodes));
    return 0;
}

const struct blocks_node *blocks_find(const struct blocks_nodes *nodes, const char *name)
{
    VEC_FOREACH(node, nodes) {
        if (str_eq(node->name, name))
            return node;
    }
    return NULL;
}

const struct blocks_bitmap *blocks_find_bitmap(const struct blocks_node *node, const char *name)
{
    VEC_FOREACH(bitmap, &node->bitmaps) {
        if (str_eq(bitmap->name, name))
            return bitmap;
    }
    return NULL;
}

int blocks_add(struct qmp *qmp, json_t *options, struct cancel *cancel, struct err *err)
{
    return qmp_command(qmp, "blockdev-add", options, NULL, cancel, err);
}

int blocks_remove(struct qmp *qmp, const char *node, struct cancel *cancel, struct err *err)
{
    return qmp_command(qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL, cancel,
                       err);
}

/* --- Transactions -------------------------------------------------------------------------- */

int blocks_transaction(struct qmp *qmp, json_t *actions, struct cancel *cancel, struct err *err)
{
    if (json_array_size(actions) == 0) {
        json_decref(actions);
        return 0;
    }
    return qmp_command(qmp, "transaction", json_pack("{s:o}", "actions", actions), NULL, cancel,
                       err);
}

static json_t *action(const char *type, json_t *data)
{
    return json_pack("{s:s, s:o}", "type", type, "data", data);
}

json_t *blocks_bitmap_add(const char *node, const char *bitmap, uint64_t granularity)
{
    return action("block-dirty-bitmap-add",
                  json_pack("{s:s, s:s, s:I}", "node", node, "name", bitmap, "granularity",
                            (json_int_t)granularity));
}

json_t *blocks_bitmap_keep(const char *node, const char *bitmap, uint64_t granularity)
{
    return action("block-dirty-bitmap-add",
                  json_pack("{s:s, s:s, s:I, s:b, s:b}", "node", node, "name", bitmap,
                            "granularity", (json_int_t)granularity, "persistent", 1, "disabled",
                            1));
}

json_t *blocks_bitmap_disable(const char *node, const char *bitmap)
{
    return action("block-dirty-bitmap-disable",
                  json_pack("{s:s, s:s}", "node", node, "name", bitmap));
}

json_t *blocks_bitmap_remove(const char *node, const char *bitmap)
{
    return action("block-dirty-bitmap-remove",
                  json_pack("{s:s, s:s}", "node", node, "name", bitmap));
}

json_t *blocks_bitmap_merge(const char *node, const char *into, const char *from_node,
                            const char *from)
{
    return action("block-dirty-bitmap-merge",
                  json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "node", node, "target", into, "bitmaps",
                            "node", from_node, "name", from));
}

json_t *blocks_backup(const char *job, const char *node, const char *target, const char *bitmap)
{
    /* never: whether the copy arrives at the replica is not for QEMU to decide */
    return action("blockdev-backup", json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "job-id", job,
                                               "device", node, "target", target, "sync", "bitmap",
                                               "bitmap", bitmap, "bitmap-mode", "never"));
}

/* --- Jobs ---------------------------------------------------------------------------------- */

int blocks_list_jobs(struct qmp *qmp, struct blocks_jobs *ret_jobs, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    json_t *entry;
    size_t i;

    if (qmp_command(qmp, "query-jobs", NULL, &list, cancel, err) < 0)
        return -1;
    blocks_jobs_clear(ret_jobs);
    json_array_foreach(list, i, entry) {
        struct blocks_job job = {.done = json_get_u64(entry, "current-progress", 0),
                                 .total = json_get_u64(entry, "total-progress", 0),
                                 .paused = str_eq(json_get_str(entry, "status", ""), "paused")};
        if (copy_name(job.id, sizeof(job.id), json_get_str(entry, "id", "")) && job.id[0])
            *blocks_jobs_push(ret_jobs) = job;
    }
    return 0;
}

/* 1: it is listed, 0: it is not. */
static int job_is_there(struct qmp *qmp, const char *id, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_jobs_free) struct blocks_jobs jobs = VEC_EMPTY;

    if (blocks_list_jobs(qmp, &jobs, cancel, err) < 0)
        return -1;
    VEC_FOREACH(job, &jobs) {
        if (str_eq(job->id, id))
            return 1;
    }
    return 0;
}

/* How often in a row it was seen paused. */
static int count_pauses(struct qmp *qmp, const char *id, unsigned *pauses, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(blocks_jobs_free) struct blocks_jobs jobs = VEC_EMPTY;
    bool paused = false;

    if (blocks_list_jobs(qmp, &jobs, cancel, err) < 0)
        return -1;
    VEC_FOREACH(job, &jobs)
        paused = paused || (str_eq(job->id, id) && job->paused);
    *pauses = paused ? *pauses + 1 : 0;
    return 0;
}

static int wait_end(struct qmp *qmp, const char *job, json_t **ret_event, struct cancel *cancel,
                    struct err *err)
{
    static const char *const ends[] = {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", NULL};
    const struct qmp_want want = {ends, "device", job};
    unsigned pauses = 0;

    for (;;) {
        CLEANUP(cancel_freep) struct cancel *slice = cancel_new(NULL, cancel, JOB_LOOK_MS);
        struct err over = ERR_EMPTY;

        if (qmp_wait_event(qmp, &want, ret_event, slice, &over) == 0)
            return 0;
        if (over.code != ERR_TIMEOUT)
            return err_set(err, over.code, over.sys, "%s", over.text);
        if (cancel_check(cancel, err) < 0)
            return err_wrap(err, "wait for the end of block job %s", job);
        if (count_pauses(qmp, job, &pauses, cancel, err) < 0)
            return -1;
        if (pauses >= JOB_PAUSES)
            return err_set(err, ERR_BUSY, 0,
                           "block job %s stands still: QEMU paused it, and does not let it go on",
                           job);
    }
}

int blocks_wait_job(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *event = NULL;
    const char *why;

    if (wait_end(qmp, job, &event, cancel, err) < 0)
        return -1;
    if (str_eq(json_get_str(event, "event", ""), "BLOCK_JOB_CANCELLED"))
        return err_set(err, ERR_CANCELLED, 0, "block job %s was cancelled", job);
    /* The only sign of a failure. */
    why = json_get_str(json_object_get(event, "data"), "error", NULL);
    if (why)
        return err_set(err, ERR_IO, 0, "block job %s failed: %s", job, why);
    return 0;
}

int blocks_cancel_job(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
{
    struct err refused = ERR_EMPTY;

    /* Refused when it has just ended, or is ending: looking tells. */
    if (qmp_command(qmp, "block-job-cancel", json_pack("{s:s, s:b}", "device", job, "force", 1),
                    NULL, cancel, &refused)
            < 0
        && refused.code != ERR_NOT_FOUND && refused.code != ERR_STATE) {
        if (err)
            *err = refused;
        return -1;
    }
    for (;;) {
        static const char *const changes[] = {"JOB_STATUS_CHANGE", NULL};
        const struct qmp_want want = {changes, "id", job};
        CLEANUP(cancel_freep) struct cancel *slice = cancel_new(NULL, cancel, JOB_LOOK_MS);
        CLEANUP(json_freep) json_t *event = NULL;
        struct err over = ERR_EMPTY;
        int there = job_is_there(qmp, job, cancel, err);

        if (there <= 0)
            return there;
        if (qmp_wait_event(qmp, &want, &event, slice, &over) < 0) {
            if (over.code != ERR_TIMEOUT || cancel_check(cancel, err) < 0) {
                if (over.code != ERR_TIMEOUT && err)
                    *err = over;
                return err_wrap(err, "wait for the end of block job %s", job);
            }
        }
    }
}

int blocks_machine_status(struct qmp *qmp, char *ret_status, size_t len, struct cancel *cancel,
                          struct err *err)
{
    CLEANUP(json_freep) json_t *result = NULL;
    struct err why = ERR_EMPTY;
    const char *status;

    if (qmp_command(qmp, "query-status", NULL, &result, cancel, &why) < 0) {
        if (why.code != ERR_UNSUPPORTED) {
            *err = why;
            return -1;
        }
        /* A storage daemon has no machine: whoever writes by it may write as long as it lives. */
        (void)snprintf(ret_status, len, "running");
        return 0;
    }
    if (json_need_str(result, "status", "query-status", &status, err) < 0)
        return -1;
    (void)snprintf(ret_status, len, "%s", status);
    return 0;
}
