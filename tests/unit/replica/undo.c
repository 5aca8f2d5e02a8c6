// SPDX-License-Identifier: Apache-2.0
#include "replica/undo.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/chunk.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define DISK (40U * CHUNK_BYTES + 4096U)

static struct key key;
static const struct undo_head head = {"vda", DISK, 7};

static void chunk_of(uint64_t chunk, uint8_t *ret_bytes)
{
    for (size_t i = 0; i < CHUNK_BYTES; i++)
        ret_bytes[i] = (uint8_t)(chunk == 5 ? 0 : 1 + (i * (chunk + 3) + i / 512) % 190);
}

/* Chunks 3, 5 (zeros) and the last one, which is short. */
static const uint64_t saved[] = {3, 5, 40};

static char *write_one(const char *dir)
{
    char *path = path_join(dir, "00000000000000000007");
    CLEANUP(undo_writer_freep) struct undo_writer *writer = NULL;
    uint8_t bytes[CHUNK_BYTES];

    EXPECT_OK(undo_writer_open(fs_real(), path, &head, &key, &writer, &err));
    for (size_t i = 0; i < ARRAY_LEN(saved); i++) {
        chunk_of(saved[i], bytes);
        EXPECT_OK(undo_writer_add(writer, saved[i], bytes, chunk_len(DISK, saved[i]), &err));
    }
    EXPECT_OK(undo_writer_finish(writer, &err));
    return path;
}

static int read_all(const char *path)
{
    CLEANUP(undo_freep) struct undo *undo = NULL;
    uint8_t have[CHUNK_BYTES];
    uint8_t want[CHUNK_BYTES];

    if (undo_open(path, &undo, &err) < 0)
        return -1;
    CLEANUP(frame_coder_freep) struct frame_coder *coder = undo_coder_new(&key, &undo->uuid);
    assert_int_equal(undo->row_count, ARRAY_LEN(saved));
    assert_int_equal(undo->point, 7);
    for (size_t i = 0; i < undo->row_count; i++) {
        if (undo_record_read(undo->fd, path, coder, &undo->rows[i], DISK, have, &err) < 0)
            return -1;
        assert_int_equal(undo->rows[i].chunk, saved[i]);
        chunk_of(saved[i], want);
        assert_memory_equal(have, want, chunk_len(DISK, saved[i]));
    }
    return 0;
}

static void what_was_saved_is_read_back(void **dir)
{
    CLEANUP(mem_freep) char *path = write_one(*dir);

    EXPECT_OK(read_all(path));
}

static void an_unfinished_file_does_not_stay(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "7");
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    struct undo_writer *writer;

    EXPECT_OK(undo_writer_open(fs_real(), path, &head, &key, &writer, &err));
    undo_writer_free(writer);
    EXPECT_OK(fs_list(*dir, &names, &err));
    assert_int_equal(names.len, 0);
}

static void a_file_that_could_not_be_synced_is_not_there(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "7");
    CLEANUP(undo_writer_freep) struct undo_writer *writer = NULL;

    EXPECT_OK(undo_writer_open(fs_real(), path, &head, &key, &writer, &err));
    fault_arm("fs.sync", 0, EIO);
    EXPECT_ERR(ERR_IO, undo_writer_finish(writer, &err));
    fault_clear();
    assert_false(fs_exists(path));
}

static void no_flipped_byte_gets_through(void **dir)
{
    CLEANUP(mem_freep) char *path = write_one(*dir);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t size = lseek(fd, 0, SEEK_END);

    for (off_t at = 0; at < size; at += at < 300 || at > size - 300 ? 1 : 7) {
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        uint8_t changed = byte ^ 0x20;
        assert_int_equal(pwrite(fd, &changed, 1, at), 1);
        err_clear(&err);
        assert_int_equal(read_all(path), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        EXPECT_TEXT(path);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    EXPECT_OK(read_all(path));
}

static void a_file_cut_anywhere_is_corrupt(void **dir)
{
    CLEANUP(mem_freep) char *path = write_one(*dir);
    CLEANUP(undo_freep) struct undo *undo = NULL;
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);

    for (off_t len = lseek(fd, 0, SEEK_END) - 1; len >= 0; len -= len > 400 ? 199 : 1) {
        assert_int_equal(ftruncate(fd, len), 0);
        EXPECT_ERR(ERR_CORRUPT, undo_open(path, &undo, &err));
    }
}

static void another_key_opens_nothing(void **dir)
{
    CLEANUP(mem_freep) char *path = write_one(*dir);
    struct key right = key;

    key_new(&key);
    EXPECT_ERR(ERR_CORRUPT, read_all(path));
    EXPECT_TEXT("chunk 3");
    key = right;
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
        TMPDIR_TEST(what_was_saved_is_read_back),
        TMPDIR_TEST(an_unfinished_file_does_not_stay),
        TMPDIR_TEST(a_file_that_could_not_be_synced_is_not_there),
        TMPDIR_TEST(no_flipped_byte_gets_through),
        TMPDIR_TEST(a_file_cut_anywhere_is_corrupt),
        TMPDIR_TEST(another_key_opens_nothing),
    };
    return cmocka_run_group_tests_name("undo", tests, make_key, NULL);
}
