// SPDX-License-Identifier: Apache-2.0
/* The group is written at another site: this store was its source's, or held the replica from which
 * a machine ran until it was failed back. The record "tip" is that site's promotion, one line, its
 * manifest's text. It is written first; whatever is cut afterwards, opening raises the generation.
 *
 *   here                      there
 *   ... C ─ H (newest)        ... C ... P ─ tip ─ R (parent: the tip; base: H)
 *           └──────────────────────────────────── R
 *
 * R's segments are a superset of what differs between H and R, whatever happened in between. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/generation.h"
#include "replica/record.h"

#include <inttypes.h>
#include <string.h>

bool dir_follows(const struct store_dir *d)
{
    const struct dir_point *newest = dir_point_newest(d);

    return newest && d->tip.generation > newest->generation;
}

static void take_tip(struct store_dir *d, const struct manifest *m)
{
    d->tip.point = m->point;
    d->tip.generation = m->generation;
    manifest_hash(m, &d->tip.hash);
}

int dir_tip_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_TIP);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    if (!fs_exists(path))
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    size_t len = text.len && text.ptr[text.len - 1] == '\n' ? text.len - 1 : text.len;
    if (manifest_parse(str_text(&text), len, &m, err) < 0)
        return err_wrap(err, "%s", path);
    take_tip(d, &m);
    return 0;
}

int dir_tip_finish(struct store_dir *d, struct err *err)
{
    if (d->generation >= d->tip.generation)
        return 0;
    if (generation_raise(d->fs, d->dir, d->generation, d->tip.generation, err) < 0)
        return -1;
    d->generation = d->tip.generation;
    return 0;
}

int dir_tip_check(const struct store_dir *d, const struct manifest *m, uint64_t newest,
                  uint64_t generation, struct err *err)
{
    static const uint8_t any[SIGN_KEY_BYTES];

    if (!m->promotion || !str_eq(m->group, d->group))
        return err_set(err, ERR_INVALID, 0,
                       "%s cannot follow point %" PRIu64 " of %s: it is not a promotion of it",
                       d->group, m->point, m->group);
    if (memcmp(d->writer_key, any, SIGN_KEY_BYTES) != 0
        && memcmp(d->writer_key, m->writer_key, SIGN_KEY_BYTES) != 0)
        return err_set(err, ERR_AUTH, 0,
                       "%s: promotion %" PRIu64 " is signed by another key than that of the site we"
                       " are paired with",
                       d->group, m->point);
    if (m->generation <= generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s: promotion %" PRIu64 " is of generation %" PRIu64
                       ", this replica is at %" PRIu64,
                       d->group, m->point, m->generation, generation);
    if (newest == 0 || m->point + 1 <= newest)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: promotion %" PRIu64 " cannot be followed, the newest point here is"
                       " %" PRIu64,
                       d->group, m->point, newest);
    return 0;
}

int store_dir_follow(struct store *store, const char *text, size_t len, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_TIP);
    CLEANUP(mem_freep) char *line = mem_printf("%.*s\n", (int)len, text);
    CLEANUP(manifest_done) struct manifest m;
    struct sha256 hash;

    manifest_init(&m);
    if (guard_fs_check(&d->guard, err) < 0 || manifest_parse(text, len, &m, err) < 0)
        return -1;
    manifest_hash(&m, &hash);
    if (d->tip.generation == m.generation && memcmp(&hash, &d->tip.hash, sizeof(hash)) == 0)
        return dir_tip_finish(d, err);
    const struct dir_point *newest = dir_point_newest(d);
    if (dir_tip_check(d, &m, newest ? newest->point : 0, d->generation, err) < 0)
        return err_wrap(err, "follow");
    if (record_write(d->fs, path, line, err) < 0)
        return err_wrap(err, "follow promotion %" PRIu64 " of %s", m.point, d->group);
    CRASH_POINT("replica.follow-tip");
    take_tip(d, &m);
    return dir_tip_finish(d, err);
}
