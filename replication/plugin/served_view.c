// SPDX-License-Identifier: Apache-2.0
#include "plugin/plugin.h"

#include "base/fs_luks.h"
#include "base/mem.h"
#include "base/str.h"
#include "replica/head.h"
#include "replica/view.h"

#include <string.h>

struct served_view {
    struct view *view;
    struct fs *heads; /* those that are containers; or NULL */
};

static uint64_t disk_size(void *disk)
{
    const struct served_view *served = disk;

    return view_size(served->view);
}

static int disk_read(void *disk, uint64_t off, void *buf, size_t len, struct err *err)
{
    const struct served_view *served = disk;

    return view_read(served->view, off, buf, len, err);
}

static void disk_close(void *disk)
{
    struct served_view *served = disk;

    view_close(served->view);
    fs_luks_free(served->heads);
    free(served);
}

static const struct disk_ops view_ops = {
    .size = disk_size,
    .read = disk_read,
    .close = disk_close,
};

static int read_key(const char *path, struct key *ret_key, struct err *err)
{
    CLEANUP(str_free) struct str bytes = STR_EMPTY;

    if (fs_read_file(fs_real(), path, 4096, &bytes, err) < 0)
        return -1;
    if (bytes.len != KEY_BYTES)
        return err_set(err, ERR_INVALID, 0, "%s: a key has %d bytes, this file %zu", path,
                       KEY_BYTES, bytes.len);
    memcpy(ret_key->bytes, bytes.ptr, KEY_BYTES);
    memset(bytes.ptr, 0, bytes.len);
    return 0;
}

static void served_freep(struct served_view **served)
{
    if (*served)
        disk_close(*served);
}

int served_view_open(const struct plugin_settings *settings, const struct disk_ops **ret_ops,
                     void **ret_disk, struct err *err)
{
    CLEANUP(key_wipe) struct key key = {{0}};
    CLEANUP(served_freep) struct served_view *served = mem_new(struct served_view);

    if (read_key(settings->keyfile, &key, err) < 0
        || (settings->luks && head_unlocked(settings->dir, settings->luks, &served->heads, err) < 0)
        || view_open(settings->dir, settings->disk, settings->point, &key, served->heads,
                     &served->view, err)
               < 0)
        return -1;
    *ret_ops = &view_ops;
    *ret_disk = TAKE(served);
    return 0;
}
