// SPDX-License-Identifier: Apache-2.0
/* Change maps seen from beside the session: its monitor takes one client, so ours is asked. */
#include "base/fs.h"
#include "base/mem.h"
#include "block/maps_export.h"
#include "providers/provider_qemu.h"

#include <string.h>

#define JOBS_END_MS 10000
#define LOOK_MS     10
#define OUR_JOBS    "muster-" /* those of a cut or a scan; a stream is none of them */

struct disks {
    struct maps_disk *at;
    char *nodes;
    size_t count;
};

static void disks_done(struct disks *disks)
{
    free(disks->at);
    free(disks->nodes);
}

static struct disks disks_of(const struct machine *machine)
{
    struct disks disks = {mem_new_array(struct maps_disk, machine->disks.len),
                          mem_alloc(machine->disks.len, QEMU_NODE_BYTES), machine->disks.len};

    for (size_t i = 0; i < disks.count; i++) {
        char *node = disks.nodes + i * QEMU_NODE_BYTES;

        qemu_node(i, node);
        disks.at[i] = (struct maps_disk){machine->disks.at[i].name, node};
    }
    return disks;
}

int qemu_tracked(struct provider *provider, const struct provider_instance *instance,
                 const char *group, uint64_t generation, uint64_t *ret_serial,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(disks_done) struct disks disks = disks_of(instance->machine);
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    struct source_state maps = {0};
    enum instance_state state;

    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (state != INSTANCE_OFF
        && (blocks_list(qmp, &nodes, cancel, err) < 0
            || maps_judge(&nodes, disks.at, disks.count, group, generation, &maps, err) < 0))
        return err_wrap(err, "machine %s", instance->machine->name);
    *ret_serial = maps.open;
    return 0;
}

/* A cut lasts for milliseconds; a machine is not paused in the middle of one. */
static int wait_cut(struct qmp *qmp, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, JOBS_END_MS);

    for (;;) {
        CLEANUP(blocks_jobs_free) struct blocks_jobs jobs = VEC_EMPTY;
        bool busy = false;

        if (blocks_list_jobs(qmp, &jobs, cancel, err) < 0)
            return -1;
        VEC_FOREACH(job, &jobs)
            busy = busy || str_starts(job->id, OUR_JOBS);
        if (!busy)
            return 0;
        if (cancel_sleep(limit, LOOK_MS, err) < 0)
            return err_wrap(err, "wait for the end of a cut");
    }
}

int qemu_last_marks(struct provider *provider, const struct provider_instance *instance,
                    const char *group, uint64_t generation, uint64_t *ret_serial,
                    struct source_extents *ret_marks, struct cancel *cancel, struct err *err)
{
    CLEANUP(disks_done) struct disks disks = disks_of(instance->machine);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;

    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    *ret_serial = 0;
    if (state == INSTANCE_OFF)
        return 0;
    /* One that stands still may do so for the length of a group's cut only: it is stopped for good. */
    if ((state != INSTANCE_SHUTDOWN
         && (wait_cut(qmp, cancel, err) < 0 || qemu_tell(instance, qmp, "stop", cancel, err) < 0
             || wait_cut(qmp, cancel, err) < 0))
        || maps_export(qmp, disks.at, disks.count, group, generation, instance->run_dir, ret_serial,
                       ret_marks, cancel, err)
               < 0)
        return err_wrap(err, "machine %s", instance->machine->name);
    return 0;
}
