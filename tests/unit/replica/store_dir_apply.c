// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "replica/chunk.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPS (f->store->ops)

static int apply(struct fixture *f, struct cancel *cancel)
{
    uint64_t point;

    err_clear(&err);
    return OPS->point_apply(f->store, &point, NULL, cancel, &err);
}

/* Two points applied, a third one durable. */
static void third_is_durable(struct fixture *f)
{
    fixture_copy(f);
    fixture_points(f, 2);
    kit_scribble(&f->kit, 30);
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
}

static void all_is_right(struct fixture *f, uint64_t newest)
{
    assert_int_equal(fixture_info(f).applied_point, newest);
    EXPECT_OK(kit_check_head(&f->kit, newest, &err));
    for (uint64_t point = 1; point <= newest; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void points_are_applied_one_by_one_oldest_first(void **state)
{
    struct fixture *f = *state;
    uint64_t point = 99;

    fixture_copy(f);
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    assert_int_equal(point, 0);
    for (size_t i = 0; i < 3; i++) {
        kit_scribble(&f->kit, 5);
        EXPECT_OK(kit_point(&f->kit, f->store, &err));
    }
    for (uint64_t want = 1; want <= 3; want++) {
        EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
        assert_int_equal(point, want);
        assert_int_equal(fixture_info(f).durable_point, 3);
    }
    all_is_right(f, 3);
}

static void the_digests_it_reports_are_those_it_keeps(void **state)
{
    struct fixture *f = *state;
    struct store_digests digests[KIT_DISKS] = {VEC_EMPTY, VEC_EMPTY};
    uint64_t point;

    third_is_durable(f);
    EXPECT_OK(OPS->point_apply(f->store, &point, digests, NULL, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        assert_true(digests[i].len > 0);
        VEC_FOREACH(reported, &digests[i]) {
            struct digest kept;
            EXPECT_OK(
                OPS->digests(f->store, f->kit.disks[i].name, 3, reported->chunk, 1, &kept, &err));
            assert_memory_equal(&kept, &reported->digest, sizeof(kept));
        }
        store_digests_free(&digests[i]);
    }
}

static void digests_are_given_only_for_the_point_that_head_holds(void **state)
{
    struct fixture *f = *state;
    struct digest digest;

    EXPECT_ERR(ERR_NOT_FOUND, OPS->digests(f->store, "web.vda", 0, 0, 1, &digest, &err));
    fixture_copy(f);
    EXPECT_OK(OPS->digests(f->store, "web.vda", 0, 0, 1, &digest, &err));
    fixture_points(f, 1);
    EXPECT_ERR(ERR_STATE, OPS->digests(f->store, "web.vda", 0, 0, 1, &digest, &err));
    EXPECT_OK(OPS->digests(f->store, "web.vda", 1, 15, 1, &digest, &err));
    EXPECT_ERR(ERR_INVALID, OPS->digests(f->store, "web.vda", 1, 15, 2, &digest, &err));
}

static void a_disk_that_fills_up_while_the_past_is_saved_changes_nothing(void **state)
{
    struct fixture *f = *state;

    third_is_durable(f);
    fault_arm("fs.pwrite", 1, ENOSPC); /* the first is the intent */
    EXPECT_ERR(ERR_SPACE, apply(f, NULL));
    EXPECT_TEXT("apply point 3");
    fault_clear();
    EXPECT_OK(kit_check_head(&f->kit, 2, &err));
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    EXPECT_OK(apply(f, NULL));
    all_is_right(f, 3);
}

static void a_disk_that_fills_up_while_head_is_written_hides_no_point(void **state)
{
    struct fixture *f = *state;

    third_is_durable(f);
    fault_arm("fs.pwrite", 6, ENOSPC);
    EXPECT_ERR(ERR_SPACE, apply(f, NULL));
    EXPECT_TEXT("write disk");
    fault_clear();
    for (uint64_t point = 1; point <= 2; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    /* Opened while the disk is still full: it can be looked at, and freed. */
    store_closep(&f->store);
    fault_arm("fs.pwrite", 0, ENOSPC);
    EXPECT_OK(kit_open(&f->kit, fs_real(), &f->store, &err));
    fault_clear();
    assert_int_equal(fixture_info(f).applied_point, 2);
    for (uint64_t point = 1; point <= 2; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    EXPECT_ERR(ERR_STATE, store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(apply(f, NULL));
    all_is_right(f, 3);
}

static void a_cancelled_apply_goes_on_later(void **state)
{
    struct fixture *f = *state;

    third_is_durable(f);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    cancel_fire(cancel);
    EXPECT_ERR(ERR_CANCELLED, apply(f, cancel));
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    fixture_reopen(f);
    all_is_right(f, 3);
}

/* Every place where a write, punch, sync or rename can fail, one after the other. */
static void an_apply_that_fails_anywhere_is_rolled_forward(void **state)
{
    static const char *const places[] = {"fs.pwrite", "fs.punch", "fs.sync", "fs.rename",
                                         "fs.sync_dir"};
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        for (int skip = 0; skip < 12; skip += skip < 4 ? 1 : 3) {
            kit_scribble(&f->kit, 8);
            EXPECT_OK(kit_point(&f->kit, f->store, &err));
            fault_arm(places[i], skip, EIO);
            bool failed = apply(f, NULL) < 0;
            fault_clear();
            EXPECT_OK(kit_check_view(&f->kit, f->kit.point - 1, &err));
            if (failed)
                fixture_reopen(f);
            /* Nothing to roll forward when not even the intent was durable. */
            EXPECT_OK(apply(f, NULL));
            assert_int_equal(fixture_info(f).applied_point, f->kit.point);
            EXPECT_OK(kit_check_head(&f->kit, f->kit.point, &err));
            EXPECT_OK(kit_check_view(&f->kit, f->kit.point - 1, &err));
        }
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_segment_damaged_since_it_came_does_not_reach_head(void **state)
{
    struct fixture *f = *state;

    third_is_durable(f);
    char hex[2 * UUID_BYTES + 1];
    str_hex(&f->kit.last.disks.at[1].segments.at[0].uuid, UUID_BYTES, hex);
    CLEANUP(mem_freep) char *name = mem_printf("web.vdb/segments/%s.seg", hex);
    fixture_flip(f, name, 700);
    EXPECT_ERR(ERR_CORRUPT, apply(f, NULL));
    EXPECT_TEXT(name);
    EXPECT_OK(kit_check_head(&f->kit, 2, &err));
    fixture_flip(f, name, 700);
    EXPECT_OK(apply(f, NULL));
    all_is_right(f, 3);
}

static void zeros_make_holes(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = fixture_path(f, "web.vda/head.raw");
    CLEANUP(mem_freep) uint8_t *zeros = mem_alloc(1048576, 1);
    struct stat st;

    memset(f->kit.disks[0].bytes, 0x55, 1048576);
    fixture_copy(f);
    fixture_points(f, 1);
    kit_write(&f->kit, 0, 0, zeros, 1048576);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_blocks, 0);
    all_is_right(f, 2);
}

static void a_point_in_which_nothing_changed_is_a_point(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    for (size_t i = 0; i < 3; i++)
        EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    all_is_right(f, 3);
}

static void several_segments_of_a_disk_are_applied_in_their_order(void **state)
{
    struct fixture *f = *state;
    struct manifest_segment first[KIT_DISKS];
    uint8_t block[4096];

    fixture_copy(f);
    fixture_points(f, 1);
    memset(block, 1, sizeof(block));
    for (size_t i = 0; i < KIT_DISKS; i++)
        kit_write(&f->kit, i, 8192, block, sizeof(block));
    EXPECT_OK(kit_cut(&f->kit, &err));
    EXPECT_OK(kit_send(&f->kit, f->store, &err));
    for (size_t i = 0; i < KIT_DISKS; i++)
        first[i] = f->kit.last.disks.at[i].segments.at[0];
    /* The same point once more, with newer bytes: the first segments go before. */
    f->kit.point = 1;
    f->kit.parent = kit_image(&f->kit, 1)->hash;
    memset(block, 2, sizeof(block));
    for (size_t i = 0; i < KIT_DISKS; i++)
        kit_write(&f->kit, i, 8192, block, sizeof(block));
    EXPECT_OK(kit_cut(&f->kit, &err));
    EXPECT_OK(kit_send(&f->kit, f->store, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct manifest_segments *segments = &f->kit.last.disks.at[i].segments;
        *manifest_segments_push(segments) = segments->at[0];
        segments->at[0] = first[i];
    }
    manifest_sign(&f->kit.last, f->kit.sign);
    EXPECT_OK(kit_commit(&f->kit, f->store, &err));
    EXPECT_OK(apply(f, NULL));
    EXPECT_OK(kit_check_head(&f->kit, 2, &err));
}

#define MANY 180U /* chunks: more than one thread does alone */

/* A block of each of many chunks, others for each `turn`; some become zeros. */
static void touch_many(struct fixture *f, uint8_t turn)
{
    uint8_t bytes[BLOCK_BYTES];

    for (uint64_t i = 0; i < MANY; i++) {
        memset(bytes, i % 7 == turn ? 0 : (int)(i + turn), sizeof(bytes));
        if ((i + turn) % 5 != 0) /* neighbours, and gaps between them */
            kit_write(&f->kit, 1, i * CHUNK_BYTES + turn % 2 * BLOCK_BYTES, bytes, sizeof(bytes));
    }
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
}

static void many_chunks_are_saved_and_digested_as_few_are(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    kit_grow(&f->kit, 1, MANY * (uint64_t)CHUNK_BYTES);
    for (uint8_t turn = 0; turn < 5; turn++)
        touch_many(f, turn);
    all_is_right(f, 6);
    fixture_reopen(f);
    all_is_right(f, 6);
}

static void a_disk_that_grew_before_its_first_point_gets_one(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    kit_grow(&f->kit, 1, MANY * (uint64_t)CHUNK_BYTES);
    touch_many(f, 1); /* blocks of chunks that were not there */
    all_is_right(f, 1);
}

static void a_damaged_one_among_many_is_the_only_one_that_is_missed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_damages_free) struct store_damages list = VEC_EMPTY;

    fixture_copy(f);
    fixture_points(f, 1);
    kit_grow(&f->kit, 1, MANY * (uint64_t)CHUNK_BYTES);
    touch_many(f, 0);
    touch_many(f, 1);
    fixture_flip(f, "web.vdb/head.raw", 101 * CHUNK_BYTES + 9 * BLOCK_BYTES);
    touch_many(f, 2);
    EXPECT_OK(OPS->damages(f->store, &list, &err));
    assert_in_range(list.len, 1, 2); /* of head, and of the past */
    VEC_FOREACH(damage, &list) {
        assert_string_equal(damage->disk, "web.vdb");
        assert_int_equal(damage->chunk, 101);
        assert_int_equal(damage->count, 1);
    }
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(points_are_applied_one_by_one_oldest_first),
        STORE_TEST(the_digests_it_reports_are_those_it_keeps),
        STORE_TEST(digests_are_given_only_for_the_point_that_head_holds),
        STORE_TEST(a_disk_that_fills_up_while_the_past_is_saved_changes_nothing),
        STORE_TEST(a_disk_that_fills_up_while_head_is_written_hides_no_point),
        STORE_TEST(a_cancelled_apply_goes_on_later),
        STORE_TEST(an_apply_that_fails_anywhere_is_rolled_forward),
        STORE_TEST(a_segment_damaged_since_it_came_does_not_reach_head),
        STORE_TEST(zeros_make_holes),
        STORE_TEST(a_point_in_which_nothing_changed_is_a_point),
        STORE_TEST(several_segments_of_a_disk_are_applied_in_their_order),
        STORE_TEST(many_chunks_are_saved_and_digested_as_few_are),
        STORE_TEST(a_disk_that_grew_before_its_first_point_gets_one),
        STORE_TEST(a_damaged_one_among_many_is_the_only_one_that_is_missed),
    };
    return cmocka_run_group_tests_name("store_dir_apply", tests, NULL, NULL);
}
