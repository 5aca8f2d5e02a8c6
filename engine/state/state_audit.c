// SPDX-License-Identifier: Apache-2.0
/* The chain's form stands in schema.c. */
#include "base/crypto.h"
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#include <inttypes.h>

#define HASH_HEX_BYTES (2 * SHA256_BYTES + 1)

struct entry {
    int64_t seq;
    int64_t at_ms;
    const char *who;
    const char *act;
    const char *object;
    const char *detail;
};

static json_t *entry_json(const struct entry *entry)
{
    return json_pack("{s:I, s:I, s:s, s:s, s:s, s:s}", "seq", (json_int_t)entry->seq, "at_ms",
                     (json_int_t)entry->at_ms, "who", entry->who, "act", entry->act, "object",
                     entry->object, "detail", entry->detail);
}

/* `hash` holds the previous entry's and gets this one's. ERR_INVALID: text that is no UTF-8. */
static int chain(const struct entry *entry, char hash[HASH_HEX_BYTES], struct err *err)
{
    CLEANUP(json_freep) json_t *json = entry_json(entry);
    CLEANUP(mem_freep) char *text = json ? json_text(json) : NULL;
    struct sha256 sum;

    if (!text)
        return err_set(err, ERR_INVALID, 0, "audit entry %" PRId64 " is not valid text",
                       entry->seq);
    struct sha256_run *run = sha256_begin();
    sha256_add(run, hash, HASH_HEX_BYTES - 1);
    sha256_add(run, text, strlen(text));
    sha256_end(run, &sum);
    str_hex(sum.bytes, sizeof(sum.bytes), hash);
    return 0;
}

static int read_head(struct state *state, int64_t *ret_seq, char ret_hash[HASH_HEX_BYTES],
                     struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT seq, hash FROM audit_head", &stmt, err, "") < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row < 0)
        return -1;
    if (row == 0 || strlen(state_text(db_column_text(stmt, 1))) != HASH_HEX_BYTES - 1)
        return err_set(err, ERR_CORRUPT, 0, "the audit chain's head is gone");
    *ret_seq = db_column_int(stmt, 0);
    memcpy(ret_hash, db_column_text(stmt, 1), HASH_HEX_BYTES);
    return 0;
}

int state_audit(struct state *state, int64_t wall_ms, const char *who, const char *act,
                const char *object, const char *detail, struct err *err)
{
    char hash[HASH_HEX_BYTES];
    struct entry entry = {
        .at_ms = wall_ms,
        .who = state_text(who),
        .act = state_text(act),
        .object = state_text(object),
        .detail = state_text(detail),
    };

    if (state_turn_begin(state, err) < 0 || read_head(state, &entry.seq, hash, err) < 0)
        return -1;
    entry.seq++;
    if (chain(&entry, hash, err) < 0)
        return -1;
    if (state_write(state, err,
                    "INSERT INTO audit (seq, at_ms, who, act, object, detail, hash)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    "iisssss", entry.seq, entry.at_ms, entry.who, entry.act, entry.object,
                    entry.detail, hash)
        < 0)
        return -1;
    return state_write(state, err, "UPDATE audit_head SET seq = ?, hash = ?", "is", entry.seq,
                       hash);
}

static void read_entry(struct db_stmt *stmt, struct entry *ret_entry)
{
    *ret_entry = (struct entry){
        .seq = db_column_int(stmt, 0),
        .at_ms = db_column_int(stmt, 1),
        .who = state_text(db_column_text(stmt, 2)),
        .act = state_text(db_column_text(stmt, 3)),
        .object = state_text(db_column_text(stmt, 4)),
        .detail = state_text(db_column_text(stmt, 5)),
    };
}

int state_audit_list(struct state *state, size_t limit, json_t **ret_entries, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    CLEANUP(json_freep) json_t *entries = json_array();
    int row;

    if (db_prepare(state_db(state),
                   "SELECT seq, at_ms, who, act, object, detail FROM audit"
                   " ORDER BY seq DESC LIMIT ?",
                   &stmt, err, "i", (int64_t)limit)
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0) {
        struct entry entry;
        read_entry(stmt, &entry);
        if (json_array_append_new(entries, entry_json(&entry)) < 0)
            return err_set(err, ERR_CORRUPT, 0, "audit entry %" PRId64 " is not valid text",
                           entry.seq);
    }
    if (row < 0)
        return -1;
    *ret_entries = TAKE(entries);
    return 0;
}

int state_audit_verify(struct state *state, int64_t *ret_entries, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    char hash[HASH_HEX_BYTES];
    char head[HASH_HEX_BYTES];
    int64_t head_seq;
    int64_t count = 0;
    int row;

    memset(hash, '0', sizeof(hash) - 1);
    hash[sizeof(hash) - 1] = '\0';
    if (read_head(state, &head_seq, head, err) < 0
        || db_prepare(state_db(state),
                      "SELECT seq, at_ms, who, act, object, detail, hash FROM audit ORDER BY seq",
                      &stmt, err, "")
               < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0) {
        struct entry entry;
        read_entry(stmt, &entry);
        if (entry.seq != ++count)
            return err_set(err, ERR_CORRUPT, 0, "audit entry %" PRId64 " is gone", count);
        if (chain(&entry, hash, err) < 0)
            return -1;
        if (!str_eq(hash, db_column_text(stmt, 6)))
            return err_set(err, ERR_CORRUPT, 0,
                           "audit entry %" PRId64 " or the one before it was altered", entry.seq);
    }
    if (row < 0)
        return -1;
    if (count != head_seq || !str_eq(hash, head))
        return err_set(err, ERR_CORRUPT, 0,
                       "the audit chain ends at entry %" PRId64 ", its head says %" PRId64, count,
                       head_seq);
    *ret_entries = count;
    return 0;
}
