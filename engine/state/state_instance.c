// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#define COLUMNS "run, machine, test, definition, \"group\", point, run_dir, netns"

void state_instance_done(struct state_instance *instance)
{
    free(instance->run);
    free(instance->machine);
    free(instance->definition);
    free(instance->group);
    free(instance->run_dir);
    free(instance->netns);
    *instance = (struct state_instance){0};
}

void state_instances_done(struct state_instances *instances)
{
    VEC_FOREACH(instance, instances)
        state_instance_done(instance);
    state_instances_free(instances);
}

static void read_row(struct db_stmt *stmt, struct state_instance *ret_instance)
{
    *ret_instance = (struct state_instance){
        .run = state_column_text(stmt, 0),
        .machine = state_column_text(stmt, 1),
        .test = db_column_int(stmt, 2) != 0,
        .definition = state_column_text(stmt, 3),
        .group = state_column_text(stmt, 4),
        .point = (uint64_t)db_column_int(stmt, 5),
        .run_dir = state_column_text(stmt, 6),
        .netns = state_column_text(stmt, 7),
    };
}

int state_instance_put(struct state *state, const struct state_instance *instance, struct err *err)
{
    return state_write(state, err,
                       "INSERT INTO instances (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT (run, machine) DO UPDATE SET "
                       "test = excluded.test, definition = excluded.definition,"
                       " \"group\" = excluded.\"group\", point = excluded.point,"
                       " run_dir = excluded.run_dir, netns = excluded.netns",
                       "ssississ", state_text(instance->run), state_text(instance->machine),
                       (int64_t)instance->test, state_text(instance->definition),
                       state_text(instance->group), (int64_t)instance->point,
                       state_text(instance->run_dir), state_text(instance->netns));
}

int state_instance_list(struct state *state, struct state_instances *ret_instances, struct err *err)
{
    CLEANUP(state_instances_done) struct state_instances rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    int row;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM instances ORDER BY run, machine",
                   &stmt, err, "")
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_instances_push(&rows));
    if (row < 0)
        return -1;
    *ret_instances = rows;
    rows = (struct state_instances)VEC_EMPTY;
    return 0;
}

int state_instance_recovered(struct state *state, const char *machine,
                             struct state_instance *ret_instance, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state),
                   "SELECT " COLUMNS " FROM instances WHERE machine = ? AND test = 0"
                   " ORDER BY run DESC LIMIT 1",
                   &stmt, err, "s", machine)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "%s was not failed over to here", machine);
    if (row < 0)
        return -1;
    read_row(stmt, ret_instance);
    return 0;
}

int state_instance_remove(struct state *state, const char *run, const char *machine,
                          struct err *err)
{
    if (state_write(state, err, "DELETE FROM instances WHERE run = ? AND machine = ?", "ss", run,
                    machine)
        < 0)
        return -1;
    return state_gone(state, "instance of machine", machine, err);
}
