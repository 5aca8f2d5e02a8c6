// SPDX-License-Identifier: Apache-2.0
/* Lua's own functions as plans and data have them: nothing that touches the world, nothing that
 * differs from one load to the next (addresses, table order, time, chance). */
#pragma once

#include "base/err.h"

#include <lua.h>
#include <stdbool.h>

/* The name of the author's chunk in Lua's messages: "TEXT:12: ...". */
#define SANDBOX_CHUNK "TEXT"

/* What a raised error means to the caller; kept beside the message, which is what Lua carries. */
struct sandbox_raised {
    enum err_code code;
    char text[512];
};

/* Pushes a table with all that is allowed. `raised` outlives the state. */
void sandbox_push_library(lua_State *lua, struct sandbox_raised *raised);

/* Pushes the globals of a chunk: reads come from the table at `words`, an unknown word and any write
 * is an error that names it. */
void sandbox_push_globals(lua_State *lua, int words, struct sandbox_raised *raised);

/* What there is to say about a word that is not known; ERR_DENIED: one that is kept out. */
enum err_code sandbox_unknown_word(lua_State *lua, const char *word, int words, char *ret_text,
                                   size_t size);
/* About a write to a global. */
void sandbox_global_write(lua_State *lua, const char *name, int words, char *ret_text, size_t size);

/* Raises "what", which is then reported with `code`. */
int sandbox_raise(lua_State *lua, struct sandbox_raised *raised, enum err_code code,
                  const char *format, ...) PRINTF_LIKE(4, 5);

/* A function of the author's text, not of Lua's or ours. */
bool sandbox_is_authors(lua_State *lua, int index);

/* The line of the author's text that is running, 0 when none is. */
unsigned sandbox_line(lua_State *lua);
