// SPDX-License-Identifier: Apache-2.0
/* A store's whole life: the initial copy, segments that arrive in parts and are resumed, points,
 * two of them durable before either is applied, pins, prune, promotion of the newest point and of an
 * older one, verification. Played back, cut everywhere (support/replica/crash.h): the store must be
 * at a bit-exact point, with everything it ever promised, each point that is kept read through a
 * view; then the next point comes and is applied. */
#include "base/mem.h"
#include "base/str.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/crash.h"
#include "support/replica/dying_fs.h"
#include "support/replica/kit.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE           ((uint64_t)128 * 1024) /* of each of the two disks */
#define SMALL_SIZE     (128U * 1024U)
#define ROUNDS         2U
#define CUTS           4000U
#define TOKEN_NEWEST   "run-1/promote"
#define TOKEN_OLDER    "run-2/promote"
#define FIRST_CHOSEN   12U
#define PROMOTED_FIRST 13U
#define CHOSEN_OLDER   13U /* two points after it are rolled back */
#define PROMOTED_OLDER 16U

struct history {
    struct kit kit;
    struct fs_record *record;
    struct store *store;
    char *root; /* where it was recorded */
};

/* What the marks before a cut promise. */
struct promise {
    bool copied;
    uint64_t durable;
    uint64_t oldest; /* nothing at or after it may be missing */
    uint64_t pinned; /* 0: none */
    uint64_t generation;
    const char *token; /* of a promotion that was begun */
    uint64_t chosen;
};

/* --- The history ------------------------------------------------------------------------- */

static void commit(struct history *h, size_t writes)
{
    kit_scribble(&h->kit, writes);
    EXPECT_OK(kit_point(&h->kit, h->store, &err));
    crash_mark(h->record, "durable", h->kit.point);
}

static void apply(struct history *h)
{
    uint64_t point;

    EXPECT_OK(h->store->ops->point_apply(h->store, &point, NULL, NULL, &err));
}

static void points(struct history *h, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        commit(h, 8);
        apply(h);
    }
}

static void prune(struct history *h, uint64_t keep, uint64_t oldest)
{
    crash_mark(h->record, "oldest", oldest);
    EXPECT_OK(kit_prune(h->store, keep, &err));
}

static void promote(struct history *h, uint64_t point, const char *token)
{
    struct store_info info;
    uint64_t generation;
    uint64_t chosen;

    crash_mark(h->record, token, point);
    EXPECT_OK(h->store->ops->promote(h->store, h->kit.generation, point, token, "lyon", h->kit.sign,
                                     1700000100000, &generation, &chosen, &err));
    EXPECT_OK(h->store->ops->info(h->store, &info, &err));
    kit_promoted(&h->kit, info.durable_point, &info.durable_hash, chosen, generation);
    crash_mark(h->record, "durable", info.durable_point);
    crash_mark(h->record, "generation", generation);
}

static void step_copy(void *ctx)
{
    struct history *h = ctx;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    kit_scribble(&h->kit, 30);
    EXPECT_OK(kit_copy(&h->kit, h->store, &err));
    crash_mark(h->record, "copied", 0);
}

static void step_points(void *ctx)
{
    points(ctx, 2);
}

static void reopen(struct history *h)
{
    store_closep(&h->store);
    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
}

/* The first half of each segment of the point that was cut last. */
static void send_half(struct history *h)
{
    VEC_FOREACH(disk, &h->kit.last.disks)
        VEC_FOREACH(segment, &disk->segments) {
            CLEANUP(mem_freep) char *path = kit_segment_path(&h->kit, &segment->uuid);
            CLEANUP(str_free) struct str bytes = STR_EMPTY;
            uint64_t have;
            EXPECT_OK(fs_read_file(fs_real(), path, SIZE_MAX / 2, &bytes, &err));
            EXPECT_OK(
                h->store->ops->segment_open(h->store, disk->name, &segment->uuid, &have, &err));
            EXPECT_OK(h->store->ops->segment_write(h->store, disk->name, &segment->uuid, 0,
                                                   bytes.ptr, bytes.len / 2, &err));
        }
}

/* Segments arrive in parts; the daemon restarts; they are sent on. */
static void step_resume(void *ctx)
{
    struct history *h = ctx;

    kit_scribble(&h->kit, 12);
    EXPECT_OK(kit_cut(&h->kit, &err));
    send_half(h);
    reopen(h);
    EXPECT_OK(kit_send(&h->kit, h->store, &err));
    EXPECT_OK(kit_commit(&h->kit, h->store, &err));
    crash_mark(h->record, "durable", h->kit.point);
    apply(h);
}

static void step_two_durable(void *ctx)
{
    struct history *h = ctx;

    commit(h, 5); /* two points are durable before either is applied */
    commit(h, 5);
    apply(h);
    apply(h);
}

static void step_pin(void *ctx)
{
    struct history *h = ctx;
    uint64_t pinned;

    EXPECT_OK(h->store->ops->pin(h->store, 4, "drill", &pinned, &err));
    crash_mark(h->record, "pinned", pinned);
    points(h, 4);
    prune(h, 4, 4); /* the pin holds 4; without it, 6 would be the oldest */
}

static void step_unpin(void *ctx)
{
    struct history *h = ctx;

    points(h, 2);
    crash_mark(h->record, "pinned", 0);
    EXPECT_OK(h->store->ops->unpin(h->store, "drill", &err));
    prune(h, 4, 8);
}

static void step_restart(void *ctx)
{
    reopen(ctx);
    points(ctx, 1);
}

static void step_promote(void *ctx)
{
    promote(ctx, 0, TOKEN_NEWEST);
    points(ctx, 2);
}

static void step_promote_older(void *ctx)
{
    promote(ctx, CHOSEN_OLDER, TOKEN_OLDER);
    apply(ctx); /* rolls head back */
    points(ctx, 1);
    prune(ctx, 4, 14);
}

/* Points between pinned ones go, their undo files are merged; then head leaves points that are not
 * kept, first over an older one, then over none. */
static void step_thin_out(void *ctx)
{
    struct history *h = ctx;
    uint64_t pinned;

    points(h, 1);
    EXPECT_OK(h->store->ops->pin(h->store, 0, "old", &pinned, &err));
    crash_mark(h->record, "pinned", pinned);
    points(h, 3);
    EXPECT_OK(h->store->ops->pin(h->store, 0, "young", &pinned, &err));
    points(h, 2);
    prune(h, 1, h->kit.point);
    points(h, 9);
    prune(h, 1, h->kit.point);
    crash_mark(h->record, "pinned", 0);
    EXPECT_OK(h->store->ops->unpin(h->store, "old", &err));
    prune(h, 1, h->kit.point);
    EXPECT_OK(h->store->ops->unpin(h->store, "young", &err));
    prune(h, 1, h->kit.point);
    crash_mark(h->record, "oldest", UINT64_MAX); /* of each that comes, only the newest stays */
    points(h, 2);
}

static void step_verify(void *ctx)
{
    struct history *h = ctx;

    EXPECT_OK(store_dir_verify(h->store, NULL, &err));
    store_closep(&h->store);
}

static const struct crash_step steps[] = {
    {"initial copy", step_copy},
    {"two points", step_points},
    {"a point whose segments are resumed", step_resume},
    {"two points durable, then applied", step_two_durable},
    {"pin and prune", step_pin},
    {"unpin and prune", step_unpin},
    {"restart", step_restart},
    {"promotion of the newest point", step_promote},
    {"promotion of an older point", step_promote_older},
    {"points between others go, undo files are merged", step_thin_out},
    {"verify", step_verify},
};

static void promise_at(void *ctx, const struct fs_record *record, size_t prefix, void *ret_promise)
{
    struct promise *p = ret_promise;
    uint64_t number;

    (void)ctx;
    p->oldest = 1;
    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind != FS_OP_MARK)
            continue;
        if (crash_marked(op, "copied", &number)) {
            p->copied = true;
            p->generation = 1;
        } else if (crash_marked(op, "durable", &number)) {
            p->durable = number;
        } else if (crash_marked(op, "oldest", &number)) {
            p->oldest = number;
        } else if (crash_marked(op, "pinned", &number)) {
            p->pinned = number;
        } else if (crash_marked(op, "generation", &number)) {
            p->generation = number;
        } else if (crash_marked(op, TOKEN_NEWEST, &number)) {
            p->token = TOKEN_NEWEST;
            p->chosen = FIRST_CHOSEN;
        } else if (crash_marked(op, TOKEN_OLDER, &number)) {
            p->token = TOKEN_OLDER;
            p->chosen = number;
        }
    }
}

/* --- Judging one cut --------------------------------------------------------------------- */

static void check_kept(struct kit *kit, struct store *store, const struct store_info *info,
                       const struct promise *p)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    bool pinned = p->pinned == 0;

    EXPECT_OK(store->ops->points(store, &kept, &err));
    if (p->durable > 0) {
        assert_true(kept.len > 0);
        assert_true(kept.at[0].point <= p->oldest);
        assert_true(kept.at[kept.len - 1].point >= p->durable);
    }
    VEC_FOREACH(point, &kept) {
        const struct kit_image *image = kit_image(kit, point->point);
        assert_non_null(image);
        assert_memory_equal(&image->hash, &point->hash, sizeof(point->hash));
        pinned |= point->pinned && point->point == p->pinned;
        if (point->point <= info->applied_point)
            EXPECT_OK(kit_check_view(kit, point->point, &err));
    }
    assert_true(pinned);
    if (info->state == STORE_READY || info->state == STORE_COPIED)
        EXPECT_OK(kit_check_head(kit, info->applied_point, &err));
}

static void repeat_promotion(const struct kit *kit, struct store *store, const struct promise *p)
{
    uint64_t expected = str_eq(p->token, TOKEN_NEWEST) ? 1 : 2;
    uint64_t generation;
    uint64_t chosen;

    EXPECT_OK(store->ops->promote(store, expected, p->chosen, p->token, "lyon", kit->sign,
                                  1700000100000, &generation, &chosen, &err));
    assert_int_equal(generation, expected + 1);
    assert_int_equal(chosen, p->chosen);
}

/* A promotion that was made now, not in the history, has a manifest of its own. */
static void know_promotion(struct kit *kit, const struct store_info *info, const struct promise *p)
{
    const struct kit_image *image = kit_image(kit, info->durable_point);

    if (!image || memcmp(&image->hash, &info->durable_hash, sizeof(image->hash)) != 0)
        kit_promoted(kit, info->durable_point, &info->durable_hash, p->chosen, info->generation);
}

static void go_on(void *ctx, const char *root, const void *promise)
{
    const struct history *h = ctx;
    const struct promise *p = promise;
    struct kit from;
    struct kit kit;
    struct store *store;
    struct store_info info;
    uint64_t point;

    kit_resume(&from, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&from, fs_real(), &store, &err));
    if (p->token)
        repeat_promotion(&from, store, p);
    do
        EXPECT_OK(store->ops->point_apply(store, &point, NULL, NULL, &err));
    while (point != 0);
    EXPECT_OK(store->ops->info(store, &info, &err));
    if (p->token)
        know_promotion(&from, &info, p);
    kit_resume(&kit, &from, root, info.durable_point, info.generation ? info.generation : 1);
    if (info.state == STORE_EMPTY || info.state == STORE_COPYING)
        EXPECT_OK(kit_copy(&kit, store, &err));
    kit_scribble(&kit, 10);
    EXPECT_OK(kit_prune(store, 100, &err));
    EXPECT_OK(kit_point_applied(&kit, store, &err));
    EXPECT_OK(kit_check_head(&kit, kit.point, &err));
    if (info.durable_point > 0)
        EXPECT_OK(kit_check_view(&kit, info.durable_point, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    store_close(store);
    kit_done(&kit);
    kit_done(&from);
}

static void recover(void *ctx, const char *root, struct fs *fs, void *promise)
{
    const struct history *h = ctx;
    struct promise *p = promise;
    struct kit kit;
    struct store *store;
    struct store_info info;

    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs, &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    if (p->copied)
        assert_true(info.state == STORE_COPIED || info.state == STORE_READY);
    assert_true(info.durable_point >= p->durable);
    assert_true(info.generation >= p->generation);
    check_kept(&kit, store, &info, p);
    p->copied = info.state == STORE_COPIED || info.state == STORE_READY;
    p->durable = info.durable_point;
    p->generation = info.generation;
    store_close(store);
    kit_done(&kit);
}

static const struct crash_ops ops = {promise_at, recover, go_on};

/* --- A killed process, then power loss --------------------------------------------------- */

/* Lives as long as it may; errors are what being killed looks like from inside. */
static void live_until_killed(struct kit *kit, struct fs *fs)
{
    struct store *store;
    struct err killed;

    if (kit_open(kit, fs, &store, &killed) < 0)
        return;
    int rc = kit_copy(kit, store, &killed);
    for (size_t i = 0; rc == 0 && i < 3; i++) {
        kit_scribble(kit, 4);
        rc = kit_point_applied(kit, store, &killed);
    }
    store_close(store);
}

static char *play(const struct fs_record *record, enum fs_loss loss, uint64_t seed)
{
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(record, fs_record_count(record), loss, seed, root, &err));
    return root;
}

/* The daemon is killed after `changes`, starts again, says what it has; then the power goes. */
static void kill_and_cut(const char *root, uint64_t changes, enum fs_loss loss)
{
    struct history h = {.root = mem_strdup(root)};
    struct promise now = {.oldest = 1};
    struct dying_fs dying;

    kit_init(&h.kit, root, SMALL_SIZE, changes);
    kit_scribble(&h.kit, 6);
    h.record = fs_record_new(root);
    dying_fs_init(&dying, fs_record_fs(h.record), changes);
    live_until_killed(&h.kit, &dying.fs);
    if (!kit_image(&h.kit, 0)) { /* killed before the copy */
        const struct sha256 none = {{0}};
        kit_keep_image(&h.kit, 0, &none);
    }
    recover(&h, root, fs_record_fs(h.record), &now);
    CLEANUP(mem_freep) char *left = play(h.record, loss, changes);
    recover(&h, left, fs_real(), &now);
    go_on(&h, left, &now);
    EXPECT_OK(fs_remove_tree(fs_real(), left, &err));
    fs_record_free(h.record);
    kit_done(&h.kit);
    free(h.root);
}

static void what_a_restarted_daemon_says_survives_a_power_cut(void **state)
{
    uint64_t step = crash_wanted(10) < 10 ? 30 : 3; /* less of it under a sanitizer */
    uint64_t points = 0;

    (void)state;
    for (uint64_t changes = 1; changes < 330; changes += step)
        for (unsigned loss = FS_LOSS_ALL; loss <= FS_LOSS_TORN; loss++) {
            void *root;
            assert_int_equal(tmpdir_setup(&root), 0);
            kill_and_cut(root, changes, (enum fs_loss)loss);
            assert_int_equal(tmpdir_teardown(&root), 0);
            points++;
        }
    (void)printf("killed, then cut: %" PRIu64 " crash points\n", points);
    crash_tally("killed, then cut", points);
}

static void judge_round(uint64_t round)
{
    struct history h = {0};
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    h.root = root;
    kit_init(&h.kit, h.root, SIZE, 4711 + round);
    h.record = fs_record_new(h.root);
    crash_live(h.record, steps, ARRAY_LEN(steps), &h);
    crash_judge(&(struct crash_sweep){
        .name = "store",
        .ops = &ops,
        .ctx = &h,
        .promise_bytes = sizeof(struct promise),
        .record = h.record,
        .round = round,
        .cuts = CUTS,
    });
    fs_record_free(h.record);
    kit_done(&h.kit);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static void a_store_cut_anywhere_recovers_to_a_bit_exact_point_and_keeps_its_word(void **state)
{
    (void)state;
    for (uint64_t round = crash_first_round(); round < crash_end_round(ROUNDS); round++)
        judge_round(round);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_cut_anywhere_recovers_to_a_bit_exact_point_and_keeps_its_word),
        cmocka_unit_test(what_a_restarted_daemon_says_survives_a_power_cut),
    };
    crash_prepare();
    return cmocka_run_group_tests_name("crash store", tests, NULL, NULL);
}
