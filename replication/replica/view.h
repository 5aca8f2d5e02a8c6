// SPDX-License-Identifier: Apache-2.0
/* A view: one kept point of one disk of a directory store, read-only, while another process goes
 * on applying. Lock-free against it: the chain page (a small file both map) carries a sequence
 * number and the list of undo files; a read looks its chunk up along the chain from its point,
 * reads head, looks at the sequence again and starts over when it moved. The point must be
 * pinned for as long as the view lives. Any number of threads may read one view. */
#pragma once

#include "base/crypto.h"
#include "base/err.h"
#include "base/fs.h"

#include <stddef.h>
#include <stdint.h>

struct view;
/* `dir` is replicas/GROUP; `heads` opens its head (borrowed; NULL: as the store itself does, a plain
 * file, or by the private server of a disk in another format). ERR_NOT_FOUND: no such point or disk
 * (the text lists what is there). */
int view_open(const char *dir, const char *disk, uint64_t point, const struct key *group_key,
              struct fs *heads, struct view **ret_view, struct err *err) MUST_CHECK;
uint64_t view_size(const struct view *view);
/* Any offset and length within the disk. ERR_CORRUPT names the undo file and the chunk. */
int view_read(struct view *view, uint64_t off, void *buf, size_t len, struct err *err) MUST_CHECK;
/* Writes the point as a raw sparse image (0 on success). */
int view_export(struct view *view, const char *path, struct err *err) MUST_CHECK;
void view_close(struct view *view);
void view_closep(struct view **view);
