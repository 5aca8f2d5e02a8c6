// SPDX-License-Identifier: Apache-2.0
/* A file system that clones files (XFS in a loop device), below a test's folder. */
#pragma once

#include <stdbool.h>

/* ROOT/mount, some 350 MiB, in `ret_dir`. False, and why it is skipped is said: it cannot be had here. */
bool reflink_mount(const char *root, char **ret_dir);
void reflink_unmount(char **dir); /* frees the name; NULL is fine */
