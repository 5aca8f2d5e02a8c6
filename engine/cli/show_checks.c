// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/show.h"
#include "cli/table.h"

#include <string.h>

static void add_indented(const char *text, const char *indent, struct str *out)
{
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, "\n");

        str_addf(out, "%s%.*s\n", indent, (int)len, at);
        at += len + (at[len] == '\n');
    }
}

void show_checks(const json_t *checks, const char *indent, struct str *out)
{
    static const char *const columns[] = {"CHECK", "AT", "NEEDED", "FOUND", "RESULT", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const json_t *check;
    size_t i;

    json_array_foreach(checks, i, check) {
        const char *needed = json_get_str(check, "needed", "");
        const char *found = json_get_str(check, "found", "");

        table_add(table, json_get_str(check, "what", ""));
        table_add(table, json_get_str(check, "site", ""));
        table_add(table, *needed ? needed : "-");
        table_add(table, *found ? found : "-");
        table_add(table, json_get_str(check, "state", ""));
    }
    table_render(table, &text);
    json_array_foreach(checks, i, check) {
        const char *hint = json_get_str(check, "hint", "");

        if (str_eq(json_get_str(check, "state", ""), "ok"))
            continue;
        str_addf(&text, "%s: %s\n", json_get_str(check, "state", ""),
                 json_get_str(check, "text", ""));
        if (*hint)
            str_addf(&text, "  hint: %s\n", hint);
    }
    add_indented(str_text(&text), indent, out);
}
