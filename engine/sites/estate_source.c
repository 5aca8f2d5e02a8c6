// SPDX-License-Identifier: Apache-2.0
/* The disks of a group as one source, and what its points say of its machines. A machine alone is its
 * own source; several are one behind a barrier (block/source_group.c):
 *
 *   sessions/GROUP/work           staging of a machine alone; of several, the guardians' notes
 *   sessions/GROUP/work/MACHINE   staging of one of several
 */
#include "base/fs.h"
#include "base/mem.h"
#include "block/source.h"
#include "sites/site_local.h"

#include <inttypes.h>
#include <stdlib.h>

char *site_work_dir(struct estate *estate, const char *group, const char *machine)
{
    struct machine_names machines;
    CLEANUP(mem_freep) char *work = estate_path(estate, "sessions", group, "/work");

    estate_group_machines(estate, group, &machines);
    return machines.count > 1 ? path_join(work, machine) : TAKE(work);
}

/* A source whose machine is still finding its disks is closed again. */
static int check_settled(struct estate *estate, const struct site_seat *seat,
                         struct source **source, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate->config.provider;
    struct source_state state = {0};

    if (!provider->settling_ms)
        return 0;
    int64_t left = provider->settling_ms(provider, &seat->view);
    if (left == 0)
        return 0;
    int rc = (*source)->ops->inspect(*source, &state, cancel, err);
    if (rc == 0 && state.running && !state.quiet)
        rc = err_set(
            err, ERR_BUSY, 0,
            "machine %s was started just now: what uses an iothread is copied when its guest "
            "has booted, in %" PRId64 " s",
            seat->view.machine->name, (left + 999) / 1000);
    if (rc < 0)
        source_closep(source);
    return rc;
}

static int open_own(struct estate_sender *sender, const char *machine, const char *work_dir,
                    struct source **ret_source, char **ret_monitor, struct cancel *cancel,
                    struct err *err)
{
    struct estate *estate = sender->estate;
    struct provider *provider = estate->config.provider;
    CLEANUP(site_seat_done) struct site_seat seat = {0};

    if (site_seat_get(estate, machine, "", &seat, err) < 0
        || fs_make_dirs(fs_real(), work_dir, 0700, err) < 0)
        return -1;
    estate_machine_lock(estate, seat.lock);
    int rc = provider->open_source(provider, &seat.view, sender->group.group,
                                   sender->group.generation, work_dir, ret_source, cancel, err);
    estate_machine_unlock(estate, seat.lock);
    if (rc == 0)
        rc = check_settled(estate, &seat, ret_source, cancel, err);
    *ret_monitor = rc == 0 && provider->monitor ? provider->monitor(provider, &seat.view) : NULL;
    return rc;
}

static int open_recovered(struct estate_sender *sender, const char *machine,
                          struct source **ret_source, char **ret_monitor, struct cancel *cancel,
                          struct err *err)
{
    struct estate *estate = sender->estate;
    struct provider *provider = estate->config.provider;
    CLEANUP(site_seat_done) struct site_seat seat = {0};

    if (site_seat_get(estate, machine, sender->group.run, &seat, err) < 0)
        return -1;
    if (estate_instance_source(estate, sender->group.run, machine, sender->group.generation,
                               ret_source, cancel, err)
        < 0) {
        /* Off: what it wrote is kept and goes on its way when it is started; no fault of anybody. */
        if (err->code == ERR_STATE)
            err->code = ERR_BUSY;
        return -1;
    }
    if (check_settled(estate, &seat, ret_source, cancel, err) < 0)
        return -1;
    *ret_monitor = provider->monitor ? provider->monitor(provider, &seat.view) : NULL;
    return 0;
}

static int open_machine(struct estate_sender *sender, const char *machine,
                        struct source **ret_source, char **ret_monitor, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(mem_freep)
    char *work_dir = site_work_dir(sender->estate, sender->group.group, machine);

    *ret_monitor = NULL;
    return sender->group.run[0]
               ? open_recovered(sender, machine, ret_source, ret_monitor, cancel, err)
               : open_own(sender, machine, work_dir, ret_source, ret_monitor, cancel, err);
}

/* Takes the sources that were opened. */
static int join(struct estate_sender *sender, const struct source_group_machine *machines,
                struct source **ret_source, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep)
    char *work_dir = estate_path(sender->estate, "sessions", sender->group.group, "/work");
    const struct source_group_config config = {.group = sender->group.group,
                                               .machines = machines,
                                               .count = sender->group.machines.count,
                                               .work_dir = work_dir,
                                               .clock = sender->estate->config.clock};

    return source_group_open(&config, ret_source, cancel, err);
}

int estate_source_open(struct estate_sender *sender, struct source **ret_source,
                       struct cancel *cancel, struct err *err)
{
    const struct machine_names *names = &sender->group.machines;
    struct source_group_machine machines[GROUP_MACHINES_MAX];
    char *monitors[GROUP_MACHINES_MAX] = {NULL};
    size_t opened = 0;
    int rc = 0;

    for (; rc == 0 && opened < names->count; opened += rc == 0) {
        struct source_group_machine *to = &machines[opened];

        rc = open_machine(sender, names->at[opened], &to->source, &monitors[opened], cancel, err);
        to->name = names->at[opened];
        to->spare_qmp = monitors[opened];
    }
    if (rc < 0)
        for (size_t i = 0; i < opened; i++)
            source_close(machines[i].source);
    else if (names->count == 1)
        *ret_source = machines[0].source;
    else
        rc = join(sender, machines, ret_source, cancel, err);
    for (size_t i = 0; i < names->count; i++)
        free(monitors[i]);
    return rc;
}

static void add_definition(struct estate_sender *sender, const char *name, json_t *definitions)
{
    CLEANUP(site_seat_done) struct site_seat seat = {0};

    if (site_seat_get(sender->estate, name, sender->group.run, &seat, NULL) < 0)
        return;
    struct machine *machine =
        seat.view.machine == &seat.machine ? &seat.machine : &seat.instance.machine;
    machine_make_portable(machine);
    (void)json_object_set_new(definitions, machine->name, machine_to_json(machine));
}

json_t *estate_source_machines(struct estate_sender *sender)
{
    json_t *definitions = json_object();

    for (size_t i = 0; i < sender->group.machines.count; i++)
        add_definition(sender, sender->group.machines.at[i], definitions);
    return definitions;
}
