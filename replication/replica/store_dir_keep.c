// SPDX-License-Identifier: Apache-2.0
/* What is kept: pins, and retention. A durable note says what stood before the oldest manifest;
 * it is written first, so that the chain verifies whatever of the pruned files is still there. */
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

static struct dir_pin *pin_find(const struct store_dir *d, const char *label)
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

int store_dir_pin(struct store *store, uint64_t point, const char *label, uint64_t *ret_point,
                  struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (guard_fs_check(&d->guard, err) < 0 || check_label(label, err) < 0
        || dir_own_held(d, err) < 0)
        return -1;
    const struct dir_pin *same = pin_find(d, label);
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
    CLEANUP(dir_pins_free) struct dir_pins pins = pins_without(d, label);
    struct dir_pin *pin = dir_pins_push(&pins);
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

/* --- Retention --------------------------------------------------------------------------- */

/* The `keep`-th of the applied points, counted from the newest; 0: there are not so many. */
static uint64_t nth_applied(const struct store_dir *d, uint64_t keep)
{
    for (size_t i = d->points.len; i-- > 0;)
        if (d->points.at[i].point <= d->applied && --keep == 0)
            return d->points.at[i].point;
    return 0;
}

/* The oldest point that must stay. */
static uint64_t oldest_kept(const struct store_dir *d, uint64_t keep)
{
    uint64_t oldest = nth_applied(d, keep);

    VEC_FOREACH(pin, &d->pins)
        if (pin->point < oldest)
            oldest = pin->point;
    /* A promotion that is not applied yet goes back to the point it chose. */
    VEC_FOREACH(promoted, &d->points)
        if (promoted->promotion && promoted->point > d->applied)
            VEC_FOREACH(point, &d->points)
                if (memcmp(&point->hash, &promoted->parent, sizeof(point->hash)) == 0
                    && point->point < oldest)
                    oldest = point->point;
    return oldest;
}

static int remove_numbers(struct store_dir *d, const char *folder, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    uint64_t number;

    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        if (dir_number_of(names.at[i], &number) && number <= d->before
            && d->fs->unlink(d->fs, path, err) < 0)
            return -1;
    }
    return 0;
}

int dir_prune_finish(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *manifests = dir_path(d, DIR_FILE_MANIFESTS);

    /* Without points the note says where the first one will stand, not what was pruned. */
    if (d->before == 0 || d->points.len == 0)
        return 0;
    VEC_FOREACH(disk, &d->disks) {
        CLEANUP(mem_freep) char *undo = path_join(disk->dir, DIR_UNDO);
        if (remove_numbers(d, undo, err) < 0)
            return -1;
    }
    return remove_numbers(d, manifests, err);
}

int store_dir_prune(struct store *store, uint64_t keep, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    size_t gone = 0;

    if (guard_fs_check(&d->guard, err) < 0)
        return -1;
    if (keep == 0)
        return err_set(err, ERR_INVALID, 0, "%s: at least one point is kept", d->group);
    uint64_t oldest = oldest_kept(d, keep);
    while (gone < d->points.len && d->points.at[gone].point < oldest)
        gone++;
    if (gone == 0)
        return 0;
    const struct dir_point last = d->points.at[gone - 1];
    if (dir_pruned_save(d, last.point, &last.hash, err) < 0)
        return err_wrap(err, "prune %s to %" PRIu64 " points", d->group, keep);
    d->points.len -= gone;
    memmove(d->points.at, d->points.at + gone, d->points.len * sizeof(*d->points.at));
    /* Before the files go: no view is opened on them any more. */
    if (dir_chain_restore(d, err) < 0)
        return -1;
    return dir_prune_finish(d, err);
}
