// SPDX-License-Identifier: Apache-2.0
#include "replica/head.h"

#include "base/fs_luks.h"
#include "base/mem.h"
#include "replica/store_dir.h"

static void done(struct store_dir *d)
{
    dir_disks_close(d);
    free(d->run_dir);
    free(d->dir);
}

static int load(struct store_dir *d, struct err *err)
{
    if (dir_state_load(d, err) < 0)
        return -1;
    if (d->base == STORE_EMPTY)
        return err_set(err, ERR_NOT_FOUND, 0, "%s: there is no replica", d->dir);
    return 0;
}

static const struct dir_disk *find(const struct store_dir *d, const char *disk, struct err *err)
{
    CLEANUP(str_free) struct str names = STR_EMPTY;

    VEC_FOREACH(found, &d->disks) {
        if (str_eq(found->name, disk))
            return found;
        str_addf(&names, " %s", found->name);
    }
    err_put(err, ERR_NOT_FOUND, 0, "%s has no disk \"%.63s\" (there are:%s)", d->dir, disk,
            str_text(&names));
    return NULL;
}

int head_path(const char *dir, const char *disk, char **ret_path, char **ret_format,
              char **ret_run_dir, struct err *err)
{
    CLEANUP(done) struct store_dir d = {.fs = fs_real(), .dir = mem_strdup(dir)};

    if (load(&d, err) < 0)
        return -1;
    const struct dir_disk *found = find(&d, disk, err);
    if (!found)
        return -1;
    *ret_path = dir_head_path(found);
    *ret_format = mem_strdup(found->format);
    if (ret_run_dir)
        *ret_run_dir = d.run_dir ? mem_strdup(d.run_dir) : NULL;
    return 0;
}

int head_has_digests(const char *dir, bool *ret_has, struct err *err)
{
    CLEANUP(done) struct store_dir d = {.fs = fs_real(), .dir = mem_strdup(dir)};

    if (load(&d, err) < 0)
        return -1;
    *ret_has = d.base == STORE_COPIED;
    return 0;
}

int head_unlocked(const char *dir, const char *luks_key, struct fs **ret_heads, struct err *err)
{
    CLEANUP(done) struct store_dir d = {.fs = fs_real(), .dir = mem_strdup(dir)};
    struct fs *heads = NULL;

    if (dir_state_load(&d, err) < 0)
        return -1;
    VEC_FOREACH(disk, &d.disks) {
        CLEANUP(mem_freep) char *path = dir_head_path(disk);
        if (!disk->luks)
            continue;
        if (!heads)
            heads = fs_luks_new(fs_real());
        fs_luks_map(heads, path, luks_key, &disk->luks_uuid);
    }
    *ret_heads = heads;
    return 0;
}
