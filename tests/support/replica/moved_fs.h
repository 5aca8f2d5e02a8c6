// SPDX-License-Identifier: Apache-2.0
/* A filter over fs_real() for a folder that was played back elsewhere: absolute paths that were
 * written down in it still mean the old place. It tells no stamps: what was played back is new. */
#pragma once

#include "base/fs.h"

struct moved_fs {
    struct fs fs;
    struct fs *below;
    const char *from; /* borrowed, as `to` */
    const char *to;
};
void moved_fs_init(struct moved_fs *moved, struct fs *below, const char *from, const char *to);
