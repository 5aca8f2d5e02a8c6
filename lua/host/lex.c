// SPDX-License-Identifier: Apache-2.0
#include "host/lex.h"

#include <string.h>

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

void lex_init(struct lex *lex, const char *text, size_t len)
{
    lex->at = text;
    lex->end = text + len;
    lex->line = 1;
}

static char peek_char(const struct lex *lex, size_t ahead)
{
    if (ahead >= (size_t)(lex->end - lex->at))
        return '\0';
    return lex->at[ahead];
}

static void advance(struct lex *lex)
{
    if (*lex->at == '\n')
        lex->line++;
    lex->at++;
}

/* At "[[", "[=[", ...: the number of equal signs; else -1. */
static int long_bracket(const struct lex *lex)
{
    size_t level = 0;

    if (peek_char(lex, 0) != '[')
        return -1;
    while (peek_char(lex, level + 1) == '=')
        level++;
    return peek_char(lex, level + 1) == '[' ? (int)level : -1;
}

static bool closes_long(const struct lex *lex, size_t level)
{
    if (peek_char(lex, 0) != ']' || peek_char(lex, level + 1) != ']')
        return false;
    for (size_t i = 1; i <= level; i++)
        if (peek_char(lex, i) != '=')
            return false;
    return true;
}

/* Behind the opening bracket is the text, up to the closing one of the same level. */
static struct lex_token long_text(struct lex *lex, size_t level)
{
    struct lex_token token = {LEX_TEXT, lex->at + level + 2, 0, lex->line};

    lex->at += level + 2;
    while (lex->at < lex->end && !closes_long(lex, level))
        advance(lex);
    token.len = (size_t)(lex->at - token.ptr);
    if (lex->at < lex->end)
        lex->at += level + 2;
    return token;
}

static void skip_blank(struct lex *lex)
{
    while (lex->at < lex->end) {
        if (peek_char(lex, 0) == '-' && peek_char(lex, 1) == '-') {
            lex->at += 2;
            int level = long_bracket(lex);
            if (level >= 0)
                (void)long_text(lex, (size_t)level);
            else
                while (lex->at < lex->end && *lex->at != '\n')
                    lex->at++;
        } else if (strchr(" \t\r\n\v\f", *lex->at) && *lex->at) {
            advance(lex);
        } else {
            return;
        }
    }
}

static struct lex_token quoted_text(struct lex *lex)
{
    char quote = *lex->at++;
    struct lex_token token = {LEX_TEXT, lex->at, 0, lex->line};

    while (lex->at < lex->end && *lex->at != quote && *lex->at != '\n') {
        if (*lex->at == '\\' && lex->at + 1 < lex->end)
            advance(lex); /* what follows is not the end, be it a quote or a new line */
        advance(lex);
    }
    token.len = (size_t)(lex->at - token.ptr);
    if (lex->at < lex->end && *lex->at == quote)
        lex->at++;
    return token;
}

static struct lex_token sign(struct lex *lex)
{
    static const char *const longer[] = {
        "...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>", NULL};
    struct lex_token token = {LEX_SIGN, lex->at, 1, lex->line};

    for (const char *const *text = longer; *text; text++) {
        size_t len = strlen(*text);
        if (len <= (size_t)(lex->end - lex->at) && memcmp(lex->at, *text, len) == 0) {
            token.len = len;
            break;
        }
    }
    lex->at += token.len;
    return token;
}

struct lex_token lex_next(struct lex *lex)
{
    skip_blank(lex);
    struct lex_token token = {LEX_END, lex->at, 0, lex->line};
    if (lex->at >= lex->end)
        return token;
    int level = long_bracket(lex);
    if (level >= 0)
        return long_text(lex, (size_t)level);
    if (*lex->at == '"' || *lex->at == '\'')
        return quoted_text(lex);
    if (!is_name_start(*lex->at) && !is_digit(*lex->at))
        return sign(lex);
    token.type = is_digit(*lex->at) ? LEX_NUMBER : LEX_NAME;
    while (lex->at < lex->end
           && (is_name_start(*lex->at) || is_digit(*lex->at)
               || (token.type == LEX_NUMBER && *lex->at == '.')))
        lex->at++;
    token.len = (size_t)(lex->at - token.ptr);
    return token;
}

struct lex_token lex_peek(const struct lex *lex)
{
    struct lex copy = *lex;

    return lex_next(&copy);
}

bool lex_is(const struct lex_token *token, enum lex_type type, const char *text)
{
    return token->type == type && strlen(text) == token->len
           && memcmp(token->ptr, text, token->len) == 0;
}
