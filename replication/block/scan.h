// SPDX-License-Identifier: Apache-2.0
/* Reading a whole disk from front to back in pieces (source.h, struct source_piece): what is known
 * to be a hole, and data that is all zeros, come as zero pieces. Pieces ascend, touch, and end at
 * the disk's end. One thread at a time. */
#pragma once

#include "block/nbd_image.h"

struct scan;
/* A raw file or block device, read by us while others may write it. `from` is rounded down to
 * 64 KiB. A file shorter than the disk reads as zeros behind its end. */
int scan_raw_open(const char *name, const char *path, uint64_t size, uint64_t from,
                  struct scan **ret_scan, struct err *err) MUST_CHECK;
/* The same of the image of a machine that runs and whose changes are tracked: of a clone of it (clone.h)
 * made now, where that can be had; else of the image. Both are supersets: what is written from now on is
 * in the map. `room`: struct clone_wish. */
int scan_written_open(const char *name, const char *path, uint64_t size, uint64_t from,
                      uint64_t room, struct scan **ret_scan, struct err *err) MUST_CHECK;
/* Of a clone that is the caller's. */
int scan_clone_open(const char *name, const char *path, int clone, uint64_t size, uint64_t from,
                    struct scan **ret_scan, struct err *err) MUST_CHECK;
bool scan_is_clone(const struct scan *scan); /* NULL: not */
/* Gives up the clone of a machine that runs, and goes on with its image; scan_mind_room does it when the
 * file system of both is getting full. Nobody may be reading from it. NULL is fine. */
void scan_give_up_clone(struct scan *scan);
void scan_mind_room(struct scan *scan);
/* A connected image, borrowed for as long as the scan lives. */
void scan_image_open(struct nbd_image *image, uint64_t from, struct scan **ret_scan);
int scan_next(struct scan *scan, struct source_piece *ret_piece, struct cancel *cancel,
              struct err *err) MUST_CHECK;
/* The same, but data is not read: `data` is NULL. Only for raw disks. */
int scan_next_place(struct scan *scan, struct source_piece *ret_piece, struct cancel *cancel,
                    struct err *err) MUST_CHECK;
/* Reads data of such a piece. Only for raw disks; any thread, several at a time, until scan_close. */
int scan_read(const struct scan *scan, uint64_t off, void *buf, size_t len, struct err *err)
    MUST_CHECK;
void scan_close(struct scan *scan); /* NULL is fine */

/* Is all of it zero? */
bool scan_is_zero(const uint8_t *bytes, size_t len);
