// SPDX-License-Identifier: Apache-2.0
#include "host/sandbox_lib.h"

#include "base/mem.h"
#include "base/str.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No text a plan means to write is longer. */
#define REP_BYTES_MAX ((size_t)1024 * 1024)

static const char *const base_names[] = {"assert", "error",    "ipairs", "pcall",
                                         "select", "tonumber", "type",   NULL};

/* What authors reach for and do not find: why, and what to use. */
static const struct absent {
    const char *name;
    const char *why;
} absents[] = {
    {"print", "prints nothing here; hint: use error(\"...\") to see a value while you write"},
    {"io", "is not here: a plan or data file touches no files"},
    {"os", "is not here: a plan or data file knows neither the clock nor the system"},
    {"require", "is not here: a plan or data file stands alone; hint: put the functions into it"},
    {"dofile", "is not here: a plan or data file stands alone; hint: put the text into it"},
    {"loadfile", "is not here: a plan or data file stands alone; hint: put the text into it"},
    {"load", "is not here: no text is run but the file itself"},
    {"loadstring", "is not here: no text is run but the file itself"},
    {"package", "is not here: a plan or data file stands alone"},
    {"debug", "is not here: nothing looks into the Lua machine"},
    {"coroutine", "is not here: a file is run from top to bottom"},
    {"collectgarbage", "is not here: memory is bounded from outside"},
    {"setmetatable", "is not here: tables are plain data"},
    {"getmetatable", "is not here: tables are plain data"},
    {"rawget", "is not here: tables are plain data; hint: write t[key]"},
    {"rawset", "is not here: tables are plain data; hint: write t[key] = value"},
    {"rawequal", "is not here: tables are plain data; hint: write a == b"},
    {"rawlen", "is not here: tables are plain data; hint: write #t"},
    {"next", "is not here: its order differs from run to run; hint: use pairs, which sorts"},
    {"xpcall", "is not here; hint: use pcall"},
    {"_G", "is not here: there are no global variables"},
    {"each", "comes in a later version; hint: write the steps one by one"},
    {"act", "is what a step's function is given; hint: step \"Do this\" { function(act) ... end }"},
};

int sandbox_raise(lua_State *lua, struct sandbox_raised *raised, enum err_code code,
                  const char *format, ...)
{
    va_list ap;

    raised->code = code;
    va_start(ap, format);
    (void)vsnprintf(raised->text, sizeof(raised->text), format, ap);
    va_end(ap);
    luaL_where(lua, 1);
    lua_pushstring(lua, raised->text);
    lua_concat(lua, 2);
    return lua_error(lua);
}

unsigned sandbox_line(lua_State *lua)
{
    lua_Debug at;

    for (int level = 0; lua_getstack(lua, level, &at); level++) {
        if (lua_getinfo(lua, "Sl", &at) && strcmp(at.source, "=" SANDBOX_CHUNK) == 0
            && at.currentline > 0)
            return (unsigned)at.currentline;
    }
    return 0;
}

static struct sandbox_raised *raised_of(lua_State *lua)
{
    return lua_touserdata(lua, lua_upvalueindex(1));
}

/* --- Words of the base library ------------------------------------------------------------ */

/* Its text would be its address. Only tables that are errors (sandbox_body.c) have a text. */
static bool has_no_text(lua_State *lua, int index)
{
    if (lua_type(lua, index) == LUA_TFUNCTION)
        return true;
    if (lua_type(lua, index) != LUA_TTABLE)
        return false;
    if (luaL_getmetafield(lua, index, "__tostring") == LUA_TNIL)
        return true;
    lua_pop(lua, 1);
    return false;
}

/* tostring without addresses. */
static int lib_tostring(lua_State *lua)
{
    luaL_checkany(lua, 1);
    if (has_no_text(lua, 1))
        lua_pushstring(lua, luaL_typename(lua, 1));
    else
        (void)luaL_tolstring(lua, 1, NULL);
    return 1;
}

struct sort_key {
    int type; /* LUA_TBOOLEAN, LUA_TNUMBER, LUA_TSTRING */
    bool is_integer;
    lua_Integer integer;
    lua_Number number;
    const char *text; /* kept alive by the table */
    size_t len;
};

static int key_compare(const void *a, const void *b)
{
    const struct sort_key *x = a;
    const struct sort_key *y = b;

    if (x->type != y->type)
        return x->type - y->type;
    if (x->type == LUA_TNUMBER && x->is_integer && y->is_integer)
        return (x->integer > y->integer) - (x->integer < y->integer);
    if (x->type != LUA_TSTRING)
        return (x->number > y->number) - (x->number < y->number);
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The key on top of the stack. */
static void key_read(lua_State *lua, struct sandbox_raised *raised, struct sort_key *key)
{
    key->type = lua_type(lua, -1);
    if (key->type == LUA_TSTRING) {
        key->text = lua_tolstring(lua, -1, &key->len);
    } else if (key->type == LUA_TNUMBER) {
        key->is_integer = lua_isinteger(lua, -1);
        key->integer = lua_tointeger(lua, -1);
        key->number = lua_tonumber(lua, -1);
    } else if (key->type == LUA_TBOOLEAN) {
        key->number = lua_toboolean(lua, -1);
    } else {
        (void)sandbox_raise(lua, raised, ERR_INVALID,
                            "pairs: a key is a %s, and those have no order",
                            luaL_typename(lua, -1));
    }
}

static void key_push(lua_State *lua, const struct sort_key *key)
{
    if (key->type == LUA_TSTRING)
        lua_pushlstring(lua, key->text, key->len);
    else if (key->type == LUA_TBOOLEAN)
        lua_pushboolean(lua, key->number > 0);
    else if (key->is_integer)
        lua_pushinteger(lua, key->integer);
    else
        lua_pushnumber(lua, key->number);
}

/* Upvalues: the sorted keys, how far we are. */
static int pairs_step(lua_State *lua)
{
    lua_Integer at = lua_tointeger(lua, lua_upvalueindex(2));

    for (;;) {
        lua_pushinteger(lua, ++at);
        lua_replace(lua, lua_upvalueindex(2));
        if (lua_geti(lua, lua_upvalueindex(1), at) == LUA_TNIL)
            return 1;
        lua_pushvalue(lua, -1);
        if (lua_gettable(lua, 1) != LUA_TNIL)
            return 2;
        lua_settop(lua, 1); /* removed since */
    }
}

/* pairs in the order of the keys: numbers, then texts. What is added on the way is not seen. */
static int lib_pairs(lua_State *lua)
{
    struct sort_key *keys;
    size_t count = 0;

    luaL_checktype(lua, 1, LUA_TTABLE);
    for (lua_pushnil(lua); lua_next(lua, 1); lua_pop(lua, 1))
        count++;
    keys = lua_newuserdatauv(lua, (count ? count : 1) * sizeof(*keys), 0);
    memset(keys, 0, (count ? count : 1) * sizeof(*keys));
    count = 0;
    for (lua_pushnil(lua); lua_next(lua, 1);) {
        lua_pop(lua, 1);
        key_read(lua, raised_of(lua), &keys[count++]);
    }
    qsort(keys, count, sizeof(*keys), key_compare);
    lua_createtable(lua, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        key_push(lua, &keys[i]);
        lua_rawseti(lua, -2, (lua_Integer)i + 1);
    }
    lua_pushinteger(lua, 0);
    lua_pushcclosure(lua, pairs_step, 2);
    lua_pushvalue(lua, 1);
    lua_pushnil(lua);
    return 3;
}

/* --- string and table --------------------------------------------------------------------- */

static int lib_rep(lua_State *lua)
{
    size_t len;
    size_t separator_len;
    lua_Integer n = luaL_checkinteger(lua, 2);

    (void)luaL_checklstring(lua, 1, &len);
    (void)luaL_optlstring(lua, 3, "", &separator_len);
    if (n > 0 && len + separator_len > 0 && (size_t)n > REP_BYTES_MAX / (len + separator_len))
        return sandbox_raise(lua, raised_of(lua), ERR_LIMIT,
                             "string.rep: the text would be longer than 1 MiB");
    return lua_tocfunction(lua, lua_upvalueindex(2))(lua);
}

/* string.format without addresses: no %p, and tables and functions are named by their type. */
static int lib_format(lua_State *lua)
{
    const char *at = luaL_checkstring(lua, 1);

    while ((at = strchr(at, '%')) != NULL) {
        at++;
        at += strspn(at, "-+ #0123456789.");
        if (*at == 'p')
            return sandbox_raise(lua, raised_of(lua), ERR_INVALID,
                                 "string.format: %%p gives addresses, which differ every time");
        at += *at != '\0';
    }
    for (int i = 2, top = lua_gettop(lua); i <= top; i++) {
        if (!has_no_text(lua, i))
            continue;
        lua_pushstring(lua, luaL_typename(lua, i));
        lua_replace(lua, i);
    }
    return lua_tocfunction(lua, lua_upvalueindex(2))(lua);
}

/* Is the value on top smaller than the one below it? Pops both. */
static bool top_is_less(lua_State *lua)
{
    bool less;

    if (lua_isnoneornil(lua, 2)) {
        less = lua_compare(lua, -1, -2, LUA_OPLT);
        lua_pop(lua, 2);
        return less;
    }
    lua_insert(lua, -2);
    lua_pushvalue(lua, 2);
    lua_insert(lua, -3);
    lua_call(lua, 2, 1);
    less = lua_toboolean(lua, -1);
    lua_pop(lua, 1);
    return less;
}

/* Merges from[low, middle) and from[middle, high) into `to`; indices of tables on the stack. */
static void merge(lua_State *lua, int from, int to, const lua_Integer bounds[3])
{
    lua_Integer left = bounds[0];
    lua_Integer right = bounds[1];

    for (lua_Integer at = bounds[0]; at < bounds[2]; at++) {
        bool take_right = left == bounds[1];
        if (!take_right && right < bounds[2]) {
            lua_geti(lua, from, left);
            lua_geti(lua, from, right);
            take_right = top_is_less(lua);
        }
        lua_geti(lua, from, take_right ? right++ : left++);
        lua_seti(lua, to, at);
    }
}

/* table.sort, stable: Lua's own asks the clock where to begin when a table is badly ordered. */
static int lib_sort(lua_State *lua)
{
    luaL_checktype(lua, 1, LUA_TTABLE);
    if (!lua_isnoneornil(lua, 2))
        luaL_checktype(lua, 2, LUA_TFUNCTION);
    lua_settop(lua, 2);
    lua_newtable(lua);
    lua_Integer count = luaL_len(lua, 1);
    int from = 1;

    for (lua_Integer width = 1; width < count; width *= 2) {
        int to = from == 1 ? 3 : 1;
        for (lua_Integer low = 1; low <= count; low += 2 * width) {
            lua_Integer left = count + 1 - low;
            const lua_Integer bounds[3] = {low, low + (left < width ? left : width),
                                           low + (left < 2 * width ? left : 2 * width)};
            merge(lua, from, to, bounds);
        }
        from = to;
    }
    for (lua_Integer i = 1; from == 3 && i <= count; i++) {
        lua_geti(lua, 3, i);
        lua_seti(lua, 1, i);
    }
    return 0;
}

/* --- Putting it together ------------------------------------------------------------------ */

/* Replaces field `name` of the table on top by ours, which may call the old one. */
static void wrap(lua_State *lua, struct sandbox_raised *raised, const char *name,
                 lua_CFunction ours)
{
    lua_pushlightuserdata(lua, raised);
    lua_getfield(lua, -2, name);
    lua_pushcclosure(lua, ours, 2);
    lua_setfield(lua, -2, name);
}

static void drop(lua_State *lua, const char *name)
{
    lua_pushnil(lua);
    lua_setfield(lua, -2, name);
}

void sandbox_push_library(lua_State *lua, struct sandbox_raised *raised)
{
    lua_newtable(lua);
    luaL_requiref(lua, LUA_GNAME, luaopen_base, 0);
    for (const char *const *name = base_names; *name; name++) {
        lua_getfield(lua, -1, *name);
        lua_setfield(lua, -3, *name);
    }
    lua_getfield(lua, -1, "_VERSION");
    lua_setfield(lua, -3, "_VERSION");
    lua_pop(lua, 1);
    wrap(lua, raised, "pairs", lib_pairs);
    wrap(lua, raised, "tostring", lib_tostring);

    luaL_requiref(lua, LUA_STRLIBNAME, luaopen_string, 0);
    drop(lua, "dump");
    wrap(lua, raised, "rep", lib_rep);
    wrap(lua, raised, "format", lib_format);
    lua_setfield(lua, -2, LUA_STRLIBNAME);
    luaL_requiref(lua, LUA_TABLIBNAME, luaopen_table, 0);
    wrap(lua, raised, "sort", lib_sort);
    lua_setfield(lua, -2, LUA_TABLIBNAME);
    luaL_requiref(lua, LUA_MATHLIBNAME, luaopen_math, 0);
    drop(lua, "random");
    drop(lua, "randomseed");
    lua_setfield(lua, -2, LUA_MATHLIBNAME);
    luaL_requiref(lua, LUA_UTF8LIBNAME, luaopen_utf8, 0);
    lua_setfield(lua, -2, LUA_UTF8LIBNAME);
}

static int unknown_word(lua_State *lua, const char *word)
{
    struct sandbox_raised *raised = raised_of(lua);
    const char **names;
    const char *nearest;
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(absents); i++)
        if (strcmp(word, absents[i].name) == 0)
            return sandbox_raise(lua, raised, ERR_DENIED, "'%s' %s", word, absents[i].why);
    for (lua_pushnil(lua); lua_next(lua, lua_upvalueindex(2)); lua_pop(lua, 1))
        count++;
    names = lua_newuserdatauv(lua, (count + 1) * sizeof(*names), 0);
    count = 0;
    for (lua_pushnil(lua); lua_next(lua, lua_upvalueindex(2)); lua_pop(lua, 1))
        if (lua_type(lua, -2) == LUA_TSTRING)
            names[count++] = lua_tostring(lua, -2);
    names[count] = NULL;
    nearest = str_nearest(word, names);
    if (nearest)
        return sandbox_raise(lua, raised, ERR_INVALID, "unknown word '%s' (did you mean '%s'?)",
                             word, nearest);
    return sandbox_raise(lua, raised, ERR_INVALID,
                         "unknown word '%s'; hint: texts are written in quotes", word);
}

static int globals_index(lua_State *lua)
{
    lua_settop(lua, 2);
    if (lua_type(lua, 2) != LUA_TSTRING)
        return 0;
    lua_pushvalue(lua, 2);
    if (lua_rawget(lua, lua_upvalueindex(2)) != LUA_TNIL)
        return 1;
    return unknown_word(lua, lua_tostring(lua, 2));
}

static int globals_write(lua_State *lua)
{
    const char *name = lua_type(lua, 2) == LUA_TSTRING ? lua_tostring(lua, 2) : "?";

    lua_pushstring(lua, name);
    if (lua_rawget(lua, lua_upvalueindex(2)) != LUA_TNIL)
        return sandbox_raise(lua, raised_of(lua), ERR_INVALID,
                             "'%s' is a word of the language and cannot be changed; hint: take "
                             "another name",
                             name);
    return sandbox_raise(lua, raised_of(lua), ERR_INVALID,
                         "global '%s' is not declared; hint: write \"local %s\"", name, name);
}

void sandbox_push_globals(lua_State *lua, int words, struct sandbox_raised *raised)
{
    static const luaL_Reg handlers[] = {
        {"__index", globals_index},
        {"__newindex", globals_write},
        {NULL, NULL},
    };

    words = lua_absindex(lua, words);
    lua_newtable(lua);
    lua_newtable(lua);
    lua_pushlightuserdata(lua, raised);
    lua_pushvalue(lua, words);
    luaL_setfuncs(lua, handlers, 2);
    lua_setmetatable(lua, -2);
}
