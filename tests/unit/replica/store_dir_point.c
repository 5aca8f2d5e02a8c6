// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <stdlib.h>

#define OPS (f->store->ops)

static int commit(struct fixture *f)
{
    err_clear(&err);
    return kit_commit(&f->kit, f->store, &err);
}

/* A point whose segments are here, and whose manifest is not; it can still be changed. */
static struct manifest *ready(struct fixture *f)
{
    fixture_copy(f);
    fixture_points(f, 1);
    kit_scribble(&f->kit, 30);
    EXPECT_OK(kit_cut(&f->kit, &err));
    EXPECT_OK(kit_send(&f->kit, f->store, &err));
    return &f->kit.last;
}

static void sign(struct fixture *f)
{
    manifest_sign(&f->kit.last, f->kit.sign);
}

static void a_point_exists_from_its_manifest_on(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;

    (void)ready(f);
    assert_int_equal(fixture_info(f).durable_point, 1);
    clock_fake_advance(&f->kit.clock, 5000);
    EXPECT_OK(commit(f));
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).durable_point, 2);
    assert_int_equal(fixture_info(f).applied_point, 1);
    EXPECT_OK(OPS->points(f->store, &points, &err));
    assert_int_equal(points.len, 2);
    assert_true(points.at[0].applied);
    assert_false(points.at[1].applied);
    assert_int_equal(points.at[1].received_wall_ms - points.at[0].received_wall_ms, 5000);
    assert_true(points.at[1].bytes > 4096);
}

static void the_same_manifest_again_succeeds(void **state)
{
    struct fixture *f = *state;

    (void)ready(f);
    EXPECT_OK(commit(f));
    EXPECT_OK(commit(f));
    assert_int_equal(fixture_info(f).durable_point, 2);
    uint64_t point;
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    EXPECT_OK(commit(f)); /* its segments are gone by now */
}

static void a_manifest_comes_back_as_it_was_signed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *have = NULL;

    (void)ready(f);
    EXPECT_OK(commit(f));
    EXPECT_OK(OPS->point_manifest(f->store, 2, &have, &err));
    CLEANUP(mem_freep) char *want = manifest_text(&f->kit.last);
    assert_string_equal(have, want);
    EXPECT_ERR(ERR_NOT_FOUND, OPS->point_manifest(f->store, 9, &have, &err));
    EXPECT_TEXT("1 to 2");
}

static void an_older_or_newer_generation_is_fenced(void **state)
{
    struct fixture *f = *state;

    for (uint64_t generation = 0; generation <= 2; generation += 2) {
        struct manifest *m = generation ? &f->kit.last : ready(f);
        m->generation = generation;
        sign(f);
        EXPECT_ERR(ERR_FENCED, commit(f));
        EXPECT_TEXT("the replica is at 1");
    }
}

static void another_writer_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t other[SIGN_KEY_BYTES];
    uint8_t public_key[SIGN_KEY_BYTES];

    sign_key_new(other, public_key);
    manifest_sign(ready(f), other);
    EXPECT_ERR(ERR_AUTH, commit(f));
}

static void a_manifest_for_another_group_is_refused(void **state)
{
    struct fixture *f = *state;

    memcpy(ready(f)->group, "mail", 5);
    sign(f);
    EXPECT_ERR(ERR_INVALID, commit(f));
}

static void a_point_that_does_not_follow_is_refused_with_both_numbers(void **state)
{
    struct fixture *f = *state;
    struct manifest *m = ready(f);

    m->point = 4;
    sign(f);
    EXPECT_ERR(ERR_CORRUPT, commit(f));
    EXPECT_TEXT("point 4");
    EXPECT_TEXT("newest one here, 1");
    m->point = 2;
    m->parent.bytes[3] ^= 1;
    sign(f);
    EXPECT_ERR(ERR_CORRUPT, commit(f));
    EXPECT_TEXT("another");
}

static void promotions_are_not_received(void **state)
{
    struct fixture *f = *state;

    ready(f)->promotion = true;
    sign(f);
    EXPECT_ERR(ERR_INVALID, commit(f));
}

static void a_missing_segment_is_named(void **state)
{
    struct fixture *f = *state;
    struct manifest *m = ready(f);

    uuid_new(&m->disks.at[0].segments.at[0].uuid);
    sign(f);
    EXPECT_ERR(ERR_NOT_FOUND, commit(f));
    EXPECT_TEXT("web.vda/segments/");
}

static void a_segment_with_another_root_or_length_is_refused(void **state)
{
    struct fixture *f = *state;
    struct manifest *m = ready(f);

    m->disks.at[0].segments.at[0].root.bytes[9] ^= 1;
    sign(f);
    EXPECT_ERR(ERR_CORRUPT, commit(f));
    m->disks.at[0].segments.at[0].root.bytes[9] ^= 1;
    m->disks.at[0].segments.at[0].bytes++;
    sign(f);
    EXPECT_ERR(ERR_CORRUPT, commit(f));
}

/* Sealed rightly, received whole, but made for the point before. */
static void a_segment_of_another_point_is_refused(void **state)
{
    struct fixture *f = *state;

    (void)ready(f);
    kit_scribble(&f->kit, 30);
    f->kit.point = 1;
    f->kit.parent = kit_image(&f->kit, 1)->hash;
    EXPECT_OK(kit_cut(&f->kit, &err));
    f->kit.last.parent.bytes[0] ^= 1; /* both say the same wrong thing: then the chain tells */
    EXPECT_OK(kit_send(&f->kit, f->store, &err));
    sign(f);
    EXPECT_ERR(ERR_CORRUPT, commit(f));
    f->kit.last.parent.bytes[0] ^= 1;
    sign(f);
    EXPECT_OK(commit(f));
    uint64_t point;
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    /* Now a manifest for point 3 that names what was made for 2. */
    kit_scribble(&f->kit, 30);
    f->kit.point = 1;
    EXPECT_OK(kit_cut(&f->kit, &err));
    EXPECT_OK(kit_send(&f->kit, f->store, &err));
    f->kit.last.point = 3;
    sign(f);
    EXPECT_ERR(ERR_CORRUPT, commit(f));
    EXPECT_TEXT("point 2");
    EXPECT_TEXT("point 3");
}

static void swapped_segments_are_refused(void **state)
{
    struct fixture *f = *state;
    struct manifest *m = ready(f);
    struct manifest_segment first = m->disks.at[0].segments.at[0];

    m->disks.at[0].segments.at[0] = m->disks.at[1].segments.at[0];
    m->disks.at[1].segments.at[0] = first;
    sign(f);
    EXPECT_ERR(ERR_NOT_FOUND, commit(f)); /* each disk has a folder of its own */
    assert_int_equal(fixture_info(f).durable_point, 1);
}

static void a_disk_that_shrank_is_refused_with_both_sizes(void **state)
{
    struct fixture *f = *state;
    struct manifest *m = ready(f);

    m->disks.at[0].size = 524288;
    sign(f);
    EXPECT_ERR(ERR_STATE, commit(f));
    EXPECT_TEXT("524288");
    EXPECT_TEXT("1048576");
    EXPECT_TEXT("; hint: ");
}

static void a_disk_that_came_or_went_is_refused(void **state)
{
    struct fixture *f = *state;
    struct manifest *m = ready(f);

    memcpy(m->disks.at[1].name, "web.vdc", 8);
    sign(f);
    EXPECT_ERR(ERR_STATE, commit(f));
    manifest_segments_free(&m->disks.at[1].segments);
    m->disks.len = 1;
    sign(f);
    EXPECT_ERR(ERR_STATE, commit(f));
    EXPECT_TEXT("1 disks");
}

static void junk_is_no_manifest(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    EXPECT_ERR(ERR_CORRUPT, OPS->point_commit(f->store, "{}", 2, &err));
    EXPECT_ERR(ERR_CORRUPT, OPS->point_commit(f->store, "\0\1\2", 3, &err));
    EXPECT_ERR(ERR_CORRUPT, OPS->point_commit(f->store, "", 0, &err));
}

static void a_point_before_the_copy_is_complete_is_refused(void **state)
{
    struct fixture *f = *state;

    EXPECT_OK(kit_begin(&f->kit, f->store, &err));
    EXPECT_OK(kit_copy_frames(&f->kit, f->store, &err));
    EXPECT_OK(kit_cut(&f->kit, &err));
    EXPECT_ERR(ERR_STATE, commit(f));
}

static void a_history_may_begin_in_the_middle_of_a_chain(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    f->kit.point = 20;
    memset(&f->kit.parent, 0x42, sizeof(f->kit.parent));
    fixture_points(f, 2);
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).applied_point, 22);
    EXPECT_OK(kit_check_view(&f->kit, 21, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_point_exists_from_its_manifest_on),
        STORE_TEST(the_same_manifest_again_succeeds),
        STORE_TEST(a_manifest_comes_back_as_it_was_signed),
        STORE_TEST(an_older_or_newer_generation_is_fenced),
        STORE_TEST(another_writer_is_refused),
        STORE_TEST(a_manifest_for_another_group_is_refused),
        STORE_TEST(a_point_that_does_not_follow_is_refused_with_both_numbers),
        STORE_TEST(promotions_are_not_received),
        STORE_TEST(a_missing_segment_is_named),
        STORE_TEST(a_segment_with_another_root_or_length_is_refused),
        STORE_TEST(a_segment_of_another_point_is_refused),
        STORE_TEST(swapped_segments_are_refused),
        STORE_TEST(a_disk_that_shrank_is_refused_with_both_sizes),
        STORE_TEST(a_disk_that_came_or_went_is_refused),
        STORE_TEST(junk_is_no_manifest),
        STORE_TEST(a_point_before_the_copy_is_complete_is_refused),
        STORE_TEST(a_history_may_begin_in_the_middle_of_a_chain),
    };
    return cmocka_run_group_tests_name("store_dir_point", tests, NULL, NULL);
}
