// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/show.h"
#include "cli/table.h"
#include "sites/keeping.h"

#include <inttypes.h>

static void disk_lines(const json_t *disks, struct str *out)
{
    const json_t *disk;
    char size[32], held[32];
    size_t i;

    json_array_foreach(disks, i, disk)
        str_addf(out, "%s %s, %s, %s, takes %s: %s\n", i == 0 ? "disks       " : "            ",
                 json_get_str(disk, "name", ""),
                 str_bytes((uint64_t)json_get_int(disk, "size", 0), size, sizeof(size)),
                 json_get_bool(disk, "own", false) ? "a machine's own disk"
                                                   : json_get_str(disk, "head", ""),
                 str_bytes((uint64_t)json_get_int(disk, "held", 0), held, sizeof(held)),
                 json_get_str(disk, "path", ""));
}

static void machine_lines(json_t *machines, struct str *out)
{
    const char *name;
    json_t *machine;
    bool first = true;

    json_object_foreach(machines, name, machine) {
        CLEANUP(mem_freep) char *definition = json_text(machine);
        str_addf(out, "%s %s %s\n", first ? "machines    " : "            ", name, definition);
        first = false;
    }
}

static void settings_line(const json_t *protection, struct str *out)
{
    const json_t *settings = json_object_get(protection, "settings");
    char text[32];

    if (!json_is_object(settings)) {
        str_add(out, "settings     none came with it\n");
        return;
    }
    str_addf(out, "settings     a point every %s, %" PRId64 " kept",
             str_duration(json_get_int(settings, "interval_ms", 0), text, sizeof(text)),
             json_get_int(settings, "keep", 0));
    if (*json_get_str(settings, "policy", ""))
        str_addf(out, ", policy %s", json_get_str(settings, "policy", ""));
    str_addf(out, "; the protection was %s\n", json_get_str(protection, "state", "?"));
}

static void head_line(const json_t *report, struct str *out)
{
    int64_t applied = json_get_int(report, "applied", 0);
    int64_t applying = json_get_int(report, "applying", 0);

    str_addf(out, "state        %s%s", json_get_str(report, "state", ""),
             json_get_bool(report, "in_use", false) ? ", open in a process now" : "");
    if (applied)
        str_addf(out, "; head is at point %" PRId64, applied);
    if (applying)
        str_addf(out, ", on its way to %" PRId64, applying);
    str_add(out, "\n");
}

/* Whose pins they are, as the site that keeps the points says it. */
static json_t *holders_of(const json_t *point)
{
    json_t *holders = json_array();
    char holder[NAME_MAX_BYTES + 16];
    const json_t *label;
    size_t i;

    json_array_foreach(json_object_get(point, "pins"), i, label)
        (void)json_array_append_new(
            holders, json_string(pin_holder(json_string_value(label), holder, sizeof(holder))));
    return holders;
}

/* Newest first, with their ages. */
static json_t *points_of(const json_t *report, int64_t now_ms)
{
    json_t *turned = json_array();
    json_t *point;
    size_t i;

    json_array_foreach(json_object_get(report, "points"), i, point) {
        json_t *copy = json_copy(point);
        int64_t cut_ms = json_get_int(point, "cut_ms", 0);
        (void)json_object_set_new(copy, "age_ms", json_integer(now_ms - cut_ms));
        (void)json_object_set_new(copy, "pins", holders_of(point));
        (void)json_array_insert_new(turned, 0, copy);
    }
    return turned;
}

void show_replica(const json_t *report, int64_t now_ms, struct str *out)
{
    const json_t *protection = json_object_get(report, "protection");
    const json_t *followed = json_object_get(report, "followed");
    const json_t *faults = json_object_get(report, "faults");
    CLEANUP(json_freep) json_t *points = points_of(report, now_ms);
    const json_t *fault;
    size_t i;

    str_addf(out, "group        %s\n", json_get_str(report, "group", "?"));
    head_line(report, out);
    str_addf(out, "from         %s\n",
             json_get_str(protection, "peer", json_get_str(report, "site", "?")));
    str_addf(out, "generation   %" PRId64 "\n", json_get_int(report, "generation", 0));
    if (json_is_object(followed))
        str_addf(out, "follows      the promotion %" PRId64 " of generation %" PRId64 "\n",
                 json_get_int(followed, "point", 0), json_get_int(followed, "generation", 0));
    str_addf(out, "encryption   %s\n",
             str_eq(json_get_str(report, "encryption", ""), "at-rest")
                 ? "at rest: the disks are LUKS containers"
                 : "none: the disks are plain images");
    settings_line(protection, out);
    disk_lines(json_object_get(report, "disks"), out);
    machine_lines(json_object_get(report, "machines"), out);
    str_add(out, "\n");
    show_points(points, out);
    if (json_array_size(faults) > 0)
        str_add(out, "\nDamaged or missing:\n");
    json_array_foreach(faults, i, fault)
        str_addf(out, "  %s\n", json_string_value(fault));
}
