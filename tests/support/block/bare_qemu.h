// SPDX-License-Identifier: Apache-2.0
/* A real QEMU without a guest: a block layer to talk to. Its disks are nodes "d0", "d1", ...;
 * the test writes to them as a guest would. It dies with the test. */
#pragma once

#include "base/proc.h"
#include "qemu/qmp.h"

#define BARE_QEMU_DISKS 4

struct bare_qemu {
    struct proc_id id;
    char *path;      /* the monitor for the code under test */
    char *spare;     /* another one, which nobody uses */
    struct qmp *qmp; /* the test's own */
};

/* `disks`: "raw:/path" or "qcow2:/path", NULL-terminated. Fails the test when it cannot. */
void bare_qemu_start(struct bare_qemu *qemu, const char *dir, const char *const *disks);
/* Writes `len` bytes of value `pattern` through the node. */
void bare_qemu_write(struct bare_qemu *qemu, const char *node, uint64_t off, uint64_t len,
                     unsigned pattern);
/* So that the image file on its own is the disk. */
void bare_qemu_flush(struct bare_qemu *qemu, const char *node);
void bare_qemu_kill(struct bare_qemu *qemu);
