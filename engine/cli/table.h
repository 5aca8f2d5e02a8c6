// SPDX-License-Identifier: Apache-2.0
/* Aligned columns, and values as people read them. */
#pragma once

#include "base/json.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct table;
/* `columns`: headings, NULL-terminated; one that begins with '>' is aligned to the right. */
struct table *table_new(const char *const *columns);
void table_free(struct table *table);
void table_freep(struct table **table);
/* The next cell, row by row. */
void table_add(struct table *table, const char *text);
void table_addf(struct table *table, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Headings and rows; no white space at the ends of lines. Nothing when there are no rows. */
void table_render(const struct table *table, struct str *out);

/* "3.2 s"; "-" for -1 (no point). */
const char *text_age(int64_t ms, char *buf, size_t len);
/* "2026-03-01 12:00:00" local time; "-" for 0. */
const char *text_when(int64_t wall_ms, char *buf, size_t len);
/* "12:00:00" local time. */
const char *text_clock(int64_t wall_ms, char *buf, size_t len);
/* A number field, `fallback` when absent; negative ones too. */
int64_t json_get_int(const json_t *obj, const char *key, int64_t fallback);
/* Display columns of UTF-8 text (each code point one). */
size_t text_width(const char *text);
