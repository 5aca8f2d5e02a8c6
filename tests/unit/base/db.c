// SPDX-License-Identifier: Apache-2.0
#include "base/db.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

static void db_closep(struct db **db)
{
    db_close(*db);
    *db = NULL;
}

static struct db *open_in(const char *dir)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "state.db");
    struct db *db = NULL;

    EXPECT_OK(db_open(path, &db, &err));
    return db;
}

static struct db *with_table(const char *dir)
{
    struct db *db = open_in(dir);

    EXPECT_OK(
        db_exec(db,
                "CREATE TABLE machine(id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER);"
                "CREATE TABLE disk(machine INTEGER NOT NULL REFERENCES machine(id))",
                &err));
    return db;
}

static int64_t count_of(struct db *db)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    EXPECT_OK(db_prepare(db, "SELECT count(*) FROM machine", &stmt, &err, ""));
    assert_int_equal(db_step(stmt, &err), 1);
    return db_column_int(stmt, 0);
}

static void the_settings_are_the_safe_ones(void **state)
{
    CLEANUP(db_closep) struct db *db = open_in(*state);
    CLEANUP(db_stmt_end) struct db_stmt *mode = NULL;
    CLEANUP(db_stmt_end) struct db_stmt *sync = NULL;

    EXPECT_OK(db_prepare(db, "PRAGMA journal_mode", &mode, &err, ""));
    assert_int_equal(db_step(mode, &err), 1);
    assert_string_equal(db_column_text(mode, 0), "wal");
    EXPECT_OK(db_prepare(db, "PRAGMA synchronous", &sync, &err, ""));
    assert_int_equal(db_step(sync, &err), 1);
    assert_int_equal(db_column_int(sync, 0), 2);
}

static void rows_come_back_as_they_went_in(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    EXPECT_OK(
        db_run(db, "INSERT INTO machine(name, size) VALUES (?, ?)", &err, "si", "db1", INT64_MIN));
    assert_int_equal(db_last_id(db), 1);
    EXPECT_OK(db_run(db, "INSERT INTO machine(name, size) VALUES (?, ?)", &err, "si",
                     (const char *)NULL, INT64_C(5)));
    assert_int_equal(db_changes(db), 1);
    EXPECT_OK(db_prepare(db, "SELECT name, size FROM machine WHERE id >= ? ORDER BY id", &stmt,
                         &err, "i", INT64_C(1)));
    assert_int_equal(db_step(stmt, &err), 1);
    assert_string_equal(db_column_text(stmt, 0), "db1");
    assert_true(db_column_int(stmt, 1) == INT64_MIN);
    assert_int_equal(db_step(stmt, &err), 1);
    assert_null(db_column_text(stmt, 0));
    assert_int_equal(db_column_int(stmt, 1), 5);
    assert_int_equal(db_step(stmt, &err), 0);
}

static void a_second_row_of_the_same_name_exists_already(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);

    EXPECT_OK(db_run(db, "INSERT INTO machine(name) VALUES (?)", &err, "s", "db1"));
    EXPECT_ERR(ERR_EXISTS, db_run(db, "INSERT INTO machine(name) VALUES (?)", &err, "s", "db1"));
    EXPECT_ERR(ERR_EXISTS, db_run(db, "INSERT INTO machine(id) VALUES (1)", &err, ""));
    assert_int_equal(count_of(db), 1);
}

static void a_row_that_points_nowhere_is_refused(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);

    EXPECT_ERR(ERR_INVALID, db_run(db, "INSERT INTO disk VALUES (?)", &err, "i", INT64_C(9)));
}

static void a_rollback_undoes_and_a_commit_keeps(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);

    EXPECT_OK(db_begin(db, &err));
    assert_true(db_in_transaction(db));
    EXPECT_OK(db_run(db, "INSERT INTO machine(name) VALUES (?)", &err, "s", "gone"));
    db_rollback(db);
    assert_false(db_in_transaction(db));
    db_rollback(db);
    EXPECT_OK(db_begin(db, &err));
    EXPECT_OK(db_run(db, "INSERT INTO machine(name) VALUES (?)", &err, "s", "kept"));
    EXPECT_OK(db_commit(db, &err));
    db_closep(&db);
    db = open_in(*state);
    assert_int_equal(count_of(db), 1);
}

static void one_text_can_be_in_use_twice(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);
    CLEANUP(db_stmt_end) struct db_stmt *a = NULL;
    CLEANUP(db_stmt_end) struct db_stmt *b = NULL;

    EXPECT_OK(db_run(db, "INSERT INTO machine(name) VALUES ('x'), ('y')", &err, ""));
    EXPECT_OK(db_prepare(db, "SELECT name FROM machine ORDER BY id", &a, &err, ""));
    assert_int_equal(db_step(a, &err), 1);
    EXPECT_OK(db_prepare(db, "SELECT name FROM machine ORDER BY id", &b, &err, ""));
    assert_int_equal(db_step(b, &err), 1);
    assert_int_equal(db_step(a, &err), 1);
    assert_string_equal(db_column_text(a, 0), "y");
    assert_string_equal(db_column_text(b, 0), "x");
}

static void a_statement_starts_over_after_its_end(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);

    EXPECT_OK(db_run(db, "INSERT INTO machine(name) VALUES ('x')", &err, ""));
    for (int i = 0; i < 3; i++) {
        CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
        EXPECT_OK(db_prepare(db, "SELECT name FROM machine WHERE name = ?", &stmt, &err, "s", "x"));
        assert_int_equal(db_step(stmt, &err), 1);
    }
}

static void values_must_match_the_parameters(void **state)
{
    CLEANUP(db_closep) struct db *db = with_table(*state);

    EXPECT_ERR(ERR_INVALID, db_run(db, "INSERT INTO machine(name) VALUES (?)", &err, ""));
    EXPECT_ERR(ERR_INVALID,
               db_run(db, "INSERT INTO machine(name) VALUES (?)", &err, "x", INT64_C(1)));
    EXPECT_ERR(ERR_INVALID, db_run(db, "DELETE FROM machine; DELETE FROM disk", &err, ""));
    EXPECT_ERR(ERR_IO, db_run(db, "SELEKT", &err, ""));
    EXPECT_TEXT("SELEKT");
}

static void a_file_that_is_no_database_is_corrupt(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "state.db");
    char garbage[4096];
    struct db *db = NULL;

    memset(garbage, 'x', sizeof(garbage));
    EXPECT_OK(fs_replace_file(fs_real(), path, garbage, sizeof(garbage), 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, db_open(path, &db, &err));
    EXPECT_TEXT(path);
    assert_null(db);
    db_close(NULL);
}

static void a_folder_that_is_missing_is_named(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "no/state.db");
    struct db *db = NULL;

    EXPECT_ERR(ERR_IO, db_open(path, &db, &err));
    EXPECT_TEXT(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(the_settings_are_the_safe_ones),
        TMPDIR_TEST(rows_come_back_as_they_went_in),
        TMPDIR_TEST(a_second_row_of_the_same_name_exists_already),
        TMPDIR_TEST(a_row_that_points_nowhere_is_refused),
        TMPDIR_TEST(a_rollback_undoes_and_a_commit_keeps),
        TMPDIR_TEST(one_text_can_be_in_use_twice),
        TMPDIR_TEST(a_statement_starts_over_after_its_end),
        TMPDIR_TEST(values_must_match_the_parameters),
        TMPDIR_TEST(a_file_that_is_no_database_is_corrupt),
        TMPDIR_TEST(a_folder_that_is_missing_is_named),
    };
    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
