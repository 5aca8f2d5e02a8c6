// SPDX-License-Identifier: Apache-2.0
/* Damage that is found, told, kept away from everything that is good, and gone when the chunk comes
 * once more. */
#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <inttypes.h>
#include <stdlib.h>

#define DISK  "web.vdb"
#define CHUNK 7U

static const uint8_t *image_of(const struct fixture *f, uint64_t point, uint64_t chunk)
{
    return kit_image(&f->kit, point)->bytes[1] + chunk * CHUNK_BYTES;
}

/* Writes the chunk once more, `as` it was at a point; 0: with other bytes. */
static void write_whole(struct fixture *f, uint64_t chunk, uint64_t as)
{
    uint8_t bytes[CHUNK_BYTES];

    memset(bytes, 0x77, sizeof(bytes));
    kit_write(&f->kit, 1, chunk * CHUNK_BYTES, as ? image_of(f, as, chunk) : bytes, CHUNK_BYTES);
}

static void write_part(struct fixture *f, uint64_t chunk, uint8_t with)
{
    uint8_t bytes[BLOCK_BYTES];

    memset(bytes, with, sizeof(bytes));
    kit_write(&f->kit, 1, chunk * CHUNK_BYTES + BLOCK_BYTES, bytes, sizeof(bytes));
}

static void point(struct fixture *f)
{
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
}

/* Three points; chunk CHUNK is written as a whole before each, and rots in head after the third. */
static void rot(struct fixture *f)
{
    fixture_copy(f);
    for (uint8_t i = 1; i <= 3; i++) {
        write_whole(f, CHUNK, 0);
        write_part(f, CHUNK, i);
        point(f);
    }
    fixture_flip(f, DISK "/head.raw", CHUNK * CHUNK_BYTES + 9 * BLOCK_BYTES + 5);
}

static struct store_damages damages_of(struct fixture *f)
{
    struct store_damages list = VEC_EMPTY;

    EXPECT_OK(f->store->ops->damages(f->store, &list, &err));
    return list;
}

static uint64_t damaged_at(struct fixture *f, uint64_t number)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;

    EXPECT_OK(f->store->ops->points(f->store, &points, &err));
    VEC_FOREACH(at, &points)
        if (at->point == number)
            return at->damaged_chunks;
    fail_msg("no point %" PRIu64, number);
    return 0;
}

static int promote(struct fixture *f, uint64_t number)
{
    uint64_t generation;
    uint64_t chosen;

    err_clear(&err);
    return f->store->ops->promote(f->store, f->kit.generation, number, "run/1", "lyon", f->kit.sign,
                                  1700000100000, &generation, &chosen, &err);
}

static int verify(struct fixture *f)
{
    err_clear(&err);
    return store_dir_verify(f->store, NULL, &err);
}

/* --- Finding ----------------------------------------------------------------------------- */

static void damage_of_head_is_listed_with_its_points_and_they_are_not_promoted(void **state)
{
    struct fixture *f = *state;

    rot(f);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    CLEANUP(store_damages_free) struct store_damages list = damages_of(f);
    assert_int_equal(list.len, 1);
    assert_string_equal(list.at[0].disk, DISK);
    assert_int_equal(list.at[0].chunk, CHUNK);
    assert_int_equal(list.at[0].count, 1);
    assert_int_equal(list.at[0].from, 3);
    assert_int_equal(list.at[0].to, 0);
    assert_int_equal(damaged_at(f, 3), 1);
    assert_int_equal(damaged_at(f, 2), 0);
    assert_int_equal(fixture_info(f).damaged_head, 1);
    EXPECT_ERR(ERR_CORRUPT, promote(f, 3));
    EXPECT_TEXT(
        "point 3 of web needs 1 damaged chunk of 64 KiB, the first of disk web.vdb at 458752");
    EXPECT_TEXT("whole are 2, 1");
    EXPECT_ERR(ERR_CORRUPT, store_dir_check_point(f->store, 0, &err));
    EXPECT_OK(store_dir_check_point(f->store, 2, &err));
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    EXPECT_OK(promote(f, 2));
}

static void a_view_finds_damage_at_its_first_read_without_any_verify(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    uint8_t buf[512];

    rot(f);
    EXPECT_OK(view_open(f->kit.dir, DISK, 3, &f->kit.key, NULL, &view, &err));
    EXPECT_OK(view_read(view, (CHUNK - 1) * CHUNK_BYTES, buf, sizeof(buf), &err));
    EXPECT_ERR(ERR_CORRUPT, view_read(view, CHUNK * CHUNK_BYTES, buf, sizeof(buf), &err));
    EXPECT_TEXT("store/web.vdb: chunk 7 of head, at 458752, does not have its digest: point 3");
}

static void what_is_on_the_list_survives_a_restart_and_goes_when_it_is_whole_again(void **state)
{
    struct fixture *f = *state;

    rot(f);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).damaged_head, 1);
    fixture_flip(f, DISK "/head.raw", CHUNK * CHUNK_BYTES + 9 * BLOCK_BYTES + 5);
    EXPECT_OK(verify(f));
    assert_int_equal(fixture_info(f).damaged_head, 0);
    assert_int_equal(fixture_info(f).damaged_since_ms, 0);
}

static void a_list_that_is_damaged_itself_is_made_anew(void **state)
{
    struct fixture *f = *state;

    rot(f);
    write_part(f, CHUNK, 9);
    point(f);
    CLEANUP(store_damages_free) struct store_damages before = damages_of(f);
    assert_int_equal(before.len, 2);
    fixture_flip(f, "damaged", 9);
    fixture_reopen(f);
    CLEANUP(store_damages_free) struct store_damages after = damages_of(f);
    assert_int_equal(after.len, 2);
    assert_int_equal(damaged_at(f, 4), 1);
    assert_int_equal(damaged_at(f, 3), 1);
}

static void a_record_that_rots_under_an_open_store_is_written_anew(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(f->store->ops->pin(f->store, 1, "drill", &pinned, &err));
    fixture_flip(f, "pins", 4);
    fixture_flip(f, "applied", 9);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_TEXT("written anew");
    EXPECT_OK(verify(f));
    fixture_reopen(f);
    EXPECT_OK(verify(f));
}

static void undo_files_of_two_disks_that_changed_places_are_not_believed(void **state)
{
    struct fixture *f = *state;
    static const char number[] = "00000000000000000001";

    fixture_copy(f);
    fixture_points(f, 3);
    CLEANUP(mem_freep) char *a = mem_printf("%s/web.vda/undo/%s", f->kit.dir, number);
    CLEANUP(mem_freep) char *b = mem_printf("%s/web.vdb/undo/%s", f->kit.dir, number);
    CLEANUP(mem_freep) char *c = mem_printf("%s/swap", f->root);
    assert_true(rename(a, c) == 0 && rename(b, a) == 0 && rename(c, b) == 0);
    EXPECT_ERR(ERR_CORRUPT, kit_check_view(&f->kit, 1, &err));
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_ERR(ERR_CORRUPT, promote(f, 1));
    EXPECT_OK(promote(f, 3));
}

/* --- Applying over it -------------------------------------------------------------------- */

static void rot_that_nobody_has_seen_is_not_saved_as_the_past_nor_taken_into_the_next_point(
    void **state)
{
    struct fixture *f = *state;

    rot(f);
    write_part(f, CHUNK, 9);
    point(f);
    EXPECT_ERR(ERR_CORRUPT, kit_check_view(&f->kit, 3, &err));
    EXPECT_ERR(ERR_CORRUPT, kit_check_view(&f->kit, 4, &err));
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    assert_int_equal(damaged_at(f, 3), 1);
    assert_int_equal(damaged_at(f, 4), 1);
    EXPECT_ERR(ERR_CORRUPT, promote(f, 4));
    EXPECT_ERR(ERR_CORRUPT, promote(f, 3));
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    fixture_points(f, 1);
    assert_int_equal(damaged_at(f, 5), 1);
}

static void a_chunk_that_comes_as_it_was_makes_all_points_whole(void **state)
{
    struct fixture *f = *state;

    rot(f);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    write_whole(f, CHUNK, 3);
    point(f);
    assert_int_equal(fixture_info(f).damaged_head + fixture_info(f).damaged_past, 0);
    for (uint64_t i = 1; i <= 4; i++)
        EXPECT_OK(kit_check_view(&f->kit, i, &err));
    EXPECT_OK(verify(f));
}

static void a_chunk_that_was_only_given_a_wrong_digest_is_whole_for_all_points_too(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 2);
    fixture_flip(f, DISK "/digests", 4096 + 16 * CHUNK + 3);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    write_whole(f, CHUNK, 2);
    point(f);
    EXPECT_OK(verify(f));
    for (uint64_t i = 1; i <= 3; i++)
        EXPECT_OK(kit_check_view(&f->kit, i, &err));
}

static void a_chunk_that_comes_changed_makes_the_new_point_whole_and_no_older_one(void **state)
{
    struct fixture *f = *state;

    rot(f);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    write_whole(f, CHUNK, 0);
    point(f);
    assert_int_equal(damaged_at(f, 4), 0);
    assert_int_equal(damaged_at(f, 3), 1);
    assert_int_equal(fixture_info(f).damaged_head, 0);
    assert_int_equal(fixture_info(f).damaged_past, 1);
    EXPECT_OK(kit_check_view(&f->kit, 4, &err));
    EXPECT_ERR(ERR_CORRUPT, kit_check_view(&f->kit, 3, &err));
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_ERR(ERR_CORRUPT, promote(f, 3));
    /* Until retention drops it. */
    EXPECT_OK(kit_prune(f->store, 1, &err));
    assert_int_equal(fixture_info(f).damaged_past, 0);
    EXPECT_OK(verify(f));
    EXPECT_OK(promote(f, 4));
}

static void a_chunk_written_in_part_is_whole_once_it_comes_whole(void **state)
{
    struct fixture *f = *state;

    rot(f);
    write_part(f, CHUNK, 9);
    point(f);
    write_whole(f, CHUNK, 4);
    point(f);
    assert_int_equal(fixture_info(f).damaged_head, 0);
    assert_int_equal(damaged_at(f, 5), 0);
    assert_int_equal(damaged_at(f, 4), 1);
    EXPECT_OK(kit_check_view(&f->kit, 5, &err));
}

static void a_base_that_rots_before_the_first_point_is_noticed(void **state)
{
    struct fixture *f = *state;

    write_whole(f, CHUNK, 0);
    fixture_copy(f);
    fixture_flip(f, DISK "/head.raw", CHUNK * CHUNK_BYTES + 9 * BLOCK_BYTES + 5);
    write_part(f, CHUNK, 9);
    point(f);
    assert_int_equal(damaged_at(f, 1), 1);
    EXPECT_ERR(ERR_CORRUPT, kit_check_view(&f->kit, 1, &err));
    EXPECT_ERR(ERR_CORRUPT, promote(f, 0));
    write_whole(f, CHUNK, 1);
    point(f);
    assert_int_equal(damaged_at(f, 2), 0);
    EXPECT_OK(promote(f, 0));
}

/* --- The past ---------------------------------------------------------------------------- */

static void a_damaged_undo_record_hits_the_points_that_need_it_only(void **state)
{
    struct fixture *f = *state;

    rot(f); /* head too; not this chunk's past */
    fixture_flip(f, DISK "/head.raw", CHUNK * CHUNK_BYTES + 9 * BLOCK_BYTES + 5);
    fixture_flip(f, DISK "/undo/00000000000000000002", 256 + 40);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    assert_int_equal(damaged_at(f, 1), 0);
    assert_int_equal(damaged_at(f, 2), 1);
    assert_int_equal(damaged_at(f, 3), 0);
    assert_int_equal(fixture_info(f).damaged_past, 1);
    EXPECT_ERR(ERR_CORRUPT, promote(f, 2));
    EXPECT_OK(kit_check_view(&f->kit, 1, &err));
    EXPECT_OK(promote(f, 1));
}

static void a_way_back_over_a_damaged_record_that_nobody_saw_ends_and_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t applied;

    rot(f);
    fixture_flip(f, DISK "/head.raw", CHUNK * CHUNK_BYTES + 9 * BLOCK_BYTES + 5);
    fixture_flip(f, DISK "/undo/00000000000000000002", 256 + 40);
    EXPECT_OK(promote(f, 2));
    EXPECT_OK(f->store->ops->point_apply(f->store, &applied, NULL, NULL, &err));
    assert_int_equal(applied, 4);
    assert_int_equal(damaged_at(f, 4), 1);
    EXPECT_OK(kit_check_view(&f->kit, 3, &err)); /* where it came from */
    EXPECT_ERR(ERR_CORRUPT, verify(f));
}

/* --- Asking for less --------------------------------------------------------------------- */

static struct store_scrub scrub(struct fixture *f, struct store_scrub_ask ask)
{
    struct store_scrub s = {0};

    EXPECT_OK(store_dir_scrub_begin(f->store, &ask, &s, &err));
    while (!s.done) {
        EXPECT_OK(store_dir_scrub_slice(f->store, &s, 100000, NULL, &err));
        fixture_reopen(f); /* the daemon may be restarted in between */
    }
    store_scrub_done(&s);
    return s;
}

static void a_fifth_at_a_time_finds_what_is_in_it_and_five_find_all(void **state)
{
    struct fixture *f = *state;
    uint64_t found = 0;

    rot(f);
    for (uint64_t i = 1; i <= 5; i++) {
        struct store_scrub s = scrub(f, (struct store_scrub_ask){.subset = i, .of = 5});
        assert_int_equal(s.damaged_head, i == CHUNK % 5 + 1);
        found += s.damaged_head;
        assert_int_equal(s.done_bytes, s.total_bytes);
    }
    assert_int_equal(found, 1);
    struct store_scrub s;
    const struct store_scrub_ask none = {.subset = 6, .of = 5};
    EXPECT_ERR(ERR_INVALID, store_dir_scrub_begin(f->store, &none, &s, &err));
}

static void one_point_is_verified_by_what_it_needs(void **state)
{
    struct fixture *f = *state;

    rot(f);
    fixture_flip(f, DISK "/undo/00000000000000000001", 256 + 40);
    assert_int_equal(scrub(f, (struct store_scrub_ask){.point = 2}).text_count, 0);
    struct store_scrub third = scrub(f, (struct store_scrub_ask){.point = 3});
    assert_int_equal(third.damaged_head, 1);
    assert_int_equal(third.damaged_past, 0);
    struct store_scrub first = scrub(f, (struct store_scrub_ask){.point = 1});
    assert_int_equal(first.damaged_head, 0);
    assert_int_equal(first.damaged_past, 1);
    struct store_scrub s;
    const struct store_scrub_ask none = {.point = 9};
    EXPECT_ERR(ERR_NOT_FOUND, store_dir_scrub_begin(f->store, &none, &s, &err));
}

static void points_that_come_between_two_slices_do_not_disturb_a_scrub(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_scrub_done) struct store_scrub s = {0};
    const struct store_scrub_ask all = {0};

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(store_dir_scrub_begin(f->store, &all, &s, &err));
    for (unsigned i = 0; !s.done; i++) {
        EXPECT_OK(store_dir_scrub_slice(f->store, &s, 70000, NULL, &err));
        if (i % 3 == 0)
            fixture_points(f, 1);
        if (i % 7 == 0)
            EXPECT_OK(kit_prune(f->store, 2, &err));
    }
    assert_int_equal(s.text_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(damage_of_head_is_listed_with_its_points_and_they_are_not_promoted),
        STORE_TEST(a_view_finds_damage_at_its_first_read_without_any_verify),
        STORE_TEST(what_is_on_the_list_survives_a_restart_and_goes_when_it_is_whole_again),
        STORE_TEST(a_list_that_is_damaged_itself_is_made_anew),
        STORE_TEST(a_record_that_rots_under_an_open_store_is_written_anew),
        STORE_TEST(undo_files_of_two_disks_that_changed_places_are_not_believed),
        STORE_TEST(rot_that_nobody_has_seen_is_not_saved_as_the_past_nor_taken_into_the_next_point),
        STORE_TEST(a_chunk_that_comes_as_it_was_makes_all_points_whole),
        STORE_TEST(a_chunk_that_was_only_given_a_wrong_digest_is_whole_for_all_points_too),
        STORE_TEST(a_chunk_that_comes_changed_makes_the_new_point_whole_and_no_older_one),
        STORE_TEST(a_chunk_written_in_part_is_whole_once_it_comes_whole),
        STORE_TEST(a_base_that_rots_before_the_first_point_is_noticed),
        STORE_TEST(a_damaged_undo_record_hits_the_points_that_need_it_only),
        STORE_TEST(a_way_back_over_a_damaged_record_that_nobody_saw_ends_and_is_told),
        STORE_TEST(a_fifth_at_a_time_finds_what_is_in_it_and_five_find_all),
        STORE_TEST(one_point_is_verified_by_what_it_needs),
        STORE_TEST(points_that_come_between_two_slices_do_not_disturb_a_scrub),
    };
    return cmocka_run_group_tests_name("store_dir_damage", tests, NULL, NULL);
}
