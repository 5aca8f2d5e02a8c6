// SPDX-License-Identifier: Apache-2.0
/* unprotect of a machine that was recovered here: what it runs on stays. */
#include "base/fs.h"
#include "base/mem.h"
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

static void the_replica_it_reads_from_stays_with_its_key(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    reverse_promote(r);
    reverse_recover(r);
    reverse_put_row(r, "source", "protected", 2, ",\"instance\":\"lyon-4\"");
    r->away = true;
    EXPECT_OK(unprotect(r, true, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_note(r, id, 2, "lyon-4");
    assert_false(is_protected(r));
    assert_true(has_key(r));
    assert_true(has_replica(r));
    assert_int_equal(reverse_instances(r), 1);
    const struct job_protect anew = {.machine = "db1", .peer = "tours", .who = "ann"};
    err_clear(&err);
    EXPECT_ERR(ERR_STATE, jobs_protect(r->desk.jobs, &anew, &id, &err));
    EXPECT_TEXT("hint: `muster machine keep db1` makes it an ordinary machine");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        REVERSE_TEST(what_else_there_is_to_do_is_said_first),
        REVERSE_TEST(the_replica_it_reads_from_stays_with_its_key),
        REVERSE_TEST(one_that_nobody_reads_from_goes),
    };
    return cmocka_run_group_tests_name("job_unprotect", tests, NULL, NULL);
}
