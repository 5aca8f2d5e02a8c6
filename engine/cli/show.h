// SPDX-License-Identifier: Apache-2.0
/* From what the API answers to what a person reads. Pure: JSON in, text out. */
#pragma once

#include "base/json.h"
#include "base/str.h"

#include <stdbool.h>

/* How it may look. */
struct look {
    bool utf8;
    bool colour;
};

void show_machines(const json_t *machines, struct str *out);
void show_machine(const json_t *machine, struct str *out);

/* One line per machine, then what is wrong or under way, indented. */
void show_status(const json_t *protections, const struct look *look, struct str *out);
void show_protection(const json_t *protection, struct str *out);
/* What may be done with a machine now, and what not, with why. */
void show_operations(const json_t *reply, struct str *out);
void show_points(const json_t *points, struct str *out);
/* What a replica's folder says of itself (replica/inspect.h). */
void show_replica(const json_t *report, int64_t now_ms, struct str *out);
/* What prune removed, or would: its reply. */
void show_prune(const json_t *reply, struct str *out);

void show_plans(const json_t *plans, struct str *out);
/* A runbook ({kind, tasks, ...} of plan_show_json) as Markdown. */
void show_runbook_markdown(const json_t *runbook, struct str *out);

void show_runs(const json_t *runs, struct str *out);
/* What a run would use, and lose at most. */
void show_preview(const json_t *preview, struct str *out);
/* A run as a tree; `now_ms` for what is under way. */
void show_run(const json_t *run, int64_t now_ms, const struct look *look, struct str *out);
/* One line for each step that is in another state than in `before` (NULL: none was). */
void show_run_changes(const json_t *before, const json_t *run, int64_t now_ms, struct str *out);
/* The end of a run: state, times against the goals, what failed, what is left. */
void show_run_end(const json_t *run, struct str *out);

/* What protecting takes, a line each and what is to be done below; each line behind `indent`. */
void show_checks(const json_t *checks, const char *indent, struct str *out);
void show_jobs(const json_t *jobs, struct str *out);
void show_job(const json_t *job, int64_t now_ms, const struct look *look, struct str *out);
/* Lines for tasks in another state than in `before`, and for each further tenth of their work. */
void show_job_changes(const json_t *before, const json_t *job, int64_t now_ms, struct str *out);

void show_audit(const json_t *entries, struct str *out);
