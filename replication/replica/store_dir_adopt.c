// SPDX-License-Identifier: Apache-2.0
/* A store over a machine's own disks, in an order that can be cut anywhere: "replica" with state
 * copying names the heads; digests; generation; the first manifest, applied; state copied; the tip.
 * Until the last of them nobody can apply anything, so the disks stay as they are. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/generation.h"

#include <inttypes.h>
#include <string.h>

#define WINDOW_CHUNKS 1024U

struct adoption {
    struct store_dir *d;
    const struct store_adopt *what;
    struct manifest first;
    struct manifest tip;
    struct cancel *cancel;
};

static void adoption_done(struct adoption *a)
{
    manifest_done(&a->first);
    manifest_done(&a->tip);
}

/* --- May it be --------------------------------------------------------------------------- */

static int check_disk(const struct adoption *a, size_t i, struct err *err)
{
    const struct store_adopt_disk *disk = &a->what->disks[i];

    if (!str_is_name(disk->name) || dir_name_is_reserved(disk->name) || disk->path[0] != '/'
        || strpbrk(disk->path, "\n") || strlen(disk->format) >= DIR_FORMAT_BYTES
        || strpbrk(disk->format, " \n") || disk->format[0] == '\0')
        return err_set(err, ERR_INVALID, 0, "disk \"%.63s\" at %s cannot be a replica's",
                       disk->name, disk->path);
    for (size_t k = 0; k < i; k++)
        if (str_eq(a->what->disks[k].name, disk->name)
            || str_eq(a->what->disks[k].path, disk->path))
            return err_set(err, ERR_INVALID, 0, "disk %s at %s is there twice", disk->name,
                           disk->path);
    VEC_FOREACH(part, &a->first.disks) {
        if (!str_eq(part->name, disk->name))
            continue;
        if (part->size == disk->size)
            return 0;
        return err_set(err, ERR_STATE, 0,
                       "disk %s has %" PRIu64 " bytes, at point %" PRIu64 " it had %" PRIu64
                       "; hint: protect the machine anew",
                       disk->name, disk->size, a->first.point, part->size);
    }
    return err_set(err, ERR_STATE, 0,
                   "point %" PRIu64 " of %s has no disk %s; hint: protect the machine anew",
                   a->first.point, a->d->group, disk->name);
}

static int check_history(const struct adoption *a, struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_origin origin = {a->first.point, a->first.generation, {{0}}, a->first.parent};

    if (origin.generation < d->generation) /* an earlier try may have followed another tip */
        origin.generation = d->generation;

    manifest_hash(&a->first, &origin.hash);
    if (d->base == STORE_EMPTY && d->generation > a->first.generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s: point %" PRIu64 " is of generation %" PRIu64
                       ", but the folder is at %" PRIu64,
                       d->group, a->first.point, a->first.generation, d->generation);
    return dir_tip_check(d, &a->tip, &origin, &a->what->proof, err);
}

static int parse(struct adoption *a, struct err *err)
{
    const struct store_adopt *what = a->what;

    if (manifest_parse(what->first, strlen(what->first), &a->first, err) < 0
        || manifest_parse(what->tip, strlen(what->tip), &a->tip, err) < 0)
        return -1;
    if (!str_eq(a->first.group, a->d->group))
        return err_set(err, ERR_INVALID, 0, "point %" PRIu64 " is of %s, not of %s", a->first.point,
                       a->first.group, a->d->group);
    return 0;
}

static int check(const struct adoption *a, struct err *err)
{
    const struct store_adopt *what = a->what;
    struct store_dir *d = a->d;

    if (check_history(a, err) < 0)
        return -1;
    for (size_t i = 0; i < what->count; i++)
        if (check_disk(a, i, err) < 0)
            return -1;
    if (what->count != a->first.disks.len)
        return err_set(err, ERR_STATE, 0,
                       "%s has %zu disks, at point %" PRIu64
                       " it had %zu; hint: protect the machine anew",
                       d->group, what->count, a->first.point, a->first.disks.len);
    return 0;
}

/* What an earlier try left is of the same adoption. */
static int check_same(const struct adoption *a, struct err *err)
{
    const struct store_dir *d = a->d;
    const struct dir_point *newest = dir_point_newest(d);
    struct sha256 first;

    manifest_hash(&a->first, &first);
    bool same = d->disks.len == a->what->count
                && (!newest || memcmp(&newest->hash, &first, sizeof(first)) == 0);
    for (size_t i = 0; same && i < a->what->count; i++) {
        const struct store_adopt_disk *disk = &a->what->disks[i];
        same = d->disks.at[i].elsewhere && str_eq(d->disks.at[i].name, disk->name)
               && str_eq(d->disks.at[i].elsewhere, disk->path)
               && str_eq(d->disks.at[i].format, disk->format) && d->disks.at[i].size == disk->size;
    }
    if (same)
        return 0;
    return err_set(err, ERR_STATE, 0,
                   "%s: there is a replica of %s already; hint: remove it before the machine's own"
                   " disks become one",
                   d->dir, d->group);
}

/* --- Doing it ---------------------------------------------------------------------------- */

/* The disks are looked at before anything is written. */
static int begin(struct adoption *a, struct err *err)
{
    struct store_dir *d = a->d;

    if (d->base != STORE_EMPTY)
        return check_same(a, err) < 0 ? -1 : dir_disks_open(d, err);
    for (size_t i = 0; i < a->what->count; i++) {
        const struct store_adopt_disk *disk = &a->what->disks[i];
        dir_disk_add(d, disk->name, disk->size, disk->path, disk->format);
    }
    if (dir_heads_open(d, err) < 0 || dir_state_save(d, STORE_COPYING, err) < 0) {
        dir_disks_close(d);
        return -1;
    }
    CRASH_POINT("replica.adopt-begun");
    return dir_disks_open(d, err);
}

static int take_digests(struct adoption *a, struct dir_disk *disk, struct err *err)
{
    uint64_t chunks = chunk_count(disk->size);
    struct digest digests[WINDOW_CHUNKS];
    bool known[WINDOW_CHUNKS];

    for (uint64_t first = 0; first < chunks; first += WINDOW_CHUNKS) {
        uint64_t count = chunks - first < WINDOW_CHUNKS ? chunks - first : WINDOW_CHUNKS;
        memset(known, 0, sizeof(known));
        memset(digests, 0, sizeof(digests));
        if (cancel_check(a->cancel, err) < 0
            || a->what->digests(a->what->ctx, disk->name, first, count, digests, known, err) < 0
            || digests_file_write(a->d->fs, disk->digests, first, count, digests, err) < 0)
            return -1;
        for (uint64_t i = 0; i < count; i++)
            dir_digest_known(disk, first + i, known[i]);
    }
    return 0;
}

static int make_digests(struct adoption *a, struct err *err)
{
    if (a->what->digests)
        VEC_FOREACH(disk, &a->d->disks)
            if (take_digests(a, disk, err) < 0)
                return -1;
    return dir_base_settle(a->d, a->what->progress, a->what->ctx, a->cancel, err);
}

static int take_first(struct adoption *a, struct err *err)
{
    struct store_dir *d = a->d;

    if (d->points.len == 0) {
        CLEANUP(mem_freep) char *text = manifest_text(&a->first);
        if (dir_pruned_save(d, a->first.point - 1, &a->first.parent, err) < 0
            || dir_manifest_add(d, &a->first, text, err) < 0)
            return -1;
    }
    CRASH_POINT("replica.adopt-manifest");
    if (dir_own_stamp(d, err) < 0)
        return -1;
    return dir_applied_save(d, dir_point_newest(d), 0, err);
}

/* It was done before; points may have come since. */
static bool is_adopted(const struct adoption *a)
{
    const struct store_dir *d = a->d;
    struct sha256 tip;

    manifest_hash(&a->tip, &tip);
    return d->base == STORE_COPIED && d->disks.len > 0 && d->disks.at[0].elsewhere
           && memcmp(&tip, &d->tip.hash, sizeof(tip)) == 0;
}

static int adopt(struct adoption *a, struct err *err)
{
    struct store_dir *d = a->d;

    if (is_adopted(a))
        return dir_tip_finish(d, err);
    if (check(a, err) < 0 || begin(a, err) < 0)
        return -1;
    if (d->base == STORE_COPYING) {
        if (make_digests(a, err) < 0)
            return -1;
        if (d->generation < a->first.generation
            && generation_raise(d->fs, d->dir, d->generation, a->first.generation, err) < 0)
            return -1;
        d->generation = a->first.generation;
        if (take_first(a, err) < 0 || dir_state_save(d, STORE_COPIED, err) < 0)
            return -1;
        VEC_FOREACH(disk, &d->disks)
            free(TAKE(disk->known));
        dir_chain_publish(d, d->applied, d->applied);
    }
    CRASH_POINT("replica.adopt-copied");
    return dir_tip_take(d, &a->tip, a->what->tip, err);
}

int store_dir_adopt(struct store *store, const struct store_adopt *what, struct cancel *cancel,
                    struct err *err)
{
    CLEANUP(adoption_done)
    struct adoption a = {.d = store_dir_of(store), .what = what, .cancel = cancel};

    manifest_init(&a.first);
    manifest_init(&a.tip);
    if (guard_fs_check(&a.d->guard, err) < 0 || dir_own_held(a.d, err) < 0 || parse(&a, err) < 0
        || adopt(&a, err) < 0)
        return err_wrap(err, "take the disks of %s for its replica", a.d->group);
    return 0;
}

bool store_dir_has_own_disks(struct store *store)
{
    const struct store_dir *d = store_dir_of(store);

    return d->disks.len > 0 && d->disks.at[0].elsewhere != NULL;
}
