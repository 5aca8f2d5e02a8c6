// SPDX-License-Identifier: Apache-2.0
#include "base/str.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void str_free(struct str *s)
{
    free(s->ptr);
    memset(s, 0, sizeof(*s));
}

void str_clear(struct str *s)
{
    s->len = 0;
    if (s->ptr)
        s->ptr[0] = '\0';
}

/* Room for `more` bytes and the NUL behind the text. */
static void reserve(struct str *s, size_t more)
{
    size_t need;

    if (__builtin_add_overflow(s->len, more, &need) || __builtin_add_overflow(need, 1, &need))
        abort();
    if (need <= s->cap)
        return;
    size_t cap = s->cap ? s->cap : 64;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    s->ptr = mem_grow(s->ptr, cap, 1);
    s->cap = cap;
}

void str_add(struct str *s, const char *text)
{
    str_add_bytes(s, text, strlen(text));
}

void str_add_bytes(struct str *s, const void *bytes, size_t len)
{
    reserve(s, len);
    if (len)
        memcpy(s->ptr + s->len, bytes, len);
    s->len += len;
    s->ptr[s->len] = '\0';
}

void str_addf(struct str *s, const char *fmt, ...)
{
    va_list ap;
    va_list again;

    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len > 0) {
        reserve(s, (size_t)len);
        (void)vsnprintf(s->ptr + s->len, (size_t)len + 1, fmt, again);
        s->len += (size_t)len;
    }
    va_end(again);
}

const char *str_text(const struct str *s)
{
    return s->ptr ? s->ptr : "";
}

char *str_take(struct str *s)
{
    char *text = s->ptr ? s->ptr : mem_strdup("");

    memset(s, 0, sizeof(*s));
    return text;
}

bool str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool str_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool str_is_name(const char *text)
{
    size_t len = 0;

    if (!text || !is_name_start(text[0]))
        return false;
    for (; text[len]; len++)
        if (len == 63 || !(is_name_start(text[len]) || strchr("._-", text[len])))
            return false;
    return true;
}

/* Words longer than this are not looked at by str_nearest. */
#define WORD_MAX 64

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Damerau-Levenshtein in the restricted form (optimal string alignment): a swap of neighbours
 * counts once. Three rows of the table are enough. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *above2 = rows[0];
    size_t *above = rows[1];
    size_t *row = rows[2];
    size_t len_a = strlen(a);
    size_t len_b = strlen(b);

    memset(rows, 0, sizeof(rows));
    for (size_t j = 0; j <= len_b; j++)
        above[j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            size_t change = above[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = min3(above[j] + 1, row[j - 1] + 1, change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
                && above2[j - 2] + 1 < row[j])
                row[j] = above2[j - 2] + 1;
        }
        size_t *spare = above2;
        above2 = above;
        above = row;
        row = spare;
    }
    return above[len_b];
}

const char *str_nearest(const char *word, const char *const *words)
{
    const char *nearest = NULL;
    size_t len = word ? strlen(word) : 0;
    size_t best = (len / 3 > 1 ? len / 3 : 1) + 1;

    if (len == 0 || len > WORD_MAX)
        return NULL;
    for (; *words; words++) {
        if (strlen(*words) > WORD_MAX)
            continue;
        size_t d = distance(word, *words);
        if (d < best) {
            best = d;
            nearest = *words;
        }
    }
    return nearest;
}

void str_hex(const void *bytes, size_t len, char *ret_hex)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;

    for (size_t i = 0; i < len; i++) {
        *ret_hex++ = digits[from[i] >> 4];
        *ret_hex++ = digits[from[i] & 15];
    }
    *ret_hex = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool str_unhex(const char *hex, void *ret_bytes, size_t len)
{
    uint8_t *to = ret_bytes;

    /* Looked at before anything is written: a wrong text leaves the output alone. */
    if (!hex || strnlen(hex, 2 * len + 1) != 2 * len)
        return false;
    for (size_t i = 0; i < 2 * len; i++)
        if (hex_value(hex[i]) < 0)
            return false;
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(hex_value(hex[2 * i]) * 16 + hex_value(hex[2 * i + 1]));
    return true;
}
