// SPDX-License-Identifier: Apache-2.0
/* SQLite, narrowed to what we use: WAL, synchronous=FULL, foreign keys on, prepared statements.
 * The SQL itself lives in engine/state. One thread per handle. Errors: ERR_IO, ERR_SPACE
 * (SQLITE_FULL), ERR_BUSY, ERR_CORRUPT, ERR_EXISTS (unique constraint). */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct db;
struct db_stmt;

int db_open(const char *path, struct db **ret_db, struct err *err) MUST_CHECK;
void db_close(struct db *db); /* NULL is fine */
int db_exec(struct db *db, const char *sql, struct err *err) MUST_CHECK;
int db_begin(struct db *db, struct err *err) MUST_CHECK;
int db_commit(struct db *db, struct err *err) MUST_CHECK;
void db_rollback(struct db *db);
bool db_in_transaction(const struct db *db);
int64_t db_last_id(const struct db *db);
int64_t db_changes(const struct db *db);

/* Prepared once per text, cached in the handle. `format` gives the bound values in order:
 * 's' const char * (NULL is SQL NULL), 'i' int64_t. db_stmt_end when done; then it can be used
 * again. */
int db_prepare(struct db *db, const char *sql, struct db_stmt **ret_stmt, struct err *err,
               const char *format, ...) MUST_CHECK;
/* 1: a row is there; 0: no more rows; -1: error. */
int db_step(struct db_stmt *stmt, struct err *err) MUST_CHECK;
int64_t db_column_int(struct db_stmt *stmt, int column);
const char *db_column_text(struct db_stmt *stmt, int column); /* NULL for SQL NULL */
void db_stmt_end(struct db_stmt **stmt);                      /* also for CLEANUP */
/* Prepare, step to the end, and end: for statements without rows. */
int db_run(struct db *db, const char *sql, struct err *err, const char *format, ...) MUST_CHECK;
