// SPDX-License-Identifier: Apache-2.0
/* The digests of a head's chunks in a file beside it. Entries are written in place: whoever
 * changes head writes them again after a cut, and syncs them before it says so. One thread. */
#pragma once

#include "base/crypto.h"
#include "base/fs.h"

#include <stdint.h>

/* Makes the file for a disk of `size` bytes, all chunks zero; one that is there is emptied. */
int digests_file_create(struct fs *fs, const char *path, uint64_t size, struct err *err) MUST_CHECK;
/* ERR_CORRUPT: damaged, or of a disk of another size. */
int digests_file_open(struct fs *fs, const char *path, uint64_t size, int *ret_fd, struct err *err)
    MUST_CHECK;
/* The same for reading alone, of a file that nobody may change. */
int digests_file_look(struct fs *fs, const char *path, uint64_t size, int *ret_fd, struct err *err)
    MUST_CHECK;
/* An open one, for a disk that has this size from now on: what is new is zero. Not synced. */
int digests_file_resize(struct fs *fs, int fd, uint64_t size, struct err *err) MUST_CHECK;
int digests_file_read(struct fs *fs, int fd, uint64_t first, uint64_t count,
                      struct digest *ret_digests, struct err *err) MUST_CHECK;
int digests_file_write(struct fs *fs, int fd, uint64_t first, uint64_t count,
                       const struct digest *digests, struct err *err) MUST_CHECK;
