// SPDX-License-Identifier: Apache-2.0
#include "base/db.h"

#include "base/mem.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

/* How long a statement waits for another process that writes. */
#define BUSY_MS 5000

struct db_stmt {
    struct db_stmt *next;
    struct db *db;
    sqlite3_stmt *stmt;
    bool in_use;
};

struct db {
    sqlite3 *handle;
    struct db_stmt *cache;
    char *path;
};

static enum err_code code_of(int extended)
{
    switch (extended & 0xff) {
    case SQLITE_FULL: return ERR_SPACE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERR_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERR_CORRUPT;
    case SQLITE_CONSTRAINT:
        return extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY
                       || extended == SQLITE_CONSTRAINT_ROWID
                   ? ERR_EXISTS
                   : ERR_INVALID;
    case SQLITE_NOMEM: return ERR_SPACE;
    case SQLITE_TOOBIG: return ERR_LIMIT;
    default: return ERR_IO;
    }
}

static int failed(const struct db *db, const char *sql, struct err *err)
{
    int extended = sqlite3_extended_errcode(db->handle);
    enum err_code code = code_of(extended);
    int sys = code == ERR_IO ? sqlite3_system_errno(db->handle) : 0;

    return err_set(err, code, sys, "%s: %s (sqlite %d) in: %.200s", db->path,
                   sqlite3_errmsg(db->handle), extended, sql);
}

static void db_closep(struct db **db)
{
    db_close(*db);
}

int db_open(const char *path, struct db **ret_db, struct err *err)
{
    CLEANUP(db_closep) struct db *db = mem_new(struct db);

    db->path = mem_strdup(path);
    /* One thread per handle, so SQLite need not lock it. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK) {
        if (!db->handle)
            return err_set(err, ERR_SPACE, 0, "%s: no memory for the database", path);
        return failed(db, "open", err);
    }
    (void)sqlite3_extended_result_codes(db->handle, 1);
    (void)sqlite3_busy_timeout(db->handle, BUSY_MS);
    if (db_exec(db, "PRAGMA journal_mode=WAL", err) < 0
        || db_exec(db, "PRAGMA synchronous=FULL", err) < 0
        || db_exec(db, "PRAGMA foreign_keys=ON", err) < 0)
        return -1;
    *ret_db = TAKE(db);
    return 0;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    while (db->cache) {
        struct db_stmt *stmt = db->cache;
        db->cache = stmt->next;
        (void)sqlite3_finalize(stmt->stmt);
        free(stmt);
    }
    (void)sqlite3_close_v2(db->handle);
    free(db->path);
    free(db);
}

int db_exec(struct db *db, const char *sql, struct err *err)
{
    if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        return failed(db, sql, err);
    return 0;
}

/* IMMEDIATE: the right to write is taken now, not at some later statement that would then have
 * to fail. */
int db_begin(struct db *db, struct err *err)
{
    return db_exec(db, "BEGIN IMMEDIATE", err);
}

int db_commit(struct db *db, struct err *err)
{
    return db_exec(db, "COMMIT", err);
}

void db_rollback(struct db *db)
{
    /* SQLite may have rolled back by itself (disk full); then this is an error that says so. */
    if (db_in_transaction(db))
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

bool db_in_transaction(const struct db *db)
{
    return sqlite3_get_autocommit(db->handle) == 0;
}

int64_t db_last_id(const struct db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

int64_t db_changes(const struct db *db)
{
    return sqlite3_changes64(db->handle);
}

/* A free statement of that text from the cache, or a new one in it. The same text can be in
 * use more than once at a time; each use has a statement of its own. */
static int stmt_for(struct db *db, const char *sql, struct db_stmt **ret_stmt, struct err *err)
{
    sqlite3_stmt *prepared = NULL;
    const char *rest = NULL;

    for (struct db_stmt *s = db->cache; s; s = s->next)
        if (!s->in_use && strcmp(sqlite3_sql(s->stmt), sql) == 0) {
            *ret_stmt = s;
            return 0;
        }
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, &rest)
        != SQLITE_OK)
        return failed(db, sql, err);
    if (!prepared || rest[strspn(rest, " \t\r\n;")]) {
        (void)sqlite3_finalize(prepared);
        return err_set(err, ERR_INVALID, 0, "%s: not exactly one statement: %.200s", db->path, sql);
    }
    struct db_stmt *s = mem_new(struct db_stmt);
    s->db = db;
    s->stmt = prepared;
    s->next = db->cache;
    db->cache = s;
    *ret_stmt = s;
    return 0;
}

static int bind_all(struct db_stmt *stmt, const char *format, va_list ap, struct err *err)
{
    int count = 0;
    int rc = SQLITE_OK;

    for (; format && *format && rc == SQLITE_OK; format++) {
        count++;
        if (*format == 's')
            rc = sqlite3_bind_text(stmt->stmt, count, va_arg(ap, const char *), -1,
                                   SQLITE_TRANSIENT);
        else if (*format == 'i')
            rc = sqlite3_bind_int64(stmt->stmt, count, va_arg(ap, int64_t));
        else
            return err_set(err, ERR_INVALID, 0, "unknown letter '%c' in the format of: %.200s",
                           *format, sqlite3_sql(stmt->stmt));
    }
    if (rc != SQLITE_OK)
        return failed(stmt->db, sqlite3_sql(stmt->stmt), err);
    if (count != sqlite3_bind_parameter_count(stmt->stmt))
        return err_set(err, ERR_INVALID, 0, "%d values for %d parameters of: %.200s", count,
                       sqlite3_bind_parameter_count(stmt->stmt), sqlite3_sql(stmt->stmt));
    return 0;
}

static int prepare(struct db *db, const char *sql, struct db_stmt **ret_stmt, struct err *err,
                   const char *format, va_list ap)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (stmt_for(db, sql, &stmt, err) < 0)
        return -1;
    stmt->in_use = true;
    if (bind_all(stmt, format, ap, err) < 0)
        return -1;
    *ret_stmt = TAKE(stmt);
    return 0;
}

int db_prepare(struct db *db, const char *sql, struct db_stmt **ret_stmt, struct err *err,
               const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    int result = prepare(db, sql, ret_stmt, err, format, ap);
    va_end(ap);
    return result;
}

int db_step(struct db_stmt *stmt, struct err *err)
{
    switch (sqlite3_step(stmt->stmt)) {
    case SQLITE_ROW: return 1;
    case SQLITE_DONE: return 0;
    default: return failed(stmt->db, sqlite3_sql(stmt->stmt), err);
    }
}

int64_t db_column_int(struct db_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt->stmt, column);
}

const char *db_column_text(struct db_stmt *stmt, int column)
{
    return (const char *)sqlite3_column_text(stmt->stmt, column);
}

void db_stmt_end(struct db_stmt **stmt)
{
    if (!*stmt)
        return;
    (void)sqlite3_reset((*stmt)->stmt);
    (void)sqlite3_clear_bindings((*stmt)->stmt);
    (*stmt)->in_use = false;
    *stmt = NULL;
}

int db_run(struct db *db, const char *sql, struct err *err, const char *format, ...)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    va_list ap;
    int row;

    va_start(ap, format);
    int result = prepare(db, sql, &stmt, err, format, ap);
    va_end(ap);
    if (result < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0) {
    }
    return row;
}
