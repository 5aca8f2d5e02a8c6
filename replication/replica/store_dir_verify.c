// SPDX-License-Identifier: Apache-2.0
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/undo.h"

#include <inttypes.h>
#include <string.h>

#define WINDOW_CHUNKS 1024U

static int verify_chunk(struct store_dir *d, const struct dir_disk *disk, uint64_t chunk,
                        const struct digest *want, struct err *err)
{
    uint8_t buf[CHUNK_BYTES];
    struct digest digest;
    size_t len = chunk_len(disk->size, chunk);

    if (d->fs->pread(d->fs, disk->head, buf, len, chunk * CHUNK_BYTES, err) < 0)
        return -1;
    chunk_digest(d->digester, buf, len, &digest);
    if (memcmp(&digest, want, sizeof(digest)) != 0) {
        CLEANUP(mem_freep) char *path = dir_head_path(disk);
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: the %zu bytes at %" PRIu64 " (chunk %" PRIu64
                       ") do not have their digest; hint: resynchronize the replica",
                       path, len, chunk * CHUNK_BYTES, chunk);
    }
    return 0;
}

static int verify_head(struct store_dir *d, const struct dir_disk *disk, struct cancel *cancel,
                       struct err *err)
{
    struct digest digests[WINDOW_CHUNKS];
    uint64_t chunks = chunk_count(disk->size);

    for (uint64_t first = 0; first < chunks; first += WINDOW_CHUNKS) {
        uint64_t count = chunks - first < WINDOW_CHUNKS ? chunks - first : WINDOW_CHUNKS;
        if (digests_file_read(d->fs, disk->digests, first, count, digests, err) < 0)
            return -1;
        for (uint64_t i = 0; i < count; i++)
            if (cancel_check(cancel, err) < 0
                || verify_chunk(d, disk, first + i, &digests[i], err) < 0)
                return -1;
    }
    return 0;
}

static int verify_undo(struct store_dir *d, const struct dir_disk *disk, uint64_t point,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;
    uint8_t buf[CHUNK_BYTES];

    if (undo_open(path, &undo, err) < 0)
        return -1;
    if (undo->point != point || undo->disk_size != disk->size)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: of point %" PRIu64 " and a disk of %" PRIu64 " bytes", path,
                       undo->point, undo->disk_size);
    CLEANUP(frame_coder_freep) struct frame_coder *coder = undo_coder_new(&d->key, &undo->uuid);
    for (size_t i = 0; i < undo->row_count; i++)
        if (cancel_check(cancel, err) < 0
            || undo_record_read(undo->fd, path, coder, &undo->rows[i], disk->size, buf, err) < 0)
            return -1;
    return 0;
}

static int verify_manifests(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(point, &d->points) {
        CLEANUP(manifest_done) struct manifest m;
        struct sha256 hash;
        manifest_init(&m);
        if (dir_manifest_read(d, point->point, &m, NULL, err) < 0)
            return -1;
        manifest_hash(&m, &hash);
        if (memcmp(&hash, &point->hash, sizeof(hash)) != 0)
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: manifests: point %" PRIu64
                           " was changed since the store was opened",
                           d->dir, point->point);
    }
    return 0;
}

int store_dir_verify(struct store *store, struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (d->base != STORE_COPIED)
        return err_set(err, ERR_STATE, 0, "%s: there is no complete copy to verify yet", d->group);
    if (dir_own_held(d, err) < 0)
        return -1;
    if (d->intent)
        return err_set(err, ERR_STATE, 0,
                       "%s: point %" PRIu64 " is being applied; hint: let that end first", d->group,
                       d->intent);
    if (verify_manifests(d, err) < 0)
        return -1;
    VEC_FOREACH(disk, &d->disks) {
        if (verify_head(d, disk, cancel, err) < 0)
            return -1;
        VEC_FOREACH(file, &d->files)
            if (verify_undo(d, disk, file->point, cancel, err) < 0)
                return -1;
    }
    return 0;
}
