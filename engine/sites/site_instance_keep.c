// SPDX-License-Identifier: Apache-2.0
/* A recovered machine stays for good, as an ordinary one of this site: its disks, all its own by now, move
 *
 *   instances/RUN-MACHINE/DISK.qcow2  ->  instances/kept/MACHINE/DISK.qcow2
 *
 * and its folder goes. (Below instances/, which may be a file system of its own.) Each move is a rename, so
 * that a disk is in one of the two places, whatever is cut; asked for again it goes on. The machine is off
 * meanwhile, and can be started by nobody once its folder is gone: what makes it a machine again is its row,
 * which is written last. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sites/site_local.h"

#include <stdio.h>
#include <string.h>

/* It may be moved: committed, off, in no need of a point. */
static int check(struct estate *estate, const struct site_instance *instance, struct cancel *cancel,
                 struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    enum instance_state state;

    if (instance->test || instance->own || !instance->committed)
        return err_set(err, ERR_STATE, 0, "%s, as run %s started it, %s", instance->name,
                       instance->run,
                       instance->test  ? "is a test"
                       : instance->own ? "runs on its own disks already"
                                       : "is not committed");
    if (provider->observe(provider, &view, &state, cancel, err) < 0)
        return -1;
    if (state != INSTANCE_OFF)
        return err_set(err, ERR_STATE, 0, "%s is %s; hint: `muster machine stop %s` first",
                       instance->name, instance_state_name(state), instance->name);
    VEC_FOREACH(disk, &instance->served)
        if (!disk->own)
            return err_set(err, ERR_STATE, 0,
                           "disk %s of %s still needs the replica it came from; hint: start the "
                           "machine, and `muster stream %s` gives it disks of its own",
                           disk->name, instance->name, instance->name);
    return 0;
}

static int move_disk(const char *from, const char *to, const char *disk, struct err *err)
{
    if (!fs_exists(from))
        return fs_exists(to)
                   ? 0
                   : err_set(err, ERR_NOT_FOUND, 0, "disk %s is neither %s nor %s", disk, from, to);
    if (fs_exists(to))
        return err_set(err, ERR_EXISTS, 0,
                       "%s is there already, and %s, too; hint: move the one away that is not "
                       "this machine's",
                       to, from);
    return fs_real()->rename(fs_real(), from, to, err);
}

/* Every disk, and what the machine's definition says of it from now on. */
static int move_disks(struct estate *estate, const char *dir, struct machine *machine,
                      struct err *err)
{
    CLEANUP(mem_freep) char *disks = estate_path(estate, "instances/kept", machine->name, "");
    CLEANUP(mem_freep) char *parent = mem_printf("%s/instances/kept", estate->dir);

    if (fs_make_dirs(fs_real(), disks, 0700, err) < 0)
        return -1;
    VEC_FOREACH(disk, &machine->disks) {
        CLEANUP(mem_freep) char *from = mem_printf("%s/%s.qcow2", dir, disk->name);
        CLEANUP(mem_freep) char *to = mem_printf("%s/%s.qcow2", disks, disk->name);
        if (strlen(to) >= sizeof(disk->path))
            return err_set(err, ERR_LIMIT, 0, "%s: path longer than %zu bytes", to,
                           sizeof(disk->path) - 1);
        if (move_disk(from, to, disk->name, err) < 0)
            return -1;
        CRASH_POINT("keep.moved");
        (void)snprintf(disk->path, sizeof(disk->path), "%s", to);
        (void)snprintf(disk->format, sizeof(disk->format), "qcow2");
    }
    if (fs_real()->sync_dir(fs_real(), disks, err) < 0
        || fs_real()->sync_dir(fs_real(), parent, err) < 0)
        return -1;
    return fs_exists(dir) ? fs_real()->sync_dir(fs_real(), dir, err) : 0;
}

static int keep(struct estate *estate, const char *run, const char *dir, struct machine *machine,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};

    machine_init(&instance.machine);
    if (site_instance_load(estate, run, machine->name, &instance, err) == 0) {
        if (check(estate, &instance, cancel, err) < 0
            || estate_check_unused(estate, instance.group, err) < 0)
            return -1;
    } else if (err->code == ERR_NOT_FOUND) {
        err_clear(err); /* an earlier try was here; a disk that is nowhere is missed below */
    } else {
        return -1;
    }
    if (move_disks(estate, dir, machine, err) < 0)
        return -1;
    CRASH_POINT("keep.removing");
    return fs_remove_tree(fs_real(), dir, err);
}

int ask_instance_keep(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(machine_done) struct machine machine;
    const char *run;
    json_t *definition;

    machine_init(&machine);
    if (json_need_str(args, "run", "ask", &run, err) < 0
        || json_need_object(args, "definition", "ask", &definition, err) < 0
        || machine_from_json(definition, &machine, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *dir = site_instance_dir(estate, run, machine.name);
    CLEANUP(mem_freep) char *lock = mem_printf("%s-%s", run, machine.name);
    estate_machine_lock(estate, lock);
    int rc = keep(estate, run, dir, &machine, cancel, err);
    estate_machine_unlock(estate, lock);
    if (rc == 0)
        *ret_result = json_pack("{s:o}", "definition", machine_to_json(&machine));
    return rc;
}
