// SPDX-License-Identifier: Apache-2.0
/* The peer's site: each ask is one message on a link of its own, so that a long one (a shutdown)
 * holds up no other. All of them may be asked twice, so a peer whose daemon is restarted in mid-ask
 * is asked again. */
#include "base/mem.h"
#include "link/ask.h"
#include "sites/estate_internal.h"
#include "sites/site.h"

#include <stdio.h>
#include <stdlib.h>

struct site_remote {
    struct site site;
    struct estate *estate;
};

static int remote_ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    struct site_remote *remote = (struct site_remote *)site;
    const struct estate_config *config = &remote->estate->config;
    CLEANUP(mem_freep) char *group = mem_strdup(json_get_str(args, "group", ""));
    CLEANUP(json_freep)
    json_t *head = json_pack("{s:s, s:s, s:O?}", "op", "site.ask", "what", what, "args", args);

    if (link_ask(config->open_link, config->ctx, site->name, head, ret_result, config->clock,
                 cancel, err)
        < 0)
        return -1;
    if (str_eq(what, "group.retire"))
        estate_retiring_over(remote->estate, group);
    return 0;
}

static void remote_close(struct site *site)
{
    free(site);
}

struct site *site_remote_new(struct estate *estate, const char *peer)
{
    static const struct site_ops ops = {remote_ask, remote_close};
    struct site_remote *remote = mem_new(struct site_remote);

    remote->site.ops = &ops;
    (void)snprintf(remote->site.name, sizeof(remote->site.name), "%s", peer);
    remote->estate = estate;
    return &remote->site;
}
