// SPDX-License-Identifier: Apache-2.0
/* What a QEMU that somebody else started says about itself, on a monitor that is open. */
#pragma once

#include "base/proc.h"
#include "block/source_qemu.h"
#include "providers/provider_qemu.h"

/* The process at the other end of the monitor, when it can be seen from here (it may be in a
 * container, or its socket made by somebody else and handed over). */
struct qemu_peer {
    bool known;
    struct proc_id id;
    char cwd[MACHINE_PATH_BYTES]; /* it was started in; "": relative paths cannot be told */
};
int qemu_peer_find(struct qmp *qmp, struct qemu_peer *ret_peer, struct cancel *cancel,
                   struct err *err) MUST_CHECK;

/* A drive that a device of the guest uses. */
struct qemu_drive {
    char device[64]; /* as its owner calls it, for messages */
    char node[BLOCKS_NODE_BYTES];
    char path[MACHINE_PATH_BYTES]; /* absolute, or as QEMU says it */
    char format[16];
    bool iothread;
    bool firmware;     /* UEFI's flash memory */
    bool read_only;    /* and so left out */
    char problem[256]; /* why it cannot be replicated; "": it can */
};
VEC_DEFINE(qemu_drives, struct qemu_drive)
int qemu_drives_find(struct qmp *qmp, const struct qemu_peer *peer, struct qemu_drives *ret_drives,
                     struct cancel *cancel, struct err *err) MUST_CHECK;

/* The path of a unix socket's chardev; NULL: it is none. Free with free(). */
char *qemu_chardev_path(const json_t *chardev);
/* "CWD/path" unless it is absolute; false when that cannot be told or is too long. */
bool qemu_path_absolute(const struct qemu_peer *peer, const char *path,
                        char ret_path[MACHINE_PATH_BYTES]);
/* Are both the same file or device? By their names when one of them cannot be looked at. */
bool qemu_same_file(const char *a, const char *b);
/* Adds a line for each difference. */
void qemu_compare(const struct machine *given, const struct machine *runs, struct str *problems);
/* A text property; "" when it has none of that name. */
int qemu_property(struct qmp *qmp, const char *path, const char *name, char *ret_text, size_t len,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
