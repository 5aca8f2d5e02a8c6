// SPDX-License-Identifier: Apache-2.0
#include "providers/machine_group.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

int machine_names_add(struct machine_names *names, const char *name, struct err *err)
{
    size_t at = 0;

    if (!str_is_name(name))
        return err_set(err, ERR_INVALID, 0, "\"%.64s\" is no machine's name", name);
    while (at < names->count && strcmp(names->at[at], name) < 0)
        at++;
    if (at < names->count && str_eq(names->at[at], name))
        return err_set(err, ERR_EXISTS, 0, "%s is named twice", name);
    if (names->count == GROUP_MACHINES_MAX)
        return err_set(err, ERR_LIMIT, 0, "a group has at most %d machines; hint: make two of it",
                       GROUP_MACHINES_MAX);
    memmove(names->at[at + 1], names->at[at], (names->count - at) * sizeof(names->at[0]));
    (void)snprintf(names->at[at], sizeof(names->at[at]), "%s", name);
    names->count++;
    return 0;
}

bool machine_names_have(const struct machine_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (str_eq(names->at[i], name))
            return true;
    return false;
}

bool machine_names_equal(const struct machine_names *a, const struct machine_names *b)
{
    bool equal = a->count == b->count;

    for (size_t i = 0; equal && i < a->count; i++)
        equal = str_eq(a->at[i], b->at[i]);
    return equal;
}

void machine_names_alone(struct machine_names *names, const char *group)
{
    *names = (struct machine_names){.count = 1};
    (void)snprintf(names->at[0], sizeof(names->at[0]), "%s", group);
}

int machine_names_parse(const json_t *list, const char *group, struct machine_names *ret_names,
                        struct err *err)
{
    struct machine_names names = {0};
    const json_t *name;
    size_t i;

    json_array_foreach(list, i, name) {
        if (!json_is_string(name))
            return err_set(err, ERR_INVALID, 0, "group %s: machines[%zu] is no name", group, i);
        if (machine_names_add(&names, json_string_value(name), err) < 0)
            return err_wrap(err, "group %s", group);
    }
    if (names.count == 0)
        machine_names_alone(&names, group);
    *ret_names = names;
    return 0;
}

int machine_names_of(const json_t *definitions, const char *group, struct machine_names *ret_names,
                     struct err *err)
{
    struct machine_names names = {0};
    const char *name;
    json_t *definition;

    json_object_foreach((json_t *)(uintptr_t)definitions, name, definition) {
        if (machine_names_add(&names, name, err) < 0)
            return err_wrap(err, "group %s", group);
    }
    if (names.count == 0)
        machine_names_alone(&names, group);
    *ret_names = names;
    return 0;
}

json_t *machine_names_json(const struct machine_names *names)
{
    json_t *list = json_array();

    for (size_t i = 0; i < names->count; i++)
        (void)json_array_append_new(list, json_string(names->at[i]));
    return list;
}

void machine_names_text(const struct machine_names *names, char *ret_text, size_t len)
{
    size_t used = 0;

    ret_text[0] = '\0';
    for (size_t i = 0; i < names->count && used < len; i++) {
        int more = snprintf(ret_text + used, len - used, "%s%s", i == 0 ? "" : ", ", names->at[i]);
        used += more > 0 ? (size_t)more : 0;
    }
}

int machine_disk_in(const struct machine_names *machines, const char *machine, const char *disk,
                    char ret_name[GROUP_NAME_BYTES], struct err *err)
{
    size_t len = strlen(disk) + (machines->count > 1 ? strlen(machine) + 1 : 0);

    if (len >= GROUP_NAME_BYTES)
        return err_set(
            err, ERR_LIMIT, 0,
            "disk %s of %s: \"%s.%s\", its name in a group, has %zu bytes, at most %d are "
            "allowed; hint: give the machine or the disk a shorter name",
            disk, machine, machine, disk, len, GROUP_NAME_BYTES - 1);
    (void)snprintf(ret_name, GROUP_NAME_BYTES, "%s%s%s", machines->count > 1 ? machine : "",
                   machines->count > 1 ? "." : "", disk);
    return 0;
}
