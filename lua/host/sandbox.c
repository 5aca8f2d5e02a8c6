// SPDX-License-Identifier: Apache-2.0
/* Everything that may raise runs inside one protected call, `run`; its state is in struct sandbox,
 * so that nothing is lost when Lua jumps out. */
#include "host/sandbox.h"

#include "base/mem.h"
#include "host/sandbox_body.h"
#include "host/sandbox_lib.h"
#include "host/value.h"
#include "host/words.h"

#include <assert.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX 800

struct sandbox {
    const struct sandbox_job *job;
    size_t used_bytes;
    struct sandbox_raised raised;
    struct sandbox_body body;
    struct str *json;
    struct sandbox_place *place;
    struct err *err; /* set by the message handler or the conversion */
};

/* lua_Alloc: never more than the job allows. Lua's state itself counts, too. */
static void *alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    struct sandbox *box = ctx;
    size_t old = ptr ? old_size : 0; /* without a block it is the kind of object */

    if (new_size == 0) {
        free(ptr);
        box->used_bytes -= old;
        return NULL;
    }
    if (new_size > old && new_size - old > box->job->memory_bytes - box->used_bytes)
        return NULL;
    void *block = realloc(ptr, new_size);
    if (block)
        box->used_bytes = box->used_bytes - old + new_size;
    return block;
}

/* "TEXT:12: what": gives the 12, and what follows. */
static const char *split_place(const char *text, unsigned *ret_line)
{
    static const char prefix[] = SANDBOX_CHUNK ":";
    char *end;

    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
        return text;
    unsigned long line = strtoul(text + sizeof(prefix) - 1, &end, 10);
    if (strncmp(end, ": ", 2) != 0 || line == 0 || line > UINT32_MAX)
        return text;
    *ret_line = (unsigned)line;
    return end + 2;
}

/* One line of plain text, whatever an author raised. */
static char *clean_message(const char *text)
{
    CLEANUP(json_freep) json_t *json = NULL;
    char *clean = mem_strdup(text);

    if (strlen(clean) > MESSAGE_BYTES_MAX) {
        size_t cut = MESSAGE_BYTES_MAX;
        while (cut > 0 && ((unsigned char)clean[cut] & 0xC0) == 0x80)
            cut--;
        clean[cut] = '\0';
    }
    json = json_string(clean);
    for (char *c = clean; *c; c++)
        if (((unsigned char)*c >= 0x80 && !json) || (unsigned char)*c < ' ')
            *c = *c == '\n' || *c == '\t' ? ' ' : '?';
    return clean;
}

/* The message handler of the protected call: keeps what and where while the stack still stands. */
static int on_error(lua_State *lua)
{
    struct sandbox *box = lua_touserdata(lua, lua_upvalueindex(1));
    CLEANUP(mem_freep) char *clean = NULL;
    enum err_code code = ERR_INVALID;
    unsigned line = 0;

    const char *text;
    if (sandbox_body_raised(lua, 1, &code, &line, &text)) {
        clean = clean_message(text);
        box->place->line = line;
        err_put(box->err, code, 0, "%s", clean);
        return 1;
    }
    if (lua_type(lua, 1) != LUA_TSTRING) {
        box->place->line = sandbox_line(lua);
        err_put(box->err, ERR_INVALID, 0,
                "an error was raised with a %s for its message; hint: error(\"what is wrong\")",
                luaL_typename(lua, 1));
        return 1;
    }
    const char *what = split_place(lua_tostring(lua, 1), &line);
    if (box->raised.code && strncmp(what, box->raised.text, sizeof(box->raised.text) - 1) == 0)
        code = box->raised.code;
    else if (strncmp(what, "stack overflow", 14) == 0 || strncmp(what, "C stack overflow", 16) == 0)
        code = ERR_LIMIT;
    if (code == ERR_LIMIT && code != box->raised.code)
        what = "calls or brackets are nested too deep; hint: does a function call itself for ever?";
    clean = clean_message(what);
    box->place->line = line ? line : sandbox_line(lua);
    err_put(box->err, code, 0, "%s", clean);
    return 1;
}

/* --- What the words see of C ---------------------------------------------------------------- */

static int words_line(lua_State *lua)
{
    lua_pushinteger(lua, sandbox_line(lua));
    return 1;
}

/* nearest(word, { words }) */
static int words_nearest(lua_State *lua)
{
    const char *word = luaL_checkstring(lua, 1);
    lua_Integer count = luaL_len(lua, 2);
    const char **names = lua_newuserdatauv(lua, ((size_t)count + 1) * sizeof(*names), 0);

    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(lua, 2, i);
        names[i - 1] = luaL_checkstring(lua, -1); /* kept alive by the list */
        lua_pop(lua, 1);
    }
    names[count] = NULL;
    lua_pushstring(lua, str_nearest(word, names));
    return 1;
}

static void load_or_raise(lua_State *lua, const char *text, size_t len, const char *name)
{
    if (luaL_loadbufferx(lua, text, len, name, "t") != LUA_OK)
        (void)lua_error(lua);
}

/* Runs lua/muster/NAME.lua over the library at index 1, with the host and the verbs; it returns a
 * table of words, the function that makes the document and the one that begins a step's function.
 * Puts the words into the library and leaves the one of the two that the job needs. */
static void add_words(lua_State *lua, struct sandbox *box, const char *name)
{
    static const luaL_Reg host[] = {
        {"line", words_line},
        {"nearest", words_nearest},
        {NULL, NULL},
    };
    const struct words_text *words = words_texts;

    while (words->name && strcmp(words->name, name) != 0)
        words++;
    assert(words->name);
    load_or_raise(lua, words->text, words->len, "=muster");
    lua_pushvalue(lua, 1);
    (void)lua_setupvalue(lua, -2, 1);
    luaL_newlib(lua, host);
    sandbox_body_host(lua, &box->body);
    value_from_json(lua, box->job->words);
    lua_call(lua, 2, 3);
    for (lua_pushnil(lua); lua_next(lua, -4);) {
        lua_pushvalue(lua, -2);
        lua_insert(lua, -2);
        lua_settable(lua, 1);
    }
    lua_remove(lua, box->job->mode == HOST_BODY ? -2 : -1);
    lua_remove(lua, -2);
}

/* Of a table without a name nobody can tell whether it is a list: here it is none. */
static bool is_empty_data(lua_State *lua, const struct sandbox *box)
{
    if (box->job->mode != HOST_DATA)
        return false;
    lua_pushnil(lua);
    if (!lua_next(lua, -2))
        return true;
    lua_pop(lua, 2);
    return false;
}

/* What the text gave, on top of the stack, as JSON. */
static bool write_value(lua_State *lua, const struct sandbox *box)
{
    if (box->job->mode == HOST_BODY && lua_isnil(lua, -1)) {
        str_add(box->json, "null");
        return true;
    }
    if (is_empty_data(lua, box)) {
        str_add(box->json, "{}");
        return true;
    }
    if (value_to_json(lua, -1, box->job->result_bytes, box->json, &box->place->path, box->err) == 0)
        return true;
    if (box->job->mode == HOST_BODY)
        err_prefix(box->err, "what the function returns cannot be kept");
    return false;
}

static int run(lua_State *lua)
{
    struct sandbox *box = lua_touserdata(lua, 1);

    lua_settop(lua, 0);
    sandbox_push_library(lua, &box->raised);
    if (box->job->mode != HOST_DATA)
        add_words(lua, box, "plan");
    load_or_raise(lua, box->job->text, box->job->len, "=" SANDBOX_CHUNK);
    sandbox_push_globals(lua, 1, &box->raised);
    (void)lua_setupvalue(lua, -2, 1);
    lua_call(lua, 0, 1);
    if (box->job->mode == HOST_PLAN) {
        lua_call(lua, 1, 1); /* the document of what was returned */
    } else if (box->job->mode == HOST_BODY) {
        lua_pushstring(lua, box->job->step);
        lua_call(lua, 2, 3);
        sandbox_body_run(lua, &box->body, &box->place->line);
    } else if (!lua_istable(lua, -1)) {
        return sandbox_raise(lua, &box->raised, ERR_INVALID,
                             "returns %s; hint: the file ends with return { ... }",
                             lua_isnil(lua, -1) ? "nothing" : luaL_typename(lua, -1));
    }
    lua_pushboolean(lua, write_value(lua, box));
    return 1;
}

static int judge(struct sandbox *box, lua_State *lua, int status)
{
    char size[32];

    if (status == LUA_OK)
        return lua_toboolean(lua, -1) ? 0 : -1;
    if (status == LUA_ERRMEM)
        return err_set(
            box->err, ERR_LIMIT, 0,
            "needs more than %s of memory; hint: look for a table or text that grows, or a "
            "function that calls itself, for ever",
            str_bytes(box->job->memory_bytes, size, sizeof(size)));
    if (status == LUA_ERRERR)
        return err_set(box->err, ERR_LIMIT, 0, "calls are nested too deep");
    return -1; /* on_error has told */
}

int sandbox_run(const struct sandbox_job *job, struct str *ret_json,
                struct sandbox_place *ret_place, struct err *err)
{
    struct sandbox box = {.job = job, .json = ret_json, .place = ret_place, .err = err};
    lua_State *lua = lua_newstate(alloc, &box);

    box.body = (struct sandbox_body){job, &box.raised};
    if (!lua)
        return err_set(err, ERR_LIMIT, 0, "%zu bytes of memory are not enough to begin",
                       job->memory_bytes);
    lua_pushlightuserdata(lua, &box);
    lua_pushcclosure(lua, on_error, 1);
    lua_pushcfunction(lua, run);
    lua_pushlightuserdata(lua, &box);
    int rc = judge(&box, lua, lua_pcall(lua, 1, 1, 1));
    lua_close(lua);
    return rc;
}
