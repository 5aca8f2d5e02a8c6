// SPDX-License-Identifier: Apache-2.0
/* The table of what there is to ask, answered from the estate: for our own runs (site_local_new)
 * and for a peer's (site_serve). A peer's message: {"op": "site.ask", "what": WHAT, "args": {...}};
 * the answer is the result. */
#include "sites/site_local.h"

#include "base/fault.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static const struct site_ask_row table[] = {
    {"machine.observe", ask_machine_observe, true},
    {"machine.shutdown", ask_machine_shutdown, true},
    {"machine.start", ask_machine_start, true},
    {"machine.stop", ask_machine_stop, true},
    {"machine.release", ask_machine_release, false},
    {"group.final-sync", ask_group_final_sync, true},
    {"group.point", ask_group_point, true},
    {"group.hold", ask_group_hold, true},
    {"group.release", ask_group_release, true},
    {"group.retire", ask_group_retire, true},
    {"group.branches", ask_group_branches, true},
    {"group.observe", ask_group_observe, true},
    {"group.points", ask_group_points, true},
    {"group.verify", ask_group_verify, true},
    {"group.keep-point", ask_group_keep_point, true},
    {"group.free-point", ask_group_free_point, true},
    {"group.prune", ask_group_prune, true},
    {"group.return", ask_group_return, true},
    {"group.reprotect", ask_group_reprotect, false},
    {"group.pin", ask_group_pin, false},
    {"group.unpin", ask_group_unpin, false},
    {"group.promote", ask_group_promote, false},
    {"command.start", ask_command_start, true},
    {"command.observe", ask_command_observe, true},
    {"command.stop", ask_command_stop, true},
    {"net.create", ask_net_create, false},
    {"net.observe", ask_net_observe, false},
    {"net.remove", ask_net_remove, false},
    {"instance.start", ask_instance_start, false},
    {"instance.shutdown", ask_instance_shutdown, false},
    {"instance.stop", ask_instance_stop, false},
    {"instance.stream", ask_instance_stream, false},
    {"instance.stream-stop", ask_instance_stream_stop, false},
    {"instance.observe", ask_instance_observe, false},
    {"instance.commit", ask_instance_commit, false},
    {"instance.remove", ask_instance_remove, false},
    {"instance.keep", ask_instance_keep, false},
    {"instance.leftovers", ask_instance_leftovers, false},
    {"guest.network", ask_guest_network, false},
    {"guest.assign", ask_guest_assign, false},
    {"guest.restore", ask_guest_restore, false},
    {"hook.post", ask_hook_post, false},
    {"probe.tcp", ask_probe_tcp, false},
    {"probe.agent", ask_probe_agent, false},
    {"probe.console", ask_probe_console, false},
};

const struct site_ask_row *site_ask_find(const char *what)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(table[i].what, what))
            return &table[i];
    return NULL;
}

/* It happened, and nobody has been told: a crash point named after what was asked. */
static int ask_row(struct estate *estate, const struct site_ask_row *row, const json_t *args,
                   json_t **ret_result, struct cancel *cancel, struct err *err)
{
    int rc = row->fn(estate, args, ret_result, cancel, err);

    if (rc == 0)
        CRASH_POINT(row->what);
    return rc;
}

/* --- Our own asks --------------------------------------------------------------------------- */

struct site_local {
    struct site site;
    struct estate *estate;
};

/* Names become parts of paths: nothing else may. */
static int check_names(const char *what, const json_t *args, struct err *err)
{
    static const char *const keys[] = {"machine", "group", "run", "id"};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const json_t *value = json_object_get(args, keys[i]);
        const char *text = json_string_value(value);
        if (!value || (text && !*text))
            continue;
        if (!text || !str_is_name(text))
            return err_set(err, ERR_INVALID, 0, "%s: %s \"%.80s\" is not a name", what, keys[i],
                           text ? text : "?");
    }
    return 0;
}

static int local_ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    struct site_local *local = (struct site_local *)site;
    const struct site_ask_row *row = site_ask_find(what);

    if (!row)
        return err_set(err, ERR_UNSUPPORTED, 0, "nobody knows how to do \"%s\"", what);
    if (check_names(what, args, err) < 0)
        return -1;
    return ask_row(local->estate, row, args, ret_result, cancel, err);
}

static void local_close(struct site *site)
{
    free(site);
}

struct site *site_local_new(struct estate *estate)
{
    static const struct site_ops ops = {local_ask, local_close};
    struct site_local *local = mem_new(struct site_local);

    local->site.ops = &ops;
    (void)snprintf(local->site.name, sizeof(local->site.name), "%s", estate_site(estate));
    local->estate = estate;
    return &local->site;
}

/* --- A peer's asks -------------------------------------------------------------------------- */

bool site_serve_knows(const char *op)
{
    return str_eq(op, "site.ask");
}

/* What is shared with a peer are groups: a machine is when its group is. */
static int check_peer(struct estate *estate, const char *peer, const char *what, const json_t *args,
                      struct err *err)
{
    const struct site_ask_row *row = site_ask_find(what);
    const char *machine = json_get_str(args, "machine", "");
    const char *group = json_get_str(args, "group", machine);

    if (!row)
        return err_set(err, ERR_UNSUPPORTED, 0, "%s does not know \"%.80s\"", estate_site(estate),
                       what);
    if (!row->peer)
        return err_set(err, ERR_DENIED, 0, "%s does not let a peer do \"%s\"", estate_site(estate),
                       what);
    if (check_names(what, args, err) < 0)
        return -1;
    if (!*group)
        return err_set(err, ERR_INVALID, 0, "%s: no machine and no group named", what);
    if ((*machine && !estate_shares(estate, machine, peer)) || !estate_shares(estate, group, peer))
        return err_set(err, ERR_DENIED, 0, "%s shares no group \"%s\" with %s", estate_site(estate),
                       group, peer);
    return 0;
}

int site_serve(struct estate *estate, struct link *link, struct link_msg *msg,
               struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *result = NULL;
    const char *what = json_get_str(msg->head, "what", "");
    const json_t *args = json_object_get(msg->head, "args");
    struct err failure = ERR_EMPTY;

    if (check_peer(estate, link_peer(link), what, args, &failure) < 0
        || ask_row(estate, site_ask_find(what), args, &result, cancel, &failure) < 0)
        return link_answer_err(link, &failure, cancel, err);
    return link_answer(link, result, NULL, 0, cancel, err);
}
