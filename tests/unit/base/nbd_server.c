// SPDX-License-Identifier: Apache-2.0
/* Real servers of real images. */
#include "base/nbd_server.h"

#include "base/fs_nbd.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct scene {
    char *root;
    char *run;
    char *disk;
    struct nbd_server server;
};

static int setup(void **state)
{
    struct scene *s = mem_new(struct scene);
    void *root;

    if (tmpdir_setup(&root) < 0)
        return -1;
    s->root = root;
    s->run = path_join(s->root, "run/nbd");
    s->disk = path_join(s->root, "disk.qcow2");
    s->server = (struct nbd_server){s->run, s->disk, "qcow2", false, NULL};
    const char *const make[] = {"qemu-img", "create", "-q", "-f", "qcow2", s->disk, "24M", NULL};
    EXPECT_OK(proc_must(make, NULL, &err));
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    void *root = s->root;

    EXPECT_OK(nbd_server_end(&s->server, &err));
    free(s->run);
    free(s->disk);
    free(s);
    return tmpdir_teardown(&root);
}

/* From its pid file; 0: it has none. In any thread. */
static pid_t pid_of(const char *socket)
{
    CLEANUP(mem_freep) char *path = mem_strdup(socket);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err why = ERR_EMPTY;

    (void)strcpy(strrchr(path, '.'), ".pid"); /* one shorter than ".sock" */
    if (fs_read_file(fs_real(), path, 64, &text, &why) < 0)
        return 0;
    return (pid_t)strtol(text.ptr, NULL, 10);
}

static int kill_server(const char *socket)
{
    pid_t pid = pid_of(socket);

    return pid > 0 ? kill(pid, SIGKILL) : -1; /* 0 would be ourselves */
}

static void one_is_started_and_found_again(void **state)
{
    struct scene *s = *state;
    CLEANUP(mem_freep) char *socket = NULL;
    CLEANUP(mem_freep) char *again = NULL;

    EXPECT_OK(nbd_server_end(&s->server, &err)); /* none, nor its folder */
    EXPECT_OK(nbd_server_need(&s->server, &socket, &err));
    pid_t pid = pid_of(socket);
    assert_true(pid > 0);
    EXPECT_OK(nbd_server_need(&s->server, &again, &err));
    assert_string_equal(again, socket);
    assert_int_equal(pid_of(again), pid);
    struct proc_id id;
    EXPECT_OK(proc_identify(pid, &id, &err));
    EXPECT_OK(nbd_server_end(&s->server, &err));
    assert_false(proc_is_alive(&id));
    assert_int_equal(access(socket, F_OK), -1);
    EXPECT_OK(nbd_server_end(&s->server, &err));
}

static void *need_one(void *arg)
{
    struct scene *s = arg;
    struct err why = ERR_EMPTY;
    char *socket;

    if (nbd_server_need(&s->server, &socket, &why) < 0)
        return NULL;
    pid_t pid = pid_of(socket);
    free(socket);
    return (void *)(intptr_t)pid;
}

static void many_who_need_one_get_the_same(void **state)
{
    struct scene *s = *state;
    pthread_t threads[8];
    void *pids[8];

    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, need_one, s), 0);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_join(threads[i], &pids[i]), 0);
    assert_non_null(pids[0]);
    for (size_t i = 1; i < 8; i++)
        assert_ptr_equal(pids[i], pids[0]);
}

static void a_pid_that_is_used_by_another_is_not_believed(void **state)
{
    struct scene *s = *state;
    CLEANUP(mem_freep) char *socket = NULL;
    CLEANUP(mem_freep) char *again = NULL;
    char mine[32];

    EXPECT_OK(nbd_server_need(&s->server, &socket, &err));
    pid_t pid = pid_of(socket);
    struct proc_id id;
    EXPECT_OK(proc_identify(pid, &id, &err));
    EXPECT_OK(proc_end(&id, 0, NULL, &err));
    CLEANUP(mem_freep) char *path = mem_strdup(socket);
    (void)strcpy(strrchr(path, '.'), ".pid");
    (void)snprintf(mine, sizeof(mine), "%d\n", (int)getpid());
    EXPECT_OK(fs_replace_file(fs_real(), path, mine, strlen(mine), 0600, &err));
    EXPECT_OK(nbd_server_need(&s->server, &again, &err));
    assert_int_not_equal(pid_of(again), getpid());
    assert_int_not_equal(pid_of(again), pid);
}

static void what_cannot_be_served_is_said(void **state)
{
    struct scene *s = *state;
    char *socket;
    char deep[200];

    const struct nbd_server none = {s->run, "/nonexistent/disk", "qcow2", false, NULL};
    EXPECT_ERR(ERR_IO, nbd_server_need(&none, &socket, &err));
    EXPECT_TEXT("serve /nonexistent/disk");
    EXPECT_TEXT("No such file");
    const struct nbd_server other = {s->run, s->disk, "vmdk", false, NULL};
    EXPECT_ERR(ERR_IO, nbd_server_need(&other, &socket, &err));
    (void)snprintf(deep, sizeof(deep), "%s/%0120d", s->root, 1);
    const struct nbd_server too_deep = {deep, s->disk, "qcow2", false, NULL};
    EXPECT_ERR(ERR_INVALID, nbd_server_need(&too_deep, &socket, &err));
    EXPECT_TEXT("a shorter run folder");
}

/* Its last client leaves, and the next one comes at once, over and over. */
static void a_disk_opened_and_closed_over_and_over_keeps_what_was_synced(void **state)
{
    struct scene *s = *state;
    struct fs *fs = fs_nbd_new(fs_real());
    uint64_t have;
    int fd;

    fs_nbd_serve(fs, s->disk, "qcow2", s->run);
    for (uint64_t i = 0; i < 40; i++) {
        EXPECT_OK(fs->open(fs, s->disk, O_RDWR, 0, &fd, &err));
        EXPECT_OK(fs->pread(fs, fd, &have, sizeof(have), 70000, &err));
        assert_int_equal(have, i);
        have++;
        EXPECT_OK(fs->pwrite(fs, fd, &have, sizeof(have), 70000, &err));
        EXPECT_OK(fs->sync(fs, fd, &err));
        assert_int_equal(fs->close(fs, fd), 0);
    }
    fs_nbd_free(fs);
}

static void who_only_reads_finds_the_next_server(void **state)
{
    struct scene *s = *state;
    struct fs *fs = fs_nbd_new(fs_real());
    CLEANUP(mem_freep) char *socket = NULL;
    uint8_t byte;
    int reads;
    int writes;

    fs_nbd_serve(fs, s->disk, "qcow2", s->run);
    EXPECT_OK(fs->open(fs, s->disk, O_RDONLY, 0, &reads, &err));
    EXPECT_OK(fs->open(fs, s->disk, O_RDWR, 0, &writes, &err));
    EXPECT_OK(nbd_server_need(&s->server, &socket, &err));
    assert_int_equal(kill_server(socket), 0);
    EXPECT_OK(fs->pread(fs, reads, &byte, 1, 0, &err));
    EXPECT_ERR(ERR_IO, fs->pread(fs, writes, &byte, 1, 0, &err));
    EXPECT_OK(fs->pread(fs, reads, &byte, 1, 0, &err));
    assert_int_equal(fs->close(fs, writes), 0);
    EXPECT_OK(nbd_server_bar(&s->server, &err));
    EXPECT_ERR(ERR_STATE, fs->pread(fs, reads, &byte, 1, 0, &err));
    EXPECT_ERR(ERR_STATE, fs->pread(fs, reads, &byte, 1, 0, &err));
    EXPECT_OK(nbd_server_admit(&s->server, &err));
    EXPECT_OK(fs->pread(fs, reads, &byte, 1, 0, &err));
    assert_int_equal(fs->close(fs, reads), 0);
    fs_nbd_free(fs);
}

/* Its stamp before it is opened, and after it was written to, synced and closed. */
static void stamps_of(struct scene *s, const char *disk, struct fs_stamp *ret_synced,
                      struct fs_stamp *ret_closed)
{
    const struct nbd_server server = {s->run, disk, "qcow2", false, NULL};
    struct fs *fs = fs_nbd_new(fs_real());
    int fd;

    fs_nbd_serve(fs, disk, "qcow2", s->run);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_OK(fs->open(fs, disk, O_RDWR, 0, &fd, &err));
        if (i == 0)
            EXPECT_OK(fs->pwrite(fs, fd, "x", 1, 0, &err));
        EXPECT_OK(fs->sync(fs, fd, &err));
        if (i == 0)
            EXPECT_OK(fs_stamp(fs, disk, ret_synced, &err));
        assert_int_equal(fs->close(fs, fd), 0);
        EXPECT_OK(nbd_server_end(&server, &err));
    }
    EXPECT_OK(fs_stamp(fs, disk, ret_closed, &err));
    fs_nbd_free(fs);
}

static void closing_and_opening_do_not_change_a_stamp(void **state)
{
    struct scene *s = *state;
    CLEANUP(mem_freep) char *disk = path_join(s->root, "a disk, lazy.qcow2");
    struct fs_stamp synced;
    struct fs_stamp closed;

    const char *const make[] = {"qemu-img",          "create", "-q",  "-f", "qcow2", "-o",
                                "lazy_refcounts=on", disk,     "24M", NULL};
    EXPECT_OK(proc_must(make, NULL, &err));
    stamps_of(s, disk, &synced, &closed);
    assert_true(synced.known);
    assert_true(fs_stamp_equal(&synced, &closed));
}

static void an_image_with_bitmaps_of_its_own_has_no_stamp(void **state)
{
    struct scene *s = *state;
    struct fs_stamp synced;
    struct fs_stamp closed;

    const char *const add[] = {"qemu-img", "bitmap", "--add", s->disk, "backup", NULL};
    EXPECT_OK(proc_must(add, NULL, &err));
    stamps_of(s, s->disk, &synced, &closed);
    assert_false(synced.known);
    assert_false(closed.known);
}

static void a_killed_server_loses_nothing_that_was_synced(void **state)
{
    struct scene *s = *state;
    struct fs *fs = fs_nbd_new(fs_real());
    CLEANUP(mem_freep) char *socket = NULL;
    uint8_t bytes[512];
    int fd;

    memset(bytes, 0x5a, sizeof(bytes));
    fs_nbd_serve(fs, s->disk, "qcow2", s->run);
    EXPECT_OK(fs->open(fs, s->disk, O_RDWR, 0, &fd, &err));
    EXPECT_OK(fs->pwrite(fs, fd, bytes, sizeof(bytes), 1 << 20, &err));
    EXPECT_OK(fs->sync(fs, fd, &err));
    EXPECT_OK(nbd_server_need(&s->server, &socket, &err));
    assert_int_equal(kill_server(socket), 0);
    EXPECT_ERR(ERR_IO, fs->pread(fs, fd, bytes, sizeof(bytes), 1 << 20, &err));
    EXPECT_ERR(ERR_IO, fs->sync(fs, fd, &err));
    assert_int_equal(fs->close(fs, fd), 0);
    EXPECT_OK(fs->open(fs, s->disk, O_RDWR, 0, &fd, &err));
    memset(bytes, 0, sizeof(bytes));
    EXPECT_OK(fs->pread(fs, fd, bytes, sizeof(bytes), 1 << 20, &err));
    assert_int_equal(bytes[511], 0x5a);
    assert_int_equal(fs->close(fs, fd), 0);
    fs_nbd_free(fs);
}

#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(one_is_started_and_found_again),
        SERVER_TEST(many_who_need_one_get_the_same),
        SERVER_TEST(a_pid_that_is_used_by_another_is_not_believed),
        SERVER_TEST(what_cannot_be_served_is_said),
        SERVER_TEST(a_disk_opened_and_closed_over_and_over_keeps_what_was_synced),
        SERVER_TEST(who_only_reads_finds_the_next_server),
        SERVER_TEST(closing_and_opening_do_not_change_a_stamp),
        SERVER_TEST(an_image_with_bitmaps_of_its_own_has_no_stamp),
        SERVER_TEST(a_killed_server_loses_nothing_that_was_synced),
    };
    return cmocka_run_group_tests_name("nbd_server", tests, NULL, NULL);
}
