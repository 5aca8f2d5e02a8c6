// SPDX-License-Identifier: Apache-2.0
#include "state/state.h"

#include "base/mem.h"
#include "state/schema.h"
#include "state/state_turn.h"

struct state {
    struct db *db;
    bool in_turn;
    json_t *touched; /* names; NULL: none */
};

MEM_FREEP(struct state, state_close)

int state_open(const char *path, struct state **ret_state, struct err *err)
{
    CLEANUP(state_closep) struct state *state = mem_new(struct state);

    if (db_open(path, &state->db, err) < 0) {
        if (err && err->code == ERR_CORRUPT)
            return err_wrap(err, "%s is no state database; hint: it was left as it is; state",
                            path);
        return err_wrap(err, "state");
    }
    if (schema_upgrade(state->db, path, schema_steps, schema_step_count, err) < 0)
        return err_wrap(err, "state");
    *ret_state = TAKE(state);
    return 0;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    if (state->db && state->in_turn)
        db_rollback(state->db);
    db_close(state->db);
    json_decref(state->touched);
    free(state);
}

bool state_in_turn(const struct state *state)
{
    return state->in_turn;
}

/* On some errors (a full disk) SQLite rolls back by itself; a write after that would be a
 * transaction of its own, half a turn. */
int state_turn_begin(struct state *state, struct err *err)
{
    if (state->in_turn && !db_in_transaction(state->db))
        return err_set(err, ERR_IO, 0, "state: the database took this turn's writes back");
    if (state->in_turn)
        return 0;
    if (db_begin(state->db, err) < 0)
        return err_wrap(err, "state");
    state->in_turn = true;
    return 0;
}

/* A commit that failed leaves nothing behind: what the turn wrote is gone as a whole. */
int state_turn_end(struct state *state, struct err *err)
{
    if (!state->in_turn)
        return 0;
    state->in_turn = false;
    if (!db_in_transaction(state->db))
        return err_set(err, ERR_IO, 0, "state: the database took this turn's writes back");
    if (db_commit(state->db, err) < 0) {
        db_rollback(state->db);
        return err_wrap(err, "commit state");
    }
    return 0;
}

void state_turn_abort(struct state *state)
{
    if (state->in_turn)
        db_rollback(state->db);
    state->in_turn = false;
}

void state_touch(struct state *state, const char *name)
{
    if (!state->touched)
        state->touched = json_object();
    (void)json_object_set_new(state->touched, name, json_true());
}

json_t *state_touched_take(struct state *state)
{
    json_t *touched = state->touched;

    state->touched = NULL;
    return touched ? touched : json_object();
}

struct db *state_db(struct state *state)
{
    return state->db;
}

char *state_column_text(struct db_stmt *stmt, int column)
{
    const char *text = db_column_text(stmt, column);

    return mem_strdup(text ? text : "");
}

const char *state_text(const char *text)
{
    return text ? text : "";
}

int state_gone(struct state *state, const char *what, const char *name, struct err *err)
{
    if (db_changes(state->db) == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no %s \"%s\"", what, name);
    return 0;
}
