// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <stdlib.h>

#define OPS (f->store->ops)

/* The first segment of the point cut last, and its bytes. */
struct made {
    const char *disk;
    struct manifest_segment segment;
    struct str bytes;
};

static void made_done(struct made *made)
{
    str_free(&made->bytes);
}

static struct made make(struct fixture *f, size_t disk)
{
    struct made made = {.disk = f->kit.disks[disk].name};
    uint8_t block[4096];

    fixture_copy(f);
    for (size_t i = 0; i < 40; i++) {
        random_bytes(block, sizeof(block));
        kit_write(&f->kit, disk, i * 4096, block, sizeof(block));
    }
    EXPECT_OK(kit_cut(&f->kit, &err));
    made.segment = f->kit.last.disks.at[disk].segments.at[0];
    CLEANUP(mem_freep) char *path = kit_segment_path(&f->kit, &made.segment.uuid);
    EXPECT_OK(fs_read_file(fs_real(), path, SIZE_MAX / 2, &made.bytes, &err));
    return made;
}

static int write_bytes(struct fixture *f, const struct made *made, uint64_t off, size_t len)
{
    err_clear(&err);
    return OPS->segment_write(f->store, made->disk, &made->segment.uuid, off, made->bytes.ptr + off,
                              len, &err);
}

static int close_it(struct fixture *f, const struct made *made, const char *disk)
{
    err_clear(&err);
    return OPS->segment_close(f->store, disk, &made->segment.uuid, &made->segment.root,
                              made->segment.bytes, &err);
}

static uint64_t have(struct fixture *f, const struct made *made)
{
    uint64_t bytes = 99;

    EXPECT_OK(OPS->segment_open(f->store, made->disk, &made->segment.uuid, &bytes, &err));
    return bytes;
}

static void a_segment_goes_on_where_the_link_was_cut(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    assert_int_equal(have(f, &made), 0);
    EXPECT_OK(write_bytes(f, &made, 0, 5000));
    assert_int_equal(have(f, &made), 5000);
    fixture_reopen(f);
    assert_int_equal(have(f, &made), 5000);
    EXPECT_OK(write_bytes(f, &made, 5000, made.bytes.len - 5000));
    EXPECT_OK(close_it(f, &made, made.disk));
    /* The answer was lost: asked again, it is all there. */
    assert_int_equal(have(f, &made), made.bytes.len);
    EXPECT_OK(close_it(f, &made, made.disk));
    EXPECT_ERR(ERR_EXISTS, write_bytes(f, &made, 0, 512));
}

static void a_gap_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    EXPECT_OK(write_bytes(f, &made, 0, 1000));
    EXPECT_ERR(ERR_INVALID, write_bytes(f, &made, 2000, 1000));
    EXPECT_TEXT("only 1000");
}

static void a_segment_with_a_changed_byte_is_sent_anew(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    made.bytes.ptr[made.bytes.len / 2] ^= 1;
    EXPECT_OK(write_bytes(f, &made, 0, made.bytes.len));
    EXPECT_ERR(ERR_CORRUPT, close_it(f, &made, made.disk));
    assert_int_equal(have(f, &made), 0);
    made.bytes.ptr[made.bytes.len / 2] ^= 1;
    EXPECT_OK(write_bytes(f, &made, 0, made.bytes.len));
    EXPECT_OK(close_it(f, &made, made.disk));
}

static void a_segment_that_is_too_short_is_sent_anew(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    EXPECT_OK(write_bytes(f, &made, 0, made.bytes.len - 1));
    EXPECT_ERR(ERR_CORRUPT, close_it(f, &made, made.disk));
    EXPECT_TEXT("were announced");
    assert_int_equal(have(f, &made), 0);
}

static void another_segment_than_announced_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    EXPECT_OK(write_bytes(f, &made, 0, made.bytes.len));
    made.segment.root.bytes[0] ^= 1;
    EXPECT_ERR(ERR_CORRUPT, close_it(f, &made, made.disk));
}

static void a_segment_of_another_disk_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    made.disk = "web.vdb";
    EXPECT_OK(write_bytes(f, &made, 0, made.bytes.len));
    EXPECT_ERR(ERR_CORRUPT, close_it(f, &made, made.disk));
    EXPECT_TEXT("web.vda");
    EXPECT_TEXT("web.vdb");
}

static void a_segment_whose_sync_failed_is_not_believed_later(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    EXPECT_OK(write_bytes(f, &made, 0, made.bytes.len));
    fault_arm("fs.sync", 0, EIO);
    EXPECT_ERR(ERR_IO, close_it(f, &made, made.disk));
    fault_clear();
    fixture_reopen(f);
    assert_int_equal(have(f, &made), 0);
}

static void a_full_disk_keeps_what_came(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    EXPECT_OK(write_bytes(f, &made, 0, 4096));
    fault_arm("fs.pwrite", 0, ENOSPC);
    EXPECT_ERR(ERR_SPACE, write_bytes(f, &made, 4096, 4096));
    fault_clear();
    assert_int_equal(have(f, &made), 4096);
    EXPECT_OK(write_bytes(f, &made, 4096, made.bytes.len - 4096));
    EXPECT_OK(close_it(f, &made, made.disk));
}

static void segments_go_when_their_point_is_applied_and_so_do_left_over_ones(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0); /* for point 1, and never used */

    EXPECT_OK(write_bytes(f, &made, 0, 3000));
    f->kit.point = 0;
    memset(&f->kit.parent, 0, sizeof(f->kit.parent));
    fixture_points(f, 1);
    assert_int_equal(fixture_count(f, "web.vda/segments"), 0);
    assert_int_equal(fixture_count(f, "web.vdb/segments"), 0);
}

static void a_beginning_without_a_header_is_forgotten_at_a_restart(void **state)
{
    struct fixture *f = *state;
    CLEANUP(made_done) struct made made = make(f, 0);

    EXPECT_OK(write_bytes(f, &made, 0, 100));
    fixture_reopen(f);
    assert_int_equal(have(f, &made), 0);
}

static void more_segments_than_open_files_can_come_at_once(void **state)
{
    struct fixture *f = *state;
    struct uuid uuids[40];
    uint64_t bytes;

    fixture_copy(f);
    for (size_t i = 0; i < 40; i++) {
        uuid_new(&uuids[i]);
        EXPECT_OK(OPS->segment_write(f->store, "web.vda", &uuids[i], 0, "0123456789", 10, &err));
    }
    for (size_t i = 0; i < 40; i++) {
        EXPECT_OK(OPS->segment_open(f->store, "web.vda", &uuids[i], &bytes, &err));
        assert_int_equal(bytes, 10);
    }
}

static void segments_come_after_the_copy_and_for_disks_that_are_there(void **state)
{
    struct fixture *f = *state;
    struct uuid uuid;
    uint64_t bytes;

    uuid_new(&uuid);
    EXPECT_ERR(ERR_STATE, OPS->segment_open(f->store, "web.vda", &uuid, &bytes, &err));
    fixture_copy(f);
    EXPECT_ERR(ERR_NOT_FOUND, OPS->segment_open(f->store, "../web.vda", &uuid, &bytes, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_segment_goes_on_where_the_link_was_cut),
        STORE_TEST(a_gap_is_refused),
        STORE_TEST(a_segment_with_a_changed_byte_is_sent_anew),
        STORE_TEST(a_segment_that_is_too_short_is_sent_anew),
        STORE_TEST(another_segment_than_announced_is_refused),
        STORE_TEST(a_segment_of_another_disk_is_refused),
        STORE_TEST(a_segment_whose_sync_failed_is_not_believed_later),
        STORE_TEST(a_full_disk_keeps_what_came),
        STORE_TEST(segments_go_when_their_point_is_applied_and_so_do_left_over_ones),
        STORE_TEST(a_beginning_without_a_header_is_forgotten_at_a_restart),
        STORE_TEST(more_segments_than_open_files_can_come_at_once),
        STORE_TEST(segments_come_after_the_copy_and_for_disks_that_are_there),
    };
    return cmocka_run_group_tests_name("store_dir_segment", tests, NULL, NULL);
}
