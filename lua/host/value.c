// SPDX-License-Identifier: Apache-2.0
#include "host/value.h"

#include "base/vec.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    lua_State *lua;
    struct str *text;
    struct str *path;
    size_t max_bytes;
    size_t depth;
    /* The tables we are in, and how long the path was there: what a cycle leads back to. */
    const void *table[VALUE_DEPTH_MAX];
    size_t path_len[VALUE_DEPTH_MAX];
    struct err *err;
};

struct name {
    const char *ptr; /* kept alive by its table */
    size_t len;
};
VEC_DEFINE(names, struct name)

static int write_value(struct writer *w, int index);

static const char *path_text(const struct writer *w)
{
    return w->path->len ? w->path->ptr : "the value";
}

static void path_cut(struct writer *w, size_t len)
{
    if (!w->path->ptr)
        return;
    w->path->len = len;
    w->path->ptr[len] = '\0';
}

/* Every byte written is counted before it is written: tables that hold one another a thousand
 * times are small in Lua and huge as text. */
static int put(struct writer *w, const char *bytes, size_t len)
{
    char size[32];

    if (len > w->max_bytes || w->text->len > w->max_bytes - len)
        return err_set(w->err, ERR_LIMIT, 0, "the result is larger than %s",
                       str_bytes(w->max_bytes, size, sizeof(size)));
    str_add_bytes(w->text, bytes, len);
    return 0;
}

static int put_text(struct writer *w, const char *bytes, size_t len)
{
    CLEANUP(json_freep) json_t *json = json_stringn(bytes, len);
    CLEANUP(mem_freep) char *quoted = NULL;

    if (len > w->max_bytes)
        return put(w, bytes, len);
    if (!json)
        return err_set(w->err, ERR_INVALID, 0, "%s is not UTF-8 text", path_text(w));
    if (memchr(bytes, '\0', len))
        return err_set(w->err, ERR_INVALID, 0, "%s holds a NUL byte", path_text(w));
    quoted = json_text(json);
    return put(w, quoted, strlen(quoted));
}

static int put_number(struct writer *w, int index)
{
    char number[40];

    if (lua_isinteger(w->lua, index)) {
        (void)snprintf(number, sizeof(number), LUA_INTEGER_FMT, lua_tointeger(w->lua, index));
        return put(w, number, strlen(number));
    }
    double value = lua_tonumber(w->lua, index);
    if (!isfinite(value))
        return err_set(w->err, ERR_INVALID, 0, "%s is not a finite number", path_text(w));
    (void)snprintf(number, sizeof(number), "%.17g", value);
    if (!strpbrk(number, ".e")) /* stays what it was: a float */
        (void)snprintf(number + strlen(number), 3, ".0");
    return put(w, number, strlen(number));
}

static int name_compare(const void *a, const void *b)
{
    const struct name *x = a;
    const struct name *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->ptr, y->ptr, len);

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* What keys the table has: `ret_names` sorted, or `ret_count` numbers 1..n. */
static int read_keys(struct writer *w, int index, struct names *ret_names, lua_Integer *ret_count)
{
    lua_Integer count = 0;
    lua_Integer highest = 0;
    lua_State *lua = w->lua;

    lua_pushnil(lua);
    while (lua_next(lua, index)) {
        lua_pop(lua, 1);
        if (lua_type(lua, -1) == LUA_TSTRING) {
            struct name *name = names_push(ret_names);
            name->ptr = lua_tolstring(lua, -1, &name->len);
        } else if (lua_isinteger(lua, -1) && lua_tointeger(lua, -1) >= 1) {
            count++;
            if (lua_tointeger(lua, -1) > highest)
                highest = lua_tointeger(lua, -1);
        } else {
            return err_set(w->err, ERR_INVALID, 0,
                           "%s has a key that is neither a name nor 1, 2, 3", path_text(w));
        }
    }
    if (count && ret_names->len)
        return err_set(w->err, ERR_INVALID, 0, "%s has both named and unnamed values, as '%.60s'",
                       path_text(w), ret_names->at[0].ptr);
    if (highest != count)
        return err_set(w->err, ERR_INVALID, 0, "%s has a gap: %lld values, but one is number %lld",
                       path_text(w), (long long)count, (long long)highest);
    if (ret_names->len)
        qsort(ret_names->at, ret_names->len, sizeof(*ret_names->at), name_compare);
    *ret_count = count;
    return 0;
}

static void path_add_name(struct writer *w, const struct name *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    if (name->len > 0 && strspn(name->ptr, plain) == name->len)
        str_addf(w->path, "%s%s", w->path->len ? "." : "", name->ptr);
    else
        str_addf(w->path, "[\"%.60s\"]", name->ptr);
}

static int write_object(struct writer *w, int index, const struct names *names)
{
    size_t path_len = w->path->len;

    if (put(w, "{", 1) < 0)
        return -1;
    for (size_t i = 0; i < names->len; i++) {
        path_add_name(w, &names->at[i]);
        if ((i && put(w, ",", 1) < 0) || put_text(w, names->at[i].ptr, names->at[i].len) < 0
            || put(w, ":", 1) < 0)
            return -1;
        lua_pushlstring(w->lua, names->at[i].ptr, names->at[i].len);
        lua_rawget(w->lua, index);
        if (write_value(w, lua_gettop(w->lua)) < 0)
            return -1;
        lua_pop(w->lua, 1);
        path_cut(w, path_len);
    }
    return put(w, "}", 1);
}

static int write_array(struct writer *w, int index, lua_Integer count)
{
    size_t path_len = w->path->len;

    if (put(w, "[", 1) < 0)
        return -1;
    for (lua_Integer i = 1; i <= count; i++) {
        str_addf(w->path, "[%lld]", (long long)i);
        lua_rawgeti(w->lua, index, i);
        if ((i > 1 && put(w, ",", 1) < 0) || write_value(w, lua_gettop(w->lua)) < 0)
            return -1;
        lua_pop(w->lua, 1);
        path_cut(w, path_len);
    }
    return put(w, "]", 1);
}

static int enter_table(struct writer *w, int index)
{
    const void *self = lua_topointer(w->lua, index);

    for (size_t i = 0; i < w->depth; i++) {
        if (w->table[i] != self)
            continue;
        int len = (int)w->path_len[i];
        return len ? err_set(w->err, ERR_INVALID, 0, "%s is %.*s again: a table in itself",
                             path_text(w), len, w->path->ptr)
                   : err_set(w->err, ERR_INVALID, 0,
                             "%s is the whole table again: a table in itself", path_text(w));
    }
    if (w->depth == VALUE_DEPTH_MAX || !lua_checkstack(w->lua, 8))
        return err_set(w->err, ERR_LIMIT, 0, "%.200s...: tables nested deeper than %d",
                       path_text(w), VALUE_DEPTH_MAX);
    w->table[w->depth] = self;
    w->path_len[w->depth++] = w->path->len;
    return 0;
}

static int write_table(struct writer *w, int index)
{
    CLEANUP(names_free) struct names names = VEC_EMPTY;
    lua_Integer count = 0;

    if (enter_table(w, index) < 0 || read_keys(w, index, &names, &count) < 0)
        return -1;
    int rc = names.len ? write_object(w, index, &names) : write_array(w, index, count);
    w->depth--;
    return rc;
}

static int write_value(struct writer *w, int index)
{
    size_t len;
    const char *bytes;

    switch (lua_type(w->lua, index)) {
    case LUA_TBOOLEAN: return lua_toboolean(w->lua, index) ? put(w, "true", 4) : put(w, "false", 5);
    case LUA_TNUMBER: return put_number(w, index);
    case LUA_TSTRING: bytes = lua_tolstring(w->lua, index, &len); return put_text(w, bytes, len);
    case LUA_TTABLE: return write_table(w, index);
    default:
        return err_set(w->err, ERR_INVALID, 0, "%s is a %s; only data can stand here", path_text(w),
                       lua_typename(w->lua, lua_type(w->lua, index)));
    }
}

int value_to_json(lua_State *lua, int index, size_t max_bytes, struct str *text,
                  struct str *ret_path, struct err *err)
{
    struct writer w = {
        .lua = lua, .text = text, .path = ret_path, .max_bytes = max_bytes, .err = err};

    str_clear(ret_path);
    return write_value(&w, lua_absindex(lua, index));
}

void value_from_json(lua_State *lua, const json_t *json)
{
    const char *key;
    json_t *item;
    size_t i;

    luaL_checkstack(lua, 4, "value");
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        lua_newtable(lua);
        json_object_foreach((json_t *)(uintptr_t)json, key, item) {
            value_from_json(lua, item);
            lua_setfield(lua, -2, key);
        }
        break;
    case JSON_ARRAY:
        lua_newtable(lua);
        json_array_foreach(json, i, item) {
            value_from_json(lua, item);
            lua_rawseti(lua, -2, (lua_Integer)i + 1);
        }
        break;
    case JSON_STRING:
        lua_pushlstring(lua, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER: lua_pushinteger(lua, json_integer_value(json)); break;
    case JSON_REAL: lua_pushnumber(lua, json_real_value(json)); break;
    case JSON_TRUE: lua_pushboolean(lua, 1); break;
    case JSON_FALSE:
    case JSON_NULL: lua_pushboolean(lua, 0); break;
    }
}
