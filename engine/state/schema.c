// SPDX-License-Identifier: Apache-2.0
/* state.db, version 4. Times are milliseconds since 1970; JSON and states are text.
 *
 *   schema       one row: the version
 *   machines     this site's machines
 *   protections  one row per group: the sending side's or the holding side's
 *   instances    machines started from a replica, until they are removed
 *   plans        Lua text, its document and that document's hash
 *   runs         one row per run; ids are never used again
 *   actions      the journal: an intent, then its result, per (run, step, attempt, action)
 *   jobs         long operations; ids are never used again
 *   policies     named settings of protections; "default" is there without a row
 *   audit        entry N's hash is SHA-256 over the hash of N - 1 (hex; 64 zeros before the first)
 *                followed by the entry as canonical JSON {seq, at_ms, who, act, object, detail}
 *   audit_head   one row: the newest entry's number and hash; a cut-off tail does not fit it
 */
#include "state/schema.h"

#include "base/mem.h"

#include <inttypes.h>

const char *const schema_steps[] = {
    "CREATE TABLE machines ("
    " name TEXT PRIMARY KEY, host TEXT NOT NULL, definition TEXT NOT NULL,"
    " wanted_running INTEGER NOT NULL, added_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE protections ("
    " \"group\" TEXT PRIMARY KEY, peer TEXT NOT NULL,"
    " role TEXT NOT NULL CHECK (role IN ('source', 'replica')), state TEXT NOT NULL,"
    " settings TEXT NOT NULL, generation INTEGER NOT NULL, since_ms INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE instances ("
    " run TEXT NOT NULL, machine TEXT NOT NULL, test INTEGER NOT NULL, definition TEXT NOT NULL,"
    " \"group\" TEXT NOT NULL, point INTEGER NOT NULL, run_dir TEXT NOT NULL, netns TEXT NOT NULL,"
    " PRIMARY KEY (run, machine)) WITHOUT ROWID;"
    "CREATE TABLE plans ("
    " name TEXT PRIMARY KEY, source TEXT NOT NULL, document TEXT NOT NULL, hash TEXT NOT NULL,"
    " origin TEXT NOT NULL, added_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE runs ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, plan TEXT NOT NULL, kind TEXT NOT NULL,"
    " state TEXT NOT NULL, reason TEXT NOT NULL, inputs TEXT NOT NULL, who TEXT NOT NULL,"
    " declared_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL);"
    "CREATE INDEX runs_open ON runs (id) WHERE ended_ms = 0;"
    "CREATE TABLE actions ("
    " run INTEGER NOT NULL REFERENCES runs (id), step INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " action INTEGER NOT NULL, verb TEXT NOT NULL, state TEXT NOT NULL, result TEXT NOT NULL,"
    " error TEXT NOT NULL, error_code TEXT NOT NULL, started_ms INTEGER NOT NULL,"
    " ended_ms INTEGER NOT NULL, PRIMARY KEY (run, step, attempt, action)) WITHOUT ROWID;"
    "CREATE TABLE jobs ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, object TEXT NOT NULL,"
    " args TEXT NOT NULL, state TEXT NOT NULL, tasks TEXT NOT NULL, error TEXT NOT NULL,"
    " who TEXT NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL);"
    "CREATE INDEX jobs_open ON jobs (id) WHERE ended_ms = 0;"
    "CREATE TABLE audit ("
    " seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, act TEXT NOT NULL,"
    " object TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL);"
    "CREATE TABLE audit_head ("
    " one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL);"
    "INSERT INTO audit_head VALUES (1, 0, "
    "'0000000000000000000000000000000000000000000000000000000000000000');",
    /* A failed job of before has no code. */
    "ALTER TABLE jobs ADD COLUMN error_code TEXT NOT NULL DEFAULT '';",
    /* What the actions of before were given, their plans say. */
    "ALTER TABLE actions ADD COLUMN args TEXT NOT NULL DEFAULT '';",
    "CREATE TABLE policies ("
    " name TEXT PRIMARY KEY, settings TEXT NOT NULL, added_ms INTEGER NOT NULL,"
    " changed_ms INTEGER NOT NULL) WITHOUT ROWID;",
};
const size_t schema_step_count = ARRAY_LEN(schema_steps);

/* One number out of one row, or `ret_value` stays. */
static int number(struct db *db, const char *sql, int64_t *ret_value, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(db, sql, &stmt, err, "") < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row > 0)
        *ret_value = db_column_int(stmt, 0);
    return row < 0 ? -1 : 0;
}

static int version_of(struct db *db, const char *path, int64_t *ret_version, struct err *err)
{
    int64_t tables = 0;
    int64_t ours = 0;
    int64_t version = -1;

    if (number(db, "SELECT count(*) FROM sqlite_schema", &tables, err) < 0
        || number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'schema'", &ours, err) < 0)
        return -1;
    if (tables > 0 && ours == 0)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: a database of some other program, it has %" PRId64
                       " tables and none is named \"schema\"; hint: it was left as it is",
                       path, tables);
    if (tables > 0 && number(db, "SELECT version FROM schema", &version, err) < 0)
        return -1;
    if (tables > 0 && version < 1)
        return err_set(err, ERR_CORRUPT, 0, "%s: its schema has no version", path);
    *ret_version = tables > 0 ? version : 0;
    return 0;
}

static int run_steps(struct db *db, const char *const *steps, int64_t from, size_t count,
                     struct err *err)
{
    if (from == 0
        && db_exec(db,
                   "CREATE TABLE schema (version INTEGER NOT NULL);"
                   "INSERT INTO schema VALUES (0)",
                   err)
               < 0)
        return -1;
    for (size_t i = (size_t)from; i < count; i++)
        if (db_exec(db, steps[i], err) < 0)
            return err_wrap(err, "schema version %zu", i + 1);
    return db_run(db, "UPDATE schema SET version = ?", err, "i", (int64_t)count);
}

/* The version is read inside the transaction: of two programs that open at once, one waits and
 * then finds the work done. */
static int upgrade_in(struct db *db, const char *path, const char *const *steps, size_t count,
                      struct err *err)
{
    int64_t version = 0;

    if (version_of(db, path, &version, err) < 0)
        return -1;
    if (version > (int64_t)count)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: schema version %" PRId64 ", this program knows %zu; hint: use the "
                       "newer program that wrote it",
                       path, version, count);
    if (version == (int64_t)count)
        return 0;
    return run_steps(db, steps, version, count, err);
}

int schema_upgrade(struct db *db, const char *path, const char *const *steps, size_t count,
                   struct err *err)
{
    if (db_begin(db, err) < 0)
        return -1;
    if (upgrade_in(db, path, steps, count, err) < 0) {
        db_rollback(db);
        return -1;
    }
    return db_commit(db, err);
}
