// SPDX-License-Identifier: Apache-2.0
/* For state_*.c: the handle, the turn's transaction, and reading columns. */
#pragma once

#include "base/db.h"
#include "state/state.h"

struct db *state_db(struct state *state);
/* Before each write: begins the turn's transaction unless it has begun. */
int state_turn_begin(struct state *state, struct err *err) MUST_CHECK;

/* state_turn_begin, then the statement. */
#define state_write(state, err, sql, ...) \
    (state_turn_begin((state), (err)) < 0 ? -1 : db_run(state_db(state), (sql), (err), __VA_ARGS__))

/* A row of that name was written or removed. */
void state_touch(struct state *state, const char *name);

/* A column's text as a string of the caller's; SQL NULL is "". */
char *state_column_text(struct db_stmt *stmt, int column);
/* What a write stores for a field that may be NULL. */
const char *state_text(const char *text);
/* After a DELETE: ERR_NOT_FOUND when nothing was deleted. */
int state_gone(struct state *state, const char *what, const char *name, struct err *err) MUST_CHECK;
