// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include "cli/table.h"

#include <inttypes.h>

void show_plans(const json_t *plans, struct str *out)
{
    static const char *const columns[] = {"PLAN", "ADDED", "AT", "HASH", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *plan;
    char text[32];
    size_t i;

    if (json_array_size(plans) == 0)
        str_add(out, "No plans yet. `muster plan add FILE.lua` adds one.\n");
    json_array_foreach(plans, i, plan) {
        table_add(table, json_get_str(plan, "name", ""));
        table_add(table, text_when(json_get_int(plan, "added_ms", 0), text, sizeof(text)));
        table_add(table, json_get_str(plan, "origin", ""));
        table_addf(table, "%.12s", json_get_str(plan, "hash", ""));
    }
    table_render(table, out);
}

static void add_actions(const json_t *task, struct str *out)
{
    const json_t *body = json_object_get(task, "body");
    const json_t *action;
    size_t i;

    json_array_foreach(json_object_get(task, "actions"), i, action)
        str_addf(out, "   - %s\n", json_get_str(action, "describe", ""));
    if (body)
        str_addf(out, "   - Runs a function (lines %" PRId64 "-%" PRId64 ").\n",
                 json_get_int(body, "first", 0), json_get_int(body, "last", 0));
}

void show_runbook_markdown(const json_t *runbook, struct str *out)
{
    const json_t *note, *task;
    const char *stage = "";
    size_t i;

    str_addf(out, "# %s: %s\n\n", json_get_str(runbook, "plan", ""),
             json_get_str(runbook, "kind", ""));
    json_array_foreach(json_object_get(runbook, "notes"), i, note)
        str_addf(out, "%s\n", json_string_value(note));
    json_array_foreach(json_object_get(runbook, "tasks"), i, task) {
        const char *of = json_get_str(task, "stage", "");

        if (!str_eq(stage, of))
            str_addf(out, "\n## %s\n\n", of);
        stage = of;
        str_addf(out, "- **%s %s**%s\n", json_get_str(task, "number", ""),
                 json_get_str(task, "title", ""),
                 json_get_bool(task, "point_of_no_return", false) ? " (point of no return)" : "");
        add_actions(task, out);
    }
    str_addf(out, "\nEnds in: %s. Plan %.12s.\n", json_get_str(runbook, "ends_in", ""),
             json_get_str(runbook, "hash", ""));
}
