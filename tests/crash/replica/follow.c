// SPDX-License-Identifier: Apache-2.0
/* A store that was promoted at an older point and then follows the promotion of another site, before
 * its head has gone back: recorded operation by operation and played back, cut at many places, with
 * what was not synced kept, lost, lost in part, or torn. Each time every point that is kept is what
 * it was, the generation never goes down, and the same history goes on to the same end.
 * MUSTER_CRASH_POINTS (600) says how many cuts. */
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE       ((uint64_t)512 * 1024) /* of each of the two disks */
#define LOSS_COUNT 4U
#define OWN        3U /* points before any promotion */
#define CHOSEN     2U
#define PROMOTION  4U /* ours, of the older point */
#define TIP        9U /* the other site's */
#define LAST       11U
#define NOW        INT64_C(1700000100000)

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_CUTS 100U
#else
#define DEFAULT_CUTS 600U
#endif

struct history {
    struct kit kit;
    struct fs_record *record;
    char *root; /* where it was recorded */
    char *tip;
    struct sha256 tip_hash;
};

struct promise {
    uint64_t durable;
    uint64_t generation;
};

static void mark(struct history *h, const char *word, uint64_t number)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %" PRIu64, word, number);

    fs_record_mark(h->record, text);
}

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

static void live(struct history *h)
{
    struct store *store;
    struct store_info info;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &store, &err));
    kit_scribble(&h->kit, 40);
    EXPECT_OK(kit_copy(&h->kit, store, &err));
    for (size_t i = 0; i < OWN; i++) {
        kit_scribble(&h->kit, 8);
        EXPECT_OK(kit_point_applied(&h->kit, store, &err));
        mark(h, "durable", h->kit.point);
    }
    EXPECT_OK(promote_older(&h->kit, store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_int_equal(info.durable_point, PROMOTION);
    kit_promoted(&h->kit, PROMOTION, &info.durable_hash, CHOSEN, 2);
    mark(h, "durable", PROMOTION);
    mark(h, "generation", 2);
    h->tip = kit_taken_over(&h->kit, TIP, 3);
    h->tip_hash = h->kit.parent;
    EXPECT_OK(store->ops->follow(store, h->tip, strlen(h->tip), NULL, &err));
    mark(h, "generation", 3);
    while (h->kit.point < LAST) {
        kit_scribble(&h->kit, 8);
        EXPECT_OK(kit_point(&h->kit, store, &err));
        mark(h, "durable", h->kit.point);
    }
    EXPECT_OK(apply_all(store, &err)); /* back to the chosen point, and on */
    EXPECT_OK(kit_prune(store, 4, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    store_close(store);
}

static struct promise promise_at(const struct fs_record *record, size_t prefix)
{
    struct promise p = {0};

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind != FS_OP_MARK)
            continue;
        const char *text = op->bytes;
        uint64_t *to = str_starts(text, "durable") ? &p.durable : &p.generation;
        assert_true(str_to_u64(strrchr(text, ' ') + 1, to));
    }
    return p;
}

static void check(struct kit *kit, struct store *store, const struct promise *p)
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
}

static void go_on(const struct history *h, const char *root, struct store *store)
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

static void judge(const struct history *h, size_t prefix, enum fs_loss loss, uint64_t seed)
{
    const struct promise p = promise_at(h->record, prefix);
    CLEANUP(store_closep) struct store *store = NULL;
    struct kit kit;
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(h->record, prefix, loss, seed, root, &err));
    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err));
    check(&kit, store, &p);
    store_closep(&store);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err));
    check(&kit, store, &p);
    go_on(h, root, store);
    kit_done(&kit);
    store_closep(&store);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static void a_store_that_follows_cut_anywhere_keeps_its_points_and_its_generation(void **state)
{
    const char *text = getenv("MUSTER_CRASH_POINTS");
    struct history h = {0};
    uint64_t cuts = 0;
    void *root;

    (void)state;
    if (!text || !str_to_u64(text, &cuts) || cuts < 2)
        cuts = DEFAULT_CUTS;
    assert_int_equal(tmpdir_setup(&root), 0);
    h.root = root;
    kit_init(&h.kit, h.root, SIZE, 99);
    h.record = fs_record_new(h.root);
    live(&h);
    size_t count = fs_record_count(h.record);
    for (uint64_t i = 0; i < cuts; i++)
        judge(&h, (size_t)(i * count / (cuts - 1)), (enum fs_loss)(i % LOSS_COUNT), i);
    (void)printf("%zu operations recorded, %" PRIu64 " cuts judged\n", count, cuts);
    fs_record_free(h.record);
    kit_done(&h.kit);
    free(h.tip);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

int main(void)
{
    /* Blocks of some MiB come and go all the time; they need not come from the system anew. */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_follows_cut_anywhere_keeps_its_points_and_its_generation),
    };
    return cmocka_run_group_tests_name("crash follow", tests, NULL, NULL);
}
