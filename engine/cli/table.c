// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include "base/mem.h"
#include "base/vec.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

VEC_DEFINE(cells, char *)

struct table {
    const char *const *columns;
    size_t column_count;
    struct cells cells;
};

struct table *table_new(const char *const *columns)
{
    struct table *table = mem_new(struct table);

    table->columns = columns;
    while (columns[table->column_count])
        table->column_count++;
    return table;
}

void table_free(struct table *table)
{
    if (!table)
        return;
    VEC_FOREACH(cell, &table->cells)
        free(*cell);
    cells_free(&table->cells);
    free(table);
}

void table_freep(struct table **table)
{
    table_free(*table);
    *table = NULL;
}

void table_add(struct table *table, const char *text)
{
    *cells_push(&table->cells) = mem_strdup(text);
}

void table_addf(struct table *table, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    table_add(table, text);
}

size_t text_width(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static bool to_the_right(const char *column)
{
    return column[0] == '>';
}

static const char *heading(const char *column)
{
    return column + (to_the_right(column) ? 1 : 0);
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t width = text_width(heading(table->columns[column]));

    for (size_t i = column; i < table->cells.len; i += table->column_count) {
        size_t cell = text_width(table->cells.at[i]);

        if (cell > width)
            width = cell;
    }
    return width;
}

static void add_cell(struct str *out, const struct table *table, size_t column, const char *text)
{
    int pad = (int)(column_width(table, column) - text_width(text));
    bool right = to_the_right(table->columns[column]);

    str_addf(out, "%s%*s%s%*s", column ? "  " : "", right ? pad : 0, "", text, right ? 0 : pad, "");
}

static void end_line(struct str *out)
{
    while (out->len && out->ptr[out->len - 1] == ' ')
        out->ptr[--out->len] = '\0';
    str_add(out, "\n");
}

void table_render(const struct table *table, struct str *out)
{
    if (!table->cells.len)
        return;
    for (size_t column = 0; column < table->column_count; column++)
        add_cell(out, table, column, heading(table->columns[column]));
    end_line(out);
    for (size_t i = 0; i < table->cells.len; i++) {
        add_cell(out, table, i % table->column_count, table->cells.at[i]);
        if (i % table->column_count == table->column_count - 1)
            end_line(out);
    }
}

const char *text_age(int64_t ms, char *buf, size_t len)
{
    if (ms < 0)
        (void)snprintf(buf, len, "-");
    else /* rounded up: an age is never shown younger than it is */
        (void)str_duration(ms >= 1000 && ms < 60000 ? ms + 99 : ms, buf, len);
    return buf;
}

static bool local(int64_t wall_ms, struct tm *ret_tm)
{
    time_t seconds = (time_t)(wall_ms / 1000);

    return wall_ms > 0 && localtime_r(&seconds, ret_tm);
}

const char *text_when(int64_t wall_ms, char *buf, size_t len)
{
    struct tm tm;

    if (!local(wall_ms, &tm) || strftime(buf, len, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        (void)snprintf(buf, len, "-");
    return buf;
}

const char *text_clock(int64_t wall_ms, char *buf, size_t len)
{
    struct tm tm;

    if (!local(wall_ms, &tm) || strftime(buf, len, "%H:%M:%S", &tm) == 0)
        (void)snprintf(buf, len, "-");
    return buf;
}

int64_t json_get_int(const json_t *obj, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_integer(value) ? (int64_t)json_integer_value(value) : fallback;
}
