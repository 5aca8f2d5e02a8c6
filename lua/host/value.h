// SPDX-License-Identifier: Apache-2.0
/* Lua values and JSON. In the child only; one thread. */
#pragma once

#include "base/json.h"

#include <lua.h>

#define VALUE_DEPTH_MAX 64

/* Appends the value at `index` to `text` as JSON, at most `max_bytes`. A table with the keys 1..n is
 * an array, also an empty one; one with names an object, keys sorted. ERR_INVALID: a function or
 * another thing that is no data, a table in itself, names and numbers mixed, a gap, a text that is
 * not UTF-8, a number that is not finite; the text tells where ("disks[2].hook is a function"),
 * and `ret_path` gets the place alone. ERR_LIMIT: too deep or too long. Raises a Lua error when
 * Lua's memory is used up. */
int value_to_json(lua_State *lua, int index, size_t max_bytes, struct str *text,
                  struct str *ret_path, struct err *err) MUST_CHECK;

/* Pushes it; null becomes false, since Lua tables cannot hold nil. Raises a Lua error when Lua's
 * memory is used up. */
void value_from_json(lua_State *lua, const json_t *json);
