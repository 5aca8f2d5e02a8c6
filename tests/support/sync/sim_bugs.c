// SPDX-License-Identifier: Apache-2.0
/* An operation is replaced in a copy of the seam's table, once per program; the object stays what it
 * is, and the honest operation is called through the table it came with. */
#include "support/sync/sim_bugs.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

/* --- Of the store ---------------------------------------------------------------------------- */

static const struct store_ops *honest_store;

static void wrong_store(struct store *store, struct store_ops *wrong)
{
    honest_store = store->ops;
    *wrong = *store->ops;
}

/* Every second apply says what it has not done. */
static int apply_early(struct store *store, uint64_t *ret_point, struct store_digests *ret_digests,
                       struct cancel *cancel, struct err *err)
{
    struct store_info info;

    if (honest_store->info(store, &info, err) < 0)
        return -1;
    if (info.durable_point == info.applied_point || info.durable_point % 2)
        return honest_store->point_apply(store, ret_point, ret_digests, cancel, err);
    *ret_point = info.durable_point;
    return 0;
}

static void applied_early(struct store *store, void *ctx)
{
    static struct store_ops wrong;

    (void)ctx;
    wrong_store(store, &wrong);
    wrong.point_apply = apply_early;
    store->ops = &wrong;
}

/* A promotion that is only a word: the old site is still let in. */
static int promote_nothing(struct store *store, uint64_t expected, uint64_t point,
                           const char *token, const char *site, const uint8_t sign[SIGN_KEY_BYTES],
                           int64_t wall_ms, uint64_t *ret_generation, uint64_t *ret_point,
                           struct err *err)
{
    struct store_info info;

    (void)point;
    (void)token;
    (void)site;
    (void)sign;
    (void)wall_ms;
    if (honest_store->info(store, &info, err) < 0)
        return -1;
    *ret_generation = expected + 1;
    *ret_point = info.applied_point;
    return 0;
}

static void generation_ignored(struct store *store, void *ctx)
{
    static struct store_ops wrong;

    (void)ctx;
    wrong_store(store, &wrong);
    wrong.promote = promote_nothing;
    store->ops = &wrong;
}

/* --- Of the source --------------------------------------------------------------------------- */

static const struct source_ops *honest_source;

static void wrong_source(struct source *source, struct source_ops *wrong)
{
    honest_source = source->ops;
    *wrong = *source->ops;
}

static int all_but_the_last(struct source *source, const char *disk,
                            struct source_extents *ret_extents, struct cancel *cancel,
                            struct err *err)
{
    int rc = honest_source->changes(source, disk, ret_extents, cancel, err);

    if (rc == 0 && ret_extents->len > 1)
        ret_extents->len--;
    return rc;
}

static void last_extent_dropped(struct source *source, void *ctx)
{
    static struct source_ops wrong;

    (void)ctx;
    wrong_source(source, &wrong);
    wrong.changes = all_but_the_last;
    source->ops = &wrong;
}

/* The map that was open when QEMU died is taken for the one that is there: it knows nothing. */
static int trust_the_map(struct source *source, struct source_state *ret_state,
                         struct cancel *cancel, struct err *err)
{
    static uint64_t last_open;
    int rc = honest_source->inspect(source, ret_state, cancel, err);

    if (rc < 0 || !ret_state->running)
        return rc;
    if (ret_state->open)
        last_open = ret_state->open;
    else
        ret_state->open = last_open;
    return rc;
}

/* And goes on with it. */
static int cut_of_the_map(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                          struct cancel *cancel, struct err *err)
{
    struct source_state state;

    if (honest_source->inspect(source, &state, cancel, err) < 0)
        return -1;
    if (state.running && state.open == 0 && serial > 1
        && honest_source->track(source, serial - 1, cancel, err) < 0)
        return -1;
    return honest_source->cut(source, serial, ret_cut, cancel, err);
}

static void bitmap_trusted(struct source *source, void *ctx)
{
    static struct source_ops wrong;

    (void)ctx;
    wrong_source(source, &wrong);
    wrong.inspect = trust_the_map;
    wrong.cut = cut_of_the_map;
    source->ops = &wrong;
}

/* What was not delivered does not go back into the open map. */
static int end_delivered(struct source *source, bool delivered, struct cancel *cancel,
                         struct err *err)
{
    (void)delivered;
    return honest_source->end(source, true, cancel, err);
}

static void undelivered_dropped(struct source *source, void *ctx)
{
    static struct source_ops wrong;

    (void)ctx;
    wrong_source(source, &wrong);
    wrong.end = end_delivered;
    source->ops = &wrong;
}

const struct sim_bug sim_bugs[] = {
    {.name = "acknowledged before durable", .lyon_lie = SITE_LIE_ALL},
    {.name = "undo not synced before head is written", .lyon_lie = "/undo/"},
    {.name = "head not synced before it is called applied", .lyon_lie = "/head.raw"},
    {.name = "manifest not synced before the point exists", .lyon_lie = "/manifests/"},
    {.name = "source's files not synced", .paris_lie = SITE_LIE_ALL},
    {.name = "applied is said one point early", .bug = {.store = applied_early}},
    {.name = "generation ignored after a promotion", .bug = {.store = generation_ignored}},
    {.name = "last extent dropped", .bug = {.source = last_extent_dropped}},
    {.name = "bitmap trusted after QEMU died", .bug = {.source = bitmap_trusted}},
    {.name = "changes of a failed cycle dropped", .bug = {.source = undelivered_dropped}},
};

size_t sim_bug_count(void)
{
    return sizeof(sim_bugs) / sizeof(sim_bugs[0]);
}
