// SPDX-License-Identifier: Apache-2.0
#include "sites/viewing.h"

#include "base/fs.h"
#include "base/mem.h"
#include "sites/branch.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Somebody who looks, until he is killed. */
static pid_t looker(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        for (;;)
            (void)pause();
    return pid;
}

static void kill_looker(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static bool is_pinned(struct estates *e, uint64_t number)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    struct store *store;
    bool pinned = false;

    EXPECT_OK(estate_store_get(e->lyon, "db1", &store, &err));
    EXPECT_OK(store->ops->points(store, &points, &err));
    estate_store_put(e->lyon, "db1", store, false);
    VEC_FOREACH(point, &points)
        pinned = pinned || (point->point == number && point->pinned);
    return pinned;
}

static void a_point_is_kept_as_long_as_it_is_looked_at(void **state)
{
    struct estates *e = *state;
    pid_t pid = looker();
    const struct viewing_want want = {.point = 2, .disk = "", .pid = pid};
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};

    EXPECT_OK(viewing_begin(e->lyon, "db1", &want, &viewing, NULL, &err));
    assert_string_equal(viewing.disk, "vda");
    assert_true(is_pinned(e, 2));
    EXPECT_OK(viewing_tidy(e->lyon, &err));
    assert_true(is_pinned(e, 2));
    EXPECT_OK(viewing_end(e->lyon, viewing.name, &err));
    assert_false(is_pinned(e, 2));
    assert_false(fs_exists(viewing.dir));
    EXPECT_OK(viewing_end(e->lyon, viewing.name, &err));
    kill_looker(pid);
}

/* The command was killed, and the daemon with it. */
static void who_is_gone_keeps_nothing(void **state)
{
    struct estates *e = *state;
    pid_t pid = looker();
    const struct viewing_want want = {.point = 2, .disk = "vda", .pid = pid};
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};

    EXPECT_OK(viewing_begin(e->lyon, "db1", &want, &viewing, NULL, &err));
    kill_looker(pid);
    estates_restart_lyon(e);
    EXPECT_OK(viewing_tidy(e->lyon, &err));
    assert_false(is_pinned(e, 2));
    assert_false(fs_exists(viewing.dir));
}

static void what_cannot_be_looked_at_leaves_nothing(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *views = mem_printf("%s/lyon/views", e->root);
    const struct viewing_want no_point = {.point = 77, .disk = "", .pid = getpid()};
    const struct viewing_want no_disk = {.point = 2, .disk = "vdz", .pid = getpid()};
    const struct viewing_want no_branch = {.branch = 9, .disk = "", .pid = getpid()};
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};
    CLEANUP(fs_names_free) struct fs_names names = {0};

    EXPECT_ERR(ERR_NOT_FOUND, viewing_begin(e->lyon, "db1", &no_point, &viewing, NULL, &err));
    EXPECT_ERR(ERR_NOT_FOUND, viewing_begin(e->lyon, "db1", &no_disk, &viewing, NULL, &err));
    EXPECT_TEXT("it has vda");
    EXPECT_ERR(ERR_NOT_FOUND, viewing_begin(e->lyon, "db1", &no_branch, &viewing, NULL, &err));
    EXPECT_TEXT("lyon keeps no branch 9 of db1");
    EXPECT_OK(fs_list(views, &names, &err));
    assert_int_equal(names.len, 0);
}

/* --- Branches --------------------------------------------------------------------------------- */

static char *own_disk(struct estates *e, const char *text)
{
    char *path = mem_printf("%s/db1.raw", e->root);

    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
    return path;
}

/* A branch of db1 after point 3, with one disk, in `path`. */
static void keep_branch(struct estates *e, const char *path)
{
    struct session_branch branch = {
        .kind = SESSION_BRANCH_UNKNOWN, .point = 4, .parent = 3, .generation = 1, .disk_count = 1};
    const struct estate_mark mark = {.retired = 2, .by = "lyon"};
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(group_owns_free) struct group_owns owns = VEC_EMPTY;
    struct machine_names names;

    machine_init(&machine);
    EXPECT_OK(estate_machine_get(e->paris, "db1", &machine, &err));
    (void)snprintf(machine.disks.at[0].path, sizeof(machine.disks.at[0].path), "%s", path);
    (void)snprintf(branch.disks[0].name, sizeof(branch.disks[0].name), "vda");
    machine_names_alone(&names, "db1");
    EXPECT_OK(group_owns_add(&names, &machine, &owns, &err));
    EXPECT_OK(branch_note(e->paris, "db1", &owns, &mark, &branch, &err));
    EXPECT_OK(branch_note_disks(e->paris, "db1", 4, &owns, &err));
}

static void a_branch_is_the_machines_own_disk(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = own_disk(e, "as it was stopped");
    const struct viewing_want want = {.branch = 4, .disk = "", .pid = getpid()};
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};

    keep_branch(e, path);
    EXPECT_OK(viewing_begin(e->paris, "db1", &want, &viewing, NULL, &err));
    assert_string_equal(viewing.path, path);
    assert_string_equal(viewing.format, "raw");
    assert_null(viewing.replica_dir);
    EXPECT_OK(viewing_end(e->paris, viewing.name, &err));
}

static void a_disk_that_was_changed_is_no_branch_any_more(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = own_disk(e, "as it was stopped");
    const struct viewing_want want = {.branch = 4, .disk = "vda", .pid = getpid()};
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};

    keep_branch(e, path);
    free(own_disk(e, "as it was changed"));
    EXPECT_ERR(ERR_STATE, viewing_begin(e->paris, "db1", &want, &viewing, NULL, &err));
    EXPECT_TEXT("was changed since its machine was stopped");
    assert_int_equal(unlink(path), 0);
    EXPECT_ERR(ERR_STATE, viewing_begin(e->paris, "db1", &want, &viewing, NULL, &err));
}

static void a_disk_whose_machine_lives_is_in_use(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = own_disk(e, "as it was stopped");
    const struct viewing_want want = {.branch = 4, .disk = "", .pid = getpid()};
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};

    keep_branch(e, path);
    estates_tell(e->at_paris, "machine.start", estates_machine_args("paris-1"));
    EXPECT_ERR(ERR_BUSY, viewing_begin(e->paris, "db1", &want, &viewing, NULL, &err));
    EXPECT_TEXT("its machine is running");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(a_point_is_kept_as_long_as_it_is_looked_at),
        ESTATES_TEST(who_is_gone_keeps_nothing),
        ESTATES_TEST(what_cannot_be_looked_at_leaves_nothing),
        ESTATES_TEST(a_branch_is_the_machines_own_disk),
        ESTATES_TEST(a_disk_that_was_changed_is_no_branch_any_more),
        ESTATES_TEST(a_disk_whose_machine_lives_is_in_use),
    };
    return cmocka_run_group_tests_name("viewing", tests, NULL, NULL);
}
