// SPDX-License-Identifier: Apache-2.0
/* Just enough of Lua's lexical rules (reference manual, 3.1) to find where something is written:
 * names, texts, long texts, comments, numbers, signs. It accepts more than Lua does and never
 * fails. Plain values; a copy of a lexer is a bookmark. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum lex_type { LEX_END, LEX_NAME, LEX_TEXT, LEX_NUMBER, LEX_SIGN };

struct lex_token {
    enum lex_type type;
    const char *ptr; /* LEX_TEXT: between the quotes, escapes as written */
    size_t len;
    unsigned line; /* of its first character */
};

struct lex {
    const char *at;
    const char *end;
    unsigned line;
};

void lex_init(struct lex *lex, const char *text, size_t len);
/* LEX_END for ever once the text is over. */
struct lex_token lex_next(struct lex *lex);
/* The next token without moving on. */
struct lex_token lex_peek(const struct lex *lex);
/* A name, sign or text that reads exactly so. */
bool lex_is(const struct lex_token *token, enum lex_type type, const char *text);
