// SPDX-License-Identifier: Apache-2.0
#include "replica/head.h"

#include "base/mem.h"
#include "replica/store_dir.h"

static void done(struct store_dir *d)
{
    dir_disks_close(d);
    free(d->dir);
}

int head_path(const char *dir, const char *disk, char **ret_path, char **ret_format,
              struct err *err)
{
    CLEANUP(done) struct store_dir d = {.fs = fs_real(), .dir = mem_strdup(dir)};

    if (dir_state_load(&d, err) < 0)
        return -1;
    if (d.base == STORE_EMPTY)
        return err_set(err, ERR_NOT_FOUND, 0, "%s: there is no replica", dir);
    const struct dir_disk *found = dir_disk_find(&d, disk, err);
    if (!found)
        return err_wrap(err, "%s", dir);
    *ret_path = found->elsewhere ? mem_strdup(found->elsewhere) : path_join(found->dir, DIR_HEAD);
    *ret_format = mem_strdup(found->format);
    return 0;
}
