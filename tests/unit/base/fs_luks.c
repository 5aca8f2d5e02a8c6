// SPDX-License-Identifier: Apache-2.0
/* A container as a file, and what QEMU's own driver says of it. */
#include "base/fs_luks.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE ((UINT64_C(1) << 20) - UINT64_C(3) * 512) /* ends in the middle of a chunk */

struct box {
    char *root;
    char *path;
    char *key;
    struct uuid uuid;
    struct fs *fs;
    int fd;
    uint8_t *bytes; /* what is to be in it */
};

static void open_box(struct box *b)
{
    b->fs = fs_luks_new(fs_real());
    fs_luks_map(b->fs, b->path, b->key, &b->uuid);
    EXPECT_OK(b->fs->open(b->fs, b->path, O_RDWR, 0, &b->fd, &err));
}

static void close_box(struct box *b)
{
    if (b->fd >= 0)
        (void)b->fs->close(b->fs, b->fd);
    b->fd = -1;
    fs_luks_free(b->fs);
    b->fs = NULL;
}

static int setup(void **state)
{
    struct box *b = mem_new(struct box);
    struct luks_secret secret;
    void *root;

    if (tmpdir_setup(&root) < 0)
        return -1;
    b->root = root;
    b->path = mem_printf("%s/disk.luks", b->root);
    b->key = mem_printf("%s/key", b->root);
    b->bytes = mem_alloc(SIZE, 1);
    luks_secret_new(&secret);
    uuid_new(&b->uuid);
    EXPECT_OK(luks_secret_write(b->key, &secret, &err));
    EXPECT_OK(fs_luks_create(fs_real(), b->path, b->key, &b->uuid, SIZE, &err));
    open_box(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct box *b = *state;
    void *root = b->root;

    close_box(b);
    free(b->path);
    free(b->key);
    free(b->bytes);
    free(b);
    return tmpdir_teardown(&root);
}
#define BOX_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void put(struct box *b, uint64_t off, size_t len, uint8_t first)
{
    for (size_t i = 0; i < len; i++)
        b->bytes[off + i] = (uint8_t)(first + i * 7 + i / 512);
    EXPECT_OK(b->fs->pwrite(b->fs, b->fd, b->bytes + off, len, off, &err));
}

static void punch(struct box *b, uint64_t off, uint64_t len)
{
    memset(b->bytes + off, 0, len);
    EXPECT_OK(b->fs->punch(b->fs, b->fd, off, len, &err));
}

static void expect_content(struct box *b)
{
    CLEANUP(mem_freep) uint8_t *have = mem_alloc(SIZE, 1);

    EXPECT_OK(b->fs->pread(b->fs, b->fd, have, SIZE, 0, &err));
    assert_memory_equal(have, b->bytes, SIZE);
}

static uint64_t blocks(const struct box *b)
{
    struct stat st;

    assert_int_equal(stat(b->path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* 0: the same. */
static int compare_by_qemu(struct box *b)
{
    CLEANUP(mem_freep) char *plain = mem_printf("%s/plain", b->root);
    CLEANUP(mem_freep) char *secret = mem_printf("secret,id=s,file=%s,format=raw", b->key);
    CLEANUP(mem_freep)
    char *luks = mem_printf("driver=luks,key-secret=s,file.filename=%s", b->path);
    CLEANUP(mem_freep) char *raw = mem_printf("driver=raw,file.filename=%s", plain);
    const char *const argv[] = {"qemu-img",     "compare", "--object", secret,
                                "--image-opts", luks,      raw,        NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str said = STR_EMPTY;
    int status;

    EXPECT_OK(fs_replace_file(fs_real(), plain, b->bytes, SIZE, 0600, &err));
    EXPECT_OK(proc_run(&spec, 4096, &said, &status, NULL, &err));
    return status;
}

static void fill(struct box *b, uint64_t *ret_written)
{
    EXPECT_OK(fs_luks_fill(b->fs, b->fd, 0, SIZE, ret_written, &err));
}

static void what_is_written_is_read_and_never_written_is_zeros(void **state)
{
    struct box *b = *state;
    uint8_t odd[1500];

    assert_int_equal(lseek(b->fd, 0, SEEK_END), SIZE);
    put(b, 0, 512, 1);
    put(b, 3 * 512, 4096, 2);
    put(b, 700 * 512, 300 * 1024, 3); /* more than one piece */
    put(b, SIZE - 512, 512, 4);
    expect_content(b);
    close_box(b);
    open_box(b);
    expect_content(b);
    EXPECT_OK(b->fs->pread(b->fs, b->fd, odd, sizeof(odd), 1301, &err));
    assert_memory_equal(odd, b->bytes + 1301, sizeof(odd));
    EXPECT_OK(b->fs->pread(b->fs, b->fd, odd, 3, 509, &err));
    assert_memory_equal(odd, b->bytes + 509, 3);
    EXPECT_ERR(ERR_CORRUPT, b->fs->pread(b->fs, b->fd, odd, 513, SIZE - 512, &err));
    EXPECT_ERR(ERR_CORRUPT, b->fs->pwrite(b->fs, b->fd, b->bytes, 1024, SIZE - 512, &err));
    EXPECT_ERR(ERR_INVALID, b->fs->pwrite(b->fs, b->fd, b->bytes, 100, 0, &err));
    EXPECT_TEXT("disk.luks: 100 bytes at 0 are not whole sectors");
}

static void no_plain_byte_is_in_the_file(void **state)
{
    struct box *b = *state;
    CLEANUP(str_free) struct str file = STR_EMPTY;

    memset(b->bytes, 'M', SIZE);
    EXPECT_OK(b->fs->pwrite(b->fs, b->fd, b->bytes, SIZE, 0, &err));
    EXPECT_OK(fs_read_file(fs_real(), b->path, SIZE_MAX / 2, &file, &err));
    assert_null(memmem(file.ptr, file.len, "MMMMMMMM", 8));
}

static void qemu_reads_the_same_once_it_is_filled(void **state)
{
    struct box *b = *state;
    uint64_t written;

    put(b, 5 * 512, 4096 + 512, 1);
    put(b, 400 * 1024, 64 * 1024, 2);
    assert_int_not_equal(compare_by_qemu(b), 0); /* holes are no zeros to it */
    fill(b, &written);
    assert_int_equal(written, SIZE - (4096 + 512) - 64 * 1024);
    expect_content(b);
    assert_int_equal(compare_by_qemu(b), 0);
    fill(b, &written);
    assert_int_equal(written, 0);
}

static void zeros_are_sealed_and_make_holes_only_where_they_may(void **state)
{
    struct box *b = *state;
    uint64_t written, before;

    put(b, 0, SIZE, 1);
    punch(b, 1000 * 512, 200 * 1024);
    assert_int_equal(compare_by_qemu(b), 0);
    before = blocks(b);
    fs_luks_holes(b->fs, b->fd, true);
    punch(b, 100 * 512, 400 * 1024);
    expect_content(b);
    assert_true(blocks(b) + 256 * 1024 < before);
    fill(b, &written);
    assert_true(written >= 256 * 1024 && written <= 400 * 1024);
    assert_int_equal(compare_by_qemu(b), 0);
    expect_content(b);
}

static void zeros_over_zeros_are_not_written_again(void **state)
{
    struct box *b = *state;
    struct stat before, after;
    uint64_t written;

    fill(b, &written);
    assert_int_equal(stat(b->path, &before), 0);
    (void)usleep(20000); /* the kernel's clock of files moves every 4 ms */
    punch(b, 0, SIZE);
    assert_int_equal(stat(b->path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
}

static void a_container_grows_by_sealed_zeros(void **state)
{
    struct box *b = *state;
    CLEANUP(mem_freep) uint8_t *have = mem_alloc(128 * 1024, 1);
    CLEANUP(mem_freep) uint8_t *zeros = mem_alloc(128 * 1024, 1);
    uint64_t written;

    put(b, 0, SIZE, 1);
    EXPECT_OK(b->fs->truncate(b->fs, b->fd, SIZE + 128 * 1024, &err));
    assert_int_equal(lseek(b->fd, 0, SEEK_END), SIZE + 128 * 1024);
    EXPECT_OK(b->fs->pread(b->fs, b->fd, have, 128 * 1024, SIZE, &err));
    assert_memory_equal(have, zeros, 128 * 1024);
    EXPECT_OK(fs_luks_fill(b->fs, b->fd, 0, SIZE + 128 * 1024, &written, &err));
    assert_int_equal(written, 0);
    expect_content(b);
}

static void a_missing_or_wrong_key_and_another_disks_container_are_told(void **state)
{
    struct box *b = *state;
    struct luks_secret other;
    struct uuid another;
    int fd;

    close_box(b);
    uuid_new(&another);
    b->fs = fs_luks_new(fs_real());
    fs_luks_map(b->fs, b->path, b->key, &another);
    EXPECT_ERR(ERR_CORRUPT, b->fs->open(b->fs, b->path, O_RDWR, 0, &fd, &err));
    EXPECT_TEXT("disk.luks: a LUKS container, but not the one of this disk");
    fs_luks_map(b->fs, b->path, b->key, NULL);
    (void)unlink(b->key);
    EXPECT_ERR(ERR_AUTH, b->fs->open(b->fs, b->path, O_RDWR, 0, &fd, &err));
    EXPECT_TEXT("the key of ");
    luks_secret_new(&other);
    EXPECT_OK(luks_secret_write(b->key, &other, &err));
    EXPECT_ERR(ERR_AUTH, b->fs->open(b->fs, b->path, O_RDWR, 0, &fd, &err));
}

static void one_that_is_there_is_not_made_again(void **state)
{
    struct box *b = *state;

    put(b, 0, 4096, 9);
    EXPECT_OK(fs_luks_create(fs_real(), b->path, b->key, &b->uuid, SIZE, &err));
    close_box(b);
    open_box(b);
    expect_content(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOX_TEST(what_is_written_is_read_and_never_written_is_zeros),
        BOX_TEST(no_plain_byte_is_in_the_file),
        BOX_TEST(qemu_reads_the_same_once_it_is_filled),
        BOX_TEST(zeros_are_sealed_and_make_holes_only_where_they_may),
        BOX_TEST(zeros_over_zeros_are_not_written_again),
        BOX_TEST(a_container_grows_by_sealed_zeros),
        BOX_TEST(a_missing_or_wrong_key_and_another_disks_container_are_told),
        BOX_TEST(one_that_is_there_is_not_made_again),
    };
    return cmocka_run_group_tests_name("fs_luks", tests, NULL, NULL);
}
