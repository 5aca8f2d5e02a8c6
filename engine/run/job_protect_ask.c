// SPDX-License-Identifier: Apache-2.0
/* protect, before there is a job: what can be told at once. */
#include "base/mem.h"
#include "run/job_kind.h"

#include <stdio.h>

static int refuse(const struct state_protection *row, const char *name, struct err *err)
{
    if (!str_eq(row->role, "source"))
        return err_set(err, ERR_EXISTS, 0, "%s is a replica from %s here", name, row->peer);
    if (!str_eq(row->group, name))
        return err_set(
            err, ERR_EXISTS, 0,
            "%s is in the group %s, protected to %s (%s); hint: a machine is in one group "
            "only: `muster unprotect %s` first, then protect its machines anew",
            name, row->group, row->peer, row->state, row->group);
    return err_set(err, ERR_EXISTS, 0,
                   "%s is protected to %s already (%s); hint: muster unprotect %s first", name,
                   row->peer, row->state, name);
}

/* One that failed half-way goes on where it was, with the same peer and the same machines. */
static int check_row(const struct state_protection *row, const struct job_protect *spec,
                     const struct machine_names *machines, struct err *err)
{
    bool half = str_eq(row->state, "enabling-failed") || str_eq(row->state, "initial-copy-failed");
    struct machine_names begun;
    char text[256];

    if (!str_eq(row->role, "source") || !half || !str_eq(row->peer, spec->peer))
        return refuse(row, row->group, err);
    if (job_machines(row, &begun, err) < 0)
        return -1;
    if (machine_names_equal(&begun, machines))
        return 0;
    machine_names_text(&begun, text, sizeof(text));
    return err_set(
        err, ERR_EXISTS, 0,
        "protecting %s was begun with %s; hint: name the same machines and it goes on, or "
        "`muster unprotect %s` first",
        row->group, text, row->group);
}

/* The group's row, or none; no machine of it in any other one. */
static int check_not_protected(struct state *state, const struct job_protect *spec,
                               const char *group, const struct machine_names *machines,
                               struct err *err)
{
    for (size_t i = 0; i <= machines->count; i++) {
        const char *name = i == 0 ? group : machines->at[i - 1];
        CLEANUP(state_protection_done) struct state_protection row = {0};
        struct err missing = ERR_EMPTY;

        if (state_protection_of(state, name, &row, &missing) < 0) {
            if (missing.code == ERR_NOT_FOUND)
                continue;
            *err = missing;
            return -1;
        }
        if (!str_eq(row.group, group))
            return refuse(&row, name, err);
        if (check_row(&row, spec, machines, err) < 0)
            return -1;
    }
    return 0;
}

/* An ordinary machine of this site. */
static int check_machine(struct jobs *jobs, const char *name, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    struct err none = ERR_EMPTY;
    char run[NAME_MAX_BYTES];

    if (state_machine_get(jobs_world_of(jobs)->state, name, &machine, err) == 0)
        return 0;
    if (err->code == ERR_NOT_FOUND && job_instance_of(jobs, name, run, &none) == 0 && *run)
        return err_set(err, ERR_STATE, 0,
                       "%s was failed over to here by %s; hint: `muster machine keep %s` makes it "
                       "an ordinary machine of this site first",
                       name, run, name);
    return -1;
}

static int check_machines(struct jobs *jobs, const struct machine_names *names, const json_t *seeds,
                          json_t **ret_seeds, struct err *err)
{
    CLEANUP(job_machine_list_done) struct job_machine_list machines = VEC_EMPTY;

    for (size_t i = 0; i < names->count; i++)
        if (check_machine(jobs, names->at[i], err) < 0)
            return -1;
    if (job_machine_list_load(jobs_world_of(jobs)->state, names, &machines, err) < 0
        || job_group_check_disks(&machines, names, err) < 0)
        return -1;
    return job_seeds_take(seeds, &machines, names, ret_seeds, err);
}

int jobs_protect(struct jobs *jobs, const struct job_protect *spec, int64_t *ret_job,
                 struct err *err)
{
    const struct jobs_world *world = jobs_world_of(jobs);
    char group[NAME_MAX_BYTES];
    struct machine_names names;
    CLEANUP(json_freep) json_t *seeds = NULL;

    if (job_group_take(world->state, spec, group, &names, err) < 0
        || check_machines(jobs, &names, spec->seeds, &seeds, err) < 0
        || check_not_protected(world->state, spec, group, &names, err) < 0)
        return -1;
    if (str_eq(spec->peer, world->site))
        return err_set(err, ERR_INVALID, 0, "%s is this site itself", spec->peer);
    if (job_networks_check(spec->networks, err) < 0)
        return -1;
    json_t *args = json_pack("{s:s, s:b, s:O*, s:o, s:O*}", "peer", spec->peer, "force",
                             spec->force, "networks", spec->networks, "machines",
                             machine_names_json(&names), "seeds", seeds);
    job_settings_put(&spec->settings, args);
    return job_start(jobs, job_kind_protect(), group, args, spec->who, ret_job, err);
}
