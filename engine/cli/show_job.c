// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include "base/mem.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void quantity(int64_t amount, const char *unit, struct str *out)
{
    char text[32];

    if (str_eq(unit, "bytes"))
        str_add(out, str_bytes((uint64_t)amount, text, sizeof(text)));
    else
        str_addf(out, "%" PRId64, amount);
}

/* "12.0 MiB of 64.0 MiB (18 %), 10.0 MiB/s, 5.2 s left"; nothing for a task without a measure. */
static void progress(const json_t *task, struct str *out)
{
    const char *unit = json_get_str(task, "unit", "");
    int64_t done = json_get_int(task, "done", 0), total = json_get_int(task, "total", 0);
    int64_t rate = json_get_int(task, "rate_per_s", 0), left = json_get_int(task, "left_ms", -1);
    char text[32];

    if (total <= 0)
        return;
    quantity(done, unit, out);
    str_add(out, " of ");
    quantity(total, unit, out);
    str_addf(out, " (%d %%)", (int)((double)done * 100.0 / (double)total));
    if (!str_eq(json_get_str(task, "state", ""), "running"))
        return;
    if (rate > 0) {
        str_add(out, ", ");
        quantity(rate, unit, out);
        str_add(out, "/s");
    }
    if (left >= 0)
        str_addf(out, ", %s left", str_duration(left, text, sizeof(text)));
}

static int64_t task_ms(const json_t *task, int64_t now_ms)
{
    int64_t started = json_get_int(task, "started_ms", 0);
    int64_t ended = json_get_int(task, "ended_ms", 0);

    if (!started)
        return -1;
    return (ended ? ended : now_ms) > started ? (ended ? ended : now_ms) - started : 0;
}

static void error_line(struct str *out, const char *indent, const char *error)
{
    static const char mark[] = "; hint: ";
    const char *hint = strstr(error, mark);

    if (!*error)
        return;
    str_addf(out, "%s%.*s\n", indent, hint ? (int)(hint - error) : (int)strlen(error), error);
    if (hint)
        str_addf(out, "%shint: %s\n", indent, hint + sizeof(mark) - 1);
}

static const char *task_mark(const char *state, const struct look *look)
{
    if (str_eq(state, "done"))
        return look->utf8 ? "✓" : "+";
    if (str_eq(state, "running"))
        return look->utf8 ? "▸" : ">";
    if (str_eq(state, "failed"))
        return look->utf8 ? "✗" : "x";
    if (str_eq(state, "cancelled"))
        return "-";
    return look->utf8 ? "·" : ".";
}

static void add_task(const json_t *task, int64_t now_ms, const struct look *look, struct str *out)
{
    const char *state = json_get_str(task, "state", "");
    int64_t took = task_ms(task, now_ms);
    bool running = str_eq(state, "running");
    const json_t *disk;
    char text[32];
    size_t i;

    str_addf(out, "  %s %-24s", task_mark(state, look), json_get_str(task, "name", ""));
    if (took >= 0) {
        str_addf(out, "%8s  ", str_duration(took, text, sizeof(text)));
        str_addf(out, "%s", text_when(json_get_int(task, "started_ms", 0), text, sizeof(text)));
    }
    if (took >= 0 && !running)
        str_addf(out, " to %s", text_clock(json_get_int(task, "ended_ms", 0), text, sizeof(text)));
    if (running) {
        str_add(out, "  ");
        progress(task, out);
    }
    while (out->len && out->ptr[out->len - 1] == ' ')
        out->ptr[--out->len] = '\0';
    str_add(out, "\n");
    json_array_foreach(json_object_get(task, "disks"), i, disk) {
        if (!running || json_array_size(json_object_get(task, "disks")) < 2)
            break;
        str_addf(out, "      %-8s ", json_get_str(disk, "name", ""));
        quantity(json_get_int(disk, "done", 0), "bytes", out);
        str_add(out, " of ");
        quantity(json_get_int(disk, "total", 0), "bytes", out);
        str_add(out, "\n");
    }
    if (running)
        error_line(out, "      ", json_get_str(task, "note", ""));
    if (json_object_get(task, "checks")) /* they say what the error says, and what to do */
        show_checks(json_object_get(task, "checks"), "      ", out);
    else
        error_line(out, "      ", json_get_str(task, "error", ""));
}

void show_job(const json_t *job, int64_t now_ms, const struct look *look, struct str *out)
{
    const json_t *task;
    size_t i;

    str_addf(out, "Job %" PRId64 ", %s of %s: %s\n", json_get_int(job, "id", 0),
             json_get_str(job, "kind", ""), json_get_str(job, "object", ""),
             json_get_str(job, "state", ""));
    json_array_foreach(json_object_get(job, "tasks"), i, task)
        add_task(task, now_ms, look, out);
}

/* Tenths of the work done; -1: nothing to measure. */
static int tenths(const json_t *task)
{
    int64_t total = json_get_int(task, "total", 0);

    return total > 0 ? (int)(json_get_int(task, "done", 0) * 10 / total) : -1;
}

void show_job_changes(const json_t *before, const json_t *job, int64_t now_ms, struct str *out)
{
    const json_t *task;
    char at[32], took[32];
    size_t i;

    (void)text_clock(now_ms, at, sizeof(at));
    json_array_foreach(json_object_get(job, "tasks"), i, task) {
        const json_t *was = json_array_get(json_object_get(before, "tasks"), i);
        const char *state = json_get_str(task, "state", "");
        const char *note = json_get_str(task, "note", "");
        bool new_state = !str_eq(state, json_get_str(was, "state", "waiting"));
        bool running = str_eq(state, "running");
        bool new_note = (running || str_starts(note, "warning")) && *note
                        && !str_eq(note, json_get_str(was, "note", ""));

        if (!new_state && !new_note && !(running && tenths(task) > tenths(was)))
            continue;
        str_addf(out, "%s  %-8s  %s", at, state, json_get_str(task, "name", ""));
        if (running && tenths(task) >= 0) {
            str_add(out, ": ");
            progress(task, out);
        }
        if (json_get_int(task, "ended_ms", 0))
            str_addf(out, " (%s)", str_duration(task_ms(task, now_ms), took, sizeof(took)));
        str_add(out, "\n");
        if (new_note)
            error_line(out, "                    ", note);
        error_line(out, "                    ", json_get_str(task, "error", ""));
    }
}

void show_jobs(const json_t *jobs, struct str *out)
{
    static const char *const columns[] = {">JOB",    "WHAT", "OF",  "STATE",
                                          "STARTED", "NOW",  "WHO", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *job;
    char text[32];
    size_t i;

    if (json_array_size(jobs) == 0)
        str_add(out, "No jobs.\n");
    json_array_foreach(jobs, i, job) {
        CLEANUP(str_free) struct str now = STR_EMPTY;
        const json_t *task;
        size_t k;

        json_array_foreach(json_object_get(job, "tasks"), k, task) {
            if (!str_eq(json_get_str(task, "state", ""), "running"))
                continue;
            str_addf(&now, "%s%s", json_get_str(task, "name", ""), tenths(task) >= 0 ? " " : "");
            progress(task, &now);
            break;
        }
        table_addf(table, "%" PRId64, json_get_int(job, "id", 0));
        table_add(table, json_get_str(job, "kind", ""));
        table_add(table, json_get_str(job, "object", ""));
        table_add(table, json_get_str(job, "state", ""));
        table_add(table, text_when(json_get_int(job, "started_ms", 0), text, sizeof(text)));
        table_add(table, str_text(&now));
        table_add(table, json_get_str(job, "who", ""));
    }
    table_render(table, out);
}

void show_audit(const json_t *entries, struct str *out)
{
    static const char *const columns[] = {">NO", "WHEN", "WHO", "ACT", "OBJECT", "DETAIL", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *entry;
    char text[32];

    for (size_t i = json_array_size(entries); i > 0; i--) {
        entry = json_array_get(entries, i - 1);
        table_addf(table, "%" PRId64, json_get_int(entry, "seq", 0));
        table_add(table, text_when(json_get_int(entry, "at_ms", 0), text, sizeof(text)));
        table_add(table, json_get_str(entry, "who", ""));
        table_add(table, json_get_str(entry, "act", ""));
        table_add(table, json_get_str(entry, "object", ""));
        table_addf(table, "%.80s", json_get_str(entry, "detail", ""));
    }
    table_render(table, out);
}
