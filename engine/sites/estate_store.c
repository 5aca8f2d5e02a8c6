// SPDX-License-Identifier: Apache-2.0
/* The replicas this site holds: opened when first needed, one user at a time, closed when a call
 * failed in a way that only opening (which recovers) mends. */
#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_base.h"

#include <inttypes.h>
#include <stdlib.h>

struct estate_holder *estate_find_holder(struct estate *estate, const char *group)
{
    VEC_FOREACH(holder, &estate->holders)
        if (str_eq((*holder)->replica.group, group) && !(*holder)->leaving)
            return *holder;
    return NULL;
}

void estate_holder_free(struct estate_holder *holder)
{
    store_close(holder->store);
    (void)pthread_mutex_destroy(&holder->use);
    free(holder);
}

int estate_replica_add(struct estate *estate, const struct estate_replica *replica, struct err *err)
{
    if (!str_is_name(replica->group))
        return err_set(err, ERR_INVALID, 0, "\"%s\" is not a group's name", replica->group);
    estate_lock(estate);
    struct estate_holder *holder = estate_find_holder(estate, replica->group);
    if (holder) {
        holder->reopen =
            holder->reopen
            || memcmp(holder->replica.writer_key, replica->writer_key, sizeof(replica->writer_key))
                   != 0
            || holder->replica.at_rest != replica->at_rest;
    } else {
        holder = mem_new(struct estate_holder);
        if (pthread_mutex_init(&holder->use, NULL) != 0)
            abort();
        *estate_holders_push(&estate->holders) = holder;
    }
    holder->replica = *replica;
    if (holder->replica.machines.count == 0)
        machine_names_alone(&holder->replica.machines, replica->group);
    estate_unlock(estate);
    return 0;
}

static void forget_holder(struct estate *estate, const struct estate_holder *holder)
{
    for (size_t i = 0; i < estate->holders.len; i++)
        if (estate->holders.at[i] == holder) {
            estate->holders.at[i] = estate->holders.at[--estate->holders.len];
            return;
        }
}

void estate_replica_remove(struct estate *estate, const char *group)
{
    estate_lock(estate);
    struct estate_holder *holder = estate_find_holder(estate, group);
    if (holder) {
        holder->leaving = true;
        while (holder->users > 0)
            (void)pthread_cond_wait(&estate->idle, &estate->lock);
        forget_holder(estate, holder);
    }
    estate_unlock(estate);
    estate_networks_set(estate, group, NULL);
    if (holder)
        estate_holder_free(holder);
}

struct estate_replica *estate_replica_list(struct estate *estate, size_t *ret_count)
{
    estate_lock(estate);
    struct estate_replica *replicas = mem_new_array(struct estate_replica, estate->holders.len + 1);
    size_t count = 0;
    VEC_FOREACH(holder, &estate->holders)
        if (!(*holder)->leaving)
            replicas[count++] = (*holder)->replica;
    estate_unlock(estate);
    *ret_count = count;
    return replicas;
}

static int open_store(struct estate *estate, const struct estate_replica *replica, bool to_scrub,
                      struct store **ret_store, struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, replica->group);
    CLEANUP(mem_freep) char *run_dir = path_join(estate->dir, "heads");
    CLEANUP(mem_freep) char *luks_key = estate_luks_path(estate, replica->group);
    struct store_dir_config config = {
        .fs = fs_real(),
        .clock = estate->config.clock,
        .dir = dir,
        .group = replica->group,
        .run_dir = run_dir,
        .to_scrub = to_scrub,
        .luks_key = luks_key,
        .at_rest = replica->at_rest,
    };

    uint64_t generation = 0;

    int given_up = estate_base_look(estate, replica->group, &generation, err);
    if (given_up > 0)
        return err_set(err, ERR_STATE, 0,
                       "it was given up: %s runs on its disks again since generation %" PRIu64
                       "; hint: points come again with its next protection",
                       replica->group, generation);
    if (given_up < 0)
        return -1;
    if (estate_key_read(estate, replica->group, &config.group_key, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        return err_set(err, ERR_CORRUPT, 0,
                       "its key keys/%s.key at %s is gone; hint: restore it from a backup of the "
                       "site; without it unprotect the machine and protect it again",
                       replica->group, estate->site);
    }
    memcpy(config.writer_key, replica->writer_key, sizeof(config.writer_key));
    int rc = store_dir_open(&config, ret_store, err);
    key_wipe(&config.group_key);
    return rc;
}

/* Changed under both locks: `use`, and the registry's, by which estate_store_put looks it up. */
static void set_store(struct estate *estate, struct estate_holder *holder, struct store *store)
{
    estate_lock(estate);
    holder->store = store;
    estate_unlock(estate);
}

static void leave(struct estate *estate, struct estate_holder *holder)
{
    estate_lock(estate);
    if (--holder->users == 0)
        (void)pthread_cond_broadcast(&estate->idle);
    estate_unlock(estate);
}

static int get_store(struct estate *estate, const char *group, bool to_scrub,
                     struct store **ret_store, struct err *err)
{
    estate_lock(estate);
    struct estate_holder *holder = estate_find_holder(estate, group);
    if (holder)
        holder->users++;
    estate_unlock(estate);
    if (!holder)
        return err_set(err, ERR_NOT_FOUND, 0, "%s holds no replica of \"%s\"", estate->site, group);

    (void)pthread_mutex_lock(&holder->use);
    estate_lock(estate);
    struct estate_replica replica = holder->replica;
    bool reopen = holder->reopen;
    holder->reopen = false;
    estate_unlock(estate);
    struct store *store = holder->store;
    if (reopen) {
        store_close(store);
        store = NULL;
    }
    int rc = store ? 0 : open_store(estate, &replica, to_scrub, &store, err);
    set_store(estate, holder, rc < 0 ? NULL : store);
    if (rc < 0) {
        (void)pthread_mutex_unlock(&holder->use);
        leave(estate, holder);
        return err_wrap(err, "replica of %s", group);
    }
    *ret_store = store;
    return 0;
}

int estate_store_get(struct estate *estate, const char *group, struct store **ret_store,
                     struct err *err)
{
    return get_store(estate, group, false, ret_store, err);
}

/* Closed again after the scrub's slice: nobody else is to get one that was opened so. */
int estate_store_get_to_scrub(struct estate *estate, const char *group, struct store **ret_store,
                              struct err *err)
{
    return get_store(estate, group, true, ret_store, err);
}

void estate_store_put(struct estate *estate, const char *group, struct store *store, bool failed)
{
    struct estate_holder *found = NULL;

    (void)group;
    estate_lock(estate);
    VEC_FOREACH(holder, &estate->holders)
        if ((*holder)->users > 0 && (*holder)->store == store)
            found = *holder;
    estate_unlock(estate);
    if (!found)
        abort(); /* put without get: our own mistake */
    if (failed) {
        store_close(store);
        set_store(estate, found, NULL);
    }
    (void)pthread_mutex_unlock(&found->use);
    leave(estate, found);
}
