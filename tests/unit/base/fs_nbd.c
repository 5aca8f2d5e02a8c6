// SPDX-License-Identifier: Apache-2.0
/* A real qcow2 file behind a real qemu-nbd. */
#include "base/fs_nbd.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SIZE (UINT64_C(24) << 20)

struct served {
    char *root;
    char *disk;
    char *socket;
    struct proc_id server;
    struct fs *fs;
};

/* The socket is there a moment before somebody listens on it. */
static bool listens(const char *path)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    return connect(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) == 0;
}

static void serve(struct served *s)
{
    const char *const argv[] = {"qemu-nbd", "--persistent", "--format", "qcow2",
                                "--socket", s->socket,      s->disk,    NULL};
    const struct proc_spec spec = {.argv = argv};
    int status;

    EXPECT_OK(proc_spawn_child(&spec, &s->server, &err));
    while (!listens(s->socket))
        if (!proc_is_alive(&s->server)) {
            proc_reap(&s->server, &status);
            fail_msg("qemu-nbd ended with %d", status);
        }
}

static void end_server(struct served *s)
{
    int status;

    proc_reap(&s->server, &status);
    (void)unlink(s->socket);
}

static int setup(void **state)
{
    struct served *s = mem_new(struct served);
    void *root;

    if (tmpdir_setup(&root) < 0)
        return -1;
    s->root = root;
    s->disk = mem_printf("%s/disk.qcow2", s->root);
    s->socket = mem_printf("%s/sock", s->root);
    const char *const make[] = {"qemu-img", "create", "-q", "-f", "qcow2", s->disk, "24M", NULL};
    EXPECT_OK(proc_must(make, NULL, &err));
    s->fs = fs_nbd_new(fs_real());
    fs_nbd_map(s->fs, s->disk, s->socket);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct served *s = *state;
    void *root = s->root;

    fs_nbd_free(s->fs);
    free(s->disk);
    free(s->socket);
    free(s);
    return tmpdir_teardown(&root);
}

static void what_is_written_is_in_the_image(void **state)
{
    struct served *s = *state;
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(SIZE, 1);
    CLEANUP(mem_freep) uint8_t *back = mem_alloc(SIZE, 1);
    CLEANUP(mem_freep) char *raw = mem_printf("%s/raw", s->root);
    int fd;

    serve(s);
    EXPECT_OK(s->fs->open(s->fs, s->disk, O_RDWR, 0, &fd, &err));
    assert_int_equal(lseek(fd, 0, SEEK_END), SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 31 >> 7);
    EXPECT_OK(s->fs->pwrite(s->fs, fd, bytes, SIZE, 0, &err)); /* more than one request */
    EXPECT_OK(s->fs->punch(s->fs, fd, 65536, UINT64_C(9) << 20, &err));
    memset(bytes + 65536, 0, (size_t)9 << 20);
    EXPECT_OK(s->fs->sync(s->fs, fd, &err));
    EXPECT_OK(s->fs->pread(s->fs, fd, back, SIZE, 0, &err));
    assert_memory_equal(back, bytes, SIZE);
    assert_int_equal(s->fs->close(s->fs, fd), 0);
    end_server(s);
    const char *const convert[] = {"qemu-img", "convert", "-O", "raw", s->disk, raw, NULL};
    EXPECT_OK(proc_must(convert, NULL, &err));
    EXPECT_OK(fs_real()->open(fs_real(), raw, O_RDONLY, 0, &fd, &err));
    EXPECT_OK(fs_real()->pread(fs_real(), fd, back, SIZE, 0, &err));
    assert_memory_equal(back, bytes, SIZE);
    (void)close(fd);
}

static void a_server_that_dies_is_an_error_until_it_is_opened_again(void **state)
{
    struct served *s = *state;
    uint8_t byte = 7;
    int fd;

    serve(s);
    EXPECT_OK(s->fs->open(s->fs, s->disk, O_RDWR, 0, &fd, &err));
    end_server(s);
    EXPECT_ERR(ERR_IO, s->fs->pwrite(s->fs, fd, &byte, 1, 0, &err));
    EXPECT_TEXT(s->disk);
    EXPECT_ERR(ERR_IO, s->fs->pread(s->fs, fd, &byte, 1, 0, &err));
    EXPECT_ERR(ERR_IO, s->fs->sync(s->fs, fd, &err));
    serve(s);
    EXPECT_ERR(ERR_IO, s->fs->sync(s->fs, fd, &err)); /* what it lost is not known */
    assert_int_equal(s->fs->close(s->fs, fd), 0);
    EXPECT_OK(s->fs->open(s->fs, s->disk, O_RDWR, 0, &fd, &err));
    EXPECT_OK(s->fs->pread(s->fs, fd, &byte, 1, 0, &err));
    assert_int_equal(byte, 0);
    assert_int_equal(s->fs->close(s->fs, fd), 0);
    end_server(s);
}

static void other_files_go_on_below(void **state)
{
    struct served *s = *state;
    CLEANUP(mem_freep) char *path = mem_printf("%s/plain", s->root);
    CLEANUP(mem_freep) char *other = mem_printf("%s/other", s->root);
    int fd;

    EXPECT_OK(s->fs->open(s->fs, path, O_RDWR | O_CREAT, 0600, &fd, &err));
    EXPECT_OK(s->fs->pwrite(s->fs, fd, "x", 1, 0, &err));
    EXPECT_OK(s->fs->truncate(s->fs, fd, 4096, &err));
    EXPECT_OK(s->fs->punch(s->fs, fd, 0, 4096, &err));
    EXPECT_OK(s->fs->sync(s->fs, fd, &err));
    assert_int_equal(s->fs->close(s->fs, fd), 0);
    EXPECT_OK(s->fs->rename(s->fs, path, other, &err));
    EXPECT_OK(s->fs->sync_dir(s->fs, s->root, &err));
    EXPECT_OK(s->fs->unlink(s->fs, other, &err));
    EXPECT_ERR(ERR_IO, s->fs->open(s->fs, s->disk, O_RDWR, 0, &fd, &err)); /* nobody serves it */
}

#define SERVED_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED_TEST(what_is_written_is_in_the_image),
        SERVED_TEST(a_server_that_dies_is_an_error_until_it_is_opened_again),
        SERVED_TEST(other_files_go_on_below),
    };
    return cmocka_run_group_tests_name("fs_nbd", tests, NULL, NULL);
}
