// SPDX-License-Identifier: Apache-2.0
/* What a step's function shares with the rest of its plan: the variables outside of it that it, or
 * a function it can reach, uses, and the tables in them. Each attempt is given them anew, so a
 * write would be seen by nobody, or by some: it is found, and named. In the child only. */
#pragma once

#include <lua.h>

/* Pushes a picture of all that the function at `index` shares. */
void sandbox_shared_take(lua_State *lua, int index);
/* The variable that is not as in the picture at `index` any more, or whose table is not; NULL: all
 * are. Kept alive by the picture. */
const char *sandbox_shared_changed(lua_State *lua, int index);
