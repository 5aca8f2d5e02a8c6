// SPDX-License-Identifier: Apache-2.0
#include "providers/machine.h"

#include "base/str.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_MIN (16ULL << 20)
#define MEMORY_MAX (64ULL << 40)
#define CPUS_MAX   1024U
#define DISKS_MAX  26U /* vda .. vdz */
#define NICS_MAX   16U
/* A node's name in QEMU has at most 31 bytes, and ours begin with "disk-". */
#define DISK_NAME_MAX 24U

static const char *const fields[] = {"name",         "memory",   "cpus",  "kernel", "initrd",
                                     "cmdline",      "firmware", "accel", "agent",  "qmp",
                                     "agent_socket", "complete", "disks", "nics",   NULL};
static const char *const disk_fields[] = {"name", "path", "format", "iothread", NULL};
static const char *const nic_fields[] = {"mac", "network", NULL};

const char *const *machine_fields(void)
{
    return fields;
}

void machine_init(struct machine *machine)
{
    memset(machine, 0, sizeof(*machine));
}

void machine_done(struct machine *machine)
{
    machine_disks_free(&machine->disks);
    machine_nics_free(&machine->nics);
}

/* Every key must be one of `known`; the error names it, and the nearest one. */
static int check_fields(const json_t *obj, const char *what, const char *const *known,
                        struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)obj, key, value) {
        const char *near = str_nearest(key, known);
        size_t i = 0;

        while (known[i] && !str_eq(known[i], key))
            i++;
        if (known[i])
            continue;
        if (near)
            return err_set(err, ERR_INVALID, 0, "%s: unknown field '%s'; hint: did you mean '%s'?",
                           what, key, near);
        return err_set(err, ERR_INVALID, 0, "%s: unknown field '%s'", what, key);
    }
    return 0;
}

static int is_missing(const char *what, const char *key, const char *example, struct err *err)
{
    return err_set(err, ERR_INVALID, 0, "%s: '%s' is missing; hint: %s = %s", what, key, key,
                   example);
}

/* Copies a text field into a fixed place; absent leaves it as it is. */
static int take_text(const json_t *obj, const char *key, const char *what, char *ret_text,
                     size_t room, struct err *err)
{
    const json_t *value = json_object_get(obj, key);

    if (!value)
        return 0;
    if (!json_is_string(value))
        return err_set(err, ERR_INVALID, 0, "%s: '%s' must be a text", what, key);
    if (strlen(json_string_value(value)) >= room)
        return err_set(err, ERR_LIMIT, 0, "%s: '%s' has %zu bytes, at most %zu are allowed", what,
                       key, strlen(json_string_value(value)), room - 1);
    (void)snprintf(ret_text, room, "%s", json_string_value(value));
    return 0;
}

static int take_bool(const json_t *obj, const char *key, const char *what, bool *ret_value,
                     struct err *err)
{
    const json_t *value = json_object_get(obj, key);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return err_set(err, ERR_INVALID, 0, "%s: '%s' must be true or false", what, key);
    *ret_value = json_is_true(value);
    return 0;
}

static int check_path(const char *path, const char *what, const char *key, struct err *err)
{
    if (path[0] && path[0] != '/')
        return err_set(err, ERR_INVALID, 0, "%s: '%s' must be an absolute path, not '%s'", what,
                       key, path);
    return 0;
}

static int disk_from_json(const json_t *json, size_t index, const struct machine *machine,
                          struct machine_disk *ret_disk, struct err *err)
{
    char what[MACHINE_NAME_BYTES + 32];

    (void)snprintf(what, sizeof(what), "%s: disks[%zu]", machine->name, index + 1);
    (void)snprintf(ret_disk->name, sizeof(ret_disk->name), "vd%c", (char)('a' + (int)index));
    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, 0, "%s: must be a table", what);
    if (check_fields(json, what, disk_fields, err) < 0
        || take_text(json, "name", what, ret_disk->name, sizeof(ret_disk->name), err) < 0
        || take_text(json, "path", what, ret_disk->path, sizeof(ret_disk->path), err) < 0
        || take_text(json, "format", what, ret_disk->format, sizeof(ret_disk->format), err) < 0
        || take_bool(json, "iothread", what, &ret_disk->iothread, err) < 0)
        return -1;
    if (!ret_disk->path[0])
        return is_missing(what, "path", "\"/srv/db1.qcow2\"", err);
    if (!ret_disk->format[0])
        return is_missing(what, "format", "\"qcow2\" or \"raw\"", err);
    if (check_path(ret_disk->path, what, "path", err) < 0)
        return -1;
    if (!str_eq(ret_disk->format, "raw") && !str_eq(ret_disk->format, "qcow2"))
        return err_set(err, ERR_INVALID, 0, "%s: 'format' must be \"raw\" or \"qcow2\", not \"%s\"",
                       what, ret_disk->format);
    if (!str_is_name(ret_disk->name))
        return err_set(err, ERR_INVALID, 0,
                       "%s: '%s' is no name; hint: 1 to 63 of a-z 0-9 . _ -, beginning with a "
                       "letter or digit",
                       what, ret_disk->name);
    if (strlen(ret_disk->name) > DISK_NAME_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s: the name '%s' has %zu bytes, at most %u are allowed",
                       what, ret_disk->name, strlen(ret_disk->name), DISK_NAME_MAX);
    for (size_t i = 0; i < machine->disks.len; i++) {
        const struct machine_disk *other = &machine->disks.at[i];

        if (other != ret_disk && str_eq(other->name, ret_disk->name))
            return err_set(err, ERR_INVALID, 0, "%s: two disks are named '%s'", what, other->name);
        if (other != ret_disk && str_eq(other->path, ret_disk->path))
            return err_set(err, ERR_INVALID, 0, "%s: two disks have the path %s", what,
                           other->path);
    }
    return 0;
}

static bool is_mac(const char *text)
{
    static const char form[] = "xx:xx:xx:xx:xx:xx";

    if (strlen(text) != strlen(form))
        return false;
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != ':')
            return false;
    return true;
}

static int nic_from_json(const json_t *json, size_t index, const struct machine *machine,
                         struct machine_nic *ret_nic, struct err *err)
{
    char what[MACHINE_NAME_BYTES + 32];

    (void)snprintf(what, sizeof(what), "%s: nics[%zu]", machine->name, index + 1);
    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, 0, "%s: must be a table", what);
    if (check_fields(json, what, nic_fields, err) < 0
        || take_text(json, "mac", what, ret_nic->mac, sizeof(ret_nic->mac), err) < 0
        || take_text(json, "network", what, ret_nic->network, sizeof(ret_nic->network), err) < 0)
        return -1;
    if (!json_object_get(json, "mac"))
        return is_missing(what, "mac", "\"52:54:00:12:34:56\"", err);
    if (!json_object_get(json, "network"))
        return is_missing(what, "network", "\"user\" or \"bridge NAME\"", err);
    if (!is_mac(ret_nic->mac))
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'mac' must be like \"52:54:00:12:34:56\", not \"%s\"", what,
                       ret_nic->mac);
    if (!str_eq(ret_nic->network, "user")
        && !(str_starts(ret_nic->network, "bridge ") && strlen(ret_nic->network) > 7
             && strlen(ret_nic->network) < 7 + 16 && !strchr(ret_nic->network + 7, ' ')))
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'network' must be \"user\" or \"bridge NAME\" (a bridge's name has at "
                       "most 15 characters), not \"%s\"",
                       what, ret_nic->network);
    return 0;
}

static int take_lists(const json_t *json, struct machine *machine, struct err *err)
{
    const json_t *disks = json_object_get(json, "disks");
    const json_t *nics = json_object_get(json, "nics");
    const json_t *entry;
    size_t i;

    if (!disks)
        return is_missing(machine->name, "disks",
                          "{ { path = \"/srv/db1.qcow2\", format = \"qcow2\" } }", err);
    if (!json_is_array(disks) || json_array_size(disks) == 0)
        return err_set(err, ERR_INVALID, 0, "%s: 'disks' must list at least one disk",
                       machine->name);
    if (json_array_size(disks) > DISKS_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s: %zu disks, at most %u are supported", machine->name,
                       json_array_size(disks), DISKS_MAX);
    if (nics && !json_is_array(nics) && !(json_is_object(nics) && json_object_size(nics) == 0))
        return err_set(err, ERR_INVALID, 0, "%s: 'nics' must be a list", machine->name);
    if (json_array_size(nics) > NICS_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s: %zu nics, at most %u are supported", machine->name,
                       json_array_size(nics), NICS_MAX);
    json_array_foreach(disks, i, entry)
        if (disk_from_json(entry, i, machine, machine_disks_push(&machine->disks), err) < 0)
            return -1;
    json_array_foreach(nics, i, entry)
        if (nic_from_json(entry, i, machine, machine_nics_push(&machine->nics), err) < 0)
            return -1;
    return 0;
}

static int take_memory(const json_t *json, struct machine *machine, struct err *err)
{
    const json_t *memory = json_object_get(json, "memory");

    if (!memory)
        return is_missing(machine->name, "memory", "\"2GiB\"", err);
    if (!json_is_string(memory) || !str_to_bytes(json_string_value(memory), &machine->memory_bytes))
        return err_set(err, ERR_INVALID, 0, "%s: 'memory' must be a size like \"2GiB\"",
                       machine->name);
    if (machine->memory_bytes < MEMORY_MIN || machine->memory_bytes > MEMORY_MAX
        || machine->memory_bytes % (1ULL << 20) != 0)
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'memory' must be whole MiB, 16MiB to 64TiB, not %s", machine->name,
                       json_string_value(memory));
    return 0;
}

static int take_cpus(const json_t *json, struct machine *machine, struct err *err)
{
    const json_t *cpus = json_object_get(json, "cpus");

    machine->cpus = 1;
    if (!cpus)
        return 0;
    if (!json_is_integer(cpus) || json_integer_value(cpus) < 1
        || json_integer_value(cpus) > CPUS_MAX)
        return err_set(err, ERR_INVALID, 0, "%s: 'cpus' must be a number from 1 to %u",
                       machine->name, CPUS_MAX);
    machine->cpus = (uint32_t)json_integer_value(cpus);
    return 0;
}

static int take_adopted(const json_t *json, struct machine *m, struct err *err)
{
    if (take_text(json, "qmp", m->name, m->qmp, sizeof(m->qmp), err) < 0
        || take_text(json, "agent_socket", m->name, m->agent_socket, sizeof(m->agent_socket), err)
               < 0
        || take_bool(json, "complete", m->name, &m->complete, err) < 0
        || check_path(m->qmp, m->name, "qmp", err) < 0
        || check_path(m->agent_socket, m->name, "agent_socket", err) < 0)
        return -1;
    if (!m->qmp[0] && (m->agent_socket[0] || m->complete))
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'agent_socket' and 'complete' are an adopted machine's, which has a "
                       "'qmp'",
                       m->name);
    return 0;
}

static int fill(const json_t *json, struct machine *m, struct err *err)
{
    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, 0, "a machine must be a table with a name");
    if (!json_object_get(json, "name")
        && check_fields(json, "machine", fields, err) < 0) /* misspelt, perhaps */
        return -1;
    if (!json_object_get(json, "name"))
        return is_missing("machine", "name", "\"db1\"", err);
    if (take_text(json, "name", "machine", m->name, sizeof(m->name), err) < 0)
        return -1;
    if (!str_is_name(m->name))
        return err_set(
            err, ERR_INVALID, 0,
            "machine: 'name' is \"%s\", which is no name; hint: 1 to 63 of a-z 0-9 . _ -, beginning with a "
            "letter or digit",
            m->name);
    (void)snprintf(m->accel, sizeof(m->accel), "auto");
    if (check_fields(json, m->name, fields, err) < 0 || take_memory(json, m, err) < 0
        || take_cpus(json, m, err) < 0
        || take_text(json, "kernel", m->name, m->kernel, sizeof(m->kernel), err) < 0
        || take_text(json, "initrd", m->name, m->initrd, sizeof(m->initrd), err) < 0
        || take_text(json, "cmdline", m->name, m->cmdline, sizeof(m->cmdline), err) < 0
        || take_text(json, "firmware", m->name, m->firmware, sizeof(m->firmware), err) < 0
        || take_text(json, "accel", m->name, m->accel, sizeof(m->accel), err) < 0
        || take_bool(json, "agent", m->name, &m->agent, err) < 0 || take_adopted(json, m, err) < 0
        || take_lists(json, m, err) < 0)
        return -1;
    if (check_path(m->kernel, m->name, "kernel", err) < 0
        || check_path(m->initrd, m->name, "initrd", err) < 0
        || check_path(m->firmware, m->name, "firmware", err) < 0)
        return -1;
    if (!m->kernel[0] && (m->initrd[0] || m->cmdline[0]))
        return err_set(err, ERR_INVALID, 0, "%s: 'initrd' and 'cmdline' need a 'kernel'", m->name);
    if (!str_eq(m->accel, "auto") && !str_eq(m->accel, "kvm") && !str_eq(m->accel, "tcg"))
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'accel' must be \"auto\", \"kvm\" or \"tcg\", not \"%s\"", m->name,
                       m->accel);
    return 0;
}

int machine_from_json(const json_t *json, struct machine *ret_machine, struct err *err)
{
    struct machine machine;

    machine_init(&machine);
    if (fill(json, &machine, err) < 0) {
        machine_done(&machine);
        return -1;
    }
    *ret_machine = machine;
    return 0;
}

static void put_text(json_t *obj, const char *key, const char *text)
{
    if (text[0])
        (void)json_object_set_new(obj, key, json_string(text));
}

json_t *machine_to_json(const struct machine *machine)
{
    json_t *json = json_object();
    json_t *disks = json_array();
    json_t *nics = json_array();
    char memory[32];

    (void)snprintf(memory, sizeof(memory), "%" PRIu64 "MiB", machine->memory_bytes >> 20);
    put_text(json, "name", machine->name);
    put_text(json, "memory", memory);
    (void)json_object_set_new(json, "cpus", json_integer(machine->cpus));
    put_text(json, "kernel", machine->kernel);
    put_text(json, "initrd", machine->initrd);
    put_text(json, "cmdline", machine->cmdline);
    put_text(json, "firmware", machine->firmware);
    put_text(json, "accel", machine->accel);
    (void)json_object_set_new(json, "agent", json_boolean(machine->agent));
    put_text(json, "qmp", machine->qmp);
    put_text(json, "agent_socket", machine->agent_socket);
    if (machine->complete)
        (void)json_object_set_new(json, "complete", json_true());
    VEC_FOREACH(disk, &machine->disks)
        (void)json_array_append_new(disks, json_pack("{s:s, s:s, s:s, s:b}", "name", disk->name,
                                                     "path", disk->path, "format", disk->format,
                                                     "iothread", (int)disk->iothread));
    VEC_FOREACH(nic, &machine->nics)
        (void)json_array_append_new(
            nics, json_pack("{s:s, s:s}", "mac", nic->mac, "network", nic->network));
    (void)json_object_set_new(json, "disks", disks);
    (void)json_object_set_new(json, "nics", nics);
    return json;
}

void machine_make_portable(struct machine *machine)
{
    machine->qmp[0] = '\0';
    machine->agent_socket[0] = '\0';
    machine->complete = false;
}
