// SPDX-License-Identifier: Apache-2.0
/* A machine's own qcow2 disks as heads, each behind a private server. */
#include "base/mem.h"
#include "base/nbd_server.h"
#include "base/proc.h"
#include "replica/head.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/fixture.h"
#include "support/replica/own.h"

#include <signal.h>
#include <stdlib.h>
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

/* Of the disk's server; 0: none. */
static pid_t server_of(struct fixture *f, const char *path)
{
    CLEANUP(str_free) struct str said = STR_EMPTY;
    CLEANUP(mem_freep) char *pattern = mem_printf("^qemu-nbd .*%s$", path);
    const char *const argv[] = {"pgrep", "-f", pattern, NULL};
    const struct proc_spec spec = {.argv = argv};
    int status;

    (void)f;
    EXPECT_OK(proc_run(&spec, 4096, &said, &status, NULL, &err));
    if (status != 0)
        return 0;
    char *end;
    long pid = strtol(said.ptr, &end, 10);
    if (end[0] != '\n' || end[1] != '\0')
        fail_msg("more than one server of %s: %s", path, said.ptr);
    return (pid_t)pid;
}

static void wait_for_end(pid_t pid)
{
    struct proc_id id;

    while (proc_identify(pid, &id, NULL) == 0 && proc_is_alive(&id))
        (void)usleep(1000);
}

static void a_killed_server_is_an_error_and_is_started_anew_at_open(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    uint64_t point;

    (void)own_at_2(&own, f, OWN_QCOW2);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    pid_t first = server_of(f, own.paths[0]);
    assert_true(first > 0);
    assert_int_equal(kill(first, SIGKILL), 0);
    wait_for_end(first);
    kit_scribble(&f->kit, 30);
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
    EXPECT_ERR(ERR_IO, OPS->point_apply(f->store, &point, NULL, NULL, &err));
    EXPECT_TEXT(own.paths[0]);
    EXPECT_OK(open_again(f)); /* rolls forward */
    assert_int_equal(fixture_info(f).applied_point, 8);
    EXPECT_OK(kit_check_view(&f->kit, 7, &err));
    EXPECT_OK(kit_check_view(&f->kit, 8, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    pid_t second = server_of(f, own.paths[0]);
    assert_true(second > 0 && second != first);
    store_closep(&f->store);
    EXPECT_OK(own_check(&own, 8, &err));
}

static void store_and_view_share_one_server_that_ends_with_the_last(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(view_closep) struct view *view = NULL;
    uint8_t byte;

    (void)own_at_2(&own, f, OWN_QCOW2);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    EXPECT_OK(view_open(f->kit.dir, "web.vda", 2, &f->kit.key, NULL, &view, &err));
    pid_t server = server_of(f, own.paths[0]);
    assert_true(server > 0);
    store_closep(&f->store);
    wait_for_end(server_of(f, own.paths[1])); /* nobody has that disk any more */
    assert_int_equal(server_of(f, own.paths[0]), server);
    EXPECT_OK(view_read(view, 0, &byte, 1, &err));
    EXPECT_OK(open_again(f));
    assert_int_equal(server_of(f, own.paths[0]), server);
    store_closep(&f->store);
    view_closep(&view);
    wait_for_end(server);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    EXPECT_OK(fs_list(f->kit.dir, &names, &err));
    for (size_t i = 0; i < names.len; i++)
        if (strstr(names.at[i], "nbd"))
            fail_msg("%s in the store's folder", names.at[i]);
}

static void releasing_ends_the_servers(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(view_closep) struct view *view = NULL;
    uint8_t byte;

    (void)own_at_2(&own, f, OWN_QCOW2);
    EXPECT_OK(own_adopt(&own, f->store, &err));
    go_on(f);
    EXPECT_OK(view_open(f->kit.dir, "web.vda", 2, &f->kit.key, NULL, &view, &err));
    EXPECT_OK(store_dir_release(f->store, NULL, &err));
    assert_int_equal(server_of(f, own.paths[0]), 0);
    assert_int_equal(server_of(f, own.paths[1]), 0);
    EXPECT_ERR(ERR_UNSUPPORTED, OPS->read(f->store, "web.vda", 0, &byte, 1, &err));
    EXPECT_OK(own_check(&own, 7, &err)); /* a machine could start: nobody holds the image */
    fixture_reopen(f);
    assert_int_equal(server_of(f, own.paths[0]), 0);
}

static void a_disk_that_a_machine_uses_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    CLEANUP(mem_freep) char *other = path_join(f->root, "machine");

    (void)own_at_2(&own, f, OWN_QCOW2);
    const struct nbd_server machine = {other, own.paths[0], "qcow2", false,
                                       NULL}; /* holds the image's lock */
    CLEANUP(mem_freep) char *socket = NULL;
    EXPECT_OK(nbd_server_need(&machine, &socket, &err));
    EXPECT_ERR(ERR_IO, own_adopt(&own, f->store, &err));
    EXPECT_TEXT("another process using the image");
    EXPECT_OK(nbd_server_end(&machine, &err));
    EXPECT_OK(own_adopt(&own, f->store, &err));
}

static void another_format_needs_a_folder_for_its_server(void **state)
{
    struct fixture *f = *state;
    CLEANUP(own_done) struct own own;
    struct store_dir_config config;

    (void)own_at_2(&own, f, OWN_QCOW2);
    store_closep(&f->store);
    config = kit_config(&f->kit, fs_real());
    config.run_dir = NULL;
    EXPECT_OK(store_dir_open(&config, &f->store, &err));
    EXPECT_ERR(ERR_UNSUPPORTED, own_adopt(&own, f->store, &err));
    store_closep(&f->store);
    EXPECT_OK(open_again(f));
    EXPECT_OK(own_adopt(&own, f->store, &err));
    store_closep(&f->store);
    EXPECT_OK(store_dir_open(&config, &f->store, &err)); /* the record knows it */
    /* Another folder, from now on. */
    store_closep(&f->store);
    wait_for_end(server_of(f, own.paths[0]));
    wait_for_end(server_of(f, own.paths[1]));
    CLEANUP(mem_freep) char *other = path_join(f->root, "run2");
    config.run_dir = other;
    EXPECT_OK(store_dir_open(&config, &f->store, &err));
    CLEANUP(mem_freep) char *path = NULL;
    CLEANUP(mem_freep) char *format = NULL;
    CLEANUP(mem_freep) char *run_dir = NULL;
    EXPECT_OK(head_path(f->kit.dir, "web.vda", &path, &format, &run_dir, &err));
    assert_string_equal(path, own.paths[0]);
    assert_string_equal(format, "qcow2");
    assert_string_equal(run_dir, other);
    store_closep(&f->store);
    wait_for_end(server_of(f, own.paths[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_killed_server_is_an_error_and_is_started_anew_at_open),
        STORE_TEST(store_and_view_share_one_server_that_ends_with_the_last),
        STORE_TEST(releasing_ends_the_servers),
        STORE_TEST(a_disk_that_a_machine_uses_is_refused),
        STORE_TEST(another_format_needs_a_folder_for_its_server),
    };
    return cmocka_run_group_tests_name("store_dir_served", tests, NULL, NULL);
}
