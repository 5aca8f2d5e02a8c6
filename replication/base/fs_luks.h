// SPDX-License-Identifier: Apache-2.0
/* LUKS containers as the disks in them: a filter over a struct fs. A path that is mapped to a key is
 * opened there as the content of its container; its descriptor is one of ours, of the disk's size, good
 * for close and SEEK_END and for the calls of this fs. Everything else goes on below.
 *
 * Reads may be of any bytes, writes and punches are of whole sectors. A write changes its sectors and
 * no other, and is torn by a power cut where one to a plain file is. What was never written reads as
 * zeros here, though not through cryptsetup or QEMU, so a container must be filled before others use
 * it: fs_luks_fill. `punch` makes holes only while fs_luks_holes says so; else it writes zeros that are
 * sealed, where there are none yet.
 * ERR_AUTH: the key opens it not, or is gone. Any thread; writers of one file one at a time. */
#pragma once

#include "base/fs.h"
#include "base/luks.h"

struct fs *fs_luks_new(struct fs *below); /* borrows */
void fs_luks_free(struct fs *fs);         /* after all of its files are closed; NULL is fine */
/* From now on `path` is a container that the key in the file `key_path` opens. `uuid` NULL: any
 * container; else one with another is ERR_CORRUPT. Mapping it again replaces both. */
void fs_luks_map(struct fs *fs, const char *path, const char *key_path, const struct uuid *uuid);

/* Makes a container of `size` bytes (a multiple of a sector), durable when it returns, by PATH.tmp; its
 * sectors are holes. One that is there already stays. By `fs`, which need not be of this kind. */
int fs_luks_create(struct fs *fs, const char *path, const char *key_path, const struct uuid *uuid,
                   uint64_t size, struct err *err) MUST_CHECK;

/* Of an open file of this kind: its `punch` may make holes of whole chunks of 64 KiB. */
void fs_luks_holes(struct fs *fs, int fd, bool allowed);
/* Writes sealed zeros wherever there is a hole between `off` and `off + len`, whole sectors; says how
 * many bytes it wrote. What is read does not change. The caller syncs. */
int fs_luks_fill(struct fs *fs, int fd, uint64_t off, uint64_t len, uint64_t *ret_written,
                 struct err *err) MUST_CHECK;
