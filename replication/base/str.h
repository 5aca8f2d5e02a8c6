// SPDX-License-Identifier: Apache-2.0
/* Growing text, and parsing of numbers, sizes and durations as people write them. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    char *ptr; /* NUL-terminated; NULL while empty */
    size_t len;
    size_t cap;
};
#define STR_EMPTY \
    {             \
        0         \
    }

void str_free(struct str *s); /* also for CLEANUP */
void str_clear(struct str *s);
void str_add(struct str *s, const char *text);
void str_add_bytes(struct str *s, const void *bytes, size_t len);
void str_addf(struct str *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Never NULL. */
const char *str_text(const struct str *s);
/* Hands the text over to the caller (free with free()); `s` is empty afterwards. */
char *str_take(struct str *s);

/* The whole text (surrounding white space aside) as a decimal number. */
bool str_to_u64(const char *text, uint64_t *ret_value);
/* "64MiB", "4KiB", "1GiB", "512" (bytes); KiB MiB GiB TiB. */
bool str_to_bytes(const char *text, uint64_t *ret_bytes);
/* "250ms", "90s", "15m", "1h", "2d". A bare number is refused: units are always written. */
bool str_to_ms(const char *text, int64_t *ret_ms);
/* As str_to_ms reads it, in the largest unit that gives a whole number: "90m", "1d". `buf` of at
 * least 32 bytes is returned. */
const char *str_ms(int64_t ms, char *buf, size_t len);

/* For people: "8.0 MiB", "1.5 s", "3 m 20 s". `buf` of at least 32 bytes is returned. */
const char *str_bytes(uint64_t bytes, char *buf, size_t len);
const char *str_duration(int64_t ms, char *buf, size_t len);

/* "2026-03-01T12:00:00.123Z" from milliseconds since 1970. */
const char *str_time(int64_t wall_ms, char *buf, size_t len);

bool str_eq(const char *a, const char *b); /* NULL-safe */
bool str_starts(const char *text, const char *prefix);
/* Names of sites, machines, groups, plans, points: 1..63 of [a-z0-9._-], begins with [a-z0-9]. */
bool str_is_name(const char *text);
/* The word of `words` (NULL-terminated) nearest to `word` by edit distance, or NULL when none
 * is near enough to be meant. */
const char *str_nearest(const char *word, const char *const *words);

void str_hex(const void *bytes, size_t len, char *ret_hex); /* 2 * len + 1 bytes */
bool str_unhex(const char *hex, void *ret_bytes, size_t len);
