// SPDX-License-Identifier: Apache-2.0
#include "support/sync/bed_branch.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define FILE_MAX (UINT64_C(1) << 26)

static int holds(void *ctx, uint64_t point, const struct sha256 *hash, bool *ret_holds,
                 struct cancel *cancel, struct err *err)
{
    struct bed *bed = ctx;
    struct store *store = bed_store(bed);
    struct store_info info;

    (void)cancel;
    int rc = store->ops->info(store, &info, err);
    bed_store_put(bed);
    *ret_holds = rc == 0 && info.durable_point == point
                 && memcmp(&info.durable_hash, hash, sizeof(info.durable_hash)) == 0;
    return rc;
}

static int stop(void *ctx, struct cancel *cancel, struct err *err)
{
    struct bed *bed = ctx;
    uint64_t seed = 11;

    (void)cancel;
    (void)err;
    if (bed->last_writes > 0)
        fake_write_random(bed->machine, &seed, bed->last_writes);
    bed->last_writes = 0;
    return 0;
}

int bed_branch(struct bed *bed, bool alive, struct session_branch *ret_branch, struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(bed->dir, "branches");
    const struct session_branch_ask ask = {
        .dir = dir, .alive = alive, .holds = holds, .stop = stop, .ctx = bed};

    return session_branch(bed->session, &ask, ret_branch, NULL, err);
}

char *bed_branch_folder(const struct bed *bed, uint64_t point)
{
    return mem_printf("%s/branches/%" PRIu64, bed->dir, point);
}

static void give_segment(struct store *store, const char *folder, const char *disk,
                         const struct manifest_segment *segment)
{
    CLEANUP(str_free) struct str bytes = STR_EMPTY;
    char hex[2 * UUID_BYTES + 1];
    struct err err = ERR_EMPTY;
    uint64_t have;

    str_hex(segment->uuid.bytes, UUID_BYTES, hex);
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s-%s", folder, disk, hex);
    BED_OK(fs_read_file(fs_real(), path, FILE_MAX, &bytes, &err), &err);
    BED_OK(store->ops->segment_open(store, disk, &segment->uuid, &have, &err), &err);
    BED_OK(store->ops->segment_write(store, disk, &segment->uuid, 0, bytes.ptr, bytes.len, &err),
           &err);
    BED_OK(store->ops->segment_close(store, disk, &segment->uuid, &segment->root, segment->bytes,
                                     &err),
           &err);
}

void bed_give_point(struct bed *bed, const char *folder)
{
    CLEANUP(mem_freep) char *path = path_join(folder, "manifest");
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct store *store = bed_store(bed);
    struct err err = ERR_EMPTY;
    uint64_t applied;

    manifest_init(&manifest);
    BED_OK(fs_read_file(fs_real(), path, FILE_MAX, &text, &err), &err);
    BED_OK(manifest_parse(str_text(&text), text.len, &manifest, &err), &err);
    VEC_FOREACH(disk, &manifest.disks)
        VEC_FOREACH(segment, &disk->segments)
            give_segment(store, folder, disk->name, segment);
    BED_OK(store->ops->point_commit(store, text.ptr, text.len, &err), &err);
    BED_OK(store->ops->point_apply(store, &applied, NULL, NULL, &err), &err);
    bed_store_put(bed);
    BED_CHECK(applied == manifest.point);
}

bool bed_replica_equals_machine(struct bed *bed)
{
    for (size_t i = 0; i < bed->machine->disk_count; i++) {
        struct fake_disk *disk = &bed->machine->disks[i];
        if (memcmp(disk->cut, disk->bytes, disk->size) != 0)
            return false;
    }
    return bed_replica_equals_cut(bed);
}
