// SPDX-License-Identifier: Apache-2.0
/* What is kept: pins, and retention. What is not goes by a durable note (store_dir_gone.c), which is
 * written first, so that the chain verifies whatever of the removed files is still there. */
#include "replica/store_dir.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

/* --- Pins -------------------------------------------------------------------------------- */

static int check_label(const char *label, struct err *err)
{
    if (!str_is_name(label))
        return err_set(err, ERR_INVALID, 0, "\"%.63s\" is no label for a pin", label);
    return 0;
}

static struct store_pin *pin_find(const struct store_dir *d, const char *label)
{
    VEC_FOREACH(pin, &d->pins)
        if (str_eq(pin->label, label))
            return pin;
    return NULL;
}

static int save_pins(struct store_dir *d, struct dir_pins *pins, struct err *err)
{
    if (dir_pins_save(d, pins, err) < 0)
        return -1;
    struct dir_pins old = d->pins;
    d->pins = *pins;
    *pins = old;
    return 0;
}

static struct dir_pins pins_without(const struct store_dir *d, const char *label)
{
    struct dir_pins pins = VEC_EMPTY;

    VEC_FOREACH(pin, &d->pins)
        if (!str_eq(pin->label, label))
            *dir_pins_push(&pins) = *pin;
    return pins;
}

/* Head's point was about to be left. As long as head holds it, it can stay: what was saved by the
 * apply that did not come that far lacks what older files have, and is saved anew. */
static int stay_after_all(struct store_dir *d, struct err *err)
{
    const struct dir_point *point = dir_point_find(d, d->applied);
    static const struct sha256 none;
    CLEANUP(dir_note_done) struct dir_note note = {d->before, d->before_hash, VEC_EMPTY, VEC_EMPTY};
    bool has_base = memcmp(&point->base, &none, sizeof(none)) != 0;
    const struct sha256 *hash = has_base ? &point->base : &point->parent;

    if (dir_head_touched(d))
        return err_set(err, ERR_BUSY, 0,
                       "%s: head is on its way from point %" PRIu64
                       ", which is not kept, to %" PRIu64 "; hint: try again when that is applied",
                       d->group, d->applied, d->intent);
    VEC_FOREACH(disk, &d->disks) {
        CLEANUP(mem_freep) char *path = dir_undo_path(disk, d->applied);
        if (fs_exists(path) && d->fs->unlink(d->fs, path, err) < 0)
            return -1;
    }
    if (note.before == point->point) {
        note.before = point->point - 1;
        note.before_hash = *hash;
    }
    VEC_FOREACH(gone, &d->gones)
        if (gone->last != point->point)
            *dir_gones_push(&note.gones) = *gone;
        else if (gone->first < gone->last)
            *dir_gones_push(&note.gones) = (struct dir_gone){gone->first, gone->last - 1, *hash};
    VEC_FOREACH(number, &d->listed)
        if (*number != point->point)
            *dir_numbers_push(&note.listed) = *number;
    return dir_note_save(d, &note, err);
}

int store_dir_pin(struct store *store, uint64_t point, const char *label, uint64_t *ret_point,
                  struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (guard_fs_check(&d->guard, err) < 0 || check_label(label, err) < 0
        || dir_own_held(d, err) < 0)
        return -1;
    const struct store_pin *same = pin_find(d, label);
    if (same) {
        if (point != 0 && point != same->point)
            return err_set(err, ERR_EXISTS, 0, "%s: pin \"%s\" holds point %" PRIu64, d->group,
                           label, same->point);
        *ret_point = same->point;
        return 0;
    }
    if (point == 0 && d->applied == 0)
        return err_set(err, ERR_STATE, 0, "%s has no applied point to pin yet", d->group);
    point = point ? point : d->applied;
    if (!dir_point_find(d, point))
        return dir_no_point(d, point, err);
    if (dir_is_gone(d, point) && stay_after_all(d, err) < 0)
        return -1;
    CLEANUP(dir_pins_free) struct dir_pins pins = pins_without(d, label);
    struct store_pin *pin = dir_pins_push(&pins);
    pin->point = point;
    memcpy(pin->label, label, strlen(label) + 1);
    if (save_pins(d, &pins, err) < 0)
        return err_wrap(err, "pin point %" PRIu64, point);
    *ret_point = point;
    return 0;
}

int store_dir_unpin(struct store *store, const char *label, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (guard_fs_check(&d->guard, err) < 0 || check_label(label, err) < 0)
        return -1;
    if (!pin_find(d, label))
        return 0;
    CLEANUP(dir_pins_free) struct dir_pins pins = pins_without(d, label);
    return save_pins(d, &pins, err);
}

void store_dir_pins(struct store *store, struct store_pins *ret_pins)
{
    const struct store_dir *d = store_dir_of(store);

    store_pins_clear(ret_pins);
    VEC_FOREACH(pin, &d->pins)
        *store_pins_push(ret_pins) = *pin;
}

/* --- Retention --------------------------------------------------------------------------- */

static bool is_pinned(const struct store_dir *d, uint64_t point)
{
    VEC_FOREACH(pin, &d->pins)
        if (pin->point == point)
            return true;
    return false;
}

/* The newest point is a promotion, or one is still to be applied: head must be able to go back to the
 * point it chose, and the other site to begin there; and what it left behind is a branch that nobody
 * has named yet. 0: neither. */
static uint64_t promoted_from(const struct store_dir *d)
{
    VEC_FOREACH(promoted, &d->points)
        if (promoted->promotion
            && (promoted->point > d->applied || promoted == dir_point_newest(d)))
            VEC_FOREACH(point, &d->points)
                if (memcmp(&point->hash, &promoted->parent, sizeof(point->hash)) == 0)
                    return point->point;
    return 0;
}

/* Application-consistent points are rarer than the others, and would be gone before the next one comes:
 * the newest of them stays. 0: there is none. */
static uint64_t newest_application(const struct store_dir *d, uint64_t last)
{
    uint64_t newest = 0;

    VEC_FOREACH(point, &d->points)
        if (point->point <= last && point->consistency == CONSISTENCY_APPLICATION
            && !point->promotion)
            newest = point->point;
    return newest;
}

void dir_fates_of(const struct store_dir *d, const struct retention *retention, uint64_t last,
                  struct dir_fates *ret_fates)
{
    uint64_t chosen = promoted_from(d);
    uint64_t application = newest_application(d, last);

    dir_fates_clear(ret_fates);
    VEC_FOREACH(point, &d->points)
        if (point->point <= last)
            *dir_fates_push(ret_fates) = (struct retention_point){
                .received_ms = point->received_wall_ms,
                .held = is_pinned(d, point->point) || point->point == application
                        || (chosen && point->point >= chosen)
                        || (d->intent && point->point == d->applied),
            };
    if (ret_fates->len > 0)
        retention_choose(retention, ret_fates->at, ret_fates->len);
}

/* What the note would be when those go that nothing keeps; false: none does. */
static bool plan_note(const struct store_dir *d, const struct dir_fates *fates, uint64_t only,
                      struct dir_note *ret_note)
{
    CLEANUP(mem_freep) bool *goes = mem_new_array(bool, d->points.len);
    bool any = false;

    for (size_t i = 0; i < fates->len; i++) {
        uint64_t number = d->points.at[i].point;
        goes[i] = fates->at[i].why == RETENTION_GOES && !dir_is_gone(d, number)
                  && (only ? number == only : number != d->applied);
        any |= goes[i];
    }
    if (any)
        dir_note_plan(d, goes, ret_note);
    return any;
}

int dir_decide(struct store_dir *d, uint64_t next, struct err *err)
{
    CLEANUP(dir_fates_free) struct dir_fates fates = VEC_EMPTY;
    CLEANUP(dir_note_done) struct dir_note note = {0};

    if (!d->retains || d->applied == 0)
        return 0;
    dir_fates_of(d, &d->retention, next, &fates);
    const struct dir_point *applied = dir_point_find(d, d->applied);
    /* Another retention came after an apply that did not get beyond its decision. */
    if (dir_leaving(d) && fates.at[applied - d->points.at].why != RETENTION_GOES)
        return stay_after_all(d, err);
    return plan_note(d, &fates, d->applied, &note) ? dir_note_save(d, &note, err) : 0;
}

static uint64_t newest_of(const struct store_dir *d)
{
    return d->intent ? d->intent : d->applied;
}

static int remove_points(struct store_dir *d, const struct dir_fates *fates, struct err *err)
{
    CLEANUP(dir_note_done) struct dir_note note = {0};

    if (!plan_note(d, fates, 0, &note))
        return 0;
    if (dir_note_save(d, &note, err) < 0)
        return err_wrap(err, "prune %s", d->group);
    dir_gone_drop(d);
    /* Before the files go: no view is opened on them any more. */
    if (dir_chain_restore(d, err) < 0)
        return -1;
    return dir_prune_finish(d, err);
}

/* Points that will not go with the next that comes: what is between them can be merged for good. */
static void closed_by(const struct store_dir *d, const struct dir_fates *fates,
                      struct dir_numbers *ret_closed)
{
    for (size_t i = 0; i < fates->len; i++)
        if (fates->at[i].why == RETENTION_HELD || fates->at[i].every_ms)
            *dir_numbers_push(ret_closed) = d->points.at[i].point;
}

#define MERGE_BYTES (UINT64_C(16) << 20)

static int prune(struct store_dir *d, const struct retention *retention, struct err *err)
{
    CLEANUP(dir_fates_free) struct dir_fates fates = VEC_EMPTY;
    CLEANUP(dir_numbers_free) struct dir_numbers closed = VEC_EMPTY;
    const struct dir_point *applied = dir_point_find(d, d->applied);

    dir_fates_of(d, retention, newest_of(d), &fates);
    closed_by(d, &fates, &closed);
    if (remove_points(d, &fates, err) < 0)
        return -1;
    return dir_merge_some(d, &closed, MERGE_BYTES + (applied ? 4 * applied->bytes : 0), err);
}

static int check_prune(const struct store_dir *d, const struct retention *retention,
                       struct err *err)
{
    if (guard_fs_check(&d->guard, err) < 0)
        return -1;
    if (retention->keep == 0)
        return err_set(err, ERR_INVALID, 0, "%s: at least one point is kept", d->group);
    return 0;
}

int store_dir_prune(struct store *store, const struct retention *retention, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (check_prune(d, retention, err) < 0)
        return -1;
    if (d->base == STORE_EMPTY) /* there is no place for the record yet */
        return 0;
    if ((!d->retains || !retention_equal(&d->retention, retention))
        && dir_retention_save(d, retention, err) < 0)
        return err_wrap(err, "keep the retention of %s", d->group);
    return prune(d, retention, err);
}

int store_dir_prune_once(struct store *store, const struct retention *retention, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    return check_prune(d, retention, err) < 0 || dir_own_held(d, err) < 0
               ? -1
               : prune(d, retention, err);
}

bool store_dir_retention(struct store *store, struct retention *ret_retention)
{
    const struct store_dir *d = store_dir_of(store);

    if (d->retains)
        *ret_retention = d->retention;
    return d->retains;
}

bool dir_make_room(struct store_dir *d)
{
    CLEANUP(dir_fates_free) struct dir_fates fates = VEC_EMPTY;
    size_t before = d->files.len;
    struct err ignored = ERR_EMPTY;

    if (!d->retains)
        return false;
    dir_merge_stop(d);
    dir_fates_of(d, &d->retention, newest_of(d), &fates);
    return remove_points(d, &fates, &ignored) == 0 && d->files.len < before;
}
