// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define OPS (f->store->ops)

static struct store_points points_of(struct fixture *f)
{
    struct store_points points = VEC_EMPTY;

    EXPECT_OK(OPS->points(f->store, &points, &err));
    return points;
}

static void kept_are(struct fixture *f, uint64_t first, uint64_t last)
{
    CLEANUP(store_points_free) struct store_points points = points_of(f);

    assert_int_equal(points.len, last - first + 1);
    for (uint64_t point = first; point <= last; point++) {
        assert_int_equal(points.at[point - first].point, point);
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    }
    assert_int_equal(fixture_count(f, "web.vda/undo"), last - first);
    assert_int_equal(fixture_count(f, "manifests"), last - first + 1);
}

/* "2 6": each reads as it was; so many manifests there are, and no more. */
static void only_these_are_kept(struct fixture *f, const char *want)
{
    CLEANUP(store_points_free) struct store_points points = points_of(f);
    CLEANUP(str_free) struct str have = STR_EMPTY;

    VEC_FOREACH(point, &points) {
        str_addf(&have, "%s%" PRIu64, have.len ? " " : "", point->point);
        EXPECT_OK(kit_check_view(&f->kit, point->point, &err));
    }
    assert_string_equal(str_text(&have), want);
    assert_int_equal(fixture_count(f, "manifests"), points.len);
}

static uint64_t pin(struct fixture *f, uint64_t point, const char *label)
{
    uint64_t pinned = 0;

    EXPECT_OK(OPS->pin(f->store, point, label, &pinned, &err));
    return pinned;
}

static void the_newest_are_kept_and_their_history_verifies(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 6);
    EXPECT_OK(kit_prune(f->store, 9, &err));
    kept_are(f, 1, 6);
    EXPECT_OK(kit_prune(f->store, 3, &err));
    kept_are(f, 4, 6);
    fixture_reopen(f);
    kept_are(f, 4, 6);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    fixture_points(f, 1);
    EXPECT_OK(kit_prune(f->store, 1, &err));
    kept_are(f, 7, 7);
    fixture_reopen(f);
    fixture_points(f, 1);
    kept_are(f, 8, 8); /* head left 7, which was not to be kept */
    EXPECT_ERR(ERR_INVALID, kit_prune(f->store, 0, &err));
}

static void a_pinned_point_stays_and_those_after_it_go(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 2);
    assert_int_equal(pin(f, 0, "drill"), 2);
    fixture_points(f, 4);
    EXPECT_OK(kit_prune(f->store, 1, &err));
    only_these_are_kept(f, "2 6");
    fixture_reopen(f);
    only_these_are_kept(f, "2 6");
    CLEANUP(store_points_free) struct store_points points = points_of(f);
    assert_true(points.at[0].pinned);
    assert_string_equal(points.at[0].label, "drill");
    assert_int_equal(points.at[0].why, RETENTION_HELD);
    fixture_points(f, 3);
    only_these_are_kept(f, "2 9");
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(OPS->unpin(f->store, "drill", &err));
    EXPECT_OK(OPS->unpin(f->store, "drill", &err));
    EXPECT_OK(kit_prune(f->store, 1, &err));
    kept_are(f, 9, 9);
}

static void the_newest_application_consistent_point_stays(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    f->kit.consistency = CONSISTENCY_APPLICATION;
    fixture_points(f, 4); /* the first of them */
    EXPECT_OK(kit_prune(f->store, 2, &err));
    only_these_are_kept(f, "2 4 5");
    fixture_points(f, 3);
    EXPECT_OK(kit_prune(f->store, 2, &err));
    only_these_are_kept(f, "2 7 8");
    f->kit.consistency = CONSISTENCY_APPLICATION;
    fixture_points(f, 1);
    EXPECT_OK(kit_prune(f->store, 2, &err));
    only_these_are_kept(f, "8 9");
    fixture_points(f, 2);
    EXPECT_OK(kit_prune(f->store, 1, &err));
    fixture_reopen(f);
    only_these_are_kept(f, "9 11");
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void pinning_again_gives_the_same_point(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    EXPECT_ERR(ERR_STATE, OPS->pin(f->store, 0, "drill", &pinned, &err));
    fixture_points(f, 2);
    assert_int_equal(pin(f, 0, "drill"), 2);
    fixture_points(f, 1);
    assert_int_equal(pin(f, 0, "drill"), 2);
    assert_int_equal(pin(f, 2, "drill"), 2);
    assert_int_equal(pin(f, 2, "another"), 2);
    EXPECT_ERR(ERR_EXISTS, OPS->pin(f->store, 1, "drill", &pinned, &err));
    EXPECT_TEXT("point 2");
    EXPECT_ERR(ERR_NOT_FOUND, OPS->pin(f->store, 9, "third", &pinned, &err));
    EXPECT_ERR(ERR_INVALID, OPS->pin(f->store, 1, "a b\npin 1 c", &pinned, &err));
}

static void a_pin_that_could_not_be_written_is_not_there(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 1);
    fault_arm("fs.pwrite", 0, ENOSPC);
    EXPECT_ERR(ERR_SPACE, OPS->pin(f->store, 0, "drill", &pinned, &err));
    fault_clear();
    CLEANUP(store_points_free) struct store_points points = points_of(f);
    assert_false(points.at[0].pinned);
    assert_int_equal(pin(f, 0, "drill"), 1);
}

static void points_that_are_not_applied_are_never_pruned(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    EXPECT_OK(kit_prune(f->store, 1, &err));
    for (size_t i = 0; i < 3; i++)
        EXPECT_OK(kit_point(&f->kit, f->store, &err));
    EXPECT_OK(kit_prune(f->store, 1, &err));
    assert_int_equal(fixture_count(f, "manifests"), 3);
}

static void a_prune_that_was_cut_is_finished_at_the_next_opening(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 5);
    fault_arm("fs.unlink", 1, EIO);
    EXPECT_ERR(ERR_IO, kit_prune(f->store, 2, &err));
    fault_clear();
    fixture_reopen(f);
    kept_are(f, 4, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(the_newest_are_kept_and_their_history_verifies),
        STORE_TEST(a_pinned_point_stays_and_those_after_it_go),
        STORE_TEST(the_newest_application_consistent_point_stays),
        STORE_TEST(pinning_again_gives_the_same_point),
        STORE_TEST(a_pin_that_could_not_be_written_is_not_there),
        STORE_TEST(points_that_are_not_applied_are_never_pruned),
        STORE_TEST(a_prune_that_was_cut_is_finished_at_the_next_opening),
    };
    return cmocka_run_group_tests_name("store_dir_keep", tests, NULL, NULL);
}
