// SPDX-License-Identifier: Apache-2.0
/* QEMU's block layer in our words: nodes, bitmaps, jobs, transactions. Each function is one or a
 * few QMP commands on a monitor; names of nodes are at most 31 bytes, a rule of QEMU's. The rules
 * that keep a guest alive stand in docs/qemu.md. */
#pragma once

#include "base/vec.h"
#include "qemu/qmp.h"

#include <stdbool.h>
#include <stdint.h>

#define BLOCKS_NODE_BYTES 32
#define BLOCKS_NAME_BYTES 256

/* A dirty bitmap of a node. One that is inconsistent may only be removed, one that is busy is in
 * use by a job. */
struct blocks_bitmap {
    char name[BLOCKS_NAME_BYTES];
    uint64_t granularity;
    uint64_t count; /* dirty bytes */
    bool recording;
    bool busy;
    bool inconsistent;
};
VEC_DEFINE(blocks_bitmaps, struct blocks_bitmap)

struct blocks_node {
    char name[BLOCKS_NODE_BYTES];
    uint64_t size;         /* bytes, as its user sees it */
    uint64_t actual_bytes; /* on the host's disk; 0 when QEMU cannot tell */
    struct blocks_bitmaps bitmaps;
};
VEC_DEFINE(blocks_nodes, struct blocks_node)
void blocks_nodes_done(struct blocks_nodes *nodes); /* for CLEANUP: frees the bitmaps too */
/* All nodes that have a name. */
int blocks_list(struct qmp *qmp, struct blocks_nodes *ret_nodes, struct cancel *cancel,
                struct err *err) MUST_CHECK;
/* NULL: no such node. */
const struct blocks_node *blocks_find(const struct blocks_nodes *nodes, const char *name);
const struct blocks_bitmap *blocks_find_bitmap(const struct blocks_node *node, const char *name);

/* `options` is taken: a BlockdevOptions object. */
int blocks_add(struct qmp *qmp, json_t *options, struct cancel *cancel, struct err *err) MUST_CHECK;
int blocks_remove(struct qmp *qmp, const char *node, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* Several actions at one instant: all happen or none. `actions` (an array) is taken; an empty
 * array is no command at all. */
int blocks_transaction(struct qmp *qmp, json_t *actions, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Actions for it; the caller's own objects. */
json_t *blocks_bitmap_add(const char *node, const char *bitmap, uint64_t granularity);
json_t *blocks_bitmap_disable(const char *node, const char *bitmap);
json_t *blocks_bitmap_remove(const char *node, const char *bitmap);
/* `into` of `node` becomes a superset of `from` of `from_node`. Neither may be inconsistent. */
json_t *blocks_bitmap_merge(const char *node, const char *into, const char *from_node,
                            const char *from);
/* One that is written into its node's own file when that is closed, and records nothing. */
json_t *blocks_bitmap_keep(const char *node, const char *bitmap, uint64_t granularity);
/* The blocks of a disabled bitmap as they are at this instant are copied to `target`. */
json_t *blocks_backup(const char *job, const char *node, const char *target, const char *bitmap);

struct blocks_job {
    char id[BLOCKS_NAME_BYTES];
    uint64_t done; /* of total, in the job's own measure */
    uint64_t total;
    bool paused;
};
VEC_DEFINE(blocks_jobs, struct blocks_job)
int blocks_list_jobs(struct qmp *qmp, struct blocks_jobs *ret_jobs, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* Waits for its end. ERR_IO: it failed (QEMU's words); ERR_CANCELLED: somebody cancelled it; ERR_BUSY:
 * it stands still, paused for a second and more, which nobody asked for: cancelled, it can be tried
 * again. */
int blocks_wait_job(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Cancels it by force and waits until it is gone; gone already is fine. */
int blocks_cancel_job(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* query-status: "running", "paused", "shutdown", "io-error", "prelaunch", ... */
int blocks_machine_status(struct qmp *qmp, char *ret_status, size_t len, struct cancel *cancel,
                          struct err *err) MUST_CHECK;
