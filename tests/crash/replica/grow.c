// SPDX-License-Identifier: Apache-2.0
/* Disks that grow, and a way back to before that: a store's life with both is recorded, cut at every
 * operation, with what was not synced kept, lost, lost in part, or torn. Each time the store opens
 * at a point whose head has that point's size and bytes; each kept point is shown as large as it
 * was; and it goes on. */
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/replica/signs.h"
#include "support/tmpdir.h"

#include <inttypes.h>

#define SIZE       ((uint64_t)256 * 1024)
#define LOSS_COUNT 4U

struct history {
    struct kit kit;
    struct fs_record *record;
    struct store *store;
};

static void mark(struct history *h, const char *word, uint64_t number)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %" PRIu64, word, number);

    fs_record_mark(h->record, text);
}

static void point(struct history *h)
{
    uint64_t applied;

    kit_scribble(&h->kit, 6);
    EXPECT_OK(kit_point(&h->kit, h->store, &err));
    mark(h, "durable", h->kit.point);
    EXPECT_OK(h->store->ops->point_apply(h->store, &applied, NULL, NULL, &err));
    mark(h, "applied", h->kit.point);
}

/* Sizes of whole chunks, and others: 256 KiB and 276 KiB at first. */
static void live(struct history *h)
{
    struct store_info info;
    uint64_t generation, chosen, applied;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    kit_scribble(&h->kit, 20);
    EXPECT_OK(kit_copy(&h->kit, h->store, &err));
    kit_grow(&h->kit, 1, SIZE + 24 * 1024); /* before there is a point: within the last chunk */
    point(h);
    point(h);
    kit_grow(&h->kit, 1, 2 * SIZE + 4096); /* out of it */
    point(h);
    point(h);
    kit_grow(&h->kit, 0, SIZE + 65536);
    kit_grow(&h->kit, 1, 3 * SIZE);
    point(h);
    EXPECT_OK(h->store->ops->promote(h->store, 1, 2, "run-1", "lyon", h->kit.sign, 1700000100000,
                                     &generation, &chosen, &err));
    EXPECT_OK(h->store->ops->info(h->store, &info, &err));
    kit_promoted(&h->kit, info.durable_point, &info.durable_hash, chosen, generation);
    mark(h, "durable", info.durable_point);
    EXPECT_OK(h->store->ops->point_apply(h->store, &applied, NULL, NULL, &err));
    mark(h, "applied", info.durable_point);
    point(h);
    kit_grow(&h->kit, 1, 2 * SIZE);
    point(h);
    EXPECT_OK(store_dir_verify(h->store, NULL, &err));
    store_closep(&h->store);
}

static uint64_t last_mark(const struct fs_record *record, size_t prefix, const char *word)
{
    uint64_t number = 0;

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind == FS_OP_MARK && str_starts(op->bytes, word))
            assert_true(str_to_u64(strrchr(op->bytes, ' ') + 1, &number));
    }
    return number;
}

static bool knows(struct kit *kit, const struct store_point *kept)
{
    const struct kit_image *image = kit_image(kit, kept->point);

    return image && memcmp(&image->hash, &kept->hash, sizeof(kept->hash)) == 0;
}

static void judge(const struct history *h, const char *root, size_t prefix)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    struct kit kit;
    struct store *store;
    struct store_info info;
    uint64_t applied;

    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_true(info.durable_point >= last_mark(h->record, prefix, "durable"));
    assert_true(info.applied_point >= last_mark(h->record, prefix, "applied"));
    do
        EXPECT_OK(store->ops->point_apply(store, &applied, NULL, NULL, &err));
    while (applied != 0);
    EXPECT_OK(store->ops->info(store, &info, &err));
    EXPECT_OK(store->ops->points(store, &kept, &err));
    VEC_FOREACH(at, &kept)
        if (knows(&kit, at))
            EXPECT_OK(kit_check_view(&kit, at->point, &err));
    if (info.state == STORE_COPIED || info.state == STORE_READY)
        EXPECT_OK(store_dir_verify(store, NULL, &err));
    if (kept.len > 0 && knows(&kit, &kept.at[kept.len - 1]))
        EXPECT_OK(kit_check_head(&kit, info.applied_point, &err));
    store_close(store);
    kit_done(&kit);
}

static void a_store_whose_disks_grow_can_be_cut_anywhere(void **state)
{
    CLEANUP(mem_freep) char *root = path_join(*state, "life");
    struct history h = {0};

    EXPECT_OK(fs_make_dirs(fs_real(), root, 0700, &err));
    h.record = fs_record_new(root);
    signs_remember();
    kit_init(&h.kit, root, SIZE, 7);
    live(&h);
    size_t count = fs_record_count(h.record);
    size_t cuts = 0;
    for (size_t prefix = 0; prefix <= count; prefix++) {
        void *folder;

        assert_int_equal(tmpdir_setup(&folder), 0);
        EXPECT_OK(fs_record_replay(h.record, prefix, (enum fs_loss)(prefix % LOSS_COUNT), prefix,
                                   folder, &err));
        judge(&h, folder, prefix);
        assert_int_equal(tmpdir_teardown(&folder), 0);
        cuts++;
    }
    print_message("%zu cuts\n", cuts);
    fs_record_free(h.record);
    kit_done(&h.kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_store_whose_disks_grow_can_be_cut_anywhere),
    };
    return cmocka_run_group_tests_name("crash: disks that grow", tests, NULL, NULL);
}
