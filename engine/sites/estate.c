// SPDX-License-Identifier: Apache-2.0
#include "sites/estate.h"

#include "base/mem.h"
#include "sites/estate_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void estate_lock(struct estate *estate)
{
    (void)pthread_mutex_lock(&estate->lock);
}

void estate_unlock(struct estate *estate)
{
    (void)pthread_mutex_unlock(&estate->lock);
}

static int receiver_get(void *ctx, const char *peer, const char *group, struct store **ret_store,
                        struct err *err)
{
    struct estate *estate = ctx;

    estate_lock(estate);
    const struct estate_holder *holder = estate_find_holder(estate, group);
    bool theirs = holder && str_eq(holder->replica.peer, peer);
    bool known = holder != NULL;
    estate_unlock(estate);
    if (known && !theirs)
        return err_set(err, ERR_DENIED, 0, "the replica of %s is not %s's", group, peer);
    return estate_store_get(estate, group, ret_store, err);
}

static void receiver_put(void *ctx, const char *group, struct store *store, bool failed)
{
    estate_store_put(ctx, group, store, failed);
}

static int receiver_seed(void *ctx, const char *peer, const char *name, struct seed *ret_seed,
                         struct err *err)
{
    return estate_seed_open(ctx, peer, name, ret_seed, err);
}

struct estate *estate_new(const struct estate_config *config)
{
    struct estate *estate = mem_new(struct estate);

    estate->config = *config;
    estate->site = mem_strdup(config->site);
    estate->dir = mem_strdup(config->dir);
    estate->config.site = estate->site;
    estate->config.dir = estate->dir;
    estate->receiver_host =
        (struct receiver_host){estate, receiver_get, receiver_put, receiver_seed};
    if (pthread_mutex_init(&estate->lock, NULL) != 0 || pthread_cond_init(&estate->idle, NULL) != 0
        || pthread_mutex_init(&estate->boot_lock, NULL) != 0)
        abort();
    estate->doubted = json_array();
    estate_retiring_load(estate);
    return estate;
}

void estate_free(struct estate *estate)
{
    if (!estate)
        return;
    VEC_FOREACH(sender, &estate->senders)
        estate_sender_free(*sender);
    VEC_FOREACH(holder, &estate->holders)
        estate_holder_free(*holder);
    VEC_FOREACH(machine, &estate->machines) {
        machine_done(*machine);
        free(*machine);
    }
    VEC_FOREACH(name, &estate->name_locks) {
        (void)pthread_mutex_destroy(&(*name)->mutex);
        free(*name);
    }
    estate_links_drop(estate, NULL);
    estate_links_free(&estate->links);
    estate_senders_free(&estate->senders);
    estate_pairs_done(estate);
    estate_holders_free(&estate->holders);
    estate_machines_free(&estate->machines);
    estate_name_locks_free(&estate->name_locks);
    estate_retirings_free(&estate->retirings);
    estate_clocks_free(&estate->clocks);
    json_decref(estate->networks);
    json_decref(estate->seeds);
    (void)pthread_cond_destroy(&estate->idle);
    (void)pthread_mutex_destroy(&estate->lock);
    (void)pthread_mutex_destroy(&estate->boot_lock);
    json_decref(estate->doubted);
    explicit_bzero(estate->config.sign_key, sizeof(estate->config.sign_key));
    free(estate->site);
    free(estate->dir);
    free(estate);
}

const char *estate_site(const struct estate *estate)
{
    return estate->site;
}

struct provider *estate_provider(struct estate *estate)
{
    return estate->config.provider;
}

struct clock *estate_clock(struct estate *estate)
{
    return estate->config.clock;
}

const struct receiver_host *estate_receiver_host(struct estate *estate)
{
    return &estate->receiver_host;
}

void estate_tell(struct estate *estate, const char *group, const char *what, uint64_t generation)
{
    if (estate->config.changed)
        estate->config.changed(estate->config.ctx, group, what, generation);
}

bool estate_shares(struct estate *estate, const char *name, const char *peer)
{
    char group[NAME_MAX_BYTES];

    (void)estate_group_of(estate, name, group);
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    const struct estate_holder *holder = estate_find_holder(estate, group);
    bool shares = (sender && str_eq(sender->group.peer, peer))
                  || (holder && str_eq(holder->replica.peer, peer));
    estate_unlock(estate);
    return shares;
}

/* --- Paths ---------------------------------------------------------------------------------- */

char *estate_path(const struct estate *estate, const char *folder, const char *name,
                  const char *suffix)
{
    return mem_printf("%s/%s/%s%s", estate->dir, folder, name, suffix);
}

char *estate_machine_dir(struct estate *estate, const char *name)
{
    return estate_path(estate, "machines", name, "");
}

char *estate_replica_dir(struct estate *estate, const char *group)
{
    return estate_path(estate, "replicas", group, "");
}

char *estate_key_path(struct estate *estate, const char *group)
{
    return estate_path(estate, "keys", group, ".key");
}

char *estate_luks_path(struct estate *estate, const char *group)
{
    return estate_path(estate, "keys", group, ".luks");
}

/* --- Machines ------------------------------------------------------------------------------- */

static void machine_copy(const struct machine *from, struct machine *ret_to)
{
    machine_init(ret_to);
    struct machine copy = *from;
    copy.disks = (struct machine_disks)VEC_EMPTY;
    copy.nics = (struct machine_nics)VEC_EMPTY;
    VEC_FOREACH(disk, &from->disks)
        *machine_disks_push(&copy.disks) = *disk;
    VEC_FOREACH(nic, &from->nics)
        *machine_nics_push(&copy.nics) = *nic;
    *ret_to = copy;
}

static struct machine **find_machine(struct estate *estate, const char *name)
{
    VEC_FOREACH(machine, &estate->machines)
        if (str_eq((*machine)->name, name))
            return machine;
    return NULL;
}

void estate_machine_put(struct estate *estate, const struct machine *machine)
{
    struct machine *copy = mem_new(struct machine);

    machine_copy(machine, copy);
    estate_lock(estate);
    struct machine **place = find_machine(estate, machine->name);
    if (place) {
        machine_done(*place);
        free(*place);
    } else {
        place = estate_machines_push(&estate->machines);
    }
    *place = copy;
    estate_unlock(estate);
}

void estate_machine_remove(struct estate *estate, const char *name)
{
    estate_lock(estate);
    struct machine **place = find_machine(estate, name);
    if (place) {
        machine_done(*place);
        free(*place);
        *place = estate->machines.at[--estate->machines.len];
    }
    estate_unlock(estate);
}

static void say_nearest(struct estate *estate, const char *name, struct err *err)
{
    const char **names = mem_new_array(const char *, estate->machines.len + 1);

    for (size_t i = 0; i < estate->machines.len; i++)
        names[i] = estate->machines.at[i]->name;
    const char *near = str_nearest(name, names);
    (void)err_set(err, ERR_NOT_FOUND, 0, "%s has no machine \"%s\"%s%s%s", estate->site, name,
                  near ? "; hint: did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    free(names);
}

int estate_machine_get(struct estate *estate, const char *name, struct machine *ret_machine,
                       struct err *err)
{
    estate_lock(estate);
    struct machine **place = find_machine(estate, name);
    if (place)
        machine_copy(*place, ret_machine);
    else
        say_nearest(estate, name, err);
    estate_unlock(estate);
    return place ? 0 : -1;
}

/* --- Groups --------------------------------------------------------------------------------- */

/* Locked. What is sent comes first: a machine that was recovered here is in both. */
static const struct machine_names *find_machines(struct estate *estate, const char *group)
{
    const struct estate_sender *sender = estate_find_sender(estate, group);
    const struct estate_holder *holder = sender ? NULL : estate_find_holder(estate, group);

    return sender ? &sender->group.machines : holder ? &holder->replica.machines : NULL;
}

/* Locked; NULL: none. */
static const char *find_group(struct estate *estate, const char *machine)
{
    VEC_FOREACH(sender, &estate->senders)
        if (!(*sender)->leaving && machine_names_have(&(*sender)->group.machines, machine))
            return (*sender)->group.group;
    VEC_FOREACH(holder, &estate->holders)
        if (!(*holder)->leaving && machine_names_have(&(*holder)->replica.machines, machine))
            return (*holder)->replica.group;
    return NULL;
}

bool estate_group_of(struct estate *estate, const char *machine, char ret_group[NAME_MAX_BYTES])
{
    char name[NAME_MAX_BYTES]; /* the two may be the same place */

    (void)snprintf(name, sizeof(name), "%s", machine);
    estate_lock(estate);
    const char *group = find_machines(estate, name) ? name : find_group(estate, name);
    (void)snprintf(ret_group, NAME_MAX_BYTES, "%s", group ? group : name);
    estate_unlock(estate);
    return group != NULL;
}

void estate_group_machines(struct estate *estate, const char *group,
                           struct machine_names *ret_machines)
{
    estate_lock(estate);
    const struct machine_names *found = find_machines(estate, group);
    if (found)
        *ret_machines = *found;
    else
        machine_names_alone(ret_machines, group);
    estate_unlock(estate);
}

/* --- One call at a time ---------------------------------------------------------------------- */

/* Made once per name, kept for good: names are few. */
static pthread_mutex_t *name_mutex(struct estate *estate, const char *name)
{
    struct estate_name_lock *found = NULL;

    estate_lock(estate);
    VEC_FOREACH(entry, &estate->name_locks)
        if (str_eq((*entry)->name, name))
            found = *entry;
    if (!found) {
        found = mem_new(struct estate_name_lock);
        (void)snprintf(found->name, sizeof(found->name), "%s", name);
        if (pthread_mutex_init(&found->mutex, NULL) != 0)
            abort();
        *estate_name_locks_push(&estate->name_locks) = found;
    }
    estate_unlock(estate);
    return &found->mutex;
}

void estate_machine_lock(struct estate *estate, const char *name)
{
    (void)pthread_mutex_lock(name_mutex(estate, name));
}

void estate_machine_unlock(struct estate *estate, const char *name)
{
    (void)pthread_mutex_unlock(name_mutex(estate, name));
}
