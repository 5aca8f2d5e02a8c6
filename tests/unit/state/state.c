// SPDX-License-Identifier: Apache-2.0
#include "state/state.h"

#include "base/db.h"
#include "base/fs.h"
#include "state/schema.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdio.h>

static char path[256];

static struct state *open_state(const char *dir)
{
    struct state *state = NULL;

    (void)snprintf(path, sizeof(path), "%s/state.db", dir);
    EXPECT_OK(state_open(path, &state, &err));
    return state;
}

static struct state *reopen(struct state *state, const char *dir)
{
    state_close(state);
    return open_state(dir);
}

static void what_a_turn_wrote_is_there_after_a_restart_once_it_ended(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_machine machine = {.name = (char[]){"db1"}, .definition = (char[]){"{}"}};
    struct state_machine found;

    EXPECT_OK(state_machine_put(state, &machine, &err));
    assert_true(state_in_turn(state));
    EXPECT_OK(state_turn_end(state, &err));
    assert_false(state_in_turn(state));
    machine.name[2] = '2';
    EXPECT_OK(state_machine_put(state, &machine, &err));
    state = reopen(state, *dir);
    EXPECT_OK(state_machine_get(state, "db1", &found, &err));
    state_machine_done(&found);
    EXPECT_ERR(ERR_NOT_FOUND, state_machine_get(state, "db2", &found, &err));
    EXPECT_TEXT("no machine \"db2\"");
    state_close(state);
}

static void an_aborted_turn_wrote_nothing(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_plan plan = {.name = (char[]){"shop"}};
    struct state_plans plans;

    EXPECT_OK(state_plan_put(state, &plan, &err));
    EXPECT_OK(state_audit(state, 1, "ann", "plan.add", "shop", "", &err));
    state_turn_abort(state);
    EXPECT_OK(state_turn_end(state, &err));
    EXPECT_OK(state_plan_list(state, &plans, &err));
    assert_int_equal(plans.len, 0);
    state_plans_done(&plans);
    state_close(state);
}

static void a_file_that_is_no_database_is_refused_and_kept(void **dir)
{
    struct state *state;
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const char *foreign = "this is somebody's shopping list, and it is longer than a header: "
                          "bread, milk, salt, sugar, and a hundred bytes more of this and that";

    (void)snprintf(path, sizeof(path), "%s/state.db", (char *)*dir);
    EXPECT_OK(fs_replace_file(fs_real(), path, foreign, strlen(foreign), 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, state_open(path, &state, &err));
    EXPECT_TEXT("no state database");
    EXPECT_OK(fs_read_file(fs_real(), path, 4096, &text, &err));
    assert_string_equal(text.ptr, foreign);
}

static void a_database_of_another_program_is_refused(void **dir)
{
    struct state *state;
    struct db *db;

    (void)snprintf(path, sizeof(path), "%s/state.db", (char *)*dir);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(db_exec(db, "CREATE TABLE birds (name TEXT)", &err));
    db_close(db);
    EXPECT_ERR(ERR_CORRUPT, state_open(path, &state, &err));
    EXPECT_TEXT("some other program");
}

static void a_newer_schema_is_refused_with_both_versions(void **dir)
{
    struct state *state = open_state(*dir);
    struct db *db;

    state_close(state);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(db_exec(db, "UPDATE schema SET version = 999", &err));
    db_close(db);
    EXPECT_ERR(ERR_CORRUPT, state_open(path, &state, &err));
    EXPECT_TEXT("schema version 999, this program knows");
}

static const char *const two_steps[] = {
    "CREATE TABLE birds (name TEXT); INSERT INTO birds VALUES ('wren')",
    "ALTER TABLE birds ADD COLUMN eggs INTEGER NOT NULL DEFAULT 4",
};

static void an_older_schema_is_brought_up_to_date_with_its_rows(void **dir)
{
    struct db *db;
    struct db_stmt *stmt;

    (void)snprintf(path, sizeof(path), "%s/x.db", (char *)*dir);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(schema_upgrade(db, path, two_steps, 1, &err));
    EXPECT_OK(schema_upgrade(db, path, two_steps, 2, &err));
    EXPECT_OK(schema_upgrade(db, path, two_steps, 2, &err));
    EXPECT_OK(db_prepare(db, "SELECT name, eggs FROM birds", &stmt, &err, ""));
    assert_int_equal(db_step(stmt, &err), 1);
    assert_string_equal(db_column_text(stmt, 0), "wren");
    assert_int_equal(db_column_int(stmt, 1), 4);
    db_stmt_end(&stmt);
    db_close(db);
}

static void jobs_of_version_1_are_kept_and_have_no_code(void **dir)
{
    struct state *state;
    struct state_job job;
    struct db *db;

    (void)snprintf(path, sizeof(path), "%s/state.db", (char *)*dir);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(schema_upgrade(db, path, schema_steps, 1, &err));
    EXPECT_OK(db_exec(db,
                      "INSERT INTO jobs VALUES (7, 'protect', 'db1', '{}', 'failed', '[]',"
                      " 'lyon is full', 'ann', 1, 2)",
                      &err));
    db_close(db);
    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_job_get(state, 7, &job, &err));
    assert_string_equal(job.error, "lyon is full");
    assert_string_equal(job.error_code, "");
    state_job_done(&job);
    state_close(state);
}

static void actions_of_version_2_are_kept_and_have_no_arguments(void **dir)
{
    struct state *state;
    struct state_actions rows;
    struct db *db;

    (void)snprintf(path, sizeof(path), "%s/state.db", (char *)*dir);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(schema_upgrade(db, path, schema_steps, 2, &err));
    EXPECT_OK(
        db_exec(db,
                "INSERT INTO runs VALUES (7, 'shop', 'test', 'running', '', '{}', 'ann', 1, 0);"
                "INSERT INTO actions VALUES (7, 0, 1, 0, 'check', 'done', '{}', '', '', 1, 2)",
                &err));
    db_close(db);
    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_action_list(state, 7, &rows, &err));
    assert_int_equal(rows.len, 1);
    assert_string_equal(rows.at[0].verb, "check");
    assert_string_equal(rows.at[0].args, "");
    state_actions_done(&rows);
    state_close(state);
}

static void an_upgrade_that_fails_leaves_the_old_schema(void **dir)
{
    const char *const broken[] = {two_steps[0], "ALTER TABLE birds ADD COLUMN eggs; NONSENSE"};
    struct db *db;

    (void)snprintf(path, sizeof(path), "%s/x.db", (char *)*dir);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(schema_upgrade(db, path, two_steps, 1, &err));
    assert_int_equal(schema_upgrade(db, path, broken, 2, &err), -1);
    EXPECT_TEXT("schema version 2");
    EXPECT_OK(schema_upgrade(db, path, two_steps, 2, &err));
    db_close(db);
}

static void the_full_schema_opens_again_and_again(void **dir)
{
    struct state *state = open_state(*dir);

    state = reopen(state, *dir);
    state = reopen(state, *dir);
    state_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(what_a_turn_wrote_is_there_after_a_restart_once_it_ended),
        TMPDIR_TEST(an_aborted_turn_wrote_nothing),
        TMPDIR_TEST(a_file_that_is_no_database_is_refused_and_kept),
        TMPDIR_TEST(a_database_of_another_program_is_refused),
        TMPDIR_TEST(a_newer_schema_is_refused_with_both_versions),
        TMPDIR_TEST(an_older_schema_is_brought_up_to_date_with_its_rows),
        TMPDIR_TEST(jobs_of_version_1_are_kept_and_have_no_code),
        TMPDIR_TEST(actions_of_version_2_are_kept_and_have_no_arguments),
        TMPDIR_TEST(an_upgrade_that_fails_leaves_the_old_schema),
        TMPDIR_TEST(the_full_schema_opens_again_and_again),
    };
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
