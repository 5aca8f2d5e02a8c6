// SPDX-License-Identifier: Apache-2.0
/* Network cards in a machine's guest. Before the first change for an id, what is there is written to
 * network-ID.json in the machine's folder: {mac, wanted, before}; so it can be put back whatever
 * was cut, and a second try does not take the first one's work for what was there. */
#include "base/fs.h"
#include "base/mem.h"
#include "qemu/guest_net.h"
#include "sites/site_local.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RECORD_MAX ((size_t)1 << 20)

/* The recovered machine of that run, or this site's own one, which a failback starts. */
static int load(struct estate *estate, const json_t *args, struct site_instance *instance,
                struct err *err)
{
    const char *run;
    const char *machine;
    struct err why = ERR_EMPTY;

    if (json_need_str(args, "run", "ask", &run, err) < 0
        || json_need_str(args, "machine", "ask", &machine, err) < 0)
        return -1;
    if (site_instance_load(estate, run, machine, instance, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND || json_get_bool(args, "test", true)
        || estate_machine_get(estate, machine, &instance->machine, &why) < 0)
        return -1;
    err_clear(err);
    free(instance->dir);
    instance->dir = estate_machine_dir(estate, machine);
    return 0;
}

/* By its number in the definition, from 1, or its MAC. */
static int find_nic(const struct machine *machine, const json_t *nic, const char **ret_mac,
                    struct err *err)
{
    json_int_t number = json_is_integer(nic) ? json_integer_value(nic) : nic ? 0 : 1;
    const char *mac = json_string_value(nic);

    for (size_t i = 0; i < machine->nics.len; i++)
        if (mac ? strcasecmp(machine->nics.at[i].mac, mac) == 0 : (json_int_t)i + 1 == number) {
            *ret_mac = machine->nics.at[i].mac;
            return 0;
        }
    if (mac)
        return err_set(err, ERR_NOT_FOUND, 0, "%s has no network card %.40s; it has %zu",
                       machine->name, mac, machine->nics.len);
    return err_set(err, ERR_NOT_FOUND, 0, "%s has no network card %lld; it has %zu", machine->name,
                   (long long)number, machine->nics.len);
}

static char *record_path(const struct site_instance *instance, const char *id)
{
    CLEANUP(mem_freep) char *name = mem_printf("network-%s.json", id);

    return path_join(instance->dir, name);
}

/* NULL: nothing was written for that id. */
static int read_record(const char *path, json_t **ret_record, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    *ret_record = NULL;
    if (fs_read_file(fs_real(), path, RECORD_MAX, &text, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        return 0;
    }
    return json_parse(str_text(&text), text.len, ret_record, err);
}

static int wanted_of(const json_t *args, json_t **ret_wanted, struct err *err)
{
    return guest_net_wanted(json_object_get(args, "addresses"), json_object_get(args, "gateways"),
                            json_object_get(args, "dns"), ret_wanted, err);
}

static void tell(json_t *network, const json_t *wanted, const json_t *record, json_t **ret_result)
{
    CLEANUP(mem_freep) char *text = guest_net_text(network);

    (void)json_object_set_new(network, "holds", json_boolean(guest_net_holds(network, wanted)));
    (void)json_object_set_new(network, "text", json_string(text));
    if (record)
        (void)json_object_set(network, "before", json_object_get(record, "before"));
    *ret_result = json_incref(network);
}

int ask_guest_network(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    CLEANUP(json_freep) json_t *network = NULL;
    CLEANUP(json_freep) json_t *wanted = NULL;
    CLEANUP(json_freep) json_t *record = NULL;
    const char *mac;

    machine_init(&instance.machine);
    if (load(estate, args, &instance, err) < 0
        || find_nic(&instance.machine, json_object_get(args, "nic"), &mac, err) < 0
        || wanted_of(args, &wanted, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *path = record_path(&instance, json_get_str(args, "id", ""));
    struct provider_instance view = site_instance_view(&instance);
    if (read_record(path, &record, err) < 0
        || provider->guest_network(provider, &view, mac, wanted, &network, cancel, err) < 0)
        return -1;
    tell(network, wanted, record, ret_result);
    return 0;
}

static int keep_before(const struct site_instance *instance, const char *path, const char *mac,
                       const json_t *wanted, const json_t *before, json_t **ret_record,
                       struct err *err)
{
    if (read_record(path, ret_record, err) < 0 || *ret_record)
        return *ret_record ? 0 : -1;
    if (fs_make_dirs(fs_real(), instance->dir, 0700, err) < 0)
        return -1;
    *ret_record = json_pack("{s:s, s:O, s:O}", "mac", mac, "wanted", wanted, "before", before);
    CLEANUP(mem_freep) char *text = json_text(*ret_record);
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

int ask_guest_assign(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    CLEANUP(json_freep) json_t *before = NULL;
    CLEANUP(json_freep) json_t *network = NULL;
    CLEANUP(json_freep) json_t *wanted = NULL;
    CLEANUP(json_freep) json_t *record = NULL;
    const char *mac;
    const char *id;

    machine_init(&instance.machine);
    if (json_need_str(args, "id", "ask", &id, err) < 0 || load(estate, args, &instance, err) < 0
        || find_nic(&instance.machine, json_object_get(args, "nic"), &mac, err) < 0
        || wanted_of(args, &wanted, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *path = record_path(&instance, id);
    struct provider_instance view = site_instance_view(&instance);
    if (provider->guest_network(provider, &view, mac, wanted, &before, cancel, err) < 0
        || keep_before(&instance, path, mac, wanted, before, &record, err) < 0
        || provider->guest_assign(provider, &view, mac, wanted, &network, cancel, err) < 0)
        return err_wrap(err, "%s", instance.machine.name);
    tell(network, wanted, record, ret_result);
    return 0;
}

/* What a machine that is off, or gone, has set in its guest is gone as well. */
static int restore(struct estate *estate, const struct site_instance *instance,
                   const json_t *record, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    const json_t *before = json_object_get(record, "before");
    CLEANUP(json_freep) json_t *back = guest_net_back(before, json_object_get(record, "wanted"));
    CLEANUP(json_freep) json_t *network = NULL;
    enum instance_state state;

    if (provider->observe(provider, &view, &state, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_OFF || state == INSTANCE_SHUTDOWN)
        return 0;
    return provider->guest_assign(provider, &view, json_get_str(record, "mac", ""), back, &network,
                                  cancel, err);
}

int ask_guest_restore(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    CLEANUP(json_freep) json_t *record = NULL;
    const char *id;

    (void)ret_result;
    machine_init(&instance.machine);
    if (json_need_str(args, "id", "ask", &id, err) < 0)
        return -1;
    if (load(estate, args, &instance, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        return 0;
    }
    CLEANUP(mem_freep) char *path = record_path(&instance, id);
    if (read_record(path, &record, err) < 0)
        return -1;
    if (!record)
        return 0;
    if (restore(estate, &instance, record, cancel, err) < 0)
        return err_wrap(err, "%s: put its addresses back", instance.machine.name);
    return fs_real()->unlink(fs_real(), path, err);
}
