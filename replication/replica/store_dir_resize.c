// SPDX-License-Identifier: Apache-2.0
/* A disk of another size: larger with a point whose disk grew, smaller again on the way back to a
 * point before that. It is part of the apply, after the undo files are durable and published, and
 * before head is written:
 *
 *   replica         "resize SIZE NAME": from here on it is finished, whatever restarts
 *   head            truncated, up (what is new reads as zeros) or down; synced
 *   digests         the same; the chunk that one of the two sizes cuts through is digested anew
 *   replica         "disk SIZE NAME"
 *
 * Undo files keep the size that their point's disk had: a view of it shows no more. On the way back
 * all that lies beyond the smaller size is saved like any chunk that is written. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/digests_file.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH_CHUNKS 4096U

/* --- May it? ----------------------------------------------------------------------------- */

int dir_resize_check(const struct store_dir *d, const struct dir_disk *disk, uint64_t from,
                     uint64_t size, struct err *err)
{
    struct stat st;

    if (size == from)
        return 0;
    if (size < from)
        return err_set(err, ERR_STATE, 0,
                       "disk %s of %s has %" PRIu64 " bytes at the source and %" PRIu64
                       " here: a disk that shrank is not followed; hint: give it its size back, or "
                       "unprotect the machine and protect it again: that is a full copy",
                       disk->name, d->group, size, from);
    if (!disk->elsewhere)
        return 0;
    if (dir_disk_is_served(disk) || stat(disk->elsewhere, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_STATE, 0,
                       "disk %s of %s grew from %" PRIu64 " to %" PRIu64
                       " bytes, and its replica is %s, the machine's own disk, which only a raw "
                       "image can follow; hint: unprotect the machine and protect it again: that "
                       "is a full copy to a replica of its own",
                       disk->name, d->group, from, size, disk->elsewhere);
    return 0;
}

/* --- Doing it ---------------------------------------------------------------------------- */

/* The bytes of a chunk that one of the sizes cuts through count differently now. */
static int digest_border(struct store_dir *d, uint64_t border, uint64_t size, int head, int digests,
                         struct err *err)
{
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(CHUNK_BYTES, 1);
    uint64_t chunk = border / CHUNK_BYTES;
    struct digest digest;

    if (border % CHUNK_BYTES == 0 || chunk >= chunk_count(size))
        return 0;
    size_t len = chunk_len(size, chunk);
    if (d->fs->pread(d->fs, head, buf, len, chunk * CHUNK_BYTES, err) < 0)
        return -1;
    chunk_digest(d->digester, buf, len, &digest);
    return digests_file_write(d->fs, digests, chunk, 1, &digest, err);
}

static int resize_disk(struct store_dir *d, const struct dir_disk *disk, struct err *err)
{
    int head = disk->head;
    int digests = disk->digests;
    uint64_t to = disk->resizing;
    uint64_t border = disk->size < to ? disk->size : to;

    /* Begun before a cut: up from the old end once more, so that all of it is what a container that
     * is encrypted must have there. */
    if ((border < to && d->fs->truncate(d->fs, head, border, err) < 0)
        || d->fs->truncate(d->fs, head, to, err) < 0
        || digests_file_resize(d->fs, digests, to, err) < 0
        || digest_border(d, border, to, head, digests, err) < 0)
        return -1;
    CRASH_POINT("replica.resize-files");
    return d->fs->sync(d->fs, head, err) < 0 ? -1 : d->fs->sync(d->fs, digests, err);
}

/* The map of saved chunks, if there is one, for the new size. */
static void resize_saved(struct dir_disk *disk, uint64_t before)
{
    size_t have = (size_t)(chunk_count(before) + 7) / 8;
    size_t want = (size_t)(chunk_count(disk->size) + 7) / 8;

    if (!disk->saved || have == want)
        return;
    uint8_t *map = mem_alloc(want, 1);
    memcpy(map, disk->saved, have < want ? have : want);
    free(disk->saved);
    disk->saved = map;
}

int dir_resize_finish(struct store_dir *d, struct err *err)
{
    bool any = false;

    VEC_FOREACH(disk, &d->disks) {
        if (disk->resizing == 0)
            continue;
        if (resize_disk(d, disk, err) < 0)
            return err_wrap(err, "bring disk %s to %" PRIu64 " bytes", disk->name, disk->resizing);
        uint64_t before = disk->size;
        disk->size = disk->resizing;
        resize_saved(disk, before);
        disk->resizing = 0;
        any = true;
    }
    if (!any)
        return 0;
    if (dir_state_save(d, d->base, err) < 0)
        return -1;
    CRASH_POINT("replica.resized");
    return 0;
}

int dir_resize(struct store_dir *d, const struct manifest *manifest, struct err *err)
{
    bool any = false;

    VEC_FOREACH(part, &manifest->disks) {
        struct dir_disk *disk = dir_disk_find(d, part->name, err);
        if (!disk)
            return -1;
        disk->resizing = disk->size == part->size ? 0 : part->size;
        any = any || disk->resizing;
    }
    if (!any)
        return 0;
    if (dir_state_save(d, d->base, err) < 0) {
        VEC_FOREACH(disk, &d->disks)
            disk->resizing = 0;
        return -1;
    }
    CRASH_POINT("replica.resize-noted");
    return dir_resize_finish(d, err);
}

int dir_resize_chunks(struct store_dir *d, const struct dir_disk *disk, uint64_t size,
                      struct chunks *chunks, struct err *err)
{
    static const struct digest zeros;
    uint64_t border = disk->size < size ? disk->size : size;
    uint64_t end = chunk_count(disk->size);

    if (size == disk->size)
        return 0;
    if (border % CHUNK_BYTES)
        *chunks_push(chunks) = border / CHUNK_BYTES;
    CLEANUP(mem_freep) struct digest *batch = mem_new_array(struct digest, BATCH_CHUNKS);
    for (uint64_t at = (border + CHUNK_BYTES - 1) / CHUNK_BYTES; at < end;) {
        uint64_t n = end - at < BATCH_CHUNKS ? end - at : BATCH_CHUNKS;
        if (digests_file_read(d->fs, disk->digests, at, n, batch, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++)
            if (memcmp(&batch[i], &zeros, sizeof(zeros)) != 0)
                *chunks_push(chunks) = at + i;
        at += n;
    }
    return 0;
}
