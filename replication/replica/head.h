// SPDX-License-Identifier: Apache-2.0
/* Where the head of a replica's disk is: DISK/head.raw in its folder, or the machine's own disk where
 * that became the replica (store_dir_adopt). Any thread; needs no open store. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

/* Malloc'ed; `ret_run_dir` may be NULL: the folder of the private server of a head that is not raw, or
 * NULL. ERR_NOT_FOUND: no such disk (lists those there are), or no replica. */
int head_path(const char *dir, const char *disk, char **ret_path, char **ret_format,
              char **ret_run_dir, struct err *err) MUST_CHECK;
/* Are the digests of all its heads made? ERR_NOT_FOUND: there is no replica. */
int head_has_digests(const char *dir, bool *ret_has, struct err *err) MUST_CHECK;
