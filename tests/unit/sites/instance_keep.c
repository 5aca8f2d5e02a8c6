// SPDX-License-Identifier: Apache-2.0
/* A recovered machine is kept as an ordinary one: its disks move, whatever is cut meanwhile. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_internal.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFINITION                                                                             \
    "{\"name\":\"db1\",\"memory\":\"64MiB\",\"cpus\":1,\"disks\":[{\"name\":\"vda\",\"path\":" \
    "\"/gone/db1.raw\",\"format\":\"raw\"}]}"

static json_t *named(void)
{
    return json_pack("{s:s, s:s}", "machine", "db1", "run", "lyon-4");
}

static json_t *kept(void)
{
    json_t *definition = NULL;

    EXPECT_OK(json_parse(DEFINITION, strlen(DEFINITION), &definition, &err));
    return json_pack("{s:s, s:o}", "run", "lyon-4", "definition", definition);
}

static int keep(struct estates *e)
{
    err_clear(&err);
    return site_ask(e->at_lyon, "instance.keep", kept(), NULL, NULL, &err);
}

static char *old_disk(struct estates *e)
{
    return mem_printf("%s/lyon/instances/lyon-4-db1/vda.qcow2", e->root);
}

static char *new_disk(struct estates *e)
{
    return mem_printf("%s/lyon/instances/kept/db1/vda.qcow2", e->root);
}

static void write_file(const char *path, const char *text)
{
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
}

static void expect_file(const char *path, const char *text)
{
    CLEANUP(str_free) struct str have = STR_EMPTY;

    EXPECT_OK(fs_read_file(fs_real(), path, 4096, &have, &err));
    assert_string_equal(str_text(&have), text);
}

static void recover(struct estates *e)
{
    CLEANUP(mem_freep) char *disk = old_disk(e);

    estates_tell(e->at_lyon, "instance.start",
                 json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                           "lyon-4", "test", 0, "point", 2));
    write_file(disk, "what db1 wrote");
}

static void stream(struct estates *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/lyon/instances/lyon-4-db1/stream.json", e->root);

    write_file(path, "{\"disks\":{\"vda\":\"own\"}}");
}

/* Committed, streamed, and off. */
static void ready(struct estates *e)
{
    recover(e);
    estates_tell(e->at_lyon, "instance.commit", named());
    stream(e);
    estates_tell(e->at_lyon, "instance.stop", named());
}

static void its_disks_move_and_its_folder_goes(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *from = old_disk(e);
    CLEANUP(mem_freep) char *to = new_disk(e);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/lyon-4-db1", e->root);

    ready(e);
    CLEANUP(json_freep) json_t *answer = estates_ask(e->at_lyon, "instance.keep", kept());
    const json_t *disk =
        json_array_get(json_object_get(json_object_get(answer, "definition"), "disks"), 0);
    assert_string_equal(json_get_str(disk, "path", ""), to);
    assert_string_equal(json_get_str(disk, "format", ""), "qcow2");
    expect_file(to, "what db1 wrote");
    assert_false(fs_exists(from));
    assert_false(fs_exists(dir));
    EXPECT_OK(keep(e)); /* whoever was killed before he heard it asks again */
    expect_file(to, "what db1 wrote");
}

static void only_what_needs_nothing_else_is_kept(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *from = old_disk(e);

    EXPECT_ERR(ERR_NOT_FOUND, keep(e));
    recover(e);
    EXPECT_ERR(ERR_STATE, keep(e));
    EXPECT_TEXT("is not committed");
    estates_tell(e->at_lyon, "instance.commit", named());
    EXPECT_ERR(ERR_STATE, keep(e));
    EXPECT_TEXT("db1 is running; hint: `muster machine stop db1` first");
    estates_tell(e->at_lyon, "instance.stop", named());
    EXPECT_ERR(ERR_STATE, keep(e));
    EXPECT_TEXT("still needs the replica it came from");
    expect_file(from, "what db1 wrote");
}

static void a_file_that_is_there_already_is_not_written_over(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *from = old_disk(e);
    CLEANUP(mem_freep) char *to = new_disk(e);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/kept/db1", e->root);

    ready(e);
    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    write_file(to, "somebody else's");
    EXPECT_ERR(ERR_EXISTS, keep(e));
    expect_file(from, "what db1 wrote");
    expect_file(to, "somebody else's");
}

static void a_test_that_runs_from_the_replica_is_cleaned_up_first(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *from = old_disk(e);

    ready(e);
    estates_tell(e->at_lyon, "instance.start",
                 json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                           "lyon-9", "test", 1, "point", 2));
    EXPECT_ERR(ERR_STATE, keep(e));
    EXPECT_TEXT("hint: `muster cleanup` that run first");
    expect_file(from, "what db1 wrote");
}

static void killed_anywhere_it_goes_on(void **state)
{
    static const char *const points[] = {"keep.moved:1", "keep.removing:1"};
    struct estates *e = *state;
    CLEANUP(mem_freep) char *to = new_disk(e);
    int status;

    ready(e);
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            crash_arm(points[i], NULL);
            _exit(keep(e) < 0 ? 1 : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        expect_file(to, "what db1 wrote");
    }
    EXPECT_OK(keep(e));
    expect_file(to, "what db1 wrote");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(its_disks_move_and_its_folder_goes),
        ESTATES_TEST(only_what_needs_nothing_else_is_kept),
        ESTATES_TEST(a_file_that_is_there_already_is_not_written_over),
        ESTATES_TEST(a_test_that_runs_from_the_replica_is_cleaned_up_first),
        ESTATES_TEST(killed_anywhere_it_goes_on),
    };
    return cmocka_run_group_tests_name("instance_keep", tests, NULL, NULL);
}
