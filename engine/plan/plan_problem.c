// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "plan/plan_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void plan_problems_done(struct plan_problems *problems)
{
    VEC_FOREACH(problem, problems)
        free(problem->text);
    plan_problems_free(problems);
}

static unsigned line_of(const struct plan_builder *b, const struct plan_at *at)
{
    const char *source = b->plan->source;

    if (!source || !at->field || !at->word || at->line == 0)
        return at->line;
    return host_line_of_field(source, strlen(source), at->line, at->word, at->field);
}

static void PRINTF_LIKE(4, 0) add(struct plan_builder *b, const struct plan_at *at, bool warning,
                                  const char *format, va_list ap)
{
    struct plan_problem *problem = plan_problems_push(b->problems);
    char text[1024];

    (void)vsnprintf(text, sizeof(text), format, ap);
    problem->warning = warning;
    problem->line = line_of(b, at);
    problem->text = mem_strdup(text);
}

void plan_error(struct plan_builder *b, const struct plan_at *at, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    add(b, at, false, format, ap);
    va_end(ap);
}

void plan_warn(struct plan_builder *b, const struct plan_at *at, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    add(b, at, true, format, ap);
    va_end(ap);
}

/* By line; of one line in the order they were found. */
static void sort(struct plan_problems *problems)
{
    for (size_t i = 1; i < problems->len; i++) {
        struct plan_problem moved = problems->at[i];
        size_t to = i;
        for (; to > 0 && problems->at[to - 1].line > moved.line; to--)
            problems->at[to] = problems->at[to - 1];
        problems->at[to] = moved;
    }
}

/* "FILE:12" or "FILE". */
static void add_place(struct str *text, const char *file, unsigned line)
{
    str_add(text, file);
    if (line)
        str_addf(text, ":%u", line);
}

char *plan_problems_text(const struct plan_problems *problems, const char *file)
{
    struct str text = STR_EMPTY;

    str_add(&text, "");
    VEC_FOREACH(problem, problems) {
        add_place(&text, file, problem->line);
        str_addf(&text, ": %s: %s\n", problem->warning ? "warning" : "error", problem->text);
    }
    return str_take(&text);
}

int plan_problems_judge(struct plan_problems *problems, const char *file, struct err *err)
{
    CLEANUP(str_free) struct str place = STR_EMPTY;
    const struct plan_problem *first = NULL;
    size_t errors = 0;

    sort(problems);
    VEC_FOREACH(problem, problems) {
        if (problem->warning)
            continue;
        if (errors++ == 0)
            first = problem;
    }
    if (!first)
        return 0;
    add_place(&place, file, first->line);
    if (errors == 1)
        return err_set(err, ERR_INVALID, 0, "%s: %s", place.ptr, first->text);
    return err_set(err, ERR_INVALID, 0, "%s: %s (1 of %zu errors)", place.ptr, first->text, errors);
}
