// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <stdlib.h>

#define OPS (f->store->ops)
#define NOW INT64_C(1700000100000)

static int promote(struct fixture *f, uint64_t expected, uint64_t point, const char *token,
                   uint64_t *ret_generation, uint64_t *ret_point)
{
    err_clear(&err);
    return OPS->promote(f->store, expected, point, token, "lyon", f->kit.sign, NOW, ret_generation,
                        ret_point, &err);
}

/* The kit goes on from what the store is at now. */
static void follow(struct fixture *f, uint64_t chosen)
{
    struct store_info info = fixture_info(f);

    kit_promoted(&f->kit, info.durable_point, &info.durable_hash, chosen, info.generation);
}

static void the_newest_point_is_promoted_and_the_old_writer_fenced(void **state)
{
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t point;

    fixture_copy(f);
    fixture_points(f, 2);
    kit_scribble(&f->kit, 5);
    EXPECT_OK(kit_point(&f->kit, f->store, &err)); /* durable, not applied: it is taken along */
    EXPECT_OK(promote(f, 1, 0, "run-7", &generation, &point));
    assert_int_equal(generation, 2);
    assert_int_equal(point, 3);
    EXPECT_OK(kit_check_head(&f->kit, 3, &err));
    kit_scribble(&f->kit, 5);
    EXPECT_OK(kit_cut(&f->kit, &err));
    EXPECT_OK(kit_send(&f->kit, f->store, &err));
    EXPECT_ERR(ERR_FENCED, kit_commit(&f->kit, f->store, &err));
    assert_int_equal(fixture_info(f).durable_point, 4);
    assert_int_equal(fixture_info(f).applied_point, 4);
}

static void the_promotion_is_a_manifest_signed_here_that_names_its_parent(void **state)
{
    struct fixture *f = *state;
    CLEANUP(manifest_done) struct manifest m;
    uint64_t generation;
    uint64_t point;
    char *text;

    manifest_init(&m);
    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(promote(f, 1, 2, "run-7", &generation, &point));
    assert_int_equal(point, 2);
    EXPECT_OK(OPS->point_manifest(f->store, 4, &text, &err));
    EXPECT_OK(manifest_parse(text, strlen(text), &m, &err));
    free(text);
    assert_true(m.promotion);
    assert_int_equal(m.generation, 2);
    assert_string_equal(m.site, "lyon");
    assert_int_equal(m.cut_wall_ms, NOW);
    assert_memory_equal(&m.parent, &kit_image(&f->kit, 2)->hash, SHA256_BYTES);
    assert_int_equal(m.disks.len, KIT_DISKS);
    assert_int_equal(m.disks.at[0].segments.len, 0);
}

static void the_same_token_gives_the_same_answer(void **state)
{
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t point;

    fixture_copy(f);
    fixture_points(f, 2);
    for (size_t i = 0; i < 3; i++) {
        EXPECT_OK(promote(f, 1, 0, "run-7", &generation, &point));
        assert_int_equal(generation, 2);
        assert_int_equal(point, 2);
        fixture_reopen(f);
        assert_int_equal(fixture_info(f).generation, 2);
        assert_int_equal(fixture_info(f).durable_point, 3);
    }
    EXPECT_ERR(ERR_FENCED, promote(f, 1, 0, "run-8", &generation, &point));
}

static void the_new_writer_goes_on(void **state)
{
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t point;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(promote(f, 1, 0, "run-7", &generation, &point));
    follow(f, point);
    fixture_points(f, 2);
    for (uint64_t at = 1; at <= 5; at++)
        EXPECT_OK(kit_check_view(&f->kit, at, &err));
    fixture_reopen(f);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void an_older_point_is_served_at_once_and_head_follows_later(void **state)
{
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t point;

    fixture_copy(f);
    fixture_points(f, 5);
    EXPECT_OK(promote(f, 1, 3, "run-7", &generation, &point));
    assert_int_equal(point, 3);
    EXPECT_OK(kit_check_view(&f->kit, 3, &err));
    follow(f, 3);
    assert_int_equal(fixture_info(f).applied_point, 5);
    assert_int_equal(fixture_info(f).durable_point, 6);
    EXPECT_OK(kit_prune(f->store, 1, &err)); /* what head goes back to is needed */
    EXPECT_OK(kit_check_view(&f->kit, 3, &err));
    fixture_reopen(f); /* and the branch it leaves, though one point is to be kept */
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    assert_int_equal(point, 6);
    EXPECT_OK(kit_check_head(&f->kit, 6, &err));
    for (uint64_t at = 3; at <= 6; at++) /* the branch that was left is kept */
        EXPECT_OK(kit_check_view(&f->kit, at, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(kit_prune(f->store, 9, &err));
    fixture_points(f, 2);
    for (uint64_t at = 3; at <= 8; at++)
        EXPECT_OK(kit_check_view(&f->kit, at, &err));
    EXPECT_OK(kit_prune(f->store, 2, &err));
    fixture_reopen(f);
    EXPECT_OK(kit_check_view(&f->kit, 7, &err));
}

static void a_promotion_cut_anywhere_happens_once_or_not_at_all(void **state)
{
    static const char *const places[] = {"fs.pwrite", "fs.sync", "fs.rename", "fs.sync_dir"};
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t point;

    fixture_copy(f);
    fixture_points(f, 1);
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        for (int skip = 0; skip < 6; skip++) {
            uint64_t before = fixture_info(f).generation;
            CLEANUP(mem_freep) char *token = mem_printf("%s %d", places[i], skip);
            fault_arm(places[i], skip, EIO);
            bool failed = promote(f, before, 0, token, &generation, &point) < 0;
            fault_clear();
            if (failed) {
                fixture_reopen(f);
                EXPECT_OK(promote(f, before, 0, token, &generation, &point));
            }
            assert_int_equal(generation, before + 1);
            assert_int_equal(fixture_info(f).generation, before + 1);
            assert_int_equal(fixture_info(f).durable_point, before + 1);
            follow(f, point);
        }
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_promotion_needs_a_point_that_is_there(void **state)
{
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t point;

    EXPECT_ERR(ERR_FENCED, promote(f, 1, 0, "run-7", &generation, &point));
    fixture_copy(f);
    EXPECT_ERR(ERR_NOT_FOUND, promote(f, 1, 0, "run-7", &generation, &point));
    fixture_points(f, 2);
    EXPECT_ERR(ERR_NOT_FOUND, promote(f, 1, 9, "run-7", &generation, &point));
    EXPECT_TEXT("1 to 2");
    EXPECT_ERR(ERR_INVALID, promote(f, 1, 0, "", &generation, &point));
    assert_int_equal(fixture_info(f).generation, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(the_newest_point_is_promoted_and_the_old_writer_fenced),
        STORE_TEST(the_promotion_is_a_manifest_signed_here_that_names_its_parent),
        STORE_TEST(the_same_token_gives_the_same_answer),
        STORE_TEST(the_new_writer_goes_on),
        STORE_TEST(an_older_point_is_served_at_once_and_head_follows_later),
        STORE_TEST(a_promotion_cut_anywhere_happens_once_or_not_at_all),
        STORE_TEST(a_promotion_needs_a_point_that_is_there),
    };
    return cmocka_run_group_tests_name("store_dir_promote", tests, NULL, NULL);
}
