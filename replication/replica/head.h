// SPDX-License-Identifier: Apache-2.0
/* Where the head of a replica's disk is: DISK/head.raw (head.luks) in its folder, or the machine's own disk where
 * that became the replica (store_dir_adopt). Any thread; needs no open store. */
#pragma once

#include "base/fs.h"

#include <stdbool.h>

/* Malloc'ed; the format of a LUKS container is "luks"; `ret_run_dir` may be NULL: the folder of the private server of a head that is not raw, or
 * NULL. ERR_NOT_FOUND: no such disk (lists those there are), or no replica. */
int head_path(const char *dir, const char *disk, char **ret_path, char **ret_format,
              char **ret_run_dir, struct err *err) MUST_CHECK;
/* By which the heads of a replica whose heads are LUKS containers are opened as the disks in them, with
 * the key in the file `luks_key` (read when one is opened); NULL: they are none. Free with
 * fs_luks_free, after all of its files are closed. */
int head_unlocked(const char *dir, const char *luks_key, struct fs **ret_heads, struct err *err)
    MUST_CHECK;
/* Are the digests of all its heads made? ERR_NOT_FOUND: there is no replica. */
int head_has_digests(const char *dir, bool *ret_has, struct err *err) MUST_CHECK;
