// SPDX-License-Identifier: Apache-2.0
/* The nbdkit plugin: one process serves one disk.
 *
 *   mode=view (default)  dir=REPLICA disk=NAME point=N keyfile=PATH [luks=PATH]: a kept point,
 *                        read-only; `luks` is the key file of heads that are LUKS containers
 *   mode=sink            size=BYTES socket=PATH: takes a mirror's writes and passes each on
 *
 * nbdkit calls from many threads at once; what is said here holds for all of them. Settings are
 * complete before the first connection and do not change. */
#pragma once

#include "base/crypto.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plugin_settings {
    bool sink;
    char *dir;
    char *disk;
    uint64_t point;
    char *keyfile;
    char *luks; /* may be NULL */
    uint64_t size;
    char *socket;
};

/* Tells nbdkit: the text to its log, an errno to the client. Evaluates to -1. */
int plugin_failed(const struct err *err);

/* What a mode can do with its disk. Errors as everywhere. */
struct disk_ops {
    uint64_t (*size)(void *disk);
    int (*read)(void *disk, uint64_t off, void *buf, size_t len, struct err *err);
    /* NULL when the disk is read-only. */
    int (*write)(void *disk, uint64_t off, const void *buf, size_t len, struct err *err);
    int (*zero)(void *disk, uint64_t off, uint64_t len, struct err *err);
    int (*flush)(void *disk, struct err *err);
    void (*client_left)(void *disk); /* a client that had written */
    void (*close)(void *disk);
};

int served_view_open(const struct plugin_settings *settings, const struct disk_ops **ret_ops,
                     void **ret_disk, struct err *err) MUST_CHECK;
int served_sink_open(const struct plugin_settings *settings, const struct disk_ops **ret_ops,
                     void **ret_disk, struct err *err) MUST_CHECK;
