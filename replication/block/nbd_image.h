// SPDX-License-Identifier: Apache-2.0
/* A disk image of any format, read through a qemu-nbd of our own (read-only, a child that dies
 * with us) over a unix socket. Reads follow a plan, so that many are under way at once. One thread
 * at a time; the child ends when the thread that started it ends. */
#pragma once

#include "block/source.h"

struct nbd_image;
struct nbd_image_config {
    const char *name; /* for messages */
    const char *path;
    const char *format;
    const char *socket; /* made, and removed by close */
    /* A QEMU may have it open and write it: bytes that nobody writes meanwhile are read as they are. */
    bool shared;
    /* Of the image itself, when `path` is but what it is a clone of (clone.h); NULL: it has that name.
     * It must not be closed while the image is there. */
    const int *fd;
};
/* Starts the server without waiting for it, so that several start side by side. */
int nbd_image_start(const struct nbd_image_config *config, struct nbd_image **ret_image,
                    struct err *err) MUST_CHECK;
/* Waits until it answers. ERR_IO: it ended (with the last line it said). */
int nbd_image_connect(struct nbd_image *image, struct cancel *cancel, struct err *err) MUST_CHECK;
void nbd_image_close(struct nbd_image *image); /* NULL is fine */
void nbd_image_closep(struct nbd_image **image);

uint64_t nbd_image_size(const struct nbd_image *image);
/* What is not known to be zero in [from, to), ascending, joined where it touches. Appended. `to` must be a multiple of 64 KiB or the end. */
int nbd_image_extents(struct nbd_image *image, uint64_t from, uint64_t to,
                      struct source_extents *extents, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* What will be read, ascending (copied). Reads in that order are served from what was asked for
 * ahead; other reads work too, slower. */
void nbd_image_plan(struct nbd_image *image, const struct source_extents *extents);
int nbd_image_read(struct nbd_image *image, uint64_t off, void *buf, size_t len,
                   struct cancel *cancel, struct err *err) MUST_CHECK;
