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
};
/* `qmp` is borrowed; nobody else may use it until mirror_close. */
int mirror_open(const struct mirror_config *config, struct qmp *qmp, struct mirror **ret_mirror,
                struct cancel *cancel, struct err *err) MUST_CHECK;
/* len 0: every block the disk had when the mirror began has come, and QEMU has let go of it. */
int mirror_next(struct mirror *mirror, struct source_piece *ret_piece, struct cancel *cancel,
                struct err *err) MUST_CHECK;
/* Stops it if it still runs; its node and sockets go. */
void mirror_close(struct mirror *mirror); /* NULL is fine */
