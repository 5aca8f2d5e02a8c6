// SPDX-License-Identifier: Apache-2.0
/* A copy that begins from files of this site. A slice of a seed is cloned or copied into head, read back
 * from there and digested, and synced; then the record says so:
 *
 *   seeds    for each disk that was begun: "disk DONE DATA NAME",
 *            "from INODE SIZE MTIME CTIME FORMAT SEED" (the file as it was read so far)
 *
 * The record saves work and nothing else: the digests of chunks that a killed process filled are made
 * by base_end, from head. So whatever a seed held, or became on its way, is compared as what it is. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/record.h"
#include "replica/seed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SLICE_BYTES   (UINT64_C(64) << 20) /* of data; others get at the store in between */
#define SLICE_ZEROS   (UINT64_C(64) << 30)
#define WINDOW_BYTES  ((size_t)1 << 20)
#define WINDOW_CHUNKS (WINDOW_BYTES / CHUNK_BYTES)

/* --- The record ------------------------------------------------------------------------------ */

static int save(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_SEEDS);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    VEC_FOREACH(disk, &d->disks)
        if (disk->seed)
            str_addf(&text,
                     "disk %" PRIu64 " %" PRIu64 " %s\nfrom %" PRIu64 " %" PRIu64 " %" PRIi64
                     " %" PRIi64 " %s %s\n",
                     disk->seed->done, disk->seed->data, disk->name, disk->seed->stamp.inode,
                     disk->seed->stamp.size, disk->seed->stamp.mtime_ns, disk->seed->stamp.ctime_ns,
                     disk->seed->format, disk->seed->name);
    return record_write(d->fs, path, str_text(&text), err);
}

/* Two lines at `text`; what follows them in `ret_next`. */
static bool get(struct store_dir *d, const char *text, const char **ret_next)
{
    struct dir_seed seed = {.stamp = {.known = true}};
    char name[NAME_MAX_BYTES];
    int len = 0;

    if (sscanf(text,
               "disk %" SCNu64 " %" SCNu64 " %63s from %" SCNu64 " %" SCNu64 " %" SCNi64 " %" SCNi64
               " %7s %n",
               &seed.done, &seed.data, name, &seed.stamp.inode, &seed.stamp.size,
               &seed.stamp.mtime_ns, &seed.stamp.ctime_ns, seed.format, &len)
            != 8
        || len == 0)
        return false;
    const char *end = strchr(text + len, '\n');
    size_t n = end ? (size_t)(end - text) - (size_t)len : 0;
    if (n == 0 || n >= sizeof(seed.name))
        return false;
    memcpy(seed.name, text + len, n);
    *ret_next = end + 1;
    VEC_FOREACH(disk, &d->disks)
        if (str_eq(disk->name, name) && !disk->seed && seed.done <= disk->size) {
            disk->seed = mem_new(struct dir_seed);
            *disk->seed = seed;
            return true;
        }
    return false;
}

int dir_seeds_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_SEEDS);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (d->base != STORE_COPYING)
        return dir_seeds_remove(d, err);
    if (!fs_exists(path))
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    for (const char *at = str_text(&text); *at;)
        if (!get(d, at, &at))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: cannot be read; hint: remove the file, the disks are then seeded "
                           "anew",
                           path);
    return 0;
}

int dir_seeds_remove(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_SEEDS);

    return fs_exists(path) ? d->fs->unlink(d->fs, path, err) : 0;
}

/* --- Filling --------------------------------------------------------------------------------- */

struct fill {
    struct store_dir *d;
    struct dir_disk *disk;
    const struct seed *seed;
    bool clones;
    uint8_t *buf; /* WINDOW_BYTES */
};

static int put_zeros(const struct fill *f, uint64_t off, uint64_t len, struct err *err)
{
    struct fs *fs = f->d->fs;

    return len ? fs->punch(fs, f->disk->head, off, len, err) : 0;
}

/* Bytes and zeros, each run of chunks in one go. */
static int put_bytes(const struct fill *f, uint64_t off, size_t len, struct err *err)
{
    struct fs *fs = f->d->fs;

    for (size_t at = 0, end; at < len; at = end) {
        size_t n = len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES;
        bool zero = bytes_are_zero(f->buf + at, n);
        for (end = at + n; end < len; end += n) {
            n = len - end < CHUNK_BYTES ? len - end : CHUNK_BYTES;
            if (bytes_are_zero(f->buf + end, n) != zero)
                break;
        }
        int rc = zero ? put_zeros(f, off + at, end - at, err)
                      : fs->pwrite(fs, f->disk->head, f->buf + at, end - at, off + at, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* Where both lie on a file system that can, head shares the seed's blocks. */
static int try_clone(struct fill *f, uint64_t off, size_t len, bool *ret_cloned, struct err *err)
{
    struct err why = ERR_EMPTY;
    uint64_t left = f->seed->size - off;
    size_t n = left < len ? (size_t)left : len;

    *ret_cloned = false;
    if (!f->clones)
        return 0;
    if (fs_clone(f->d->fs, f->seed->fd, f->disk->head, off, n, &why) == 0) {
        *ret_cloned = true;
        return put_zeros(f, off + n, len - n, err);
    }
    f->clones = false;
    return why.code == ERR_UNSUPPORTED ? 0 : err_set(err, why.code, why.sys, "%s", why.text);
}

/* What head gives back is what it has: the digests are made of that. */
static int read_back(const struct fill *f, uint64_t off, size_t len, struct err *err)
{
    struct store_dir *d = f->d;
    struct digest digests[WINDOW_CHUNKS];
    const struct digest *at = digests;
    const struct extent extent = {.off = off, .len = len};

    if (d->fs->pread(d->fs, f->disk->head, f->buf, len, off, err) < 0)
        return -1;
    for (size_t done = 0, i = 0; done < len; done += CHUNK_BYTES, i++) {
        size_t n = len - done < CHUNK_BYTES ? len - done : CHUNK_BYTES;
        chunk_digest(d->digester, f->buf + done, n, &digests[i]);
        f->disk->seed->data += bytes_are_zero(f->buf + done, n) ? 0 : n;
    }
    return dir_digests_note(d, f->disk, &extent, &at, err);
}

static int fill_window(struct fill *f, uint64_t off, size_t len, struct err *err)
{
    bool cloned;

    if (try_clone(f, off, len, &cloned, err) < 0)
        return -1;
    if (!cloned
        && (seed_read(f->seed, f->buf, len, off, err) < 0 || put_bytes(f, off, len, err) < 0))
        return -1;
    return read_back(f, off, len, err);
}

static int fill_zeros(const struct fill *f, uint64_t off, uint64_t len, struct err *err)
{
    const struct extent extent = {.off = off, .len = len, .zero = true};

    return put_zeros(f, off, len, err) < 0 ? -1
                                           : dir_digests_note(f->d, f->disk, &extent, NULL, err);
}

/* From where it is; moves that on. */
static int fill_some(struct fill *f, struct cancel *cancel, struct err *err)
{
    uint64_t size = f->disk->size;
    struct dir_seed *seed = f->disk->seed;
    uint64_t data = 0;
    uint64_t zeros = 0;

    while (seed->done < size && data < SLICE_BYTES && zeros < SLICE_ZEROS) {
        uint64_t next = seed_next_data(f->seed, seed->done);
        uint64_t until = next < f->seed->size ? next / CHUNK_BYTES * CHUNK_BYTES : size;
        uint64_t left = size - seed->done;

        if (cancel_check(cancel, err) < 0)
            return -1;
        if (until > seed->done) {
            uint64_t n = until < size ? until - seed->done : left;
            n = n < SLICE_ZEROS ? n : SLICE_ZEROS;
            if (fill_zeros(f, seed->done, n, err) < 0)
                return -1;
            seed->done += n;
            zeros += n;
            continue;
        }
        size_t n = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        if (fill_window(f, seed->done, n, err) < 0)
            return -1;
        seed->done += n;
        data += n;
    }
    return 0;
}

static bool is_the_one(const struct dir_seed *had, const struct seed *seed)
{
    return had && str_eq(had->name, seed->name) && fs_stamp_equal(&had->stamp, &seed->stamp);
}

/* The record first: another seed's progress is not this one's. */
static int begin(struct store_dir *d, struct dir_disk *disk, const struct seed *seed,
                 struct err *err)
{
    if (is_the_one(disk->seed, seed))
        return 0;
    free(disk->seed);
    disk->seed = mem_new(struct dir_seed);
    memcpy(disk->seed->name, seed->name, sizeof(disk->seed->name));
    memcpy(disk->seed->format, seed->format, sizeof(disk->seed->format));
    disk->seed->stamp = seed->stamp;
    return save(d, err);
}

int store_dir_base_seed(struct store *store, const char *disk, const struct seed *seed,
                        struct store_seeding *ret_seeding, struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_disk *to = dir_copying_disk(d, disk, err);

    if (!to || guard_fs_check(&d->guard, err) < 0 || dir_check_copying(d, err) < 0
        || seed_fits(seed, disk, to->size, err) < 0 || begin(d, to, seed, err) < 0)
        return -1;
    if (to->seed->done < to->size) {
        CLEANUP(mem_freep) uint8_t *buf = mem_alloc(WINDOW_BYTES, 1);
        struct fill fill = {d, to, seed, seed->plain && dir_disk_is_plain(to), buf};
        const struct dir_seed was = *to->seed;
        to->settled = 0;
        if (fill_some(&fill, cancel, err) < 0 || d->fs->sync(d->fs, to->head, err) < 0) {
            *to->seed = was; /* so far it is durable; the rest is done again */
            return -1;
        }
        CRASH_POINT("store.seeded");
        if (save(d, err) < 0)
            return -1;
    }
    *ret_seeding = (struct store_seeding){to->seed->done, to->seed->data};
    return 0;
}
