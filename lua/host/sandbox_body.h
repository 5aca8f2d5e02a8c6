// SPDX-License-Identifier: Apache-2.0
/* The function of a step at work: what the words of lua/muster need of C for it. In the child
 * only. */
#pragma once

#include "host/sandbox.h"
#include "host/sandbox_lib.h"

struct sandbox_body {
    const struct sandbox_job *job;
    struct sandbox_raised *raised;
};

/* Adds to the table on top: lines(f), the first and last line of a function of the author's, or nil;
 * and for HOST_BODY:
 *   ask(request)         sends it and gives the answer
 *   raise(code, text, verb, line)   raises an error value {code, message, verb, line}
 *   mistake(text, line)  ends the child with that error: no pcall shall hide it
 *   error, assert        Lua's own; what they raise is the author's word, not a mistake */
void sandbox_body_host(lua_State *lua, struct sandbox_body *body);

/* Is the value at `index` one of raise's? What it says then; the text is kept alive by it. */
bool sandbox_body_raised(lua_State *lua, int index, enum err_code *ret_code, unsigned *ret_line,
                         const char **ret_text);

/* On the stack: the step's function, act, and what is called with the number of values it returned
 * when it is over. Replaces them by what the function returned. `ret_line`: where the function
 * begins. */
void sandbox_body_run(lua_State *lua, struct sandbox_body *body, unsigned *ret_line);
