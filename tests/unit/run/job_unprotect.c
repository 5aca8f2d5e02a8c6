// SPDX-License-Identifier: Apache-2.0
/* unprotect of a machine that was recovered here, and what it waits for: what it runs on stays. */
#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_internal.h"
#include "support/expect.h"
#include "support/run/reverse.h"

#include <stdlib.h>

static int unprotect(struct reverse *r, bool force, int64_t *ret_id)
{
    const struct job_unprotect spec = {.machine = "db1", .force = force, .who = "ann"};

    err_clear(&err);
    return jobs_unprotect(r->desk.jobs, &spec, ret_id, &err);
}

static bool is_protected(struct reverse *r)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err missing = ERR_EMPTY;

    return state_protection_get(r->desk.state, "db1", &row, &missing) == 0;
}

static bool has_key(struct reverse *r)
{
    CLEANUP(mem_freep) char *path = estate_key_path(r->e->lyon, "db1");

    return fs_exists(path);
}

static bool has_replica(struct reverse *r)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(r->e->lyon, "db1");

    return fs_exists(dir);
}

static void what_else_there_is_to_do_is_said_first(void **state)
{
    static const char *const rows[][2] = {
        {"source", "protected"},     {"source", "reprotecting-failed"}, {"replica", "committed"},
        {"replica", "reprotecting"}, {"source", "disabling-failed"},
    };
    struct reverse *r = *state;
    int64_t id;

    reverse_promote(r);
    reverse_recover(r);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        reverse_put_row(r, rows[i][0], rows[i][1], 2, ",\"instance\":\"lyon-4\"");
        EXPECT_ERR(ERR_STATE, unprotect(r, false, &id));
        EXPECT_TEXT("hint: bring it back first, `muster failback db1` at paris");
        EXPECT_TEXT("`muster machine keep db1`");
    }
    assert_true(is_protected(r));
}

/* Its disks are all its own. */
static void stream(struct reverse *r)
{
    CLEANUP(mem_freep)
    char *path = mem_printf("%s/lyon/instances/lyon-4-db1/stream.json", r->e->root);
    static const char own[] = "{\"disks\":{\"vda\":\"own\"}}";

    EXPECT_OK(fs_replace_file(fs_real(), path, own, strlen(own), 0600, &err));
}

static void what_it_reads_from_does_not_go_by_force_either(void **state)
{
    static const char *const roles[] = {"source", "replica"};
    struct reverse *r = *state;
    int64_t id;

    reverse_promote(r);
    reverse_recover(r);
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        reverse_put_row(r, roles[i], "reprotecting-failed", 2, "");
        EXPECT_ERR(ERR_STATE, unprotect(r, true, &id));
        EXPECT_TEXT("the replica of db1 is in use: run lyon-4");
    }
    assert_true(has_key(r));
    assert_true(has_replica(r));
}

static void one_that_runs_on_disks_of_its_own_keeps_only_those(void **state)
{
    static const char *const roles[] = {"source", "replica"};
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *session = mem_printf("%s/lyon/sessions/db1", r->e->root);
    int64_t id = 0;

    reverse_promote(r);
    reverse_recover(r);
    stream(r);
    r->away = true;
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        reverse_put_row(r, roles[i], "reprotecting-failed", 2, "");
        reverse_deliver(r, 5, 5);
        EXPECT_OK(unprotect(r, true, &id)); /* on or off: nothing is asked of it */
        reverse_settle(r);
        reverse_expect_job(r, id, "succeeded", "");
        assert_false(is_protected(r));
        assert_false(has_key(r));
        assert_false(has_replica(r));
        assert_true(i > 0 || !fs_exists(session));
    }
    assert_int_equal(reverse_instances(r), 1);
    struct job_protect anew = {.machine = "db1", .peer = "tours", .who = "ann"};
    policy_init(&anew.settings.policy);
    err_clear(&err);
    EXPECT_ERR(ERR_STATE, jobs_protect(r->desk.jobs, &anew, &id, &err));
    EXPECT_TEXT("hint: `muster machine keep db1` makes it an ordinary machine");
}

static void one_that_is_off_is_not_asked_and_its_own_pin_holds_nothing(void **state)
{
    struct reverse *r = *state;
    struct estate_group sent = {.group = "db1", .peer = "paris", .run = "lyon-4", .generation = 2};
    int64_t id = 0;

    policy_init(&sent.policy);
    estates_tell(r->e->at_lyon, "group.pin",
                 json_pack("{s:s, s:s, s:i}", "group", "db1", "run", "lyon-4", "point", 3));
    reverse_promote(r);
    reverse_recover(r);
    stream(r);
    estates_tell(r->e->at_lyon, "instance.stop",
                 json_pack("{s:s, s:s}", "machine", "db1", "run", "lyon-4"));
    EXPECT_OK(estate_group_add(r->e->lyon, &sent, &err));
    reverse_put_row(r, "source", "protected", 2, "");
    r->away = true;
    EXPECT_OK(unprotect(r, true, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    assert_false(has_replica(r));
}

static void one_that_was_taken_back_is_not_told_to_be_kept(void **state)
{
    struct reverse *r = *state;
    const struct estate_mark mark = {.retired = 3, .by = "paris"};
    int64_t id;

    reverse_promote(r);
    reverse_recover(r);
    reverse_put_row(r, "source", "failed-over", 2, ",\"instance\":\"lyon-4\"");
    EXPECT_OK(estate_mark_write(r->e->lyon, "db1", &mark, &err));
    EXPECT_ERR(ERR_STATE, unprotect(r, false, &id));
    EXPECT_TEXT("was failed over to paris (generation 3)");
    assert_null(strstr(err.text, "machine keep"));
    err_clear(&err);
    EXPECT_ERR(ERR_STATE, jobs_may_unprotect(r->desk.jobs, "db1", &err));
}

static void one_that_nobody_reads_from_goes(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    reverse_put_row(r, "source", "protected", 2, "");
    r->away = true;
    EXPECT_OK(unprotect(r, true, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    assert_false(has_key(r));
    assert_false(has_replica(r));
}

static void anothers_damaged_file_does_not_hold_it_up(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/lyon-7-web1", r->e->root);
    CLEANUP(mem_freep) char *file = path_join(dir, "instance.json");
    CLEANUP(mem_freep) char *replica = estate_replica_dir(r->e->lyon, "db1");
    int64_t id = 0;

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), file, "?", 1, 0600, &err));
    estate_replica_remove(r->e->lyon, "db1");
    EXPECT_OK(store_dir_remove(fs_real(), replica, &err));
    reverse_put_row(r, "source", "protected", 1, "");
    r->away = true;
    EXPECT_OK(unprotect(r, true, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    assert_false(has_key(r));
}

static void its_disks_are_not_streamed_before_the_commit(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    reverse_promote(r);
    reverse_recover(r);
    reverse_put_row(r, "replica", "failed-over", 2, "");
    EXPECT_ERR(ERR_STATE, jobs_stream(r->desk.jobs, "db1", "ann", &id, &err));
    EXPECT_TEXT("hint: `muster commit db1` first");
    err_clear(&err);
    reverse_put_row(r, "replica", "committed", 2, "");
    EXPECT_OK(jobs_stream(r->desk.jobs, "db1", "ann", &id, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REVERSE_TEST(what_else_there_is_to_do_is_said_first),
        REVERSE_TEST(what_it_reads_from_does_not_go_by_force_either),
        REVERSE_TEST(one_that_runs_on_disks_of_its_own_keeps_only_those),
        REVERSE_TEST(one_that_is_off_is_not_asked_and_its_own_pin_holds_nothing),
        REVERSE_TEST(one_that_was_taken_back_is_not_told_to_be_kept),
        REVERSE_TEST(one_that_nobody_reads_from_goes),
        REVERSE_TEST(anothers_damaged_file_does_not_hold_it_up),
        REVERSE_TEST(its_disks_are_not_streamed_before_the_commit),
    };
    return cmocka_run_group_tests_name("job_unprotect", tests, NULL, NULL);
}
