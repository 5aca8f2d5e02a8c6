// SPDX-License-Identifier: Apache-2.0
/* A filter over a struct fs: after a failed sync nothing may be changed through it any more. The
 * kernel reports a page it could not write once and then calls it clean, so a second sync would
 * lie; only opening anew, with its recovery, finds out what is there. One thread. */
#pragma once

#include "base/fs.h"

struct guard_fs {
    struct fs fs;
    struct fs *below;
    bool broken;
};
void guard_fs_init(struct guard_fs *guard, struct fs *below);
/* ERR_IO once it is broken. */
int guard_fs_check(const struct guard_fs *guard, struct err *err) MUST_CHECK;
