// SPDX-License-Identifier: Apache-2.0
#include "sync/rescan.h"

#include "base/mem.h"
#include "replica/chunk.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <unistd.h>

#define CHUNKS 40u

struct fixture {
    const char *dir;
    struct store_disks disks;
    struct rescan *rescan;
    struct key key;
};

static void fixture_done(struct fixture *f)
{
    rescan_close(f->rescan);
    store_disks_free(&f->disks);
}

static void begin(struct fixture *f, const char *dir)
{
    memset(f, 0, sizeof(*f));
    f->dir = dir;
    struct store_disk *disk = store_disks_push(&f->disks);
    (void)snprintf(disk->name, sizeof(disk->name), "disk0");
    disk->size = CHUNKS * CHUNK_BYTES + 512;
    EXPECT_OK(rescan_open(dir, &f->disks, false, &f->rescan, &err));
}

static void reopen(struct fixture *f)
{
    rescan_closep(&f->rescan);
    EXPECT_OK(rescan_open(f->dir, &f->disks, true, &f->rescan, &err));
}

static void put(struct fixture *f, uint64_t chunk, uint8_t value)
{
    uint8_t bytes[CHUNK_BYTES];

    memset(bytes, value, sizeof(bytes));
    EXPECT_OK(rescan_put(f->rescan, 0, chunk, value ? bytes : NULL, &err));
}

/* The segment as a picture of the disk: each chunk's first byte, 0xff where it says nothing. */
static void picture(struct fixture *f, uint8_t seen[CHUNKS + 1])
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/segment", f->dir);
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct segment_head head = {.group = "shop", .disk = "disk0", .point = 1};
    struct segment_info info;
    struct frame_view view;

    head.disk_size = f->disks.at[0].size;
    uuid_new(&head.uuid);
    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &f->key, &writer, &err));
    EXPECT_OK(rescan_write(f->rescan, 0, NULL, writer, &err));
    EXPECT_OK(segment_writer_finish(writer, &info, &err));
    memset(seen, 0xff, CHUNKS + 1);
    EXPECT_OK(segment_reader_open(path, &f->key, &reader, &err));
    for (;;) {
        EXPECT_OK(segment_reader_next(reader, &view, &err));
        if (view.extent_count == 0)
            break;
        const uint8_t *at = view.payload;
        for (size_t i = 0; i < view.extent_count; i++) {
            const struct extent *e = &view.extents[i];
            for (uint64_t off = e->off; off < e->off + e->len; off += 512)
                seen[off / CHUNK_BYTES] = e->zero ? 0 : at[off - e->off];
            at += e->zero ? 0 : e->len;
        }
    }
}

static void what_differs_becomes_a_segment_in_order(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint8_t seen[CHUNKS + 1];

    begin(&f, *state);
    put(&f, 30, 3);
    put(&f, 5, 1);
    put(&f, 6, 2);
    put(&f, 7, 0);
    put(&f, CHUNKS, 9);
    assert_int_equal(rescan_bytes(f.rescan, 0), 4 * CHUNK_BYTES + 512);
    picture(&f, seen);
    for (unsigned i = 0; i <= CHUNKS; i++)
        assert_int_equal(seen[i], i == 5    ? 1
                                  : i == 6  ? 2
                                  : i == 7  ? 0
                                  : i == 30 ? 3
                                  : i == 40 ? 9
                                            : 0xff);
}

static void a_later_find_replaces_an_earlier(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint8_t seen[CHUNKS + 1];

    begin(&f, *state);
    put(&f, 1, 1);
    put(&f, 1, 0);
    put(&f, 2, 0);
    put(&f, 2, 7);
    EXPECT_OK(rescan_sync(f.rescan, 0, &err));
    reopen(&f);
    picture(&f, seen);
    assert_int_equal(seen[1], 0);
    assert_int_equal(seen[2], 7);
    assert_int_equal(rescan_bytes(f.rescan, 0), 2 * CHUNK_BYTES);
}

static void what_was_synced_is_there_after_a_restart_and_no_more(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    put(&f, 3, 1);
    EXPECT_OK(rescan_sync(f.rescan, 0, &err));
    put(&f, 4, 1);
    reopen(&f);
    assert_true(rescan_has(f.rescan, 0, 3));
    assert_false(rescan_has(f.rescan, 0, 4));
}

static void a_torn_list_ends_where_it_is_torn(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *path = mem_printf("%s/rescan/disk0.list", (const char *)*state);

    begin(&f, *state);
    put(&f, 3, 1);
    EXPECT_OK(rescan_sync(f.rescan, 0, &err));
    put(&f, 4, 1);
    EXPECT_OK(rescan_sync(f.rescan, 0, &err));
    assert_int_equal(truncate(path, 31), 0);
    reopen(&f);
    assert_true(rescan_has(f.rescan, 0, 3));
    assert_false(rescan_has(f.rescan, 0, 4));
}

static void a_disk_scanned_anew_forgets_what_was_found(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    put(&f, 3, 1);
    EXPECT_OK(rescan_sync(f.rescan, 0, &err));
    EXPECT_OK(rescan_restart(f.rescan, 0, &err));
    assert_int_equal(rescan_bytes(f.rescan, 0), 0);
    reopen(&f);
    assert_false(rescan_has(f.rescan, 0, 3));
}

/* --- Blocks ---------------------------------------------------------------------------------- */

/* As `picture`, each block's first byte. */
static void blocks_picture(struct fixture *f, const struct source_extents *skip,
                           uint8_t seen[CHUNKS * CHUNK_BLOCKS + 1])
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/segment", f->dir);
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct segment_head head = {.group = "shop", .disk = "disk0", .point = 1};
    struct segment_info info;
    struct frame_view view;

    head.disk_size = f->disks.at[0].size;
    uuid_new(&head.uuid);
    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &f->key, &writer, &err));
    EXPECT_OK(rescan_write(f->rescan, 0, skip, writer, &err));
    EXPECT_OK(segment_writer_finish(writer, &info, &err));
    memset(seen, 0xff, CHUNKS * CHUNK_BLOCKS + 1);
    EXPECT_OK(segment_reader_open(path, &f->key, &reader, &err));
    for (;;) {
        EXPECT_OK(segment_reader_next(reader, &view, &err));
        if (view.extent_count == 0)
            break;
        const uint8_t *at = view.payload;
        for (size_t i = 0; i < view.extent_count; i++) {
            const struct extent *e = &view.extents[i];
            for (uint64_t off = e->off; off < e->off + e->len; off += BLOCK_BYTES)
                seen[off / BLOCK_BYTES] = e->zero ? 0 : at[off - e->off];
            at += e->zero ? 0 : e->len;
        }
    }
}

static void only_blocks_that_differ_are_written_also_after_a_restart(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint8_t seen[CHUNKS * CHUNK_BLOCKS + 1];
    size_t count;

    begin(&f, *state);
    put(&f, 7, 2);
    put(&f, 2, 1);
    put(&f, 7, 3);
    put(&f, 5, 0);
    CLEANUP(mem_freep) uint64_t *fresh = rescan_fresh(f.rescan, 0, &count);
    assert_int_equal(count, 2);
    assert_int_equal(fresh[0], 2);
    assert_int_equal(fresh[1], 7);
    rescan_narrow(f.rescan, 0, 2, 0x8001);
    rescan_narrow(f.rescan, 0, 7, 0x0010);
    EXPECT_OK(rescan_sync(f.rescan, 0, &err));
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(rescan_bytes(f.rescan, 0), 3 * BLOCK_BYTES + CHUNK_BYTES);
        blocks_picture(&f, NULL, seen);
        for (unsigned i = 0; i < CHUNKS * CHUNK_BLOCKS; i++)
            assert_int_equal(seen[i], i == 32 || i == 47      ? 1
                                      : i == 116              ? 3
                                      : i / CHUNK_BLOCKS == 5 ? 0
                                                              : 0xff);
        reopen(&f);
    }
    put(&f, 7, 4); /* found once more: all of it, until it is narrowed again */
    blocks_picture(&f, NULL, seen);
    assert_int_equal(seen[112], 4);
}

static void what_is_written_after_it_anyway_is_left_out(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(source_extents_free) struct source_extents skip = VEC_EMPTY;
    uint8_t seen[CHUNKS * CHUNK_BLOCKS + 1];

    begin(&f, *state);
    put(&f, 0, 1);
    put(&f, 1, 2);
    put(&f, 2, 0);
    put(&f, CHUNKS, 9);
    /* One block; the end of a chunk and the beginning of the next; half a block: that stays; the
     * disk's end. */
    *source_extents_push(&skip) = (struct source_extent){2 * BLOCK_BYTES, BLOCK_BYTES};
    *source_extents_push(&skip) = (struct source_extent){31 * BLOCK_BYTES, 3 * BLOCK_BYTES};
    *source_extents_push(&skip) = (struct source_extent){40 * BLOCK_BYTES, 512};
    *source_extents_push(&skip) = (struct source_extent){(uint64_t)CHUNKS * CHUNK_BYTES, 512};
    blocks_picture(&f, &skip, seen);
    for (unsigned i = 0; i < 3 * CHUNK_BLOCKS; i++)
        assert_int_equal(seen[i], i == 2 || (i >= 31 && i < 34) ? 0xff
                                  : i < 16                      ? 1
                                  : i < 32                      ? 2
                                                                : 0);
    assert_int_equal(seen[CHUNKS * CHUNK_BLOCKS], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(what_differs_becomes_a_segment_in_order),
        TMPDIR_TEST(a_later_find_replaces_an_earlier),
        TMPDIR_TEST(what_was_synced_is_there_after_a_restart_and_no_more),
        TMPDIR_TEST(a_torn_list_ends_where_it_is_torn),
        TMPDIR_TEST(a_disk_scanned_anew_forgets_what_was_found),
        TMPDIR_TEST(only_blocks_that_differ_are_written_also_after_a_restart),
        TMPDIR_TEST(what_is_written_after_it_anyway_is_left_out),
    };
    return cmocka_run_group_tests_name("rescan", tests, NULL, NULL);
}
