// SPDX-License-Identifier: Apache-2.0
/* A picture is a list of {holder, name, upvalue, value}: of a function's upvalue its number and
 * value, of a table (upvalue 0) a shallow copy as its value. It grows while it is walked, until
 * nothing new is met. */
#include "host/sandbox_shared.h"

#include "host/sandbox_lib.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

enum field { HOLDER = 1, NAME, UPVALUE, VALUE };

/* True once per table or function: the value on top. */
static bool is_new(lua_State *lua, int seen)
{
    lua_pushvalue(lua, -1);
    bool known = lua_rawget(lua, seen) != LUA_TNIL;
    lua_pop(lua, 1);
    if (known)
        return false;
    lua_pushvalue(lua, -1);
    lua_pushboolean(lua, 1);
    lua_rawset(lua, seen);
    return true;
}

/* Appends the value on top, which it pops, as what `holder` has. */
static void add(lua_State *lua, int picture, int holder, const char *name, int upvalue)
{
    lua_createtable(lua, VALUE, 0);
    lua_pushvalue(lua, holder);
    lua_rawseti(lua, -2, HOLDER);
    lua_pushstring(lua, name);
    lua_rawseti(lua, -2, NAME);
    lua_pushinteger(lua, upvalue);
    lua_rawseti(lua, -2, UPVALUE);
    lua_insert(lua, -2);
    lua_rawseti(lua, -2, VALUE);
    lua_rawseti(lua, picture, (lua_Integer)lua_rawlen(lua, picture) + 1);
}

static void add_table(lua_State *lua, int picture, int table, const char *name)
{
    lua_newtable(lua);
    for (lua_pushnil(lua); lua_next(lua, table);) {
        lua_pushvalue(lua, -2);
        lua_insert(lua, -2);
        lua_rawset(lua, -4);
    }
    add(lua, picture, table, name, 0);
}

static bool is_authors(lua_State *lua, int function)
{
    lua_Debug at;

    lua_pushvalue(lua, function);
    return lua_getinfo(lua, ">S", &at) && strcmp(at.source, "=" SANDBOX_CHUNK) == 0;
}

static void add_upvalues(lua_State *lua, int picture, int function)
{
    const char *name;

    for (int i = 1; (name = lua_getupvalue(lua, function, i)) != NULL; i++) {
        if (strcmp(name, "_ENV") == 0)
            lua_pop(lua, 1); /* the words: nobody can write to them */
        else
            add(lua, picture, function, name, i);
    }
}

/* Looks into the value on top, known by `name`, and pops it. */
static void visit(lua_State *lua, int picture, int seen, const char *name)
{
    int value = lua_gettop(lua);

    luaL_checkstack(lua, 10, "shared");
    if (lua_istable(lua, value) && is_new(lua, seen))
        add_table(lua, picture, value, name);
    else if (lua_isfunction(lua, value) && is_authors(lua, value) && is_new(lua, seen))
        add_upvalues(lua, picture, value);
    lua_settop(lua, value - 1);
}

/* What can be reached from one entry of the picture, which is on top. */
static void visit_entry(lua_State *lua, int picture, int seen)
{
    int entry = lua_gettop(lua);

    lua_rawgeti(lua, entry, NAME);
    const char *name = lua_tostring(lua, -1);
    lua_rawgeti(lua, entry, UPVALUE);
    bool is_table = lua_tointeger(lua, -1) == 0;
    lua_rawgeti(lua, entry, VALUE);
    int value = lua_gettop(lua);
    if (is_table) {
        for (lua_pushnil(lua); lua_next(lua, value);)
            visit(lua, picture, seen, name);
    } else {
        lua_pushvalue(lua, value);
        visit(lua, picture, seen, name);
    }
    lua_settop(lua, entry);
}

void sandbox_shared_take(lua_State *lua, int index)
{
    index = lua_absindex(lua, index);
    lua_newtable(lua);
    int picture = lua_gettop(lua);
    lua_newtable(lua);
    int seen = picture + 1;

    lua_pushvalue(lua, index);
    visit(lua, picture, seen, "?");
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(lua, picture); i++) {
        lua_rawgeti(lua, picture, i);
        visit_entry(lua, picture, seen);
        lua_pop(lua, 1);
    }
    lua_settop(lua, picture);
}

/* The two values on top, which it pops. What is not a number is equal to itself. */
static bool pop_equal(lua_State *lua)
{
    bool equal = lua_rawequal(lua, -1, -2)
                 || (lua_type(lua, -1) == LUA_TNUMBER && lua_type(lua, -2) == LUA_TNUMBER
                     && !lua_rawequal(lua, -1, -1) && !lua_rawequal(lua, -2, -2));

    lua_pop(lua, 2);
    return equal;
}

/* Is all that table `a` has the same in `b`? */
static bool is_within(lua_State *lua, int a, int b)
{
    for (lua_pushnil(lua); lua_next(lua, a);) {
        lua_pushvalue(lua, -2);
        lua_rawget(lua, b);
        if (!pop_equal(lua)) {
            lua_pop(lua, 1);
            return false;
        }
    }
    return true;
}

/* The entry on top. */
static bool is_changed(lua_State *lua)
{
    int entry = lua_gettop(lua);

    lua_rawgeti(lua, entry, UPVALUE);
    int upvalue = (int)lua_tointeger(lua, -1);
    lua_rawgeti(lua, entry, HOLDER);
    int holder = lua_gettop(lua);
    lua_rawgeti(lua, entry, VALUE);
    int value = lua_gettop(lua);
    bool same;
    if (upvalue == 0) {
        same = is_within(lua, holder, value) && is_within(lua, value, holder);
    } else {
        (void)lua_getupvalue(lua, holder, upvalue);
        same = pop_equal(lua);
    }
    lua_settop(lua, entry);
    return !same;
}

const char *sandbox_shared_changed(lua_State *lua, int index)
{
    const char *name = NULL;

    index = lua_absindex(lua, index);
    luaL_checkstack(lua, 10, "shared");
    for (lua_Integer i = 1; !name && i <= (lua_Integer)lua_rawlen(lua, index); i++) {
        lua_rawgeti(lua, index, i);
        if (is_changed(lua)) {
            lua_rawgeti(lua, -1, NAME);
            name = lua_tostring(lua, -1);
            lua_pop(lua, 1);
        }
        lua_pop(lua, 1);
    }
    return name;
}
