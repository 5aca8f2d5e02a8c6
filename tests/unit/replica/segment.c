// SPDX-License-Identifier: Apache-2.0
#include "replica/segment.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/bytes.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define DISK (16U * 1024U * 1024U)

static struct key key;

static struct segment_head head_of(void)
{
    struct segment_head head = {
        .group = "web",
        .disk = "vda",
        .disk_size = DISK,
        .generation = 3,
        .point = 17,
        .compression = COMPRESSION_ZSTD,
    };

    memset(head.parent.bytes, 0x5a, SHA256_BYTES);
    uuid_new(&head.uuid);
    return head;
}

static char *path_in(const char *dir)
{
    return path_join(dir, "segment");
}

static uint8_t *text_of(size_t len)
{
    uint8_t *bytes = mem_alloc(len, 1);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(1 + (i * 7 + i / 4096) % 200);
    return bytes;
}

/* 4 MiB of data at 1 MiB with a hole of zeros in it, and zeros at 12 MiB. */
static struct segment_info write_one(const char *path)
{
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(mem_freep) uint8_t *bytes = text_of(4U << 20);
    struct segment_head head = head_of();
    struct segment_info info;

    memset(bytes + 8192, 0, 65536);
    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    EXPECT_OK(segment_writer_data(writer, 1U << 20, bytes, 4U << 20, &err));
    EXPECT_OK(segment_writer_zero(writer, 12U << 20, 1U << 20, &err));
    EXPECT_OK(segment_writer_finish(writer, &info, &err));
    return info;
}

static void a_segment_gives_back_what_was_written(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    CLEANUP(mem_freep) uint8_t *want = mem_alloc(DISK, 1);
    CLEANUP(mem_freep) uint8_t *have = mem_alloc(DISK, 1);
    CLEANUP(mem_freep) uint8_t *bytes = text_of(4U << 20);
    struct frame_view view;
    uint64_t zeros = 0;

    struct segment_info info = write_one(path);
    memcpy(want + (1U << 20), bytes, 4U << 20);
    memset(want + (1U << 20) + 8192, 0, 65536);
    EXPECT_OK(segment_reader_open(path, &key, &reader, &err));
    for (;;) {
        EXPECT_OK(segment_reader_next(reader, &view, &err));
        if (view.extent_count == 0)
            break;
        const uint8_t *at = view.payload;
        for (size_t i = 0; i < view.extent_count; i++) {
            const struct extent *extent = &view.extents[i];
            zeros += extent->zero ? extent->len : 0;
            if (extent->zero)
                continue;
            memcpy(have + extent->off, at, (size_t)extent->len);
            at += extent->len;
        }
    }
    assert_memory_equal(have, want, DISK);
    assert_int_equal(zeros, 65536 + (1U << 20));
    assert_int_equal(info.zero_bytes, zeros);
    assert_int_equal(info.data_bytes, (4U << 20) - 65536);
    assert_int_equal(segment_reader_head(reader)->point, 17);
    assert_string_equal(segment_reader_head(reader)->disk, "vda");
}

static void blocks_of_zeros_do_not_travel(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(mem_freep) uint8_t *zeros = mem_alloc(4U << 20, 1);
    struct segment_head head = head_of();
    struct segment_info info;

    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    EXPECT_OK(segment_writer_data(writer, 0, zeros, 4U << 20, &err));
    EXPECT_OK(segment_writer_finish(writer, &info, &err));
    assert_int_equal(info.data_bytes, 0);
    assert_int_equal(info.extent_count, 1);
    assert_true(info.bytes < 1024);
}

static void an_empty_segment_can_be_read(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct segment_head head = head_of();
    struct segment_info info;
    struct frame_view view;

    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    EXPECT_OK(segment_writer_finish(writer, &info, &err));
    EXPECT_OK(segment_check(path, &head, &info, &err));
    EXPECT_OK(segment_reader_open(path, &key, &reader, &err));
    EXPECT_OK(segment_reader_next(reader, &view, &err));
    assert_int_equal(view.extent_count, 0);
}

static void extents_out_of_order_or_beyond_the_disk_are_refused(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(mem_freep) uint8_t *bytes = text_of(8192);
    struct segment_head head = head_of();

    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    EXPECT_OK(segment_writer_data(writer, 8192, bytes, 8192, &err));
    EXPECT_ERR(ERR_INVALID, segment_writer_data(writer, 12288, bytes, 4096, &err));
    EXPECT_ERR(ERR_INVALID, segment_writer_data(writer, 16484, bytes, 4096, &err));
    EXPECT_ERR(ERR_INVALID, segment_writer_zero(writer, DISK - 4096, 8192, &err));
    EXPECT_TEXT("beyond the disk's 16777216");
}

static void a_segment_that_was_not_finished_leaves_nothing(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    struct segment_writer *writer;
    struct segment_head head = head_of();

    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    segment_writer_free(writer);
    EXPECT_OK(fs_list(*dir, &names, &err));
    assert_int_equal(names.len, 0);
}

static void a_full_disk_is_said_and_leaves_nothing(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(mem_freep) uint8_t *bytes = text_of(2U << 20);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    struct segment_writer *writer;
    struct segment_head head = head_of();

    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    fault_arm("fs.pwrite", 0, ENOSPC);
    EXPECT_ERR(ERR_SPACE, segment_writer_data(writer, 0, bytes, 2U << 20, &err));
    fault_clear();
    segment_writer_free(writer);
    EXPECT_OK(fs_list(*dir, &names, &err));
    assert_int_equal(names.len, 0);
}

static void a_failed_sync_fails_the_segment(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    struct segment_head head = head_of();
    struct segment_info info;

    EXPECT_OK(segment_writer_open(fs_real(), path, &head, &key, &writer, &err));
    fault_arm("fs.sync", 0, EIO);
    EXPECT_ERR(ERR_IO, segment_writer_finish(writer, &info, &err));
    fault_clear();
    EXPECT_ERR(ERR_STATE, segment_writer_finish(writer, &info, &err));
    assert_false(fs_exists(path));
}

static void flip(const char *path, off_t at)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void no_flipped_byte_passes_the_check(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    struct segment_head head;
    struct segment_info info = write_one(path);
    off_t size = (off_t)info.bytes;

    for (off_t at = 0; at < size; at += at < 300 || at > size - 300 ? 1 : 1499) {
        flip(path, at);
        err_clear(&err);
        assert_int_equal(segment_check(path, &head, &info, &err), -1);
        assert_true(err.code == ERR_CORRUPT || err.code == ERR_UNSUPPORTED);
        flip(path, at);
    }
    EXPECT_OK(segment_check(path, &head, &info, &err));
}

static void a_segment_cut_short_is_corrupt(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    struct segment_head head;
    struct segment_info info = write_one(path);

    for (off_t len = (off_t)info.bytes - 1; len >= 0; len -= len > 600 ? 997 : 1) {
        assert_int_equal(truncate(path, len), 0);
        EXPECT_ERR(ERR_CORRUPT, segment_check(path, &head, &info, &err));
    }
}

static void a_damaged_frame_is_found_when_it_is_read(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct frame_view view;

    (void)write_one(path);
    flip(path, 400);
    EXPECT_OK(segment_reader_open(path, &key, &reader, &err));
    EXPECT_ERR(ERR_CORRUPT, segment_reader_next(reader, &view, &err));
    EXPECT_TEXT("segment");
}

/* Undo is saved for what the index says; frames that say more would go unsaved. */
static void an_index_that_says_less_than_the_frames_is_refused(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    CLEANUP(fd_close) int fd = -1;
    struct frame_view view;
    struct segment_info info = write_one(path);
    uint8_t footer[128];

    fd = open(path, O_RDWR | O_CLOEXEC);
    off_t footer_off = (off_t)info.bytes - 128;
    assert_int_equal(pread(fd, footer, 128, footer_off), 128);
    off_t index_off = (off_t)get_u64(footer + 8);
    size_t index_len = (size_t)(footer_off - index_off);
    CLEANUP(mem_freep) uint8_t *index = mem_alloc(index_len, 1);
    assert_int_equal(pread(fd, index, index_len, index_off), (ssize_t)index_len);
    put_u64(index + 8, get_u64(index + 8) - 4096);
    put_u32(footer + 80, crc32c(0, index, index_len));
    put_u32(footer + 124, crc32c(0, footer, 124));
    assert_int_equal(pwrite(fd, index, index_len, index_off), (ssize_t)index_len);
    assert_int_equal(pwrite(fd, footer, 128, footer_off), 128);
    EXPECT_OK(segment_reader_open(path, &key, &reader, &err));
    EXPECT_ERR(ERR_CORRUPT, segment_reader_next(reader, &view, &err));
    EXPECT_TEXT("disagree");
}

static void another_groups_key_opens_nothing(void **dir)
{
    CLEANUP(mem_freep) char *path = path_in(*dir);
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct frame_view view;
    struct key other;

    (void)write_one(path);
    key_new(&other);
    EXPECT_OK(segment_reader_open(path, &other, &reader, &err));
    EXPECT_ERR(ERR_CORRUPT, segment_reader_next(reader, &view, &err));
}

static int make_key(void **state)
{
    (void)state;
    key_new(&key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_segment_gives_back_what_was_written),
        TMPDIR_TEST(blocks_of_zeros_do_not_travel),
        TMPDIR_TEST(an_empty_segment_can_be_read),
        TMPDIR_TEST(extents_out_of_order_or_beyond_the_disk_are_refused),
        TMPDIR_TEST(a_segment_that_was_not_finished_leaves_nothing),
        TMPDIR_TEST(a_full_disk_is_said_and_leaves_nothing),
        TMPDIR_TEST(a_failed_sync_fails_the_segment),
        TMPDIR_TEST(no_flipped_byte_passes_the_check),
        TMPDIR_TEST(a_segment_cut_short_is_corrupt),
        TMPDIR_TEST(a_damaged_frame_is_found_when_it_is_read),
        TMPDIR_TEST(an_index_that_says_less_than_the_frames_is_refused),
        TMPDIR_TEST(another_groups_key_opens_nothing),
    };
    return cmocka_run_group_tests_name("segment", tests, make_key, NULL);
}
