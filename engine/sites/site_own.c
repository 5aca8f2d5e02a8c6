// SPDX-License-Identifier: Apache-2.0
/* Machines that come back to their own disks: they were the heads of the replica that this site held
 * while they ran elsewhere. The first of a group that is started takes the disks of all of them back.
 * Its run's folder holds no more than the file that names it. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_base.h"
#include "sites/site_local.h"

#include <stdlib.h>

#define ARMED_SERIAL 1

int site_own_back(struct estate *estate, const char *group, bool *ret_back, struct err *err)
{
    uint64_t generation;
    int rc = estate_base_look(estate, group, &generation, err);

    *ret_back = rc > 0;
    return rc < 0 ? -1 : 0;
}

void site_own_lock(struct estate *estate, const char *group, bool lock)
{
    CLEANUP(mem_freep) char *name = mem_printf("%s base", group);

    if (lock)
        estate_machine_lock(estate, name);
    else
        estate_machine_unlock(estate, name);
}

static int look(struct estate *estate, const char *group, bool *ret_own, struct err *err)
{
    uint64_t generation;
    struct store *store;
    int rc = estate_base_look(estate, group, &generation, err);

    if (rc != 0) {
        *ret_own = rc > 0;
        return rc < 0 ? -1 : 0;
    }
    if (estate_store_get(estate, group, &store, err) < 0)
        return -1;
    *ret_own = store_dir_has_own_disks(store);
    estate_store_put(estate, group, store, false);
    return 0;
}

/* Not in the middle of another machine's start, which gives the replica of all of them up. */
int site_own_look(struct estate *estate, const char *group, bool *ret_own, struct err *err)
{
    site_own_lock(estate, group, true);
    int rc = look(estate, group, ret_own, err);
    site_own_lock(estate, group, false);
    return rc;
}

/* The map is there before the machine's first instruction: what it writes from then on is known. */
static int arm(struct estate *estate, const char *group, const struct provider_instance *view,
               struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(source_closep) struct source *source = NULL;
    CLEANUP(mem_freep) char *work_dir = site_work_dir(estate, group, view->machine->name);
    struct source_state state = {0};
    uint64_t generation = 0;

    int rc = estate_base_look(estate, group, &generation, err);
    if (rc <= 0)
        return rc; /* committed long ago: its session looks after its maps */
    if (fs_make_dirs(fs_real(), work_dir, 0700, err) < 0
        || provider->open_source(provider, view, group, generation, work_dir, &source, cancel, err)
               < 0
        || source->ops->inspect(source, &state, cancel, err) < 0)
        return -1;
    if (state.open != ARMED_SERIAL && source->ops->track(source, ARMED_SERIAL, cancel, err) < 0)
        return -1;
    CRASH_POINT("own.tracked");
    site_own_lock(estate, group, true);
    rc = estate_base_armed(estate, group, view->machine->name, ARMED_SERIAL, err);
    site_own_lock(estate, group, false);
    return rc;
}

static int start_paused(struct estate *estate, const char *group,
                        const struct provider_instance *view, struct cancel *cancel,
                        struct err *err)
{
    struct provider *provider = estate_provider(estate);

    if (provider->start(provider, view, true, cancel, err) < 0)
        return -1;
    CRASH_POINT("own.started");
    if (arm(estate, group, view, cancel, err) < 0)
        return err_wrap(err, "track the disks of %s", view->machine->name);
    return provider->resume(provider, view, cancel, err);
}

int site_own_arm_start(struct estate *estate, const char *group,
                       const struct provider_instance *view, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    enum instance_state state;

    if (provider->observe(provider, view, &state, cancel, err) < 0)
        return -1;
    switch (state) {
    case INSTANCE_RUNNING: return 0;
    case INSTANCE_PAUSED: /* ours, cut before it ran */
        if (arm(estate, group, view, cancel, err) < 0)
            return -1;
        return provider->resume(provider, view, cancel, err);
    case INSTANCE_IO_ERROR: return provider->resume(provider, view, cancel, err);
    case INSTANCE_SHUTDOWN:
        if (provider->stop(provider, view, cancel, err) < 0)
            return -1;
        break;
    case INSTANCE_OFF: break;
    }
    bool unarmed = false;
    if (estate_base_unarmed(estate, group, view->machine->name, &unarmed, err) < 0)
        return -1;
    /* One that ran before has written what no new map holds: it is not claimed to be the base. */
    return unarmed ? start_paused(estate, group, view, cancel, err)
                   : provider->start(provider, view, false, cancel, err);
}

int site_own_start(struct estate *estate, const struct site_instance *instance,
                   const struct provider_instance *view, struct cancel *cancel, struct err *err)
{
    const struct estate_mark none = {0};

    site_own_lock(estate, instance->group, true);
    int rc = estate_base_make(estate, instance->group, cancel, err);
    if (rc == 0)
        rc = estate_mark_write(estate, instance->group, &none, err);
    site_own_lock(estate, instance->group, false);
    if (rc < 0)
        return -1;
    return site_own_arm_start(estate, instance->group, view, cancel, err);
}
