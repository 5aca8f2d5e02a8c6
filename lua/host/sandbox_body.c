// SPDX-License-Identifier: Apache-2.0
#include "host/sandbox_body.h"

#include "base/mem.h"
#include "host/sandbox_shared.h"
#include "host/value.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_TYPE "error"

static struct sandbox_body *body_of(lua_State *lua)
{
    return lua_touserdata(lua, lua_upvalueindex(1));
}

/* Does not come back. */
static void PRINTF_LIKE(4, 5) fail(const struct sandbox_body *body, enum err_code code,
                                   unsigned line, const char *format, ...)
{
    struct err err = {.code = code};
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(err.text, sizeof(err.text), format, ap);
    va_end(ap);
    body->job->fail(body->job->ctx, &err, line);
    abort();
}

/* Before anything more is asked for: what was written is neither kept nor seen by others. */
static void check_shared(lua_State *lua, const struct sandbox_body *body, unsigned line)
{
    if (lua_rawgetp(lua, LUA_REGISTRYINDEX, body) == LUA_TTABLE) {
        const char *name = sandbox_shared_changed(lua, -1);
        if (name)
            fail(body, ERR_INVALID, line,
                 "the function writes to '%s', which it shares with the rest of the plan; hint: "
                 "declare it inside of the function, or return a value and read that by result "
                 "\"TITLE\"",
                 name);
    }
    lua_pop(lua, 1);
}

/* --- For the words ------------------------------------------------------------------------- */

static int host_lines(lua_State *lua)
{
    lua_Debug at;

    luaL_checktype(lua, 1, LUA_TFUNCTION);
    lua_settop(lua, 1);
    if (!lua_getinfo(lua, ">S", &at) || strcmp(at.source, "=" SANDBOX_CHUNK) != 0)
        return 0;
    lua_pushinteger(lua, at.linedefined);
    lua_pushinteger(lua, at.lastlinedefined);
    return 2;
}

static int host_ask(lua_State *lua)
{
    const struct sandbox_body *body = body_of(lua);
    struct str line = STR_EMPTY;
    struct str path = STR_EMPTY;
    json_t *answer = NULL;
    struct err err = ERR_EMPTY;

    check_shared(lua, body, sandbox_line(lua));
    if (value_to_json(lua, 1, body->job->result_bytes, &line, &path, &err) < 0)
        fail(body, err.code, sandbox_line(lua), "%s", err.text);
    str_add(&line, "\n");
    int rc = body->job->ask(body->job->ctx, line.ptr, line.len, &answer, &err);
    str_free(&line);
    str_free(&path);
    if (rc < 0)
        fail(body, ERR_PROTOCOL, sandbox_line(lua), "the answer is malformed: %s", err.text);
    value_from_json(lua, answer);
    json_decref(answer);
    return 1;
}

static int error_text(lua_State *lua)
{
    if (lua_istable(lua, 1) && lua_getfield(lua, 1, "message") == LUA_TSTRING)
        return 1;
    lua_pushliteral(lua, "error");
    return 1;
}

static int host_raise(lua_State *lua)
{
    static const char *const fields[] = {"code", "message", "verb", "line"};

    lua_settop(lua, (int)ARRAY_LEN(fields));
    lua_createtable(lua, 0, (int)ARRAY_LEN(fields));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        lua_pushvalue(lua, (int)i + 1);
        lua_setfield(lua, -2, fields[i]);
    }
    if (luaL_newmetatable(lua, ERROR_TYPE)) {
        lua_pushcfunction(lua, error_text);
        lua_setfield(lua, -2, "__tostring");
    }
    lua_setmetatable(lua, -2);
    return lua_error(lua);
}

static int host_mistake(lua_State *lua)
{
    lua_Integer line = luaL_optinteger(lua, 2, 0);

    fail(body_of(lua), ERR_INVALID, line > 0 ? (unsigned)line : sandbox_line(lua), "%s",
         luaL_checkstring(lua, 1));
    return 0;
}

/* What an author says himself: something is not as it must be, which may be so a little later. */
static void note(lua_State *lua)
{
    struct sandbox_raised *raised = body_of(lua)->raised;

    if (lua_type(lua, 1) != LUA_TSTRING)
        return;
    raised->code = ERR_STATE;
    (void)snprintf(raised->text, sizeof(raised->text), "%s", lua_tostring(lua, 1));
}

static int host_error(lua_State *lua)
{
    lua_Integer level = luaL_optinteger(lua, 2, 1);

    lua_settop(lua, 1);
    note(lua);
    if (lua_type(lua, 1) == LUA_TSTRING && level > 0 && level < 100) {
        luaL_where(lua, (int)level);
        lua_insert(lua, 1);
        lua_concat(lua, 2);
    }
    return lua_error(lua);
}

static int host_assert(lua_State *lua)
{
    luaL_checkany(lua, 1);
    if (lua_toboolean(lua, 1))
        return lua_gettop(lua);
    lua_remove(lua, 1);
    if (lua_gettop(lua) == 0)
        lua_pushliteral(lua, "assertion failed!");
    lua_settop(lua, 1);
    note(lua);
    return lua_error(lua);
}

void sandbox_body_host(lua_State *lua, struct sandbox_body *body)
{
    static const luaL_Reg always[] = {{"lines", host_lines}, {NULL, NULL}};
    static const luaL_Reg in_body[] = {
        {"ask", host_ask},     {"raise", host_raise},   {"mistake", host_mistake},
        {"error", host_error}, {"assert", host_assert}, {NULL, NULL},
    };

    luaL_setfuncs(lua, always, 0);
    if (body->job->mode != HOST_BODY)
        return;
    lua_pushlightuserdata(lua, body);
    luaL_setfuncs(lua, in_body, 1);
}

/* --- For the sandbox ----------------------------------------------------------------------- */

bool sandbox_body_raised(lua_State *lua, int index, enum err_code *ret_code, unsigned *ret_line,
                         const char **ret_text)
{
    index = lua_absindex(lua, index);
    if (!lua_istable(lua, index) || !lua_getmetatable(lua, index))
        return false;
    lua_getfield(lua, index, "line");
    lua_Integer line = lua_tointeger(lua, -1);
    lua_getfield(lua, index, "code");
    const char *code = lua_type(lua, -1) == LUA_TSTRING ? lua_tostring(lua, -1) : "";
    lua_getfield(lua, index, "message");
    *ret_text = lua_type(lua, -1) == LUA_TSTRING ? lua_tostring(lua, -1) : "error";
    *ret_code = err_code_parse(code); /* authors can spoil it */
    if (*ret_code == ERR_NONE)
        *ret_code = ERR_STATE;
    *ret_line = line > 0 && line <= UINT32_MAX ? (unsigned)line : 0;
    lua_pop(lua, 4);
    return true;
}

void sandbox_body_run(lua_State *lua, struct sandbox_body *body, unsigned *ret_line)
{
    lua_Debug at;
    int function = lua_gettop(lua) - 2;

    lua_pushvalue(lua, function);
    (void)lua_getinfo(lua, ">S", &at);
    *ret_line = at.linedefined > 0 ? (unsigned)at.linedefined : 0;
    sandbox_shared_take(lua, function);
    lua_rawsetp(lua, LUA_REGISTRYINDEX, body);

    lua_pushvalue(lua, function);
    lua_pushvalue(lua, function + 1);
    lua_call(lua, 1, 1);
    check_shared(lua, body, *ret_line);
    lua_pushvalue(lua, function + 2);
    lua_pushboolean(lua, !lua_isnil(lua, -2));
    lua_call(lua, 1, 0);
    lua_replace(lua, function);
    lua_settop(lua, function);
}
