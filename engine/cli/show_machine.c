// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include "base/mem.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>

/* "memory" is a number of bytes or a text with a unit. */
static const char *memory_of(const json_t *definition, char *buf, size_t len)
{
    const json_t *memory = json_object_get(definition, "memory");

    if (json_is_string(memory))
        (void)snprintf(buf, len, "%s", json_string_value(memory));
    else
        (void)str_bytes((uint64_t)json_get_int(definition, "memory", 0), buf, len);
    return buf;
}

static void where_of(const json_t *machine, struct str *out)
{
    if (!json_get_bool(machine, "recovered", false))
        str_add(out,
                json_get_bool(machine, "wanted_running", false) ? "here, wanted running" : "here");
    else
        str_addf(out, "%s, run %s", json_get_bool(machine, "test", false) ? "test" : "recovered",
                 json_get_str(machine, "run", ""));
}

void show_machines(const json_t *machines, struct str *out)
{
    static const char *const columns[] = {"NAME",   "STATE", ">MEMORY", ">CPUS",
                                          ">DISKS", "WHAT",  NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *machine;
    char memory[32];
    size_t i;

    if (json_array_size(machines) == 0)
        str_add(out, "No machines yet. `muster machine add FILE.lua` adds one.\n");
    json_array_foreach(machines, i, machine) {
        const json_t *definition = json_object_get(machine, "definition");
        CLEANUP(str_free) struct str where = STR_EMPTY;

        where_of(machine, &where);
        table_add(table, json_get_str(machine, "name", ""));
        table_add(table, json_get_str(machine, "state", ""));
        table_add(table, memory_of(definition, memory, sizeof(memory)));
        table_addf(table, "%" PRId64, json_get_int(definition, "cpus", 1));
        table_addf(table, "%zu", json_array_size(json_object_get(definition, "disks")));
        table_add(table, str_text(&where));
    }
    table_render(table, out);
    json_array_foreach(machines, i, machine)
        if (json_object_get(machine, "error"))
            str_addf(out, "  %s: %s\n", json_get_str(machine, "name", ""),
                     json_get_str(machine, "error", ""));
}

void show_machine(const json_t *machine, struct str *out)
{
    const json_t *definition = json_object_get(machine, "definition");
    CLEANUP(str_free) struct str where = STR_EMPTY;
    const json_t *item;
    char memory[32], when[32];
    size_t i;

    where_of(machine, &where);
    str_addf(out, "machine   %s\n", json_get_str(machine, "name", ""));
    str_addf(out, "state     %s\n", json_get_str(machine, "state", ""));
    if (json_object_get(machine, "error"))
        str_addf(out, "error     %s\n", json_get_str(machine, "error", ""));
    str_addf(out, "what      %s\n", str_text(&where));
    if (json_object_get(definition, "qmp"))
        str_addf(out, "adopted   by its monitor %s\n", json_get_str(definition, "qmp", ""));
    str_addf(out, "memory    %s\n", memory_of(definition, memory, sizeof(memory)));
    str_addf(out, "cpus      %" PRId64 "\n", json_get_int(definition, "cpus", 1));
    str_addf(out, "agent     %s\n", json_get_bool(definition, "agent", false) ? "yes" : "no");
    if (json_object_get(machine, "added_ms"))
        str_addf(out, "added     %s\n",
                 text_when(json_get_int(machine, "added_ms", 0), when, sizeof(when)));
    json_array_foreach(json_object_get(definition, "disks"), i, item)
        str_addf(out, "disk      %s  %s  %s\n", json_get_str(item, "name", "-"),
                 json_get_str(item, "format", ""), json_get_str(item, "path", ""));
    json_array_foreach(json_object_get(definition, "nics"), i, item)
        str_addf(out, "nic       %s  %s\n", json_get_str(item, "mac", ""),
                 json_get_str(item, "network", ""));
}
