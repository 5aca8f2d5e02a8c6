// SPDX-License-Identifier: Apache-2.0
/* Seeds (replica/seed.h) on both sides: which files the peer is to begin a group's heads from; and the
 * files of this site that a peer may name, each peer those in a folder of its own. */
#include "base/mem.h"
#include "sites/estate_internal.h"

bool estate_seeds_set(struct estate *estate, const char *group, const json_t *seeds)
{
    estate_lock(estate);
    if (!estate->seeds)
        estate->seeds = json_object();
    const json_t *had = json_object_get(estate->seeds, group);
    bool changed = json_object_size(had) != json_object_size(seeds)
                   || (json_object_size(seeds) > 0 && !json_equal(had, seeds));
    if (json_object_size(seeds) > 0)
        (void)json_object_set_new(estate->seeds, group, json_deep_copy(seeds));
    else
        (void)json_object_del(estate->seeds, group);
    estate_unlock(estate);
    return changed;
}

json_t *estate_seeds_get(struct estate *estate, const char *group)
{
    estate_lock(estate);
    json_t *seeds = json_object_get(estate->seeds, group);
    json_t *copy = seeds ? json_deep_copy(seeds) : NULL;
    estate_unlock(estate);
    return copy;
}

int estate_seed_open(struct estate *estate, const char *peer, const char *name,
                     struct seed *ret_seed, struct err *err)
{
    CLEANUP(mem_freep)
    char *all =
        estate->config.seeds ? mem_strdup(estate->config.seeds) : path_join(estate->dir, "seeds");
    CLEANUP(mem_freep) char *dir = path_join(all, peer);
    CLEANUP(mem_freep) char *replicas = path_join(estate->dir, "replicas");
    CLEANUP(mem_freep) char *run_dir = path_join(estate->dir, "heads");
    const struct seed_folder folder = {.dir = dir, .replicas = replicas, .run_dir = run_dir};

    return seed_open(&folder, name, ret_seed, err);
}
