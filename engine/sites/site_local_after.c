// SPDX-License-Identifier: Apache-2.0
/* What follows a failover: the commit, and what a rollback gives back. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_base.h"
#include "sites/site_local.h"
#include "sync/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Commit --------------------------------------------------------------------------------- */

/* One on its own disks is our own machine again: the run's folder has done its work. */
int ask_instance_commit(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    const char *run;
    const char *machine;
    uint64_t generation;

    (void)cancel;
    machine_init(&instance.machine);
    if (json_need_str(args, "run", "ask", &run, err) < 0
        || json_need_str(args, "machine", "ask", &machine, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *dir = site_instance_dir(estate, run, machine);
    if (site_instance_load(estate, run, machine, &instance, err) < 0) {
        char group[NAME_MAX_BYTES];
        (void)estate_group_of(estate, machine, group);
        if (err->code != ERR_NOT_FOUND || estate_base_look(estate, group, &generation, err) <= 0)
            return err_wrap(err, "%s is not here", machine);
        err_clear(err);
        *ret_result = json_pack("{s:b}", "own", 1);
        return fs_remove_tree(fs_real(), dir, err);
    }
    if (instance.test)
        return err_set(err, ERR_STATE, 0, "%s of run %s is a test", machine, run);
    *ret_result = json_pack("{s:b}", "own", instance.own);
    if (instance.own)
        return fs_remove_tree(fs_real(), dir, err);
    instance.committed = true;
    return site_instance_save(&instance, err);
}

int ask_group_reprotect(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    const char *group;

    (void)ret_result;
    (void)cancel;
    if (json_need_str(args, "group", "ask", &group, err) < 0)
        return -1;
    estate_tell(estate, group,
                json_get_bool(args, "accept_branch", false) ? "reprotect-branch" : "reprotect", 0);
    return 0;
}

/* --- Given back ------------------------------------------------------------------------------ */

/* Nothing of the disks was written since the point that both sites have. */
static bool is_untouched(struct estate *estate, const char *group, const struct estate_mark *mark)
{
    struct checkpoint ck = {.phase = PHASE_NEW};
    CLEANUP(mem_freep) char *dir = estate_path(estate, "sessions", group, "");

    if (mark->final_point == 0 || checkpoint_load(dir, &ck, NULL) < 0)
        return false;
    bool same = ck.durable_point == mark->final_point && ck.applied_point == mark->final_point;
    checkpoint_done(&ck);
    return same && estate_seal_matches(estate, group, mark);
}

/* The session begins anew under the new generation: with the base where the disks are as they were
 * delivered, else by comparing all of them. */
static int take_back(struct estate *estate, const struct estate_group *old, uint64_t generation,
                     struct estate_mark *mark, struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_path(estate, "sessions", old->group, "");
    struct estate_group again = *old;
    uint64_t have = 0;
    int rc = estate_base_look(estate, old->group, &have, err);

    if (rc < 0)
        return -1;
    bool untouched = rc > 0 ? have == generation : is_untouched(estate, old->group, mark);
    estate_group_remove(estate, old->group);
    if (rc > 0 && have != generation && estate_base_remove(estate, old->group, err) < 0)
        return -1;
    if (untouched && have != generation
        && estate_base_from_session(estate, old->group, generation, err) < 0)
        return -1;
    CRASH_POINT("return.base");
    if (fs_remove_tree(fs_real(), dir, err) < 0)
        return -1;
    *mark = (struct estate_mark){.generation = generation};
    if (estate_mark_write(estate, old->group, mark, err) < 0)
        return -1;
    CRASH_POINT("return.marked");
    again.generation = generation;
    return estate_group_add(estate, &again, err);
}

static int group_of(struct estate *estate, const char *name, struct estate_group *ret_group,
                    struct err *err)
{
    size_t count;
    CLEANUP(mem_freep) struct estate_group *groups = estate_group_list(estate, &count);

    for (size_t i = 0; i < count; i++)
        if (str_eq(groups[i].group, name)) {
            *ret_group = groups[i];
            return 0;
        }
    return err_set(err, ERR_NOT_FOUND, 0, "%s does not send \"%s\"", estate_site(estate), name);
}

/* Asks that of each machine of the group, of those in `only` when it is there. */
static int each_machine(struct estate *estate, const struct estate_group *group, const json_t *only,
                        site_ask_fn *fn, struct cancel *cancel, struct err *err)
{
    for (size_t i = 0; i < group->machines.count; i++) {
        const char *machine = group->machines.at[i];
        CLEANUP(json_freep) json_t *args = json_pack("{s:s}", "machine", machine);

        if ((!only || json_lists(only, machine)) && fn(estate, args, NULL, cancel, err) < 0)
            return -1;
    }
    return 0;
}

int ask_group_return(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    const char *name;
    uint64_t generation;
    struct estate_group group;
    struct estate_mark mark;

    if (json_need_str(args, "group", "ask", &name, err) < 0
        || json_need_u64(args, "generation", "ask", &generation, err) < 0
        || group_of(estate, name, &group, err) < 0
        || estate_mark_read(estate, name, &mark, err) < 0)
        return -1;
    if (mark.retired > generation || group.generation > generation)
        return err_set(
            err, ERR_FENCED, 0, "%s is at generation %" PRIu64 " here, %" PRIu64 " is over", name,
            mark.retired > group.generation ? mark.retired : group.generation, generation);
    /* What is left of the old processes would write under a generation that is over. */
    if (mark.generation != generation
        && (each_machine(estate, &group, NULL, ask_machine_stop, cancel, err) < 0
            || take_back(estate, &group, generation, &mark, err) < 0))
        return err_wrap(err, "take %s back", name);
    estate_tell(estate, name, "returned", generation);
    *ret_result = json_object();
    return json_get_bool(args, "start", false) ? each_machine(
               estate, &group, json_object_get(args, "machines"), ask_machine_start, cancel, err)
                                               : 0;
}
