// SPDX-License-Identifier: Apache-2.0
#include "plugin/plugin.h"

#include "base/fs.h"
#include "base/str.h"
#include "replica/view.h"

#include <string.h>

static uint64_t disk_size(void *disk)
{
    return view_size(disk);
}

static int disk_read(void *disk, uint64_t off, void *buf, size_t len, struct err *err)
{
    return view_read(disk, off, buf, len, err);
}

static void disk_close(void *disk)
{
    view_close(disk);
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

int served_view_open(const struct plugin_settings *settings, const struct disk_ops **ret_ops,
                     void **ret_disk, struct err *err)
{
    CLEANUP(key_wipe) struct key key = {{0}};
    struct view *view;

    if (read_key(settings->keyfile, &key, err) < 0
        || view_open(settings->dir, settings->disk, settings->point, &key, NULL, &view, err) < 0)
        return -1;
    *ret_ops = &view_ops;
    *ret_disk = view;
    return 0;
}
