// SPDX-License-Identifier: Apache-2.0
/* A private qemu-nbd: shows one disk, kept in a format of QEMU's, on a unix socket. It outlives us
 * and ends by itself with its last client. At most one serves a disk: who starts or ends one holds a
 * lock, and QEMU's own lock on the image refuses a second one, and any machine. Its socket, pid file
 * and lock are in a run folder, named after the disk's path. Any thread, any process. */
#pragma once

#include "base/fs.h"

#include <stdbool.h>

/* An image that was looked at before it may be served: the file that is open there, as it was then. */
struct nbd_pin {
    int fd; /* stays open as long as the server may have to be started again */
    struct fs_stamp stamp;
};

struct nbd_server {
    const char *run_dir; /* made when missing */
    const char *path;    /* of the disk, absolute; with a pin: any name, for messages */
    const char *format;
    bool read_only; /* of all who use it */
    const struct nbd_pin
        *pin; /* serve this, whatever lies at `path` by now; NULL: what lies there */
};
/* The socket of the server that is there, or of one started now; free with free(). ERR_IO has the
 * words of QEMU: the image is in use by a machine, say. ERR_BUSY: the pinned file was written to. */
int nbd_server_need(const struct nbd_server *server, char **ret_socket, struct err *err) MUST_CHECK;
/* Ends the one that is there, and comes back when it is gone; none is fine. What its clients wrote
 * and did not sync may be lost. */
int nbd_server_end(const struct nbd_server *server, struct err *err) MUST_CHECK;
/* The same for good: somebody else needs the image. Until nbd_server_admit, whoever needs a server
 * is told ERR_STATE. */
int nbd_server_bar(const struct nbd_server *server, struct err *err) MUST_CHECK;
int nbd_server_admit(const struct nbd_server *server, struct err *err) MUST_CHECK;
