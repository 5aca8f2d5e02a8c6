// SPDX-License-Identifier: Apache-2.0
/* A store whose heads are LUKS containers, from its first file to a promotion that goes back: recorded
 * operation by operation and played back, cut at many places, with what was not synced kept, lost, lost
 * in part, or torn. Each time it opens with its key, every kept point is what it was, and a head that is
 * at a point has no hole, which others would read as garbage.
 * A tenth of MUSTER_CRASH_POINTS says how many cuts (400): their headers have 2 MiB each. */
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/replica/signs.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE       ((uint64_t)384 * 1024) /* of each of the two disks */
#define LOSS_COUNT 4U
#define OWN        4U /* points before the promotion */
#define CHOSEN     2U
#define PROMOTION  5U
#define NOW        INT64_C(1700000100000)

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_CUTS 100U
#else
#define DEFAULT_CUTS 400U
#endif

struct history {
    struct kit kit;
    struct fs_record *record;
    char *root; /* where it was recorded */
};

static void mark(struct history *h, uint64_t durable)
{
    CLEANUP(mem_freep) char *text = mem_printf("durable %" PRIu64, durable);

    fs_record_mark(h->record, text);
}

static void apply_all(struct store *store)
{
    uint64_t point;

    do
        EXPECT_OK(store->ops->point_apply(store, &point, NULL, NULL, &err));
    while (point != 0);
}

static void live(struct history *h)
{
    struct store *store;
    struct store_info info;
    uint64_t generation, chosen;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &store, &err));
    kit_scribble(&h->kit, 30);
    EXPECT_OK(kit_copy(&h->kit, store, &err));
    for (size_t i = 0; i < OWN; i++) {
        kit_scribble(&h->kit, 8);
        EXPECT_OK(kit_point_applied(&h->kit, store, &err));
        mark(h, h->kit.point);
    }
    EXPECT_OK(store->ops->promote(store, 1, CHOSEN, "run", "lyon", h->kit.sign, NOW, &generation,
                                  &chosen, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    kit_promoted(&h->kit, PROMOTION, &info.durable_hash, CHOSEN, 2);
    mark(h, PROMOTION);
    apply_all(store);
    kit_scribble(&h->kit, 8);
    EXPECT_OK(kit_point_applied(&h->kit, store, &err));
    mark(h, h->kit.point);
    EXPECT_OK(kit_prune(store, 3, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    store_close(store);
}

static uint64_t durable_at(const struct fs_record *record, size_t prefix)
{
    uint64_t durable = 0;

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind == FS_OP_MARK)
            assert_true(str_to_u64(strrchr(op->bytes, ' ') + 1, &durable));
    }
    return durable;
}

static void check(struct kit *kit, struct store *store, uint64_t durable)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    struct store_info info;

    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_true(info.durable_point >= durable);
    EXPECT_OK(store->ops->points(store, &kept, &err));
    VEC_FOREACH(point, &kept) {
        assert_memory_equal(&kit_image(kit, point->point)->hash, &point->hash, SHA256_BYTES);
        if (point->point <= info.applied_point)
            EXPECT_OK(kit_check_view(kit, point->point, &err));
    }
    if (info.state == STORE_COPIED || info.state == STORE_READY)
        EXPECT_OK(kit_check_head(kit, info.applied_point, &err));
}

/* The history goes on from what is there, to the end. */
static void go_on(const struct history *h, const char *root, struct store *store)
{
    struct store_info info;
    struct kit kit;

    apply_all(store);
    EXPECT_OK(store->ops->info(store, &info, &err));
    kit_resume(&kit, &h->kit, root, info.durable_point, info.generation ? info.generation : 1);
    if (info.state == STORE_EMPTY || info.state == STORE_COPYING)
        EXPECT_OK(kit_copy(&kit, store, &err));
    kit_scribble(&kit, 10);
    EXPECT_OK(kit_point_applied(&kit, store, &err));
    EXPECT_OK(kit_check_head(&kit, kit.point, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    kit_done(&kit);
}

static void cut(const struct history *h, size_t prefix, enum fs_loss loss, uint64_t seed)
{
    struct store *store;
    struct kit kit;
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(h->record, prefix, loss, seed, root, &err));
    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err));
    check(&kit, store, durable_at(h->record, prefix));
    go_on(h, root, store);
    store_close(store);
    kit_done(&kit);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static void a_store_at_rest_cut_anywhere_opens_and_keeps_its_word(void **state)
{
    struct history h = {.root = *state};
    const char *text = getenv("MUSTER_CRASH_POINTS");
    uint64_t cuts = 0;

    if (!text || !str_to_u64(text, &cuts) || (cuts /= 10) < 2)
        cuts = DEFAULT_CUTS;
    kit_init(&h.kit, h.root, SIZE, 815);
    kit_at_rest(&h.kit, h.root);
    h.record = fs_record_new(h.root);
    live(&h);
    size_t count = fs_record_count(h.record);
    for (uint64_t i = 0; i < cuts; i++)
        cut(&h, (size_t)(i * count / (cuts - 1)), (enum fs_loss)(i % LOSS_COUNT), i);
    (void)printf("%zu operations recorded, %" PRIu64 " cuts judged\n", count, cuts);
    fs_record_free(h.record);
    kit_done(&h.kit);
}

int main(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    signs_remember();
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_store_at_rest_cut_anywhere_opens_and_keeps_its_word),
    };
    return cmocka_run_group_tests_name("crash luks", tests, NULL, NULL);
}
