// SPDX-License-Identifier: Apache-2.0
/* Points that are removed in the middle, and their undo files: what is kept reads as it was, at every
 * step, and the disk holds no more than it must. */
#include "base/fault.h"
#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPS  (f->store->ops)
#define DISK "web.vdb"
#define SEC  INT64_C(1000)

static uint64_t random_of(uint64_t *seed, uint64_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (*seed >> 33) % below;
}

static void check_all(struct fixture *f)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;

    EXPECT_OK(OPS->points(f->store, &points, &err));
    VEC_FOREACH(point, &points)
        if (point->applied)
            EXPECT_OK(kit_check_view(&f->kit, point->point, &err));
    EXPECT_OK(kit_check_head(&f->kit, fixture_info(f).applied_point, &err));
}

static void prune(struct fixture *f, uint64_t keep, const char *tiers)
{
    struct retention retention = {.keep = keep};

    EXPECT_OK(retention_parse(tiers, &retention, &err));
    EXPECT_OK(OPS->prune(f->store, &retention, &err));
}

static uint64_t undo_files(const struct fixture *f)
{
    return fixture_count(f, DISK "/undo");
}

static uint64_t bytes_of_undo(struct fixture *f)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    uint64_t bytes = 0;

    EXPECT_OK(OPS->points(f->store, &points, &err));
    VEC_FOREACH(point, &points)
        bytes += point->undo_bytes;
    return bytes;
}

/* --- Against an oracle ------------------------------------------------------------------- */

struct watched {
    struct view *view;
    uint64_t point;
};

struct drill {
    struct fixture *f;
    uint64_t seed;
    size_t pins;
    struct watched views[3];
};

static void watch(struct drill *w)
{
    struct fixture *f = w->f;
    struct watched *to = &w->views[random_of(&w->seed, ARRAY_LEN(w->views))];
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    CLEANUP(mem_freep) char *label = mem_printf("view-%zu", (size_t)(to - w->views));
    uint64_t pinned;

    if (to->view) {
        view_closep(&to->view);
        EXPECT_OK(OPS->unpin(f->store, label, &err));
        return;
    }
    EXPECT_OK(OPS->points(f->store, &points, &err));
    const struct store_point *point = &points.at[random_of(&w->seed, points.len)];
    if (!point->applied)
        return;
    EXPECT_OK(OPS->pin(f->store, point->point, label, &pinned, &err));
    EXPECT_OK(view_open(f->kit.dir, DISK, pinned, &f->kit.key, NULL, &to->view, &err));
    to->point = pinned;
}

static void look(struct drill *w)
{
    uint8_t have[CHUNK_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(w->views); i++) {
        const struct watched *at = &w->views[i];
        if (!at->view)
            continue;
        const uint8_t *want = kit_image(&w->f->kit, at->point)->bytes[1];
        uint64_t size = view_size(at->view);
        for (uint64_t chunk = 0; chunk < chunk_count(size); chunk++) {
            size_t len = chunk_len(size, chunk);
            EXPECT_OK(view_read(at->view, chunk * CHUNK_BYTES, have, len, &err));
            assert_memory_equal(have, want + chunk * CHUNK_BYTES, len);
        }
    }
}

static void pin_something(struct drill *w)
{
    struct fixture *f = w->f;
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    CLEANUP(mem_freep) char *label = mem_printf("pin-%zu", w->pins);
    uint64_t pinned;

    if (random_of(&w->seed, 2)) {
        CLEANUP(mem_freep) char *old = mem_printf("pin-%" PRIu64, random_of(&w->seed, w->pins + 1));
        EXPECT_OK(OPS->unpin(f->store, old, &err));
        return;
    }
    EXPECT_OK(OPS->points(f->store, &points, &err));
    w->pins++;
    EXPECT_OK(
        OPS->pin(f->store, points.at[random_of(&w->seed, points.len)].point, label, &pinned, &err));
}

static void step(struct drill *w)
{
    static const char *const tiers[] = {"none", "10s for 60s", "5s for 20s, 20s for 100s"};
    struct fixture *f = w->f;
    uint64_t point;

    switch (random_of(&w->seed, 10)) {
    case 0:
    case 1: /* durable, and applied together with the next */
        kit_scribble(&f->kit, 1 + random_of(&w->seed, 20));
        EXPECT_OK(kit_point(&f->kit, f->store, &err));
        break;
    case 2: watch(w); break;
    case 3: pin_something(w); break;
    case 4:
        if (random_of(&w->seed, 4) == 0)
            fixture_reopen(f);
        break;
    case 5:
    case 6:
        prune(f, 1 + random_of(&w->seed, 6), tiers[random_of(&w->seed, ARRAY_LEN(tiers))]);
        break;
    default:
        kit_scribble(&f->kit, 1 + random_of(&w->seed, 20));
        EXPECT_OK(kit_point(&f->kit, f->store, &err));
        do
            EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
        while (point != 0);
    }
    clock_fake_advance(&f->kit.clock, (int64_t)random_of(&w->seed, 4000));
}

static void every_kept_point_reads_as_it_was_whatever_goes_around_it(void **state)
{
    struct fixture *f = *state;
    struct drill w = {.f = f, .seed = 20231115};

    fixture_copy(f);
    fixture_points(f, 1);
    for (size_t i = 0; i < 220; i++) {
        step(&w);
        look(&w);
        check_all(f);
        if (i % 20 == 0)
            EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    }
    for (size_t i = 0; i < ARRAY_LEN(w.views); i++)
        view_close(w.views[i].view);
    fixture_reopen(f);
    check_all(f);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

/* --- What it costs ----------------------------------------------------------------------- */

static void write_all(struct fixture *f, uint64_t word)
{
    CLEANUP(mem_freep) uint64_t *bytes = mem_alloc((size_t)f->kit.disks[1].size, 1);

    for (size_t i = 0; i < f->kit.disks[1].size / 8; i++) /* what does not shrink */
        bytes[i] = (word * 1000003 + i) * UINT64_C(0x9e3779b97f4a7c15);
    kit_write(&f->kit, 1, 0, bytes, (size_t)f->kit.disks[1].size);
}

static void points_that_are_never_kept_cost_nothing_without_an_older_one(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    prune(f, 1, "none");
    for (uint64_t i = 0; i < 5; i++) {
        write_all(f, i);
        EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
        assert_int_equal(undo_files(f), 0);
        assert_int_equal(fixture_count(f, "manifests"), 1);
    }
    check_all(f);
}

static void a_chunk_is_saved_once_for_each_point_that_is_kept(void **state)
{
    struct fixture *f = *state;
    uint64_t size = f->kit.disks[1].size;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 1);
    EXPECT_OK(OPS->pin(f->store, 1, "before-upgrade", &pinned, &err));
    prune(f, 1, "none");
    for (uint64_t i = 0; i < 20; i++) {
        write_all(f, i);
        EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
        if (i % 6 == 5)
            fixture_reopen(f);
        prune(f, 1, "none");
    }
    assert_true(bytes_of_undo(f) < size + size / 10);
    assert_true(undo_files(f) <= 8);
    check_all(f);
}

static void removed_points_give_back_what_they_held_twice(void **state)
{
    struct fixture *f = *state;
    uint64_t size = f->kit.disks[1].size;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 1);
    for (uint64_t i = 0; i < 12; i++) {
        write_all(f, i);
        EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    }
    assert_true(bytes_of_undo(f) > 11 * size);
    EXPECT_OK(OPS->pin(f->store, 2, "old", &pinned, &err));
    EXPECT_OK(OPS->pin(f->store, 9, "young", &pinned, &err));
    prune(f, 1, "none");
    assert_int_equal(undo_files(f), 5); /* 2 has all up to 9; 10 to 12 wait for more */
    assert_true(bytes_of_undo(f) < 5 * size + size / 2);
    check_all(f);
    fixture_reopen(f);
    check_all(f);
}

/* --- Views ------------------------------------------------------------------------------- */

static void files_at_and_after_a_viewed_point_are_left_alone(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 12);
    EXPECT_OK(OPS->pin(f->store, 3, "test", &pinned, &err));
    EXPECT_OK(OPS->pin(f->store, 10, "end", &pinned, &err));
    EXPECT_OK(view_open(f->kit.dir, DISK, 3, &f->kit.key, NULL, &view, &err));
    prune(f, 1, "none");
    assert_int_equal(undo_files(f), 9); /* 3 to 11; two of them are points */
    struct drill w = {.f = f, .views = {{view, 3}}};
    look(&w);
    check_all(f);
    view_closep(&view);
    prune(f, 1, "none");
    assert_true(undo_files(f) <= 3);
    check_all(f);
}

/* --- Cuts and faults --------------------------------------------------------------------- */

static void a_merge_that_failed_anywhere_costs_no_point(void **state)
{
    static const char *const places[] = {"fs.open",   "fs.pwrite", "fs.sync",
                                         "fs.rename", "fs.unlink", "fs.sync_dir"};
    struct fixture *f = *state;
    const struct retention one = {.keep = 1};
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(OPS->pin(f->store, 2, "old", &pinned, &err));
    for (size_t place = 0; place < ARRAY_LEN(places); place++)
        for (unsigned skip = 0; skip < 8; skip++) {
            EXPECT_OK(kit_prune(f->store, 100, &err));
            fixture_points(f, 4);
            EXPECT_OK(OPS->pin(f->store, 0, "young", &pinned, &err));
            fault_arm(places[place], (int)skip, skip % 2 ? EIO : ENOSPC);
            int rc = OPS->prune(f->store, &one, &err);
            fault_clear();
            if (rc < 0)
                fixture_reopen(f);
            check_all(f);
            EXPECT_OK(OPS->unpin(f->store, "young", &err));
        }
    EXPECT_OK(kit_prune(f->store, 1, &err));
    fixture_reopen(f);
    EXPECT_OK(kit_prune(f->store, 1, &err));
    check_all(f);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

/* The disk is full once, anywhere in an apply: an old point that is not to be kept any more goes, and
 * nobody hears of it, wherever it was known already which point comes. */
static void a_full_disk_costs_an_old_point_before_it_refuses_a_new_one(void **state)
{
    struct fixture *f = *state;
    const struct retention three = {.keep = 3};
    size_t made_room = 0;

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(OPS->prune(f->store, &three, &err));
    for (int skip = 0; skip < 30; skip++) {
        uint64_t point;
        kit_scribble(&f->kit, 12);
        EXPECT_OK(kit_point(&f->kit, f->store, &err));
        fault_arm("fs.pwrite", skip, ENOSPC);
        int rc = OPS->point_apply(f->store, &point, NULL, NULL, &err);
        bool was_full = fault_hit("fs.pwrite") == 0;
        fault_clear();
        if (rc < 0) {
            assert_int_equal(err.code, ERR_SPACE);
            EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
        } else if (was_full && undo_files(f) < 3) {
            made_room++;
        }
        check_all(f);
        EXPECT_OK(OPS->prune(f->store, &three, &err));
        assert_int_equal(undo_files(f), 2);
    }
    assert_true(made_room > 3);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

/* --- Another process ---------------------------------------------------------------------- */

static void come_and_go_for_ever(struct fixture *f)
{
    const struct retention two = {.keep = 2};
    struct err failed;

    for (;;) {
        kit_scribble(&f->kit, 6);
        if (kit_point_applied(&f->kit, f->store, &failed) < 0
            || f->store->ops->prune(f->store, &two, &failed) < 0) {
            (void)fprintf(stderr, "%s\n", failed.text);
            _exit(1);
        }
    }
}

static void views_that_open_and_close_are_bit_exact_while_another_process_merges(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) uint8_t *have = mem_alloc((size_t)f->kit.disks[1].size, 1);
    uint64_t pinned;
    int status;

    fixture_copy(f);
    fixture_points(f, 9);
    EXPECT_OK(OPS->pin(f->store, 3, "three", &pinned, &err));
    EXPECT_OK(OPS->pin(f->store, 6, "six", &pinned, &err));
    EXPECT_OK(OPS->pin(f->store, 9, "nine", &pinned, &err));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        come_and_go_for_ever(f);
    for (uint64_t i = 0; i < 400; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        uint64_t point = 3 + 3 * (i % 3);
        EXPECT_OK(view_open(f->kit.dir, DISK, point, &f->kit.key, NULL, &view, &err));
        EXPECT_OK(view_read(view, 0, have, (size_t)view_size(view), &err));
        assert_memory_equal(have, kit_image(&f->kit, point)->bytes[1], view_size(view));
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    fixture_reopen(f);
    for (uint64_t point = 3; point <= 9; point += 3)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    assert_true(fixture_info(f).applied_point > 20);
    EXPECT_OK(kit_prune(f->store, 2, &err));
    assert_true(undo_files(f) < 24);
}

static void a_damaged_file_is_not_merged_and_stops_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 6);
    EXPECT_OK(OPS->pin(f->store, 2, "old", &pinned, &err));
    EXPECT_OK(OPS->pin(f->store, 5, "young", &pinned, &err));
    fixture_flip(f, DISK "/undo/00000000000000000002", 400);
    prune(f, 1, "none");
    fixture_points(f, 3);
    prune(f, 1, "none");
    EXPECT_OK(kit_check_view(&f->kit, 5, &err));
    EXPECT_ERR(ERR_CORRUPT, kit_check_view(&f->kit, 2, &err));
    EXPECT_ERR(ERR_CORRUPT, store_dir_verify(f->store, NULL, &err));
    EXPECT_TEXT("00000000000000000002");
}

static void a_lost_file_of_a_removed_point_is_seen(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    CLEANUP(mem_freep) char *path = fixture_path(f, DISK "/undo/00000000000000000003");
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 4);
    EXPECT_OK(OPS->pin(f->store, 2, "old", &pinned, &err));
    EXPECT_OK(view_open(f->kit.dir, DISK, 2, &f->kit.key, NULL, &view, &err)); /* no merge */
    prune(f, 1, "none");
    store_closep(&f->store);
    assert_int_equal(remove(path), 0);
    EXPECT_ERR(ERR_CORRUPT, kit_open(&f->kit, fs_real(), &f->store, &err));
    EXPECT_TEXT("undo file of point 3 is missing");
}

static void a_manifest_that_is_missing_is_seen_though_others_were_removed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = fixture_path(f, "manifests/00000000000000000005");
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 6);
    EXPECT_OK(OPS->pin(f->store, 2, "old", &pinned, &err));
    prune(f, 2, "none"); /* 2, 5, 6 */
    store_closep(&f->store);
    assert_int_equal(remove(path), 0);
    EXPECT_ERR(ERR_CORRUPT, kit_open(&f->kit, fs_real(), &f->store, &err));
    EXPECT_TEXT("point 5 is missing");
}

/* --- Telling ----------------------------------------------------------------------------- */

static void it_is_told_why_a_point_stays_and_what_would_go(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    const struct retention two = {.keep = 2};
    uint64_t pinned;

    fixture_copy(f);
    for (size_t i = 0; i < 6; i++) {
        fixture_points(f, 1);
        clock_fake_advance(&f->kit.clock, 10 * SEC);
    }
    EXPECT_OK(OPS->pin(f->store, 2, "mine", &pinned, &err));
    EXPECT_OK(store_dir_plan(f->store, &two, &points, &err));
    assert_int_equal(points.len, 6);
    assert_int_equal(points.at[0].why, RETENTION_GOES);
    assert_int_equal(points.at[1].why, RETENTION_HELD);
    assert_int_equal(points.at[3].why, RETENTION_GOES);
    assert_int_equal(points.at[4].why, RETENTION_NEWEST);
    assert_true(points.at[3].undo_bytes > 0);
    assert_int_equal(points.at[5].undo_bytes, 0);
    EXPECT_OK(store_dir_prune_once(f->store, &two, &err));
    EXPECT_OK(OPS->points(f->store, &points, &err));
    assert_int_equal(points.len, 3);
    assert_int_equal(points.at[0].point, 2);
    /* By hand, once: it is no policy. */
    struct retention told;
    assert_false(store_dir_retention(f->store, &told));
    fixture_points(f, 3);
    EXPECT_OK(OPS->points(f->store, &points, &err));
    assert_int_equal(points.len, 6);
    EXPECT_OK(kit_prune(f->store, 3, &err));
    fixture_reopen(f);
    assert_true(store_dir_retention(f->store, &told));
    assert_int_equal(told.keep, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(every_kept_point_reads_as_it_was_whatever_goes_around_it),
        STORE_TEST(points_that_are_never_kept_cost_nothing_without_an_older_one),
        STORE_TEST(a_chunk_is_saved_once_for_each_point_that_is_kept),
        STORE_TEST(removed_points_give_back_what_they_held_twice),
        STORE_TEST(files_at_and_after_a_viewed_point_are_left_alone),
        STORE_TEST(a_merge_that_failed_anywhere_costs_no_point),
        STORE_TEST(a_full_disk_costs_an_old_point_before_it_refuses_a_new_one),
        STORE_TEST(views_that_open_and_close_are_bit_exact_while_another_process_merges),
        STORE_TEST(a_damaged_file_is_not_merged_and_stops_nothing),
        STORE_TEST(a_lost_file_of_a_removed_point_is_seen),
        STORE_TEST(a_manifest_that_is_missing_is_seen_though_others_were_removed),
        STORE_TEST(it_is_told_why_a_point_stays_and_what_would_go),
    };
    return cmocka_run_group_tests_name("store_dir_merge", tests, NULL, NULL);
}
