// SPDX-License-Identifier: Apache-2.0
/* Is it this replica's key? */
#include "replica/inspect.h"

#include "base/fs_luks.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/head.h"
#include "replica/store_dir.h"
#include "replica/undo.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define WINDOW_CHUNKS 1024U
#define SAMPLES       8U /* of a disk: the first may be damaged, or in the middle of an apply */

struct judge {
    struct store_dir d;
    struct fs *unlocked; /* heads that are containers; or NULL */
    const struct key *key;
    struct digester *digester;
    unsigned fit;
    unsigned differ;
};

static void done(struct judge *j)
{
    fs_luks_free(j->unlocked);
    digester_free(j->digester);
    dir_disks_close(&j->d);
    free(j->d.run_dir);
    free(j->d.dir);
}

/* --- Heads -------------------------------------------------------------------------------- */

static int judge_window(struct judge *j, const struct dir_disk *disk, int head, uint64_t first,
                        const struct digest *digests, uint64_t count, unsigned *samples,
                        struct err *err)
{
    static const struct digest zeros;
    struct fs *fs = j->unlocked ? j->unlocked : fs_real();
    uint8_t buf[CHUNK_BYTES];
    struct digest digest;

    for (uint64_t i = 0; i < count && *samples < SAMPLES; i++) {
        size_t len = chunk_len(disk->size, first + i);
        if (memcmp(&digests[i], &zeros, sizeof(zeros)) == 0)
            continue;
        if (fs->pread(fs, head, buf, len, (first + i) * CHUNK_BYTES, err) < 0)
            return -1;
        chunk_digest(j->digester, buf, len, &digest);
        (*samples)++;
        if (memcmp(&digest, &digests[i], sizeof(digest)) == 0)
            j->fit++;
        else
            j->differ++;
    }
    return 0;
}

static int judge_digests(struct judge *j, const struct dir_disk *disk, int head, int fd,
                         struct err *err)
{
    uint64_t chunks = chunk_count(disk->size);
    struct digest digests[WINDOW_CHUNKS];
    unsigned samples = 0;

    for (uint64_t first = 0; first < chunks && samples < SAMPLES; first += WINDOW_CHUNKS) {
        uint64_t count = chunks - first < WINDOW_CHUNKS ? chunks - first : WINDOW_CHUNKS;
        if (digests_file_read(fs_real(), fd, first, count, digests, err) < 0
            || judge_window(j, disk, head, first, digests, count, &samples, err) < 0)
            return -1;
    }
    return 0;
}

static int judge_head(struct judge *j, const struct dir_disk *disk, struct err *err)
{
    struct fs *fs = j->unlocked ? j->unlocked : fs_real();
    CLEANUP(mem_freep) char *path = dir_head_path(disk);
    CLEANUP(mem_freep) char *digests = path_join(disk->dir, DIR_DIGESTS);
    CLEANUP(fd_close) int fd = -1;
    int head;

    if (dir_disk_is_served(disk)) /* its bytes are behind a server */
        return 0;
    if (digests_file_look(fs_real(), digests, disk->size, &fd, err) < 0
        || fs->open(fs, path, O_RDONLY, 0, &head, err) < 0)
        return -1;
    int rc = judge_digests(j, disk, head, fd, err);
    (void)fs->close(fs, head);
    return rc;
}

/* --- Undo --------------------------------------------------------------------------------- */

static void judge_undo(struct judge *j, const char *path)
{
    CLEANUP(undo_freep) struct undo *undo = NULL;
    uint8_t buf[CHUNK_BYTES];
    struct err why = ERR_EMPTY;

    if (undo_open(path, &undo, &why) < 0)
        return; /* damaged: it says nothing of the key */
    CLEANUP(frame_coder_freep) struct frame_coder *coder = undo_coder_new(j->key, &undo->uuid);
    for (size_t i = 0; i < undo->row_count && i < SAMPLES; i++) {
        if (undo->rows[i].pos == 0)
            continue;
        if (undo_record_read(undo->fd, path, coder, &undo->rows[i], undo->disk_size, buf, &why) < 0)
            j->differ++;
        else
            j->fit++;
    }
}

static int judge_undo_files(struct judge *j, const struct dir_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(disk->dir, DIR_UNDO);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    if (!fs_exists(folder))
        return 0;
    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len && j->fit == 0; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        judge_undo(j, path);
    }
    return 0;
}

/* --- Both --------------------------------------------------------------------------------- */

static int prepare(struct judge *j, const char *luks_key, struct err *err)
{
    if (dir_state_load(&j->d, err) < 0)
        return -1;
    VEC_FOREACH(disk, &j->d.disks)
        if (disk->luks && !luks_key)
            return err_set(err, ERR_UNSUPPORTED, 0,
                           "%s is encrypted at rest, and no key was given that opens its disks",
                           j->d.group);
    return luks_key ? head_unlocked(j->d.dir, luks_key, &j->unlocked, err) : 0;
}

int replica_check_key(const char *dir, const struct key *group_key, const char *luks_key,
                      struct err *err)
{
    CLEANUP(done)
    struct judge j = {.d = {.fs = fs_real(), .dir = mem_strdup(dir)},
                      .key = group_key,
                      .digester = chunk_digester_new(group_key)};

    if (prepare(&j, luks_key, err) < 0)
        return -1;
    if (j.d.base == STORE_COPIED && !j.d.released)
        VEC_FOREACH(disk, &j.d.disks)
            if (judge_head(&j, disk, err) < 0)
                return -1;
    VEC_FOREACH(disk, &j.d.disks)
        if (j.fit == 0 && judge_undo_files(&j, disk, err) < 0)
            return -1;
    if (j.fit == 0 && j.differ > 0)
        return err_set(err, ERR_AUTH, 0,
                       "%s: it is not the key of this replica: none of %u places that were looked"
                       " at fits it",
                       dir, j.differ);
    return 0;
}
