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

/* --- Does it continue our history? -------------------------------------------------------- */

VEC_DEFINE(hashes, struct sha256)

struct ancestry {
    struct sha256 child;
    struct sha256 parent;
};
VEC_DEFINE(ancestries, struct ancestry)

static bool same_hash(const struct sha256 *a, const struct sha256 *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static void add_known(struct hashes *known, const struct sha256 *hash)
{
    static const struct sha256 none;

    if (!same_hash(hash, &none)) /* the parent of the first point of all is nothing */
        *hashes_push(known) = *hash;
}

static void collect_known(const struct store_dir *d, const struct dir_origin *origin,
                          const struct store_proof *proof, struct hashes *known)
{
    add_known(known, &origin->hash);
    add_known(known, &origin->parent);
    add_known(known, &d->before_hash);
    add_known(known, &d->tip.hash);
    VEC_FOREACH(gone, &d->gones)
        add_known(known, &gone->hash);
    VEC_FOREACH(point, &d->points) {
        add_known(known, &point->hash);
        add_known(known, &point->parent);
        add_known(known, &point->base);
    }
    for (size_t i = 0; proof && i < proof->known_count; i++)
        add_known(known, &proof->known[i]);
}

static int collect_ancestry(const struct store_dir *d, const struct store_proof *proof,
                            struct ancestries *all, struct err *err)
{
    for (size_t i = 0; proof && i < proof->manifest_count; i++) {
        CLEANUP(manifest_done) struct manifest m;
        manifest_init(&m);
        if (manifest_parse(proof->manifests[i], strlen(proof->manifests[i]), &m, err) < 0)
            return err_wrap(err, "%s: manifest %zu of the proof", d->group, i);
        struct ancestry *one = ancestries_push(all);
        manifest_hash(&m, &one->child);
        one->parent = m.parent;
    }
    return 0;
}

static bool has_hash(const struct hashes *known, const struct sha256 *hash)
{
    VEC_FOREACH(at, known)
        if (same_hash(at, hash))
            return true;
    return false;
}

/* Backwards from `from`, that itself included, as far as the manifests go: a hash is only found by
 * whoever has the text, so each step is certain, whoever signed it. */
static bool leads_to(const struct ancestries *all, const struct sha256 *from,
                     const struct hashes *wanted)
{
    const struct sha256 *at = from;

    for (size_t steps = 0; at && steps <= all->len; steps++) {
        const struct sha256 *parent = NULL;
        if (has_hash(wanted, at))
            return true;
        VEC_FOREACH(one, all)
            if (same_hash(&one->child, at))
                parent = &one->parent;
        at = parent;
    }
    return false;
}

static int check_history(const struct store_dir *d, const struct manifest *tip,
                         const struct dir_origin *origin, const struct store_proof *proof,
                         struct err *err)
{
    CLEANUP(hashes_free) struct hashes known = VEC_EMPTY;
    CLEANUP(hashes_free) struct hashes parent = VEC_EMPTY;
    CLEANUP(ancestries_free) struct ancestries all = VEC_EMPTY;

    collect_known(d, origin, proof, &known);
    add_known(&parent, &tip->parent);
    if (collect_ancestry(d, proof, &all, err) < 0)
        return -1;
    if (leads_to(&all, &tip->parent, &known))
        return 0;
    VEC_FOREACH(hash, &known)
        if (leads_to(&all, hash, &parent))
            return 0;
    /* Between the point it chose and the newest one there, points may be removed. Whoever signed it
     * says that it went back from that one, its base. */
    if (tip->base_point && leads_to(&all, &tip->base, &known))
        return 0;
    return err_set(err, ERR_CORRUPT, 0,
                   "%s: what site %s calls point %" PRIu64
                   " does not continue the history that is known here, up to point %" PRIu64
                   "; hint: there are two histories of this group; protect it anew to begin one",
                   d->group, tip->site, tip->point, origin->point);
}

int dir_tip_check(const struct store_dir *d, const struct manifest *tip,
                  const struct dir_origin *origin, const struct store_proof *proof, struct err *err)
{
    static const uint8_t any[SIGN_KEY_BYTES];

    if (!str_eq(tip->group, d->group))
        return err_set(err, ERR_INVALID, 0,
                       "%s cannot follow point %" PRIu64 " of %s: it is not of this group",
                       d->group, tip->point, tip->group);
    if (memcmp(d->writer_key, any, SIGN_KEY_BYTES) != 0
        && memcmp(d->writer_key, tip->writer_key, SIGN_KEY_BYTES) != 0)
        return err_set(err, ERR_AUTH, 0,
                       "%s: promotion %" PRIu64 " is signed by another key than that of the site we"
                       " are paired with",
                       d->group, tip->point);
    if (tip->generation <= origin->generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s: promotion %" PRIu64 " is of generation %" PRIu64
                       ", this replica is at %" PRIu64,
                       d->group, tip->point, tip->generation, origin->generation);
    /* The same number: both sides went on from the same point. */
    if (origin->point == 0 || tip->point < origin->point)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: promotion %" PRIu64 " cannot be followed, the newest point here is"
                       " %" PRIu64,
                       d->group, tip->point, origin->point);
    return check_history(d, tip, origin, proof, err);
}

/* --- Following --------------------------------------------------------------------------- */

int dir_tip_take(struct store_dir *d, const struct manifest *tip, const char *text, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_TIP);
    CLEANUP(mem_freep) char *line = mem_printf("%s\n", text);

    if (record_write(d->fs, path, line, err) < 0)
        return err_wrap(err, "follow promotion %" PRIu64 " of %s", tip->point, d->group);
    CRASH_POINT("replica.follow-tip");
    take_tip(d, tip);
    return dir_tip_finish(d, err);
}

static struct dir_origin origin_of(const struct store_dir *d)
{
    const struct dir_point *newest = dir_point_newest(d);
    struct dir_origin origin = {.generation = d->generation};

    if (newest) {
        origin.point = newest->point;
        origin.hash = newest->hash;
        origin.parent = newest->parent;
    }
    return origin;
}

int store_dir_follow(struct store *store, const char *text, size_t len,
                     const struct store_proof *proof, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct dir_origin origin = origin_of(d);
    CLEANUP(manifest_done) struct manifest m;
    struct sha256 hash;

    manifest_init(&m);
    if (guard_fs_check(&d->guard, err) < 0 || manifest_parse(text, len, &m, err) < 0)
        return -1;
    manifest_hash(&m, &hash);
    if (d->tip.generation == m.generation && same_hash(&hash, &d->tip.hash))
        return dir_tip_finish(d, err);
    if (dir_own_held(d, err) < 0)
        return -1;
    if (d->base != STORE_COPIED)
        return err_set(err, ERR_STATE, 0, "%s: there is no complete copy that could follow",
                       d->group);
    if (!m.promotion)
        return err_set(err, ERR_INVALID, 0,
                       "%s cannot follow point %" PRIu64 " of %s: it is not a promotion", d->group,
                       m.point, m.group);
    if (dir_tip_check(d, &m, &origin, proof, err) < 0)
        return err_wrap(err, "follow");
    CLEANUP(mem_freep) char *canonical = manifest_text(&m);
    return dir_tip_take(d, &m, canonical, err);
}
