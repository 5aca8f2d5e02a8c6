// SPDX-License-Identifier: Apache-2.0
/* A clone: a copy of a whole image file that shares its blocks (a reflink), made in moments and of one
 * instant, to be read while the image itself is written.
 *
 * It has no name: it is there as long as a descriptor of it is open, and whatever ends us, a power cut
 * too, leaves nothing behind. So there is none of an earlier life either, which could be older than the
 * map that is open now.
 *
 * What is written to the image while its clone is there takes room of its own. Any thread. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct clone_wish {
    int from;         /* the image, open for reading */
    const char *path; /* of it: the clone is made in its folder */
    /* That its file system must have free, so that nobody who writes runs out of room: what the image
     * holds, and what others hold that are cloned at the same time. */
    uint64_t room;
    /* A guest writes to it, and waits while it is cloned: only where that takes some ten milliseconds. */
    bool written;
};
/* ERR_UNSUPPORTED: it cannot be had, for whatever reason; the image is read itself then. */
int clone_make(const struct clone_wish *wish, int *ret_fd, struct err *err) MUST_CHECK;

/* Bytes that a clone of this image may come to need; 0: nothing can be cloned there. */
uint64_t clone_room(const char *path);
/* Its file system is getting full: it is better given up. */
bool clone_lacks_room(int fd);
