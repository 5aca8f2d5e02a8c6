// SPDX-License-Identifier: Apache-2.0
/* What a disk may hold after a power cut, from the recorder's notes. Two rules, each the weakest
 * promise among the file systems we run on:
 *
 * - Data. An operation on a file's bytes or size is durable when a SYNC of that file follows it
 *   (before the cut), unless one between them failed. Of the others each one may be lost or
 *   kept, whatever became of those before.
 * - Names. An operation on a folder's names is durable when a SYNC_DIR of that folder follows it.
 *   Of the others, those that survive come before those that are lost. A rename between folders
 *   happens as a whole, when it survives in both.
 *
 * A file is what its number stands for: its data is durable without any name, and nobody can
 * reach it then. First the names are decided and filled into slots; then each file that has a
 * name is written by its own operations in their order. */
#include "base/crypto.h"
#include "base/fs_record_log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512

struct replay {
    const struct fs_record *record;
    size_t end; /* operations before this one ran, those at the start included */
    enum fs_loss loss;
    uint64_t seed;
    size_t *synced;      /* [id]: operations before this one are durable; file or folder */
    size_t *cut;         /* [id of a folder]: its name operations from here on are lost */
    uint64_t *at;        /* [slot]: what stands there, 0: nothing */
    size_t *first;       /* [id]: where its operations begin in `data`; [id + 1]: their end */
    size_t *data;        /* numbers of data operations, by file, in order */
    char **made;         /* [id]: where it was built */
    size_t torn;         /* the write that is cut; SIZE_MAX: none */
    uint64_t torn_bytes; /* from its begin */
    bool torn_keeps_end;
};

static void replay_done(struct replay *rp)
{
    for (size_t i = 0; rp->made && i <= rp->record->inodes.len; i++)
        free(rp->made[i]);
    free(rp->made);
    free(rp->synced);
    free(rp->cut);
    free(rp->at);
    free(rp->first);
    free(rp->data);
}

/* splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators): the n-th
 * number of a seed, without what came before. */
static uint64_t dice(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool is_data(enum fs_op_kind kind)
{
    return kind == FS_OP_WRITE || kind == FS_OP_TRUNCATE || kind == FS_OP_PUNCH;
}

static bool is_name(enum fs_op_kind kind)
{
    return kind == FS_OP_CREATE || kind == FS_OP_RENAME || kind == FS_OP_UNLINK
           || kind == FS_OP_MKDIR || kind == FS_OP_RMDIR;
}

static const struct fs_op *op_at(const struct replay *rp, size_t i)
{
    return &rp->record->ops.at[i];
}

/* The folder of an operation on names; `to`: the one a rename leads to. */
static uint64_t folder_of(const struct replay *rp, size_t i, bool to)
{
    const struct record_step *step = &rp->record->steps.at[i];

    return rp->record->slots.at[to ? step->slot_to : step->slot].dir;
}

static bool is_between_folders(const struct replay *rp, size_t i)
{
    return op_at(rp, i)->kind == FS_OP_RENAME && folder_of(rp, i, false) != folder_of(rp, i, true);
}

static void find_synced(struct replay *rp)
{
    for (size_t id = 0; id <= rp->record->inodes.len; id++)
        rp->synced[id] = rp->record->initial;
    for (size_t i = 0; i < rp->end; i++) {
        enum fs_op_kind kind = op_at(rp, i)->kind;
        if ((kind == FS_OP_SYNC || kind == FS_OP_SYNC_DIR) && i >= rp->record->initial)
            rp->synced[rp->record->steps.at[i].id] = i;
    }
}

/* --- Names --------------------------------------------------------------------------------- */

/* By the seed: how many of a folder's uncertain operations survive. `count` of them are there. */
static size_t survivors(const struct replay *rp, uint64_t dir, size_t count)
{
    return (size_t)(dice(rp->seed, dir << 32) % (count + 1));
}

static void choose_cuts(struct replay *rp)
{
    size_t ids = rp->record->inodes.len + 1;

    for (size_t id = 0; id < ids; id++)
        rp->cut[id] = rp->loss == FS_LOSS_ALL ? rp->synced[id] : rp->end;
    if (rp->loss == FS_LOSS_NONE || rp->loss == FS_LOSS_ALL)
        return;

    /* Counted first, then counted down: the operation after the last survivor is the cut. */
    CLEANUP(mem_freep) size_t *count = mem_new_array(size_t, ids);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = rp->record->initial; i < rp->end; i++) {
            if (!is_name(op_at(rp, i)->kind))
                continue;
            for (int to = 0; to < (is_between_folders(rp, i) ? 2 : 1); to++) {
                uint64_t dir = folder_of(rp, i, to);
                if (i < rp->synced[dir])
                    continue;
                if (pass == 0)
                    count[dir]++;
                else if (count[dir]-- == 0)
                    rp->cut[dir] = i < rp->cut[dir] ? i : rp->cut[dir];
            }
        }
        for (size_t id = 0; pass == 0 && id < ids; id++)
            count[id] = survivors(rp, id, count[id]);
    }
}

/* A rename lost in one folder is lost in the other, and with it what follows there and is not
 * durable. True when that moved a cut. */
static bool settle_rename(struct replay *rp, size_t i, bool to)
{
    uint64_t lost = folder_of(rp, i, to);
    uint64_t other = folder_of(rp, i, !to);
    size_t limit = i > rp->synced[other] ? i : rp->synced[other];

    if (i < rp->cut[lost] || rp->cut[other] <= limit)
        return false;
    rp->cut[other] = limit;
    return true;
}

/* One rename may take others along. */
static void settle_renames(struct replay *rp)
{
    bool changed = true;

    while (changed) {
        changed = false;
        for (size_t i = rp->record->initial; i < rp->end; i++)
            if (is_between_folders(rp, i)) {
                changed |= settle_rename(rp, i, false);
                changed |= settle_rename(rp, i, true);
            }
    }
}

static bool name_survives(const struct replay *rp, size_t i)
{
    return i < rp->record->initial
           || (i < rp->cut[folder_of(rp, i, false)]
               && (!is_between_folders(rp, i) || i < rp->cut[folder_of(rp, i, true)]));
}

static void fill_slots(struct replay *rp)
{
    for (size_t i = 0; i < rp->end; i++) {
        const struct record_step *step = &rp->record->steps.at[i];
        enum fs_op_kind kind = op_at(rp, i)->kind;

        if (!is_name(kind) || !name_survives(rp, i))
            continue;
        if (kind == FS_OP_CREATE || kind == FS_OP_MKDIR) {
            rp->at[step->slot] = step->id;
            continue;
        }
        if (rp->at[step->slot] == step->id)
            rp->at[step->slot] = 0;
        if (kind == FS_OP_RENAME)
            rp->at[step->slot_to] = step->id;
    }
}

/* --- Data ---------------------------------------------------------------------------------- */

static void sort_data(struct replay *rp)
{
    size_t ids = rp->record->inodes.len + 1;

    for (size_t i = 0; i < rp->end; i++)
        if (is_data(op_at(rp, i)->kind))
            rp->first[op_at(rp, i)->file + 1]++;
    for (size_t id = 1; id <= ids; id++)
        rp->first[id] += rp->first[id - 1];
    CLEANUP(mem_freep) size_t *next = mem_new_array(size_t, ids + 1);
    memcpy(next, rp->first, (ids + 1) * sizeof(*next));
    for (size_t i = 0; i < rp->end; i++)
        if (is_data(op_at(rp, i)->kind))
            rp->data[next[op_at(rp, i)->file]++] = i;
}

static bool data_is_durable(const struct replay *rp, size_t i)
{
    return i < rp->synced[op_at(rp, i)->file] && !rp->record->steps.at[i].doomed;
}

/* Sector boundaries strictly inside a write. */
static uint64_t boundaries(const struct fs_op *op)
{
    return op->len == 0 ? 0 : (op->off + op->len - 1) / SECTOR - op->off / SECTOR;
}

static void choose_torn(struct replay *rp)
{
    size_t candidates = 0;

    for (size_t i = rp->record->initial; i < rp->end; i++) {
        const struct fs_op *op = op_at(rp, i);
        if (op->kind != FS_OP_WRITE || data_is_durable(rp, i) || boundaries(op) == 0)
            continue;
        /* Each candidate takes the place of the one before with the chance 1 / its number, so
         * that all have the same in the end. */
        uint64_t roll = dice(rp->seed, (uint64_t)1 << 62 | i);
        if (roll % ++candidates == 0) {
            rp->torn = i;
            rp->torn_bytes =
                (op->off / SECTOR + 1 + (roll >> 32) % boundaries(op)) * SECTOR - op->off;
            rp->torn_keeps_end = roll >> 31 & 1;
        }
    }
}

static int write_at(int fd, const char *bytes, uint64_t len, uint64_t off)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, (size_t)len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes += n;
        len -= (uint64_t)n;
        off += (uint64_t)n;
    }
    return 0;
}

static int punch_at(int fd, uint64_t off, uint64_t len)
{
    static const char zeros[4096];
    struct stat st;

    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0)
        return 0;
    if (errno != EOPNOTSUPP || fstat(fd, &st) < 0)
        return -1;
    uint64_t end = off + len < (uint64_t)st.st_size ? off + len : (uint64_t)st.st_size;
    while (off < end) {
        uint64_t n = end - off < sizeof(zeros) ? end - off : sizeof(zeros);
        if (write_at(fd, zeros, n, off) < 0)
            return -1;
        off += n;
    }
    return 0;
}

static bool keeps_data(const struct replay *rp, size_t i)
{
    return rp->loss == FS_LOSS_NONE || data_is_durable(rp, i)
           || (rp->loss != FS_LOSS_ALL && dice(rp->seed, i) & 1);
}

static int apply_data(const struct replay *rp, size_t i, int fd)
{
    const struct fs_op *op = op_at(rp, i);
    const char *bytes = op->bytes;

    if (i == rp->torn && rp->torn_keeps_end)
        return write_at(fd, bytes + rp->torn_bytes, op->len - rp->torn_bytes,
                        op->off + rp->torn_bytes);
    if (i == rp->torn)
        return write_at(fd, bytes, rp->torn_bytes, op->off);
    if (!keeps_data(rp, i))
        return 0;
    if (op->kind == FS_OP_WRITE)
        return write_at(fd, bytes, op->len, op->off);
    if (op->kind == FS_OP_TRUNCATE)
        return ftruncate(fd, (off_t)op->len);
    return op->len > 0 ? punch_at(fd, op->off, op->len) : 0;
}

/* --- Building ------------------------------------------------------------------------------ */

static int build_file(const struct replay *rp, uint64_t id, const char *path, struct err *err)
{
    CLEANUP(fd_close)
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, rp->record->inodes.at[id - 1].mode);

    if (fd < 0)
        return err_set(err, ERR_IO, errno, "%s: create", path);
    for (size_t n = rp->first[id]; n < rp->first[id + 1]; n++)
        if (apply_data(rp, rp->data[n], fd) < 0)
            return err_set(err, ERR_IO, errno, "%s: operation %zu", path,
                           rp->data[n] - rp->record->initial);
    return 0;
}

/* Is it a folder? Files are made by CREATE, folders by MKDIR. */
static bool *folders_of(const struct fs_record *record)
{
    bool *folders = mem_new_array(bool, record->inodes.len + 1);

    for (size_t i = 0; i < record->ops.len; i++)
        if (record->ops.at[i].kind == FS_OP_MKDIR)
            folders[record->steps.at[i].id] = true;
    return folders;
}

static int build_folder(struct replay *rp, const bool *folders, uint64_t dir, const char *path,
                        struct err *err)
{
    for (size_t slot = 0; slot < rp->record->slots.len; slot++) {
        uint64_t id = rp->at[slot];
        if (!id || rp->record->slots.at[slot].dir != dir)
            continue;
        CLEANUP(mem_freep) char *child = path_join(path, rp->record->slots.at[slot].name);
        int result = 0;
        if (rp->made[id] && !folders[id]) {
            /* A rename between folders of which only one is durable can leave both names. */
            if (link(rp->made[id], child) < 0)
                result = err_set(err, ERR_IO, errno, "%s: link to %s", child, rp->made[id]);
        } else if (!rp->made[id]) {
            rp->made[id] = mem_strdup(child);
            if (!folders[id])
                result = build_file(rp, id, child, err);
            else if (mkdir(child, rp->record->inodes.at[id - 1].mode) < 0)
                result = err_set(err, ERR_IO, errno, "%s: make folder", child);
            else
                result = build_folder(rp, folders, id, child, err);
        }
        if (result < 0)
            return -1;
    }
    return 0;
}

static void replay_init(struct replay *rp, const struct fs_record *record, size_t prefix,
                        enum fs_loss loss, uint64_t seed)
{
    size_t ids = record->inodes.len + 1;

    *rp = (struct replay){
        .record = record,
        .end = record->initial + prefix,
        .loss = loss,
        .seed = seed,
        .synced = mem_new_array(size_t, ids),
        .cut = mem_new_array(size_t, ids),
        .at = mem_new_array(uint64_t, record->slots.len),
        .first = mem_new_array(size_t, ids + 1),
        .data = mem_new_array(size_t, record->ops.len),
        .made = mem_new_array(char *, ids),
        .torn = SIZE_MAX,
    };
    find_synced(rp);
    choose_cuts(rp);
    settle_renames(rp);
    fill_slots(rp);
    sort_data(rp);
    if (loss == FS_LOSS_TORN)
        choose_torn(rp);
}

static int check_prefix(const struct fs_record *record, size_t prefix, struct err *err)
{
    if (prefix <= fs_record_count(record))
        return 0;
    return err_set(err, ERR_INVALID, 0, "%zu operations asked for, %zu recorded", prefix,
                   fs_record_count(record));
}

int fs_record_replay(const struct fs_record *record, size_t prefix, enum fs_loss loss,
                     uint64_t seed, const char *into, struct err *err)
{
    CLEANUP(replay_done) struct replay rp = {0};

    if (check_prefix(record, prefix, err) < 0)
        return -1;
    CLEANUP(mem_freep) bool *folders = folders_of(record);
    replay_init(&rp, record, prefix, loss, seed);
    if (build_folder(&rp, folders, ROOT_ID, into, err) < 0)
        return err_wrap(err, "replay of %zu operations", prefix);
    return 0;
}

static void add_number(struct sha256_run *run, uint64_t number)
{
    sha256_add(run, &number, sizeof(number));
}

/* What stands under which name, and which operations made it: those that keep anything, in order. */
int fs_record_replay_key(const struct fs_record *record, size_t prefix, enum fs_loss loss,
                         uint64_t seed, struct sha256 *ret_key, struct err *err)
{
    CLEANUP(replay_done) struct replay rp = {0};

    if (check_prefix(record, prefix, err) < 0)
        return -1;
    replay_init(&rp, record, prefix, loss, seed);
    struct sha256_run *run = sha256_begin();
    for (size_t slot = 0; slot < record->slots.len; slot++) {
        uint64_t id = rp.at[slot];
        if (!id)
            continue;
        add_number(run, slot);
        add_number(run, id);
        for (size_t n = rp.first[id]; n < rp.first[id + 1]; n++) {
            size_t i = rp.data[n];
            if (i == rp.torn) {
                add_number(run, rp.torn_bytes << 1 | rp.torn_keeps_end);
                add_number(run, i | (uint64_t)1 << 63);
            } else if (keeps_data(&rp, i)) {
                add_number(run, i);
            }
        }
        add_number(run, UINT64_MAX);
    }
    sha256_end(run, ret_key);
    return 0;
}
