// SPDX-License-Identifier: Apache-2.0
/* A filter over a struct fs that acts as a process that is killed: after so many changes nothing
 * has any effect any more, and every call fails. What was done, synced or not, stays. */
#pragma once

#include "base/fs.h"

struct dying_fs {
    struct fs fs;
    struct fs *below;
    uint64_t left; /* changes until the end */
};
void dying_fs_init(struct dying_fs *dying, struct fs *below, uint64_t changes);
