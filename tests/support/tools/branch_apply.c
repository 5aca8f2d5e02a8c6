// SPDX-License-Identifier: Apache-2.0
/* branch_apply REPLICA GROUP KEYFILE BRANCH: gives a branch (a folder of sites/branch.h) as the next
 * point to a copy of the replica as it was before its promotion, and applies it: its heads hold what
 * the old machine's disks held then. */
#include "base/mem.h"
#include "base/str.h"
#include "replica/store.h"

#include <stdio.h>
#include <string.h>

#define SEGMENT_MAX (UINT64_C(1) << 30)

static int give(struct store *store, const char *folder, const char *disk,
                const struct manifest_segment *segment, struct err *err)
{
    CLEANUP(str_free) struct str bytes = STR_EMPTY;
    char hex[2 * UUID_BYTES + 1];
    uint64_t have;

    str_hex(segment->uuid.bytes, UUID_BYTES, hex);
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s-%s", folder, disk, hex);
    if (fs_read_file(fs_real(), path, SEGMENT_MAX, &bytes, err) < 0
        || store->ops->segment_open(store, disk, &segment->uuid, &have, err) < 0)
        return -1;
    for (size_t at = 0; at < bytes.len;) {
        size_t n = bytes.len - at < (1U << 20) ? bytes.len - at : 1U << 20;
        if (store->ops->segment_write(store, disk, &segment->uuid, at, bytes.ptr + at, n, err) < 0)
            return -1;
        at += n;
    }
    return store->ops->segment_close(store, disk, &segment->uuid, &segment->root, segment->bytes,
                                     err);
}

static int apply(struct store *store, const char *folder, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *path = path_join(folder, "manifest");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    uint64_t applied;

    manifest_init(&manifest);
    if (fs_read_file(fs_real(), path, 1 << 22, &text, err) < 0
        || manifest_parse(str_text(&text), text.len, &manifest, err) < 0)
        return -1;
    VEC_FOREACH(disk, &manifest.disks)
        VEC_FOREACH(segment, &disk->segments)
            if (give(store, folder, disk->name, segment, err) < 0)
                return -1;
    if (store->ops->point_commit(store, text.ptr, text.len, err) < 0)
        return -1;
    do {
        if (store->ops->point_apply(store, &applied, NULL, NULL, err) < 0)
            return -1;
    } while (applied != 0 && applied != manifest.point);
    return 0;
}

int main(int argc, char **argv)
{
    CLEANUP(store_closep) struct store *store = NULL;
    CLEANUP(str_free) struct str key = STR_EMPTY;
    struct err err = ERR_EMPTY;

    if (argc != 5) {
        (void)fprintf(stderr, "usage: branch_apply REPLICA GROUP KEYFILE BRANCH\n");
        return 2;
    }
    struct store_dir_config config = {
        .fs = fs_real(), .clock = clock_real(), .dir = argv[1], .group = argv[2]};
    if (fs_read_file(fs_real(), argv[3], KEY_BYTES, &key, &err) == 0 && key.len == KEY_BYTES)
        memcpy(config.group_key.bytes, key.ptr, KEY_BYTES);
    if (store_dir_open(&config, &store, &err) < 0 || apply(store, argv[4], &err) < 0) {
        (void)fprintf(stderr, "branch_apply: %s\n", err.text);
        return 1;
    }
    return 0;
}
