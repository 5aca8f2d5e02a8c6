// SPDX-License-Identifier: Apache-2.0
#include "replica/store_dir.h"

#include "base/fs_luks.h"
#include "base/fs_nbd.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/generation.h"

#include <inttypes.h>
#include <string.h>

struct store_dir *store_dir_of(struct store *store)
{
    return (struct store_dir *)(void *)store; /* its first member */
}

static void close_dir(struct store *store)
{
    struct store_dir *d = store_dir_of(store);

    if (!d)
        return;
    dir_merge_stop(d);
    dir_receives_close(d);
    dir_disks_close(d);
    chain_free(d->chain);
    digester_free(d->digester);
    dir_points_free(&d->points);
    dir_pins_free(&d->pins);
    dir_damages_free(&d->damages);
    dir_gones_free(&d->gones);
    dir_numbers_free(&d->listed);
    dir_files_free(&d->files);
    dir_numbers_free(&d->hurt);
    fd_close(&d->lock);
    key_wipe(&d->key);
    fs_nbd_free(d->nbd);
    fs_luks_free(d->luks);
    free(d->luks_key);
    free(d->run_dir);
    free(d->dir);
    free(d);
}

static void close_dirp(struct store_dir **d)
{
    if (*d)
        close_dir(&(*d)->store);
    *d = NULL;
}

static int info(struct store *store, struct store_info *ret_info, struct err *err)
{
    const struct store_dir *d = store_dir_of(store);
    const struct dir_point *newest = dir_point_newest(d);

    (void)err;
    *ret_info = (struct store_info){
        .state = newest && d->base == STORE_COPIED ? STORE_READY : d->base,
        .generation = d->generation,
        .copy = d->copy,
        .applied_point = d->applied,
        .applied_hash = d->applied_hash,
        .applying = d->intent,
        .released = d->released,
    };
    if (newest) {
        ret_info->durable_point = newest->point;
        ret_info->durable_hash = newest->hash;
    }
    dir_damage_info(d, ret_info);
    return 0;
}

static int disks(struct store *store, struct store_disks *ret_disks, struct err *err)
{
    const struct store_dir *d = store_dir_of(store);

    (void)err;
    store_disks_clear(ret_disks);
    VEC_FOREACH(disk, &d->disks) {
        struct store_disk *to = store_disks_push(ret_disks);
        memcpy(to->name, disk->name, sizeof(to->name));
        to->size = disk->size;
    }
    return 0;
}

static int check_at(const struct store_dir *d, uint64_t point, struct err *err)
{
    if (d->base != STORE_COPIED)
        return err_set(err, ERR_STATE, 0, "%s: the copy is not complete, nor are its digests",
                       d->group);
    if (d->intent || d->applied != point)
        return err_set(err, ERR_STATE, 0,
                       "%s: head is at point %" PRIu64 "%s, digests of %" PRIu64 " are not here",
                       d->group, d->applied, d->intent ? ", on its way to the next" : "", point);
    return 0;
}

static int digests(struct store *store, const char *disk, uint64_t point, uint64_t first,
                   uint64_t count, struct digest *ret_digests, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct dir_disk *from = dir_disk_find(d, disk, err);

    if (!from || check_at(d, point, err) < 0)
        return -1;
    uint64_t chunks = chunk_count(from->size);
    if (first > chunks || count > chunks - first)
        return err_set(err, ERR_INVALID, 0,
                       "disk %s has %" PRIu64 " chunks, asked for %" PRIu64 " from %" PRIu64, disk,
                       chunks, count, first);
    return digests_file_read(d->fs, from->digests, first, count, ret_digests, err);
}

static int block_digests_of(struct store_dir *d, const struct dir_disk *disk, uint64_t chunk,
                            struct digest ret_digests[CHUNK_BLOCKS], struct err *err)
{
    uint8_t buf[CHUNK_BYTES];

    if (chunk >= chunk_count(disk->size))
        return err_set(err, ERR_INVALID, 0, "disk %s has %" PRIu64 " chunks, asked for %" PRIu64,
                       disk->name, chunk_count(disk->size), chunk);
    size_t len = chunk_len(disk->size, chunk);
    if (d->fs->pread(d->fs, disk->head, buf, len, chunk * CHUNK_BYTES, err) < 0)
        return -1;
    chunk_block_digests(d->digester, buf, len, ret_digests);
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): the seam's signature */
static int block_digests(struct store *store, const char *disk, uint64_t point,
                         const uint64_t *chunks, size_t count, struct digest *ret_digests,
                         struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct dir_disk *from = dir_disk_find(d, disk, err);

    if (!from || dir_own_held(d, err) < 0 || check_at(d, point, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (block_digests_of(d, from, chunks[i], ret_digests + i * CHUNK_BLOCKS, err) < 0)
            return -1;
    return 0;
}

static int read_head(struct store *store, const char *disk, uint64_t off, void *buf, size_t len,
                     struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct dir_disk *from = dir_disk_find(d, disk, err);

    if (!from)
        return -1;
    if (d->base != STORE_COPIED || d->intent)
        return err_set(err, ERR_STATE, 0, "%s: head is not at a point now", d->group);
    if (off > from->size || len > from->size - off)
        return err_set(err, ERR_INVALID, 0,
                       "disk %s has %" PRIu64 " bytes, asked for %zu at %" PRIu64, disk, from->size,
                       len, off);
    if (from->head < 0)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "%s: the machine has disk %s back, which is of format %s; hint: read it"
                       " through the machine",
                       d->group, disk, from->format);
    return d->fs->pread(d->fs, from->head, buf, len, off, err);
}

static const struct store_ops ops = {
    .close = close_dir,
    .info = info,
    .disks = disks,
    .base_begin = store_dir_base_begin,
    .base_frame = store_dir_base_frame,
    .base_ready = store_dir_base_ready,
    .base_put = store_dir_base_put,
    .base_sync = store_dir_base_sync,
    .base_end = store_dir_base_end,
    .base_seed = store_dir_base_seed,
    .segment_open = store_dir_segment_open,
    .segment_write = store_dir_segment_write,
    .segment_close = store_dir_segment_close,
    .point_commit = store_dir_point_commit,
    .point_apply = store_dir_point_apply,
    .points = store_dir_points,
    .point_manifest = store_dir_point_manifest,
    .digests = digests,
    .block_digests = block_digests,
    .read = read_head,
    .follow = store_dir_follow,
    .pin = store_dir_pin,
    .unpin = store_dir_unpin,
    .prune = store_dir_prune,
    .damages = store_dir_damages,
    .promote = store_dir_promote,
};

/* --- Opening ----------------------------------------------------------------------------- */

/* Names that a killed process made may not be durable yet; nothing is built on them before. */
static int sync_names(struct store_dir *d, struct err *err)
{
    static const char *const folders[] = {"", DIR_SEGMENTS, DIR_UNDO};
    CLEANUP(mem_freep) char *manifests = dir_path(d, DIR_FILE_MANIFESTS);

    if (d->fs->sync_dir(d->fs, d->dir, err) < 0
        || (fs_exists(manifests) && d->fs->sync_dir(d->fs, manifests, err) < 0))
        return -1;
    VEC_FOREACH(disk, &d->disks)
        for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
            CLEANUP(mem_freep)
            char *path = folders[i][0] ? path_join(disk->dir, folders[i]) : mem_strdup(disk->dir);
            if (fs_exists(path) && d->fs->sync_dir(d->fs, path, err) < 0)
                return -1;
        }
    return 0;
}

static int check_empty(const struct store_dir *d, struct err *err)
{
    static const char *const later[] = {DIR_FILE_MANIFESTS, DIR_FILE_PRUNED,    DIR_FILE_APPLIED,
                                        DIR_FILE_PINS,      DIR_FILE_PROMOTION, DIR_FILE_TIP,
                                        DIR_FILE_DAMAGED,   DIR_FILE_RETENTION, DIR_FILE_SEEDS};

    if (d->base != STORE_EMPTY)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(later); i++) {
        CLEANUP(mem_freep) char *path = dir_path(d, later[i]);
        if (fs_exists(path))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s is there, but no file \"" DIR_FILE_REPLICA "\"; hint: restore it"
                           " from a backup, or remove the replica and protect again",
                           path);
    }
    return 0;
}

/* What the records say must fit together. */
static int check_records(const struct store_dir *d, struct err *err)
{
    const struct dir_point *applied = dir_point_find(d, d->applied);

    if (d->applied != 0
        && (!applied || memcmp(&applied->hash, &d->applied_hash, sizeof(applied->hash)) != 0))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s/" DIR_FILE_APPLIED ": head is at point %" PRIu64
                       ", but there is no such manifest",
                       d->dir, d->applied);
    if (d->intent != 0 && !dir_point_find(d, d->intent))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s/" DIR_FILE_APPLIED ": point %" PRIu64
                       " is being applied, but there is no such manifest",
                       d->dir, d->intent);
    VEC_FOREACH(pin, &d->pins)
        if (!dir_is_kept(d, pin->point))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s/" DIR_FILE_PINS ": pin \"%s\" holds point %" PRIu64
                           ", which is not there",
                           d->dir, pin->label, pin->point);
    return 0;
}

/* Raised only together with a manifest that says so. */
static int check_generation(const struct store_dir *d, struct err *err)
{
    const struct dir_point *newest = dir_point_newest(d);
    uint64_t expected = newest ? newest->generation : 0;

    if (newest && (dir_follows(d) ? d->tip.generation : expected) != d->generation)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s/" DIR_FILE_GENERATION ": %" PRIu64 ", but point %" PRIu64
                       " is of generation %" PRIu64 "; hint: restore the file from a backup",
                       d->dir, d->generation, newest->point, newest->generation);
    return 0;
}

/* Heads in other formats are opened by this from now on. */
static void need_nbd(struct store_dir *d)
{
    if (d->nbd || !d->run_dir)
        return;
    d->nbd = fs_nbd_new(d->guard.below);
    d->guard.below = d->nbd;
}

/* Heads that are containers, too. */
static void need_luks(struct store_dir *d)
{
    if (d->luks || !d->luks_key)
        return;
    d->luks = fs_luks_new(d->guard.below);
    d->guard.below = d->luks;
}

static int load_applied(struct store_dir *d, struct err *err)
{
    if (dir_applied_load(d, err) < 0)
        return -1;
    /* A repair that was cut wrote to them, too: before it, damage was noted. */
    CLEANUP(mem_freep) char *damaged = dir_path(d, DIR_FILE_DAMAGED);
    bool repairing = d->intent && fs_exists(damaged);
    if (d->released || repairing || dir_head_touched(d) || dir_own_check(d, err) == 0)
        return 0;
    if (!d->to_scrub || !err || err->code != ERR_CORRUPT)
        return -1;
    err_clear(err);
    return 0;
}

static int load(struct store_dir *d, struct err *err)
{
    if (dir_state_load(d, err) < 0 || check_empty(d, err) < 0
        || dir_check_files(d->dir, &d->disks, err) < 0 || sync_names(d, err) < 0
        || dir_remove_temporary(d, err) < 0
        || generation_read(d->fs, d->dir, &d->generation, err) < 0)
        return -1;
    need_nbd(d);
    need_luks(d);
    if (d->base == STORE_EMPTY)
        return 0;
    if (d->run_moved && dir_state_save(d, d->base, err) < 0)
        return -1;
    if (dir_seeds_load(d, err) < 0 || dir_pruned_load(d, err) < 0 || load_applied(d, err) < 0
        || dir_disks_open(d, err) < 0 || dir_resize_finish(d, err) < 0
        || dir_points_load(d, err) < 0 || dir_pins_load(d, err) < 0 || dir_tip_load(d, err) < 0
        || dir_retention_load(d, err) < 0)
        return -1;
    dir_files_load(d);
    if (dir_damage_load(d, err) < 0)
        return -1;
    return check_records(d, err);
}

static int recover(struct store_dir *d, struct err *err)
{
    uint64_t point;

    if (chain_open(d->fs, d->dir, &d->chain, err) < 0)
        return -1;
    if (d->base == STORE_EMPTY)
        return 0;
    if (dir_prune_finish(d, err) < 0 || dir_chain_restore(d, err) < 0
        || dir_promotion_finish(d, err) < 0 || dir_tip_finish(d, err) < 0
        || check_generation(d, err) < 0)
        return -1;
    /* Without room for it, the store can still be looked at, served and pruned; and a damaged segment
     * comes again only to a store that is open. */
    if (d->intent && store_dir_point_apply(&d->store, &point, NULL, NULL, err) < 0) {
        if (!err || (err->code != ERR_SPACE && !d->rotten))
            return -1;
        err_clear(err);
    }
    return dir_segments_clean(d, true, err);
}

static int open_dir(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *lock = dir_path(d, DIR_FILE_LOCK);

    if (fs_make_dirs(d->fs, d->dir, 0700, err) < 0 || fs_lock(lock, &d->lock, err) < 0
        || load(d, err) < 0)
        return -1;
    return recover(d, err);
}

int store_dir_open(const struct store_dir_config *config, struct store **ret_store, struct err *err)
{
    CLEANUP(close_dirp) struct store_dir *d = mem_new(struct store_dir);
    struct err why = ERR_EMPTY; /* recovery decides by its code, whatever the caller passed */

    d->lock = -1;
    if (!str_is_name(config->group))
        return err_set(err, ERR_INVALID, 0, "\"%.63s\" is no name for a group", config->group);
    d->store.ops = &ops;
    guard_fs_init(&d->guard, config->fs);
    d->fs = &d->guard.fs;
    d->clock = config->clock;
    d->dir = mem_strdup(config->dir);
    d->to_scrub = config->to_scrub;
    if (config->run_dir && (config->run_dir[0] != '/' || strchr(config->run_dir, '\n')))
        return err_set(err, ERR_INVALID, 0, "%s: not an absolute path", config->run_dir);
    d->run_dir = config->run_dir ? mem_strdup(config->run_dir) : NULL;
    d->luks_key = config->luks_key ? mem_strdup(config->luks_key) : NULL;
    d->at_rest = config->at_rest;
    memcpy(d->group, config->group, strlen(config->group) + 1);
    d->key = config->group_key;
    memcpy(d->writer_key, config->writer_key, SIGN_KEY_BYTES);
    d->digester = chunk_digester_new(&d->key);
    if (open_dir(d, &why) < 0) {
        if (err)
            *err = why;
        return err_wrap(err, "open the replica of %s", config->group);
    }
    *ret_store = &TAKE(d)->store;
    return 0;
}

/* First and durably: the record says whose they are, and whoever removes what a cut left needs it. */
static int remove_disks(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks) {
        CLEANUP(mem_freep) char *path = path_join(d->dir, disk->name);
        if (fs_remove_tree(d->fs, path, err) < 0)
            return -1;
    }
    return d->fs->sync_dir(d->fs, d->dir, err);
}

int store_dir_remove(struct fs *fs, const char *dir, struct err *err)
{
    CLEANUP(close_dirp) struct store_dir *d = mem_new(struct store_dir);

    d->lock = -1;
    guard_fs_init(&d->guard, fs);
    d->fs = &d->guard.fs;
    d->dir = mem_strdup(dir);
    if (!fs_exists(dir))
        return 0;
    CLEANUP(mem_freep) char *lock = dir_path(d, DIR_FILE_LOCK);
    /* What is not ours is not removed with it. */
    if (fs_lock(lock, &d->lock, err) < 0 || dir_state_load(d, err) < 0
        || dir_check_files(dir, &d->disks, err) < 0 || remove_disks(d, err) < 0
        || fs_remove_tree(d->fs, dir, err) < 0)
        return err_wrap(err, "remove the replica in %s", dir);
    return 0;
}

void store_close(struct store *store)
{
    if (store)
        store->ops->close(store);
}

void store_closep(struct store **store)
{
    store_close(*store);
    *store = NULL;
}
