// SPDX-License-Identifier: Apache-2.0
/* A machine's own disks become the heads of a store: raw files, qcow2 files, block devices. */
#include "base/fault.h"
#include "base/mem.h"
#include "base/proc.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/fixture.h"
#include "support/replica/own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPS (f->store->ops)

/* The other site's machine wrote on; a point of it comes. */
static void go_on(struct fixture *f)
{
    kit_scribble(&f->kit, 12);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
}

static int open_again(struct fixture *f)
{
    store_closep(&f->store);
    err_clear(&err);
    return kit_open(&f->kit, fs_real(), &f->store, &err);
}

/* --- Their life -------------------------------------------------------------------------- */

static void live(struct fixture *f, struct own *own)
{
    uint64_t generation;
    uint64_t chosen;
    uint64_t point;

    EXPECT_OK(own_adopt(own, f->store, &err));
    assert_int_equal(own->progress, KIT_DISKS);
    struct store_info info = fixture_info(f);
    assert_int_equal(info.state, STORE_READY);
    assert_int_equal(info.generation, 2);
    assert_int_equal(info.applied_point, 2);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(own_adopt(own, f->store, &err)); /* once more */
    fixture_reopen(f);
    go_on(f);
    EXPECT_OK(own_adopt(own, f->store, &err)); /* and later */
    go_on(f);
    fixture_reopen(f);
    go_on(f);
    EXPECT_OK(kit_check_view(&f->kit, 2, &err)); /* what the machine held when it was taken over */
    EXPECT_OK(kit_check_view(&f->kit, 7, &err));
    EXPECT_OK(kit_check_view(&f->kit, 9, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    /* Back to the machine's own state, under undo as any other change. */
    EXPECT_OK(
        OPS->promote(f->store, 2, 2, "back", "paris", f->kit.sign, 1, &generation, &chosen, &err));
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    EXPECT_OK(kit_check_view(&f->kit, 9, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    store_closep(&f->store);
    EXPECT_OK(own_check(own, 2, &err));
    CLEANUP(mem_freep) char *head = fixture_path(f, "web.vda/head.raw");
    assert_int_equal(access(head, F_OK), -1);
}

static void raw_files_live_as_heads(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    live(f, &own);
}

static void qcow2_files_live_as_heads(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_QCOW2);
    live(f, &own);
}

static void block_devices_live_as_heads(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    if (own_at_2(&own, f, OWN_LOOP))
        live(f, &own);
}

/* --- Another size ------------------------------------------------------------------------ */

static void a_raw_disk_grows_with_the_machine_at_the_other_site(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    struct stat st;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    uint64_t before = f->kit.disks[1].size;
    kit_grow(&f->kit, 1, before + 409600);
    go_on(f);
    fixture_reopen(f);
    go_on(f);
    assert_int_equal(stat(f->kit.own[1], &st), 0);
    assert_int_equal(st.st_size, before + 409600);
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    EXPECT_OK(kit_check_head(&f->kit, f->kit.point, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_disk_that_cannot_grow_is_refused_with_what_to_do(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_QCOW2);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    uint64_t point = f->kit.point;
    kit_grow(&f->kit, 0, f->kit.disks[0].size + 65536);
    EXPECT_ERR(ERR_STATE, kit_point(&f->kit, f->store, &err));
    EXPECT_TEXT("which only a raw image can follow; hint: unprotect");
    assert_int_equal(fixture_info(f).durable_point, point);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

/* --- Adoption ---------------------------------------------------------------------------- */

static void known_digests_are_taken_over(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    own.adopt.digests = own_digests;
    EXPECT_OK(own_adopt(&own, f->store, &err));
    assert_true(own.told > 0);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void own_disks_are_not_touched_before_a_point_comes(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    EXPECT_OK(own_check(&own, 2, &err));
    EXPECT_ERR(ERR_STATE, kit_begin(&f->kit, f->store, &err));
    EXPECT_OK(own_check(&own, 2, &err));
}

static void a_disk_that_does_not_fit_is_refused_and_nothing_is_left(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    own.disks[1].size += 4096;
    EXPECT_ERR(ERR_STATE, own_adopt(&own, f->store, &err));
    own.disks[1].size -= 4096;
    own.disks[1].path = own.disks[0].path;
    EXPECT_ERR(ERR_INVALID, own_adopt(&own, f->store, &err));
    EXPECT_TEXT("twice");
    own.disks[1].path = "/nonexistent/disk";
    EXPECT_ERR(ERR_CORRUPT, own_adopt(&own, f->store, &err));
    EXPECT_TEXT("disk web.vdb of web is gone");
    own.disks[1].path = own.paths[1];
    assert_int_equal(truncate(own.paths[1], 4096), 0);
    EXPECT_ERR(ERR_CORRUPT, own_adopt(&own, f->store, &err));
    EXPECT_TEXT("4096 bytes, but the disk has");
    assert_int_equal(fixture_info(f).state, STORE_EMPTY);
    CLEANUP(mem_freep) char *record = fixture_path(f, "replica");
    assert_int_equal(access(record, F_OK), -1);
}

static void another_replica_is_not_taken_over(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    struct kit kit;

    (void)own_at_2(&own, f, OWN_RAW);
    kit_resume(&kit, &f->kit, f->root, 2, 1);
    EXPECT_OK(kit_copy(&kit, f->store, &err));
    kit_done(&kit);
    EXPECT_ERR(ERR_STATE, own_adopt(&own, f->store, &err));
    EXPECT_TEXT("there is a replica of web already");
}

static void disks_of_another_history_are_not_adopted(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    f->kit.parent = (struct sha256){{9}};
    CLEANUP(mem_freep) char *foreign = kit_taken_over(&f->kit, 6, 2);
    own.adopt.tip = foreign;
    EXPECT_ERR(ERR_CORRUPT, own_adopt(&own, f->store, &err));
    EXPECT_TEXT("does not continue the history");
    assert_int_equal(fixture_info(f).state, STORE_EMPTY);
}

static void an_adoption_cut_anywhere_is_done_at_the_next_try(void **state)
{
    static const char *const calls[] = {"fs.pwrite", "fs.sync", "fs.rename", "fs.stamp"};
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    own.adopt.digests = own_digests;
    for (size_t call = 0; call < ARRAY_LEN(calls); call++)
        for (unsigned i = 0;; i++) {
            err_clear(&err);
            fault_arm(calls[call], (int)i, EIO);
            int rc = own_adopt(&own, f->store, &err);
            fault_clear();
            EXPECT_OK(kit_check_head(&f->kit, 2, &err));
            if (rc == 0 && i > 0)
                break;
            assert_true(i < 500);
            EXPECT_OK(open_again(f));
            assert_true(fixture_info(f).generation <= 2);
            if (rc == 0) {
                store_closep(&f->store);
                EXPECT_OK(store_dir_remove(fs_real(), f->kit.dir, &err));
                EXPECT_OK(open_again(f));
            }
        }
    EXPECT_OK(open_again(f));
    EXPECT_OK(own_adopt(&own, f->store, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    go_on(f);
}

/* --- Others at the disks ----------------------------------------------------------------- */

static void scribble_by_hand(const char *path)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_int_equal(pwrite(fd, "by hand", 7, 12345), 7);
}

static void a_disk_written_to_by_others_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    EXPECT_OK(open_again(f)); /* reading changes nothing */
    scribble_by_hand(own.paths[1]);
    kit_scribble(&f->kit, 3);
    EXPECT_ERR(ERR_CORRUPT, kit_point_applied(&f->kit, f->store, &err)); /* while it is open */
    EXPECT_ERR(ERR_CORRUPT, open_again(f));
    EXPECT_TEXT("disk web.vdb of web was written to, or replaced, since point 7");
    EXPECT_TEXT("hint: web works on where it is, and what was written here stays");
    /* The way out: the disks stay, the store is made anew over what they hold now. */
    EXPECT_OK(store_dir_remove(fs_real(), f->kit.dir, &err));
    EXPECT_OK(open_again(f));
    EXPECT_OK(own_adopt(&own, f->store, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_scrub_takes_a_disk_over_that_others_wrote_to_and_it_is_repaired(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(store_damages_free) struct store_damages list = VEC_EMPTY;
    uint64_t generation;
    uint64_t chosen;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    store_closep(&f->store);
    scribble_by_hand(own.paths[1]);
    f->kit.to_scrub = true;
    EXPECT_OK(open_again(f));
    kit_scribble(&f->kit, 3);
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
    EXPECT_ERR(ERR_CORRUPT, OPS->point_apply(f->store, &chosen, NULL, NULL, &err));
    EXPECT_ERR(ERR_CORRUPT, OPS->promote(f->store, 2, 0, "run/9", "paris", f->kit.sign, 1,
                                         &generation, &chosen, &err));
    EXPECT_ERR(ERR_CORRUPT, store_dir_verify(f->store, NULL, &err));
    EXPECT_TEXT("damaged are 1 chunks of head");
    f->kit.to_scrub = false;
    EXPECT_OK(open_again(f)); /* it is known again */
    EXPECT_OK(OPS->damages(f->store, &list, &err));
    assert_int_equal(list.len, 1);
    assert_int_equal(list.at[0].chunk, 0);
    EXPECT_OK(OPS->point_apply(f->store, &chosen, NULL, NULL, &err));
    kit_write(&f->kit, 1, 0, kit_image(&f->kit, f->kit.point)->bytes[1], 65536);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    assert_int_equal(fixture_info(f).damaged_head, 0);
    EXPECT_OK(kit_check_head(&f->kit, f->kit.point, &err));
}

static void a_disk_that_was_put_back_from_a_copy_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(mem_freep) char *copy = path_join(f->root, "copy");

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    store_closep(&f->store);
    const char *const cp[] = {"cp", "-p", own.paths[0], copy, NULL};
    EXPECT_OK(proc_must(cp, NULL, &err));
    assert_int_equal(rename(copy, own.paths[0]), 0);
    EXPECT_ERR(ERR_CORRUPT, open_again(f));
    EXPECT_TEXT("another file");
}

static void a_disk_that_is_gone_or_has_another_size_is_named(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(mem_freep) char *aside = path_join(f->root, "aside");

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    store_closep(&f->store);
    assert_int_equal(rename(own.paths[0], aside), 0);
    EXPECT_ERR(ERR_CORRUPT, open_again(f));
    EXPECT_TEXT("disk web.vda of web is gone");
    EXPECT_TEXT("hint: restore it, or reprotect it");
    if (fs_exists(own.paths[0]))
        fail_msg("%s was made anew", own.paths[0]);
    assert_int_equal(rename(aside, own.paths[0]), 0);
    EXPECT_ERR(ERR_CORRUPT, open_again(f)); /* its name changed: nobody knows what else did */
    assert_int_equal(truncate(own.paths[0], 65536), 0);
    EXPECT_ERR(ERR_CORRUPT, open_again(f));
    EXPECT_TEXT("another size");
}

/* --- Rolling forward --------------------------------------------------------------------- */

static void a_cut_apply_is_rolled_forward_before_a_machine_may_start(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    uint64_t point;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    EXPECT_OK(store_dir_settle(f->store, NULL, &err)); /* nothing is under way */
    EXPECT_OK(own_check(&own, 2, &err));
    kit_scribble(&f->kit, 20);
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
    fault_arm("fs.pwrite", 20, ENOSPC); /* somewhere in its undo */
    err_clear(&err);
    assert_int_equal(OPS->point_apply(f->store, &point, NULL, NULL, &err), -1);
    fault_clear();
    assert_int_equal(fixture_info(f).applying, 7);
    EXPECT_OK(store_dir_settle(f->store, NULL, &err));
    assert_int_equal(fixture_info(f).applying, 0);
    EXPECT_OK(own_check(&own, 7, &err));
}

static void opening_without_room_leaves_it_to_settle(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    uint64_t point;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    kit_scribble(&f->kit, 20);
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
    fault_arm("fs.rename", 1, ENOSPC); /* after the intent */
    err_clear(&err);
    assert_int_equal(OPS->point_apply(f->store, &point, NULL, NULL, &err), -1);
    fault_arm("fs.rename", 0, ENOSPC);
    EXPECT_OK(open_again(f));
    fault_clear();
    assert_int_equal(fixture_info(f).applying, 7);
    EXPECT_OK(own_check(&own, 2, &err));
    EXPECT_OK(store_dir_settle(f->store, NULL, &err));
    EXPECT_OK(own_check(&own, 7, &err));
}

/* --- The machine takes them back ---------------------------------------------------------- */

static void after_release_the_disks_are_the_machines(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(view_closep) struct view *view = NULL;
    struct digest digest;
    char byte[7];
    uint64_t point;

    (void)own_at_2(&own, f, OWN_RAW);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    EXPECT_OK(view_open(f->kit.dir, "web.vda", 2, &f->kit.key, NULL, &view, &err));
    kit_scribble(&f->kit, 5);
    EXPECT_OK(kit_point(&f->kit, f->store, &err)); /* durable only */
    EXPECT_OK(store_dir_release(f->store, NULL, &err));
    EXPECT_OK(store_dir_release(f->store, NULL, &err));
    assert_true(fixture_info(f).released);
    assert_int_equal(fixture_info(f).applied_point, 8);
    EXPECT_OK(own_check(&own, 8, &err));
    scribble_by_hand(own.paths[0]); /* the machine runs */
    EXPECT_ERR(ERR_NOT_FOUND, view_read(view, 0, byte, 1, &err));
    fixture_reopen(f);
    assert_true(fixture_info(f).released);
    EXPECT_ERR(ERR_NOT_FOUND, view_read(view, 0, byte, 1, &err));
    EXPECT_OK(OPS->digests(f->store, "web.vda", 8, 0, 1, &digest, &err));
    EXPECT_OK(OPS->read(f->store, "web.vda", 12345, byte, 7, &err));
    assert_memory_equal(byte, "by hand", 7);
    kit_scribble(&f->kit, 5);
    EXPECT_ERR(ERR_STATE, kit_point(&f->kit, f->store, &err));
    EXPECT_ERR(ERR_STATE, kit_commit(&f->kit, f->store, &err));
    EXPECT_ERR(ERR_STATE, OPS->pin(f->store, 0, "drill", &point, &err));
    EXPECT_ERR(ERR_STATE, store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(kit_prune(f->store, 1, &err));
    EXPECT_OK(store_dir_settle(f->store, NULL, &err));
    fixture_reopen(f);
}

static void a_replica_of_its_own_is_not_released(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    EXPECT_ERR(ERR_STATE, store_dir_release(f->store, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(raw_files_live_as_heads),
        STORE_TEST(qcow2_files_live_as_heads),
        STORE_TEST(block_devices_live_as_heads),
        STORE_TEST(a_raw_disk_grows_with_the_machine_at_the_other_site),
        STORE_TEST(a_disk_that_cannot_grow_is_refused_with_what_to_do),
        STORE_TEST(known_digests_are_taken_over),
        STORE_TEST(own_disks_are_not_touched_before_a_point_comes),
        STORE_TEST(a_disk_that_does_not_fit_is_refused_and_nothing_is_left),
        STORE_TEST(another_replica_is_not_taken_over),
        STORE_TEST(disks_of_another_history_are_not_adopted),
        STORE_TEST(an_adoption_cut_anywhere_is_done_at_the_next_try),
        STORE_TEST(a_disk_written_to_by_others_is_refused),
        STORE_TEST(a_scrub_takes_a_disk_over_that_others_wrote_to_and_it_is_repaired),
        STORE_TEST(a_disk_that_was_put_back_from_a_copy_is_refused),
        STORE_TEST(a_disk_that_is_gone_or_has_another_size_is_named),
        STORE_TEST(a_cut_apply_is_rolled_forward_before_a_machine_may_start),
        STORE_TEST(opening_without_room_leaves_it_to_settle),
        STORE_TEST(after_release_the_disks_are_the_machines),
        STORE_TEST(a_replica_of_its_own_is_not_released),
    };
    return cmocka_run_group_tests_name("store_dir_own", tests, NULL, NULL);
}
