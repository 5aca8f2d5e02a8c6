// SPDX-License-Identifier: Apache-2.0
/* Where in a text a key is written. Only tables that stand there literally are looked into; what
 * a function or a variable gives has no line of its own. */
#include "host/host.h"
#include "host/lex.h"

#include <string.h>

/* One step of a path: a name, or a number from 1. */
struct key {
    const char *ptr;
    size_t len;
    uint64_t number; /* 0: a name */
};

/* Takes the first key of "a.b", "[2].b", "[\"x y\"].b". False at the end, or when it is no path. */
static bool take_key(const char **path, struct key *ret_key)
{
    struct key key = {*path, 0, 0};

    if (*key.ptr == '.')
        key.ptr++;
    if (*key.ptr == '[' && key.ptr[1] == '"') {
        key.ptr += 2;
        key.len = strcspn(key.ptr, "\"");
        *path = key.ptr + key.len;
        for (const char *close = "\"]"; *close && **path == *close; close++)
            ++*path;
    } else if (*key.ptr == '[') {
        for (key.ptr++; *key.ptr >= '0' && *key.ptr <= '9' && key.number < UINT32_MAX; key.ptr++)
            key.number = key.number * 10 + (uint64_t)(*key.ptr - '0');
        if (*key.ptr != ']' || key.number == 0)
            return false;
        *path = key.ptr + 1;
        *ret_key = key;
        return true;
    } else {
        key.len = strcspn(key.ptr, ".[");
        *path = key.ptr + key.len;
    }
    *ret_key = key;
    return key.len > 0;
}

/* +1 for what opens a bracket or a block, -1 for what closes one. A loop's head has no end of its
 * own: its `do` counts. */
static int depth_change(const struct lex_token *token)
{
    static const char *const opening[] = {"function", "do", "if", "repeat", NULL};

    if (token->type == LEX_SIGN && token->len == 1)
        return strchr("({[", *token->ptr) ? 1 : strchr(")}]", *token->ptr) ? -1 : 0;
    if (lex_is(token, LEX_NAME, "end") || lex_is(token, LEX_NAME, "until"))
        return -1;
    for (const char *const *word = opening; *word; word++)
        if (lex_is(token, LEX_NAME, *word))
            return 1;
    return 0;
}

/* Moves behind the value at hand, onto its separator or the closing brace. */
static void skip_value(struct lex *lex)
{
    for (int depth = 0;;) {
        struct lex_token token = lex_peek(lex);
        if (token.type == LEX_END)
            return;
        if (depth == 0
            && (lex_is(&token, LEX_SIGN, ",") || lex_is(&token, LEX_SIGN, ";")
                || lex_is(&token, LEX_SIGN, "}")))
            return;
        depth += depth_change(&token);
        (void)lex_next(lex);
    }
}

static bool key_is(const struct key *key, const struct lex_token *token)
{
    return token->len == key->len && memcmp(token->ptr, key->ptr, key->len) == 0;
}

/* Reads one field's key: whether it is the one wanted. Afterwards the lexer is at the value. */
static bool read_field(struct lex *lex, const struct key *key, uint64_t *position,
                       unsigned *ret_line)
{
    struct lex ahead = *lex;
    struct lex_token first = lex_next(&ahead);
    struct lex_token second = lex_next(&ahead);

    *ret_line = first.line;
    if (first.type == LEX_NAME && lex_is(&second, LEX_SIGN, "=")) {
        *lex = ahead;
        return key->number == 0 && key_is(key, &first);
    }
    if (lex_is(&first, LEX_SIGN, "[")) { /* ["key"] = or [3] = */
        struct lex_token close = lex_next(&ahead);
        struct lex_token equals = lex_next(&ahead);
        if (lex_is(&close, LEX_SIGN, "]") && lex_is(&equals, LEX_SIGN, "="))
            *lex = ahead;
        return key->number == 0 && second.type == LEX_TEXT && key_is(key, &second);
    }
    return ++*position == key->number;
}

/* Behind a '{': the line of the field; the lexer is left at its value. */
static bool find_field(struct lex *lex, const struct key *key, unsigned *ret_line)
{
    for (uint64_t position = 0;;) {
        struct lex_token token = lex_peek(lex);
        if (token.type == LEX_END || lex_is(&token, LEX_SIGN, "}"))
            return false;
        if (lex_is(&token, LEX_SIGN, ",") || lex_is(&token, LEX_SIGN, ";")) {
            (void)lex_next(lex);
            continue;
        }
        if (read_field(lex, key, &position, ret_line))
            return true;
        const char *before = lex->at;
        skip_value(lex);
        if (lex->at == before) { /* a stray bracket: not Lua; go on behind it */
            (void)lex_next(lex);
        }
    }
}

/* Follows `path` from behind a '{'. */
static bool find_path(struct lex *lex, const char *path, unsigned *ret_line)
{
    struct key key;
    unsigned line;

    while (take_key(&path, &key)) {
        if (!find_field(lex, &key, &line))
            return false;
        if (*path == '\0') {
            *ret_line = line;
            return true;
        }
        struct lex_token token = lex_next(lex);
        if (!lex_is(&token, LEX_SIGN, "{"))
            return false;
    }
    return false;
}

unsigned host_line_of(const char *text, size_t len, const char *path)
{
    struct lex lex;
    unsigned line = 0;
    int depth = 0;

    lex_init(&lex, text, len);
    for (struct lex_token token = lex_next(&lex); token.type != LEX_END; token = lex_next(&lex)) {
        depth += depth_change(&token);
        if (depth != 0 || !lex_is(&token, LEX_NAME, "return"))
            continue;
        token = lex_next(&lex);
        if (!lex_is(&token, LEX_SIGN, "{"))
            return 0;
        if (!*path)
            return token.line;
        return find_path(&lex, path, &line) ? line : 0;
    }
    return 0;
}

/* Behind a word: onto the inside of the table it is given, be it word {, word "x" { or word({. */
static bool enter_table(struct lex *lex)
{
    for (struct lex_token token = lex_next(lex);; token = lex_next(lex)) {
        if (lex_is(&token, LEX_SIGN, "{"))
            return true;
        if (token.type != LEX_TEXT && !lex_is(&token, LEX_SIGN, "(")
            && !lex_is(&token, LEX_SIGN, ")") && !lex_is(&token, LEX_SIGN, "..")
            && token.type != LEX_NAME)
            return false;
    }
}

unsigned host_line_of_field(const char *text, size_t len, unsigned line, const char *word,
                            const char *field)
{
    struct lex lex;
    unsigned found;

    lex_init(&lex, text, len);
    for (struct lex_token token = lex_next(&lex); token.type != LEX_END && token.line <= line;
         token = lex_next(&lex)) {
        if (token.line != line || !lex_is(&token, LEX_NAME, word))
            continue;
        struct lex inside = lex;
        if (enter_table(&inside) && find_path(&inside, field, &found))
            return found;
    }
    return line;
}
