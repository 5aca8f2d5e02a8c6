// SPDX-License-Identifier: Apache-2.0
/* For site_local_*.c: the asks by themselves, each a plain function over the estate, and the table
 * that names them. */
#pragma once

#include "base/str.h"
#include "sites/estate.h"
#include "sites/estate_internal.h"
#include "sites/site.h"

/* `ret_result` is NULL at first; left so, the answer is {}. */
typedef int site_ask_fn(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err);

struct site_ask_row {
    const char *what;
    site_ask_fn *fn;
    bool peer; /* a peer may ask it, for what it shares with us */
};
const struct site_ask_row *site_ask_find(const char *what);

site_ask_fn ask_machine_observe, ask_machine_shutdown, ask_machine_start, ask_machine_stop;
site_ask_fn ask_group_final_sync, ask_group_hold, ask_group_release, ask_group_retire;
site_ask_fn ask_group_observe, ask_group_points, ask_group_pin, ask_group_unpin, ask_group_promote;
site_ask_fn ask_net_create, ask_net_observe, ask_net_remove;
site_ask_fn ask_instance_start, ask_instance_shutdown, ask_instance_stop;
site_ask_fn ask_instance_observe, ask_instance_remove, ask_instance_leftovers;
site_ask_fn ask_probe_tcp, ask_probe_agent, ask_probe_console;

site_ask_fn ask_guest_network, ask_guest_assign, ask_guest_restore;
site_ask_fn ask_hook_post;
site_ask_fn ask_command_start, ask_command_observe, ask_command_stop;

/* Points in one answer of "group.points". */
#define SITE_POINTS_PAGE 1000
#define SITE_NETNS_BYTES (NAME_MAX_BYTES + 32)

/* A recovered machine as its folder tells: instances/RUN-MACHINE/instance.json. */
struct site_instance {
    char run[NAME_MAX_BYTES];
    char name[MACHINE_NAME_BYTES];
    char group[NAME_MAX_BYTES];
    bool test;
    uint64_t point;
    char *dir;
    char netns[SITE_NETNS_BYTES];
    struct machine machine;
    struct provider_served_disks served;
};
void site_instance_done(struct site_instance *instance); /* also for CLEANUP */
/* Each folder of instances/, until one returns -1; `name` is the last part of `dir`. */
typedef int site_instance_fn(void *ctx, const char *name, const char *dir, struct err *err);
int site_instance_each(struct estate *estate, site_instance_fn *fn, void *ctx, struct err *err)
    MUST_CHECK;
/* "DIR/instances/RUN-MACHINE"; free with free(). */
char *site_instance_dir(struct estate *estate, const char *run, const char *machine);
/* ERR_NOT_FOUND: no such folder, or nothing was started in it yet. */
int site_instance_load(struct estate *estate, const char *run, const char *machine,
                       struct site_instance *ret_instance, struct err *err) MUST_CHECK;
/* The provider's view of it; borrows from `instance`. */
struct provider_instance site_instance_view(const struct site_instance *instance);
/* Until the guest is off or `cancel` ends: ERR_TIMEOUT. Takes the lock of that name for each try;
 * the caller does not hold it. */
int site_shutdown(struct estate *estate, const struct provider_instance *view, const char *lock,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
/* "muster-t-RUN-HASH", of the state directory: whoever shares this host's network namespaces (two
 * sites, two installations of one name) does not meet. */
void site_netns_name(const struct estate *estate, const char *run, char ret_name[SITE_NETNS_BYTES]);
