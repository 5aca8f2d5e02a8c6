// SPDX-License-Identifier: Apache-2.0
/* A store that was promoted at an older point and then follows the promotion of another site, before
 * its head has gone back. Played back, cut everywhere (support/replica/crash.h): every point that is
 * kept is what it was, the generation never goes down, and the same history goes on to the same
 * end. */
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/replica/crash.h"
#include "support/replica/kit.h"
#include "support/tmpdir.h"

#define SIZE      ((uint64_t)128 * 1024) /* of each of the two disks */
#define ROUNDS    2U
#define CUTS      2000U
#define OWN       3U /* points before any promotion */
#define CHOSEN    2U
#define PROMOTION 4U /* ours, of the older point */
#define TIP       9U /* the other site's */
#define LAST      11U
#define NOW       INT64_C(1700000100000)

struct history {
    struct kit kit;
    struct fs_record *record;
    struct store *store;
    char *root; /* where it was recorded */
    char *tip;
    struct sha256 tip_hash;
};

struct promise {
    uint64_t durable;
    uint64_t generation;
};

static int promote_older(struct kit *kit, struct store *store, struct err *e)
{
    uint64_t generation;
    uint64_t chosen;

    return store->ops->promote(store, 1, CHOSEN, "failover", "lyon", kit->sign, NOW, &generation,
                               &chosen, e);
}

static int apply_all(struct store *store, struct err *e)
{
    uint64_t point;

    do
        if (store->ops->point_apply(store, &point, NULL, NULL, e) < 0)
            return -1;
    while (point != 0);
    return 0;
}

static void step_points(void *ctx)
{
    struct history *h = ctx;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    kit_scribble(&h->kit, 30);
    EXPECT_OK(kit_copy(&h->kit, h->store, &err));
    for (size_t i = 0; i < OWN; i++) {
        kit_scribble(&h->kit, 8);
        EXPECT_OK(kit_point_applied(&h->kit, h->store, &err));
        crash_mark(h->record, "durable", h->kit.point);
    }
}

static void step_promote_older(void *ctx)
{
    struct history *h = ctx;
    struct store_info info;

    EXPECT_OK(promote_older(&h->kit, h->store, &err));
    EXPECT_OK(h->store->ops->info(h->store, &info, &err));
    assert_int_equal(info.durable_point, PROMOTION);
    kit_promoted(&h->kit, PROMOTION, &info.durable_hash, CHOSEN, 2);
    crash_mark(h->record, "durable", PROMOTION);
    crash_mark(h->record, "generation", 2);
}

static void step_follow(void *ctx)
{
    struct history *h = ctx;

    h->tip = kit_taken_over(&h->kit, TIP, 3);
    h->tip_hash = h->kit.parent;
    EXPECT_OK(h->store->ops->follow(h->store, h->tip, strlen(h->tip), NULL, &err));
    crash_mark(h->record, "generation", 3);
}

static void step_their_points(void *ctx)
{
    struct history *h = ctx;

    while (h->kit.point < LAST) {
        kit_scribble(&h->kit, 8);
        EXPECT_OK(kit_point(&h->kit, h->store, &err));
        crash_mark(h->record, "durable", h->kit.point);
    }
    EXPECT_OK(apply_all(h->store, &err)); /* back to the chosen point, and on */
}

static void step_prune(void *ctx)
{
    struct history *h = ctx;

    EXPECT_OK(kit_prune(h->store, 4, &err));
    EXPECT_OK(store_dir_verify(h->store, NULL, &err));
    store_closep(&h->store);
}

static const struct crash_step steps[] = {
    {"three points", step_points},           {"promotion of an older one", step_promote_older},
    {"following another site", step_follow}, {"points of that site", step_their_points},
    {"prune and verify", step_prune},
};

static void promise_at(void *ctx, const struct fs_record *record, size_t prefix, void *ret_promise)
{
    struct promise *p = ret_promise;

    (void)ctx;
    for (size_t i = 0; i < prefix; i++) {
        (void)crash_marked(fs_record_at(record, i), "durable", &p->durable);
        (void)crash_marked(fs_record_at(record, i), "generation", &p->generation);
    }
}

static void check(struct kit *kit, struct store *store, struct promise *p)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    struct store_info info;

    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_true(info.durable_point >= p->durable);
    assert_true(info.generation >= p->generation);
    EXPECT_OK(store->ops->points(store, &kept, &err));
    VEC_FOREACH(point, &kept) {
        assert_memory_equal(&kit_image(kit, point->point)->hash, &point->hash, SHA256_BYTES);
        if (point->point <= info.applied_point)
            EXPECT_OK(kit_check_view(kit, point->point, &err));
    }
    if (info.applied_point)
        EXPECT_OK(kit_check_head(kit, info.applied_point, &err));
    *p = (struct promise){info.durable_point, info.generation};
}

static void recover(void *ctx, const char *root, struct fs *fs, void *promise)
{
    const struct history *h = ctx;
    CLEANUP(store_closep) struct store *store = NULL;
    struct kit kit;

    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs, &store, &err));
    check(&kit, store, promise);
    kit_done(&kit);
}

static void go_on_with(const struct history *h, const char *root, struct store *store)
{
    struct store_info info;
    struct kit kit;

    EXPECT_OK(store->ops->info(store, &info, &err));
    if (info.durable_point < OWN)
        return; /* an ordinary store: other tests have that */
    kit_resume(&kit, &h->kit, root, OWN, 1);
    if (info.generation < 2)
        EXPECT_OK(promote_older(&kit, store, &err));
    kit_done(&kit);
    EXPECT_OK(store->ops->follow(store, h->tip, strlen(h->tip), NULL, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_int_equal(info.generation, 3);
    kit_resume(&kit, &h->kit, root, info.durable_point, 3);
    if (info.durable_point == PROMOTION) {
        kit.base_point = PROMOTION;
        kit.base = kit.parent;
        kit.parent = h->tip_hash;
        kit.point = TIP;
    }
    kit_scribble(&kit, 8);
    EXPECT_OK(kit_point(&kit, store, &err));
    EXPECT_OK(apply_all(store, &err));
    EXPECT_OK(kit_check_head(&kit, kit.point, &err));
    EXPECT_OK(kit_check_view(&kit, PROMOTION, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    kit_done(&kit);
}

static void go_on(void *ctx, const char *root, const void *promise)
{
    const struct history *h = ctx;
    CLEANUP(store_closep) struct store *store = NULL;
    struct kit kit;

    (void)promise;
    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err));
    kit_done(&kit);
    go_on_with(h, root, store);
}

static void judge_round(uint64_t round)
{
    static const struct crash_ops ops = {promise_at, recover, go_on};
    struct history h = {0};
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    h.root = root;
    kit_init(&h.kit, h.root, SIZE, 99 + round);
    h.record = fs_record_new(h.root);
    crash_live(h.record, steps, ARRAY_LEN(steps), &h);
    crash_judge(&(struct crash_sweep){
        .name = "follow",
        .ops = &ops,
        .ctx = &h,
        .promise_bytes = sizeof(struct promise),
        .record = h.record,
        .round = round,
        .cuts = CUTS,
    });
    fs_record_free(h.record);
    kit_done(&h.kit);
    free(h.tip);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static void a_store_that_follows_cut_anywhere_keeps_its_points_and_its_generation(void **state)
{
    (void)state;
    for (uint64_t round = crash_first_round(); round < crash_end_round(ROUNDS); round++)
        judge_round(round);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_follows_cut_anywhere_keeps_its_points_and_its_generation),
    };
    crash_prepare();
    return cmocka_run_group_tests_name("crash follow", tests, NULL, NULL);
}
