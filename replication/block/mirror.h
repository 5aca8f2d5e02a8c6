// SPDX-License-Identifier: Apache-2.0
/* A whole disk of a running QEMU, copied by QEMU's background mirror into a sink of ours: it never
 * touches the guest's writes, and a sink that dies leaves the guest untouched.
 *
 *   guest's node ── blockdev-mirror ── NBD ── nbdkit + our plugin (mode=sink) ── unix socket ── us
 *
 * The copy is fuzzy: pieces come in any order and later ones replace earlier ones. One thread at a
 * time; nbdkit is a child that ends when the thread that started it ends. */
#pragma once

#include "block/source.h"
#include "qemu/qmp.h"

struct mirror;
struct mirror_config {
    const char *disk; /* for messages */
    const char *node; /* what to copy */
    uint64_t size;
    const char *tag;      /* begins the names of job and node in QEMU; at most 20 bytes */
    const char *work_dir; /* sockets */
    const char *plugin_path;
    const char
        *qmp_path; /* not lent: its job begins and ends under the lock beside it; NULL: none */
    bool lent;     /* the monitor is ours only now and then: mirror_lend and mirror_look */
};
/* `qmp` is borrowed; nobody else may use it until mirror_close. */
int mirror_open(const struct mirror_config *config, struct qmp *qmp, struct mirror **ret_mirror,
                struct cancel *cancel, struct err *err) MUST_CHECK;
/* len 0: every block the disk had when the mirror began has come, and QEMU has let go of it. */
int mirror_next(struct mirror *mirror, struct source_piece *ret_piece, struct cancel *cancel,
                struct err *err) MUST_CHECK;
/* Stops it if it still runs; its node and sockets go. */
void mirror_close(struct mirror *mirror); /* NULL is fine */

/* --- With a monitor that is lent ------------------------------------------------------------
 * Between mirror_lend(qmp) and mirror_lend(NULL) the monitor may be used; mirror_open begins with it
 * lent, mirror_close works best so (else job and node stay in QEMU), mirror_next is not for it. */

void mirror_lend(struct mirror *mirror, struct qmp *qmp); /* NULL mirror is fine */
/* Has nobody looked at the job for so long? False when it has ended. */
bool mirror_wants_a_look(const struct mirror *mirror, int64_t every_ms);
/* Looks whether the job is ready or has ended; needs the monitor. */
int mirror_look(struct mirror *mirror, struct cancel *cancel, struct err *err) MUST_CHECK;
/* As mirror_next, without the monitor: 1 a piece, 0 none within `ms`, -1. */
int mirror_next_within(struct mirror *mirror, int64_t ms, struct source_piece *ret_piece,
                       struct cancel *cancel, struct err *err) MUST_CHECK;
