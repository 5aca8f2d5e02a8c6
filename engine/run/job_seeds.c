// SPDX-License-Identifier: Apache-2.0
/* Seeds of a protection: {disk: file at the other site}, in the row of the site that sends, until the
 * machine is protected. What such a file is, and whether it may be one, that site says. */
#include "base/mem.h"
#include "replica/seed.h"
#include "run/job.h"
#include "run/job_kind.h"

#include <string.h>

/* Of all machines: as the group's points call them. */
static int disks_of(const struct job_machine_list *machines, const struct machine_names *names,
                    json_t **ret_disks, struct err *err)
{
    CLEANUP(json_freep) json_t *disks = json_array();
    char name[GROUP_NAME_BYTES];

    VEC_FOREACH(machine, machines)
        VEC_FOREACH(disk, &machine->disks) {
            if (machine_disk_in(names, machine->name, disk->name, name, err) < 0)
                return -1;
            (void)json_array_append_new(disks, json_string(name));
        }
    *ret_disks = TAKE(disks);
    return 0;
}

/* The disk that is meant by `name`; NULL: none. */
static const char *disk_of(const json_t *disks, const char *name)
{
    const json_t *disk;
    size_t i;

    if (!*name && json_array_size(disks) == 1)
        return json_string_value(json_array_get(disks, 0));
    json_array_foreach(disks, i, disk) {
        if (str_eq(json_string_value(disk), name))
            return json_string_value(disk);
    }
    return NULL;
}

static int no_disk(const json_t *disks, const char *name, struct err *err)
{
    CLEANUP(str_free) struct str names = STR_EMPTY;
    const json_t *disk;
    size_t i;

    json_array_foreach(disks, i, disk)
        str_addf(&names, " %s", json_string_value(disk));
    if (!*name)
        return err_set(err, ERR_INVALID, 0,
                       "seed: there are %zu disks, so it must be said which one it is of; hint: "
                       "DISK=FILE, where DISK is one of:%s",
                       json_array_size(disks), str_text(&names));
    return err_set(err, ERR_INVALID, 0, "seed: there is no disk \"%.63s\" (there are:%s)", name,
                   str_text(&names));
}

int job_seeds_take(const json_t *seeds, const struct job_machine_list *machines,
                   const struct machine_names *names, json_t **ret_seeds, struct err *err)
{
    CLEANUP(json_freep) json_t *taken = json_object();
    CLEANUP(json_freep) json_t *disks = NULL;
    const char *name;
    json_t *file;

    if (seeds && !json_is_object(seeds))
        return err_set(err, ERR_INVALID, 0, "seeds is no object");
    if (disks_of(machines, names, &disks, err) < 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)seeds, name, file) {
        const char *text = json_is_string(file) ? json_string_value(file) : "";
        const char *disk = disk_of(disks, name);

        if (!disk)
            return no_disk(disks, name, err);
        if (!*text || strlen(text) >= SEED_NAME_BYTES || strpbrk(text, "\n\r"))
            return err_set(err, ERR_INVALID, 0,
                           "seed of disk %s: the name of a file has 1 to %d bytes and no line "
                           "breaks",
                           disk, SEED_NAME_BYTES - 1);
        if (json_object_get(taken, disk))
            return err_set(err, ERR_INVALID, 0, "disk %s is to have two seeds", disk);
        (void)json_object_set(taken, disk, file);
    }
    *ret_seeds = seeds ? TAKE(taken) : NULL;
    return 0;
}

json_t *job_seeds_get(const char *settings)
{
    CLEANUP(json_freep) json_t *json = NULL;
    struct err none = ERR_EMPTY;

    if (json_parse(settings, strlen(settings), &json, &none) < 0)
        return json_object();
    json_t *seeds = json_object_get(json, "seeds");
    return json_is_object(seeds) ? json_incref(seeds) : json_object();
}

int job_seeds_drop(char **settings, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    if (json_parse(*settings, strlen(*settings), &json, err) < 0)
        return err_wrap(err, "settings of a protection");
    if (json_object_del(json, "seeds") < 0)
        return 0;
    free(*settings);
    *settings = json_text(json);
    return 0;
}
