// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include "base/mem.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TITLE_COLUMN 58

/* --- Steps ------------------------------------------------------------------------------------- */

static const struct {
    const char *state;
    const char *mark;
    const char *ascii;
    const char *colour;
} marks[] = {
    {"waiting", "·", ".", "2"},  {"running", "▸", ">", "1"},  {"retrying", "↻", "~", "33"},
    {"done", "✓", "+", "32"},    {"failed", "✗", "x", "31"},  {"skipped", "-", "-", "33"},
    {"unknown", "?", "?", "33"}, {"undone", "↩", "<", "33"},  {"left-out", " ", " ", "2"},
    {"asking", "?", "?", "1"},   {"warning", "!", "!", "33"}, /* done, but not all of it */
};

static void add_mark(struct str *out, const char *state, const struct look *look)
{
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        if (!str_eq(marks[i].state, state))
            continue;
        if (look->colour)
            str_addf(out, "\033[%sm", marks[i].colour);
        str_add(out, look->utf8 ? marks[i].mark : marks[i].ascii);
        if (look->colour)
            str_add(out, "\033[0m");
        return;
    }
    str_add(out, "?");
}

/* How long a step took, or takes by now; -1: it has not begun. */
static int64_t step_ms(const json_t *step, int64_t now_ms)
{
    int64_t started = json_get_int(step, "started_ms", 0);
    int64_t ended = json_get_int(step, "ended_ms", 0);

    if (!started)
        return -1;
    if (!ended)
        ended = now_ms;
    return ended > started ? ended - started : 0;
}

static bool is_left_out(const json_t *step)
{
    return str_eq(json_get_str(step, "state", ""), "left-out");
}

static void add_error(struct str *out, const json_t *step, const char *indent)
{
    static const char mark[] = "; hint: ";
    const char *error = json_get_str(step, "error", "");
    const char *hint = strstr(error, mark);

    if (!*error)
        return;
    str_addf(out, "%s%.*s\n", indent, hint ? (int)(hint - error) : (int)strlen(error), error);
    if (hint)
        str_addf(out, "%shint: %s\n", indent, hint + sizeof(mark) - 1);
}

/* A step may be done and yet not have reached all: nobody shall take that for all is well. */
static const char *step_warning(const json_t *step)
{
    const json_t *action;
    size_t i;

    json_array_foreach(json_object_get(step, "actions"), i, action) {
        const char *text = json_get_str(json_object_get(action, "result"), "warning", "");
        if (*text)
            return text;
    }
    return NULL;
}

static void add_warning(struct str *out, const json_t *step, const char *indent)
{
    const char *text = step_warning(step);

    if (text)
        str_addf(out, "%swarning: %s\n", indent, text);
}

static void add_question(struct str *out, const json_t *step, const char *indent)
{
    const json_t *asks = json_object_get(step, "asks");
    const char *by = json_get_str(asks, "by", "");
    char text[32];

    if (json_is_object(asks))
        str_addf(out, "%s\"%s\" %s answers until %s; without an answer it is %s\n", indent,
                 json_get_str(asks, "question", ""), *by ? by : "anybody",
                 text_when(json_get_int(asks, "until_ms", 0), text, sizeof(text)),
                 str_eq(json_get_str(asks, "silence", ""), "grant") ? "granted" : "denied");
}

static void add_step(struct str *out, const json_t *step, int64_t now_ms, const struct look *look)
{
    const char *title = json_get_str(step, "title", "");
    int64_t took = step_ms(step, now_ms);
    int64_t attempts = json_get_int(step, "attempts", 0);
    int pad = TITLE_COLUMN - (int)text_width(title);
    char text[32];

    str_add(out, "    ");
    add_mark(out, step_warning(step) ? "warning" : json_get_str(step, "state", ""), look);
    str_addf(out, " %s", title);
    if (took >= 0)
        str_addf(out, "%*s%8s", pad > 1 ? pad : 1, "", str_duration(took, text, sizeof(text)));
    if (attempts > 1)
        str_addf(out, "  attempt %" PRId64, attempts);
    if (json_get_bool(step, "point_of_no_return", false) && took < 0)
        str_addf(out, "%*s%s", pad > 1 ? pad : 1, "", "(point of no return)");
    str_add(out, "\n");
    add_error(out, step, "      ");
    add_warning(out, step, "      ");
    add_question(out, step, "      ");
}

/* When the last step ended. */
static int64_t last_ms(const json_t *run)
{
    int64_t last = json_get_int(run, "declared_ms", 0);
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step)
        if (json_get_int(step, "ended_ms", 0) > last)
            last = json_get_int(step, "ended_ms", 0);
    return last;
}

static void add_heading(struct str *out, const json_t *run, int64_t now_ms)
{
    int64_t declared = json_get_int(run, "declared_ms", 0);
    int64_t ended = json_get_int(run, "ended_ms", 0);
    const char *reason = json_get_str(run, "reason", "");
    bool active = json_get_bool(run, "active", false);
    int64_t took = (ended ? ended : active ? now_ms : last_ms(run)) - declared;
    char text[32];

    str_addf(out, "Run %" PRId64 " of %s (%s): %s, %s\n", json_get_int(run, "id", 0),
             json_get_str(run, "plan", ""), json_get_str(run, "kind", ""),
             json_get_str(run, "state", ""), str_duration(took > 0 ? took : 0, text, sizeof(text)));
    if (*reason)
        str_addf(out, "  %s\n", reason);
}

static void next_line(const json_t *run, struct str *out);

void show_run(const json_t *run, int64_t now_ms, const struct look *look, struct str *out)
{
    const char *stage = NULL;
    const json_t *step;
    size_t i;

    add_heading(out, run, now_ms);
    json_array_foreach(json_object_get(run, "steps"), i, step) {
        const char *of = json_get_str(step, "stage", "");

        if (is_left_out(step))
            continue;
        if (!stage || !str_eq(stage, of))
            str_addf(out, "  %s\n", of);
        stage = of;
        add_step(out, step, now_ms, look);
    }
    if (str_eq(json_get_str(run, "state", ""), "paused"))
        next_line(run, out);
}

static void state_change(const json_t *before, const json_t *run, const char *at, struct str *out)
{
    const char *state = json_get_str(run, "state", "");
    const char *reason = json_get_str(run, "reason", "");

    if (!str_eq(state, json_get_str(before, "state", "")))
        str_addf(out, "%s  run %" PRId64 " is %s%s%s\n", at, json_get_int(run, "id", 0), state,
                 *reason ? ": " : "", reason);
}

static const char *state_before(const json_t *before, size_t index)
{
    const json_t *step = json_array_get(json_object_get(before, "steps"), index);

    return json_get_str(step, "state", "waiting");
}

void show_run_changes(const json_t *before, const json_t *run, int64_t now_ms, struct str *out)
{
    bool active = json_get_bool(run, "active", false);
    const json_t *step;
    char at[32], took[32];
    size_t i;

    (void)text_clock(now_ms, at, sizeof(at));
    if (active)
        state_change(before, run, at, out);
    json_array_foreach(json_object_get(run, "steps"), i, step) {
        const char *is = json_get_str(step, "state", "");

        if (is_left_out(step) || str_eq(is, state_before(before, i)))
            continue;
        str_addf(out, "%s  %-8s  %s: %s", at, is, json_get_str(step, "stage", ""),
                 json_get_str(step, "title", ""));
        if (json_get_int(step, "ended_ms", 0))
            str_addf(out, " (%s)", str_duration(step_ms(step, now_ms), took, sizeof(took)));
        str_add(out, "\n");
        add_error(out, step, "                    ");
        add_warning(out, step, "                    ");
        add_question(out, step, "                    ");
    }
    if (!active) /* its end comes after what led to it */
        state_change(before, run, at, out);
}

/* --- The end ----------------------------------------------------------------------------------- */

/* A run whose end was not reached has broken its promise, however early it gave up. */
static void rto_missed_line(const json_t *report, struct str *out)
{
    int64_t goal = json_get_int(report, "rto_goal_ms", 0);
    char text[32];

    if (goal > 0)
        str_addf(out, "  RTO  not reached, promised %s\n", str_duration(goal, text, sizeof(text)));
    else
        str_add(out, "  RTO  not reached\n");
}

static void goal_line(const json_t *report, const char *label, const char *key,
                      const char *goal_key, struct str *out)
{
    int64_t measured = json_get_int(report, key, -1);
    int64_t goal = json_get_int(report, goal_key, 0);
    char a[32], b[32];

    if (measured < 0)
        return;
    str_addf(out, "  %s  %s", label, str_duration(measured, a, sizeof(a)));
    if (goal > 0)
        str_addf(out, ", promised %s: %s", str_duration(goal, b, sizeof(b)),
                 measured <= goal ? "kept" : "BROKEN");
    str_add(out, "\n");
}

static void asking_line(const json_t *run, struct str *out)
{
    int64_t id = json_get_int(run, "id", 0);
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step) {
        if (!str_eq(json_get_str(step, "state", ""), "asking"))
            continue;
        str_addf(out,
                 "  next: `muster run approve %" PRId64 " --step %zu` or `muster run deny %" PRId64
                 " --step %zu`\n",
                 id, i + 1, id, i + 1);
    }
}

/* A paused run waits for a word about its first step that failed, or for answers. */
static void paused_line(const json_t *run, struct str *out)
{
    int64_t id = json_get_int(run, "id", 0);
    const json_t *step;
    size_t i;

    asking_line(run, out);

    json_array_foreach(json_object_get(run, "steps"), i, step) {
        const char *state = json_get_str(step, "state", "");

        if (!json_get_bool(step, "required", true)
            || (!str_eq(state, "failed") && !str_eq(state, "unknown")))
            continue;
        str_addf(out,
                 "  next: `muster run retry %" PRId64 " --step %zu`, `skip` with a --reason, or "
                 "`fail`; `muster run cancel %" PRId64 "` ends the run\n",
                 id, i + 1, id);
        return;
    }
}

/* It works on another run: it is said again about that. */
static bool follows_another(const char *kind)
{
    return str_eq(kind, "cleanup") || str_eq(kind, "commit") || str_eq(kind, "rollback")
           || str_eq(kind, "change-point");
}

static void failed_line(const json_t *run, struct str *out)
{
    int64_t id = json_get_int(run, "id", 0);
    const char *kind = json_get_str(run, "kind", "");

    if (follows_another(kind))
        str_addf(out, "  next: mend that, then `muster %s %" PRId64 "%s` tries again\n", kind,
                 json_get_int(run, "of_run", 0), str_eq(kind, "change-point") ? " --point N" : "");
    else if (json_get_bool(run, "cancellable", false))
        str_addf(out,
                 "  next: mend that and start the failover again: it goes on where it stopped; or "
                 "`muster run cancel %" PRId64 "`: what was done is taken back, and the machine "
                 "is protected again\n",
                 id);
    else if (json_get_bool(run, "past_no_return", false))
        str_addf(
            out,
            "  next: mend that and start the failover again: it goes on where it stopped; this "
            "site is the writer now: `muster commit %" PRId64 "` leaves it so%s\n",
            id, json_get_bool(run, "reversible", true) ? ", `muster rollback` takes it back" : "");
}

/* What comes next, by state. */
static void next_line(const json_t *run, struct str *out)
{
    const char *state = json_get_str(run, "state", "");
    int64_t id = json_get_int(run, "id", 0);

    if (str_eq(state, "cleanup-due"))
        str_addf(out, "  next: `muster cleanup %" PRId64 "` takes the test away\n", id);
    else if (str_eq(state, "cleanup-failed"))
        str_addf(out, "  next: `muster cleanup %" PRId64 "` tries again\n", id);
    else if (str_eq(state, "paused"))
        paused_line(run, out);
    else if (str_eq(state, "failed"))
        failed_line(run, out);
    else if (str_eq(state, "awaiting-commit") && !json_get_bool(run, "reversible", true))
        str_addf(out,
                 "  next: `muster commit %" PRId64 "` makes it final and protects it to the other "
                 "site\n",
                 id);
    else if (str_eq(state, "awaiting-commit"))
        str_addf(out,
                 "  next: `muster commit %" PRId64 "` makes it final and protects it to the other "
                 "site; until then `muster rollback %" PRId64 "` or `muster change-point %" PRId64
                 " --point N`\n",
                 id, id, id);
    else if (str_eq(state, "committed"))
        str_add(out, "  next: nothing; `muster status` shows how far it is protected again\n");
    else if (str_eq(state, "rolling-back"))
        str_addf(out, "  next: `muster rollback %" PRId64 "` goes on with it\n", id);
}

/* Whoever brings no machine up has promised nothing. */
static bool has_promise(const char *kind)
{
    return !follows_another(kind) || str_eq(kind, "change-point");
}

void show_run_end(const json_t *run, struct str *out)
{
    const json_t *report = json_object_get(run, "report");
    const char *state = json_get_str(run, "state", "");
    const char *outcome = json_get_str(run, "outcome", "");
    const json_t *step, *left;
    size_t i;

    add_heading(out, run, 0);
    if (has_promise(json_get_str(run, "kind", "")) && !str_eq(state, "failed")
        && !str_eq(state, "cancelled") && !str_eq(outcome, "cancelled")) {
        if (*outcome && json_get_int(report, "rto_ms", -1) < 0)
            rto_missed_line(report, out);
        goal_line(report, "RTO", "rto_ms", "rto_goal_ms", out);
        goal_line(report, "RPO", "rpo_ms", "rpo_goal_ms", out);
    }
    json_array_foreach(json_object_get(run, "steps"), i, step) {
        const char *of = json_get_str(step, "state", "");

        if (!str_eq(of, "failed") && !str_eq(of, "unknown"))
            continue;
        str_addf(out, "  %s: %s: %s\n", of, json_get_str(step, "stage", ""),
                 json_get_str(step, "title", ""));
        add_error(out, step, "    ");
    }
    json_array_foreach(json_object_get(run, "steps"), i, step)
        if (step_warning(step))
            str_addf(out, "  warning: %s: %s\n", json_get_str(step, "title", ""),
                     step_warning(step));
    json_array_foreach(json_object_get(report, "leftovers"), i, left)
        str_addf(out, "  left behind: %s\n", json_string_value(left));
    next_line(run, out);
}

/* --- Lists and previews ------------------------------------------------------------------------ */

void show_runs(const json_t *runs, struct str *out)
{
    static const char *const columns[] = {">RUN",    "PLAN",  "KIND", "STATE",
                                          "STARTED", ">TOOK", "WHO",  NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *run;
    char text[32];
    size_t i;

    if (json_array_size(runs) == 0)
        str_add(out, "No runs yet.\n");
    json_array_foreach(runs, i, run) {
        int64_t declared = json_get_int(run, "declared_ms", 0);
        int64_t ended = json_get_int(run, "ended_ms", 0);

        table_addf(table, "%" PRId64, json_get_int(run, "id", 0));
        table_add(table, json_get_str(run, "plan", ""));
        table_add(table, json_get_str(run, "kind", ""));
        table_add(table, json_get_str(run, "state", ""));
        table_add(table, text_when(declared, text, sizeof(text)));
        table_add(table, text_age(ended ? ended - declared : -1, text, sizeof(text)));
        table_add(table, json_get_str(run, "who", ""));
    }
    table_render(table, out);
}

void show_preview(const json_t *preview, struct str *out)
{
    static const char *const columns[] = {
        "MACHINE", "FROM", ">NEWEST POINT", ">AGE", ">LOSS AT MOST", "SOURCE", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    bool test = str_eq(json_get_str(preview, "kind", ""), "test");
    const json_t *machine, *warning;
    char text[32];
    size_t i;

    json_array_foreach(json_object_get(preview, "machines"), i, machine) {
        int64_t loss = test ? 0 : json_get_int(machine, "loss_bound_ms", -1);

        table_add(table, json_get_str(machine, "machine", ""));
        table_add(table, json_get_str(machine, "peer", ""));
        table_addf(table, "%" PRId64, json_get_int(machine, "durable_point", 0));
        table_add(table, text_age(json_get_int(machine, "durable_age_ms", -1), text, sizeof(text)));
        table_add(table, loss == 0 ? "nothing" : text_age(loss, text, sizeof(text)));
        table_add(table,
                  json_get_bool(machine, "peer_answers", false) ? "answers" : "does not answer");
    }
    table_render(table, out);
    json_array_foreach(json_object_get(preview, "warnings"), i, warning)
        str_addf(out, "warning: %s\n", json_string_value(warning));
}
