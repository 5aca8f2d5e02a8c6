// SPDX-License-Identifier: Apache-2.0
/* What people say about points: pins of their own, and pruning at once. Asked here, or by the site that
 * sends the group. */
#include "base/mem.h"
#include "sites/branch.h"
#include "sites/estate_base.h"
#include "sites/keeping.h"
#include "sites/site_local.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define VIEW_PIN "view-"

/* --- Whose a pin is -------------------------------------------------------------------------- */

const char *pin_by(const char *label)
{
    return str_starts(label, PERSON_PIN)   ? "person"
           : str_starts(label, VIEW_PIN)   ? "view"
           : str_starts(label, BRANCH_PIN) ? "branch"
                                           : "run";
}

const char *pin_shown(const char *label)
{
    return str_starts(label, PERSON_PIN) ? label + strlen(PERSON_PIN) : label;
}

const char *pin_holder(const char *label, char *buf, size_t len)
{
    (void)snprintf(buf, len, "%s %s", pin_by(label), pin_shown(label));
    return buf;
}

json_t *pins_json(const struct store_pins *pins, uint64_t point)
{
    json_t *list = json_array();
    char holder[NAME_MAX_BYTES + 16];

    VEC_FOREACH(pin, pins)
        if (pin->point == point)
            (void)json_array_append_new(
                list, json_string(pin_holder(pin->label, holder, sizeof(holder))));
    return list;
}

/* --- Pinning and unpinning ------------------------------------------------------------------- */

/* A store that failed like this must be opened anew, which recovers it. */
static bool must_reopen(int rc, const struct err *err)
{
    return rc < 0 && (err->code == ERR_IO || err->code == ERR_SPACE);
}

static int person_label(const char *label, char ret_label[NAME_MAX_BYTES], struct err *err)
{
    int len = snprintf(ret_label, NAME_MAX_BYTES, PERSON_PIN "%s", label);

    if (!str_is_name(label) || len >= NAME_MAX_BYTES)
        return err_set(err, ERR_INVALID, 0,
                       "\"%.80s\" is no label; hint: letters, digits, \".\", \"_\" and \"-\", at "
                       "most %zu of them",
                       label, NAME_MAX_BYTES - sizeof(PERSON_PIN));
    if (str_starts(label, VIEW_PIN) || str_starts(label, BRANCH_PIN))
        return err_set(err, ERR_INVALID, 0,
                       "\"%s\" is no label for a person's pin: views and branches are called so",
                       label);
    return 0;
}

static const struct store_pin *find_pin(const struct store_pins *pins, const char *label)
{
    VEC_FOREACH(pin, pins)
        if (str_eq(pin->label, label))
            return pin;
    return NULL;
}

/* The system's pins end with what needs them. */
static int not_a_persons(const char *group, const struct store_pin *pin, struct err *err)
{
    const char *by = pin_by(pin->label);
    char holder[NAME_MAX_BYTES + 16];

    return err_set(err, ERR_STATE, 0, "point %" PRIu64 " of %s is held by %s; hint: %s", pin->point,
                   group, pin_holder(pin->label, holder, sizeof(holder)),
                   str_eq(by, "view")     ? "it is free when the view ends"
                   : str_eq(by, "branch") ? "it is what an old machine wrote, and stays"
                                          : "it is free when the run is committed or cleaned up");
}

static int keep_point(struct store *store, const char *group, const json_t *args,
                      json_t **ret_result, struct err *err)
{
    CLEANUP(store_pins_free) struct store_pins pins = VEC_EMPTY;
    const char *shown = json_get_str(args, "label", "");
    char label[NAME_MAX_BYTES];
    uint64_t point;

    if (person_label(shown, label, err) < 0)
        return -1;
    store_dir_pins(store, &pins);
    const struct store_pin *same = find_pin(&pins, shown);
    if (same)
        return not_a_persons(group, same, err);
    if (store->ops->pin(store, json_get_u64(args, "point", 0), label, &point, err) < 0) {
        if (err->code != ERR_EXISTS)
            return -1;
        const struct store_pin *other = find_pin(&pins, label);
        return err_set(err, ERR_EXISTS, 0,
                       "%s: the label \"%s\" is that of point %" PRIu64 "; hint: `muster point "
                       "unpin %s %s` first, or take another label",
                       group, shown, other ? other->point : 0, group, shown);
    }
    *ret_result = json_pack("{s:I, s:s}", "point", (json_int_t)point, "label", shown);
    return 0;
}

static int free_point(struct store *store, const char *group, const json_t *args,
                      json_t **ret_result, struct err *err)
{
    CLEANUP(store_pins_free) struct store_pins pins = VEC_EMPTY;
    const char *shown = json_get_str(args, "label", "");
    CLEANUP(mem_freep) char *label = mem_printf(PERSON_PIN "%s", shown);

    store_dir_pins(store, &pins);
    const struct store_pin *pin = find_pin(&pins, label);
    const struct store_pin *other = find_pin(&pins, shown);
    if (!pin && other)
        return not_a_persons(group, other, err);
    if (!pin)
        return err_set(
            err, ERR_NOT_FOUND, 0,
            "%s: no point is pinned as \"%.80s\"; hint: `muster points %s` lists what is", group,
            shown, group);
    if (store->ops->unpin(store, label, err) < 0)
        return -1;
    *ret_result = json_pack("{s:I, s:s}", "point", (json_int_t)pin->point, "label", shown);
    return 0;
}

/* --- Pruning --------------------------------------------------------------------------------- */

bool site_retention(struct store *store, const json_t *args, struct retention *ret_retention)
{
    *ret_retention = (struct retention){.keep = json_get_u64(args, "keep", 0)};
    return ret_retention->keep != 0 || store_dir_retention(store, ret_retention);
}

static uint64_t cost_of(const struct store_points *points)
{
    uint64_t bytes = 0;

    VEC_FOREACH(point, points)
        bytes += point->undo_bytes;
    return bytes;
}

static int prune(struct store *store, const char *group, const json_t *args, json_t **ret_result,
                 struct err *err)
{
    CLEANUP(store_points_free) struct store_points before = VEC_EMPTY;
    CLEANUP(store_points_free) struct store_points after = VEC_EMPTY;
    struct retention retention;

    if (!site_retention(store, args, &retention))
        return err_set(err, ERR_STATE, 0,
                       "%s: the policy did not come here yet, all points are kept; hint: it comes "
                       "with the next point, or name a number: `muster prune %s --keep N`",
                       group, group);
    if (retention.keep > RETENTION_KEEP_MAX)
        return err_set(err, ERR_INVALID, 0, "keep must be 1 to %d", RETENTION_KEEP_MAX);
    if (store->ops->points(store, &before, err) < 0
        || store_dir_prune_once(store, &retention, err) < 0
        || store->ops->points(store, &after, err) < 0)
        return -1;
    uint64_t cost = cost_of(&after);
    *ret_result = json_pack("{s:I, s:I, s:I}", "removed", (json_int_t)(before.len - after.len),
                            "kept", (json_int_t)after.len, "undo_bytes", (json_int_t)cost);
    return 0;
}

/* --- Asks ------------------------------------------------------------------------------------ */

static int with_store(struct estate *estate, const json_t *args, json_t **ret_result,
                      int (*work)(struct store *store, const char *group, const json_t *args,
                                  json_t **ret_result, struct err *err),
                      struct err *err)
{
    const char *group;
    struct store *store;

    if (json_need_str(args, "group", "ask", &group, err) < 0
        || estate_store_get(estate, group, &store, err) < 0)
        return -1;
    int rc = work(store, group, args, ret_result, err);
    estate_store_put(estate, group, store, must_reopen(rc, err));
    return rc;
}

int ask_group_keep_point(struct estate *estate, const json_t *args, json_t **ret_result,
                         struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return with_store(estate, args, ret_result, keep_point, err);
}

int ask_group_free_point(struct estate *estate, const json_t *args, json_t **ret_result,
                         struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return with_store(estate, args, ret_result, free_point, err);
}

int ask_group_prune(struct estate *estate, const json_t *args, json_t **ret_result,
                    struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return with_store(estate, args, ret_result, prune, err);
}
