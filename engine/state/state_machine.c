// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#define COLUMNS "name, host, definition, wanted_running, added_ms"

void state_machine_done(struct state_machine *machine)
{
    free(machine->name);
    free(machine->host);
    free(machine->definition);
    *machine = (struct state_machine){0};
}

void state_machines_done(struct state_machines *machines)
{
    VEC_FOREACH(machine, machines)
        state_machine_done(machine);
    state_machines_free(machines);
}

static void read_row(struct db_stmt *stmt, struct state_machine *ret_machine)
{
    *ret_machine = (struct state_machine){
        .name = state_column_text(stmt, 0),
        .host = state_column_text(stmt, 1),
        .definition = state_column_text(stmt, 2),
        .wanted_running = db_column_int(stmt, 3) != 0,
        .added_ms = db_column_int(stmt, 4),
    };
}

int state_machine_put(struct state *state, const struct state_machine *machine, struct err *err)
{
    state_touch(state, state_text(machine->name));
    return state_write(state, err,
                       "INSERT INTO machines (" COLUMNS ") VALUES (?, ?, ?, ?, ?)"
                       " ON CONFLICT (name) DO UPDATE SET "
                       "host = excluded.host, definition = excluded.definition,"
                       " wanted_running = excluded.wanted_running, added_ms = excluded.added_ms",
                       "sssii", state_text(machine->name), state_text(machine->host),
                       state_text(machine->definition), (int64_t)machine->wanted_running,
                       machine->added_ms);
}

int state_machine_get(struct state *state, const char *name, struct state_machine *ret_machine,
                      struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM machines WHERE name = ?", &stmt, err,
                   "s", name)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no machine \"%s\"", name);
    if (row > 0)
        read_row(stmt, ret_machine);
    return row < 0 ? -1 : 0;
}

int state_machine_list(struct state *state, struct state_machines *ret_machines, struct err *err)
{
    CLEANUP(state_machines_done) struct state_machines rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    int row;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM machines ORDER BY name", &stmt, err,
                   "")
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_machines_push(&rows));
    if (row < 0)
        return -1;
    *ret_machines = rows;
    rows = (struct state_machines)VEC_EMPTY;
    return 0;
}

int state_machine_remove(struct state *state, const char *name, struct err *err)
{
    state_touch(state, name);
    if (state_write(state, err, "DELETE FROM machines WHERE name = ?", "s", name) < 0)
        return -1;
    return state_gone(state, "machine", name, err);
}
