// SPDX-License-Identifier: Apache-2.0
#include "sync/outbox.h"

#include "base/fs.h"
#include "base/mem.h"

#include <string.h>

#define FOLDER       "outbox"
#define MANIFEST     "manifest"
#define MANIFEST_MAX (4u * 1024u * 1024u)

char *outbox_segment_path(const char *dir, const char *disk, const struct uuid *uuid)
{
    char hex[2 * UUID_BYTES + 1];

    str_hex(uuid->bytes, UUID_BYTES, hex);
    return mem_printf("%s/" FOLDER "/%s-%s", dir, disk, hex);
}

int outbox_clear(const char *dir, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(dir, FOLDER);
    CLEANUP(mem_freep) char *manifest = path_join(folder, MANIFEST);
    CLEANUP(fs_names_free) struct fs_names names = {0};
    struct fs *fs = fs_real();

    if (fs_make_dirs(fs, folder, 0700, err) < 0)
        return -1;
    /* Durable before anything else goes: half of a point must not look complete. */
    if (fs_exists(manifest)
        && (fs->unlink(fs, manifest, err) < 0 || fs->sync_dir(fs, folder, err) < 0))
        return -1;
    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        if (fs->unlink(fs, path, err) < 0)
            return -1;
    }
    return 0;
}

int outbox_complete(const char *dir, const char *text, struct err *err)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/" FOLDER "/" MANIFEST, dir);

    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

int outbox_load(const char *dir, struct manifest *ret_manifest, char **ret_text, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(dir, FOLDER);
    CLEANUP(mem_freep) char *path = path_join(folder, MANIFEST);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct fs *fs = fs_real();

    /* Its name may not be durable: whoever gave it that was killed, or the sync failed. Once the
     * replica has the point, only this file tells that it is ours. */
    if (fs_read_file(fs, path, MANIFEST_MAX, &text, err) < 0 || fs->sync_dir(fs, folder, err) < 0)
        return -1;
    if (manifest_parse(str_text(&text), text.len, ret_manifest, err) < 0)
        return err_wrap(err, "%s", path);
    *ret_text = str_take(&text);
    return 0;
}
