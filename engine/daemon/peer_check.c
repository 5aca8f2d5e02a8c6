// SPDX-License-Identifier: Apache-2.0
/* What a peer asks before it protects a machine to here: could it be recovered on this host? By the
 * machine's definition as it would be started, without its disks: those would be served. */
#include "base/fs.h"
#include "base/mem.h"
#include "daemon/peer_ask.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MEMINFO       "/proc/meminfo"
#define MEMINFO_BYTES 65536

/* "MemAvailable:   123 kB"; 0: the kernel does not say. */
static uint64_t meminfo(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    unsigned long long kib = 0;

    return at && sscanf(at + strlen(key), " %llu kB", &kib) == 1 ? kib * 1024 : 0;
}

static json_t *host_json(void)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err unknown = ERR_EMPTY;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (fs_read_file(fs_real(), MEMINFO, MEMINFO_BYTES, &text, &unknown) < 0)
        str_clear(&text);
    return json_pack("{s:I, s:I, s:I}", "memory_bytes",
                     (json_int_t)meminfo(str_text(&text), "MemTotal:"), "memory_available_bytes",
                     (json_int_t)meminfo(str_text(&text), "MemAvailable:"), "cpus",
                     (json_int_t)(cpus > 0 ? cpus : 0));
}

static json_t *lines_json(const struct str *lines)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(str_text(lines));
    json_t *list = json_array();
    char *save = NULL;

    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        (void)json_array_append_new(list, json_string(line));
    return list;
}

/* Where each of its networks would be, in the order of its cards. */
static json_t *networks_json(const struct ask *ask, struct machine *machine)
{
    json_t *list = json_array();

    VEC_FOREACH(nic, &machine->nics)
        (void)json_array_append_new(list, json_pack("{s:s}", "there", nic->network));
    estate_networks_map(ask->daemon->estate, json_object_get(ask->head, "networks"), machine);
    for (size_t i = 0; i < machine->nics.len; i++)
        (void)json_object_set_new(json_array_get(list, i), "here",
                                  json_string(machine->nics.at[i].network));
    return list;
}

int peer_check(struct ask *ask, struct err *err)
{
    const json_t *definition = json_object_get(ask->head, "machine");
    struct provider *provider = estate_provider(ask->daemon->estate);
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(str_free) struct str problems = STR_EMPTY;

    machine_init(&machine);
    if (!definition)
        return 0; /* an older release does not ask */
    if (machine_from_json(definition, &machine, err) < 0)
        return err_wrap(err, "replica.check");
    machine_make_portable(&machine);
    machine_disks_clear(&machine.disks);
    json_t *networks = networks_json(ask, &machine);
    (void)json_object_set_new(ask->answer, "networks", networks);
    if (provider->check(provider, &machine, &problems, err) < 0)
        return -1;
    (void)json_object_set_new(ask->answer, "problems", lines_json(&problems));
    (void)json_object_set_new(ask->answer, "host", host_json());
    return 0;
}
