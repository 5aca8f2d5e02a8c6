// SPDX-License-Identifier: Apache-2.0
/* Where a machine of a group runs at this site: our own of that name, or one that was recovered here and
 * became ours by its commit. */
#include "base/mem.h"
#include "sites/site_local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void site_seat_done(struct site_seat *seat)
{
    machine_done(&seat->machine);
    site_instance_done(&seat->instance);
    free(seat->dir);
    memset(seat, 0, sizeof(*seat));
}

void estate_seat_run(struct estate *estate, const char *machine, char ret_run[NAME_MAX_BYTES])
{
    char group[NAME_MAX_BYTES];

    (void)estate_group_of(estate, machine, group);
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    (void)snprintf(ret_run, NAME_MAX_BYTES, "%s", sender ? sender->group.run : "");
    estate_unlock(estate);
}

int site_seat_get(struct estate *estate, const char *machine, const char *run,
                  struct site_seat *ret_seat, struct err *err)
{
    memset(ret_seat, 0, sizeof(*ret_seat));
    machine_init(&ret_seat->machine);
    machine_init(&ret_seat->instance.machine);
    if (*run) {
        if (site_instance_load(estate, run, machine, &ret_seat->instance, err) < 0)
            return -1;
        ret_seat->view = site_instance_view(&ret_seat->instance);
        (void)snprintf(ret_seat->lock, sizeof(ret_seat->lock), "%s-%s", run, machine);
        return 0;
    }
    if (estate_machine_get(estate, machine, &ret_seat->machine, err) < 0)
        return -1;
    ret_seat->dir = estate_machine_dir(estate, machine);
    ret_seat->view = (struct provider_instance){
        .machine = &ret_seat->machine, .run_dir = ret_seat->dir, .netns = ""};
    (void)snprintf(ret_seat->lock, sizeof(ret_seat->lock), "%s", machine);
    return 0;
}

void site_tell_session(struct estate *estate, const char *machine)
{
    char group[NAME_MAX_BYTES];

    (void)estate_group_of(estate, machine, group);
    struct session *session = estate_session_get(estate, group);
    if (!session)
        return;
    session_source_changed(session);
    if (estate->config.scheduler)
        scheduler_kick(estate->config.scheduler, session);
    estate_session_put(estate, group);
}
