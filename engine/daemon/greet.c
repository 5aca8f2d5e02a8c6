// SPDX-License-Identifier: Apache-2.0
/* A daemon that starts says so to its peers, and a peer that is heard of again is sent to at once:
 * without that, replication would wait for the next step of its retry schedule. */
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#define GREET_MS 10000

struct greeting {
    struct pool_job base; /* first */
    struct daemon *daemon;
};

static void greet(struct daemon *daemon, const char *name)
{
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(daemon->clock, daemon->stop, GREET_MS);
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(json_freep) json_t *ping = json_pack("{s:s}", "op", "ping");
    struct err err = ERR_EMPTY;

    if (peers_connect(daemon->peers, name, &link, cancel, &err) < 0
        || link_call(link, ping, NULL, 0, NULL, cancel, &err) < 0)
        log_info("daemon", "peer does not answer peer=%s reason=\"%s\"", name, err.text);
    else
        log_info("daemon", "peer answers peer=%s", name);
}

static void run(struct pool_job *base)
{
    struct daemon *daemon = ((struct greeting *)base)->daemon;
    size_t count = 0;
    char **names = peers_names(daemon->peers, &count);

    for (size_t i = 0; i < count; i++) {
        greet(daemon, names[i]);
        free(names[i]);
    }
    free(names);
}

static void done(struct pool_job *base)
{
    free(base);
}

void daemon_greet(struct daemon *daemon)
{
    struct greeting *greeting = mem_new(struct greeting);

    *greeting = (struct greeting){{.run = run, .done = done}, daemon};
    pool_submit(daemon->pool, &greeting->base);
}

static void send_again(struct daemon *daemon, const char *group)
{
    struct session *session = estate_session_get(daemon->estate, group);
    struct session_status status;

    if (!session)
        return;
    session_status(session, &status);
    if (status.state == SESSION_BACKING_OFF && status.error.code == ERR_NET) {
        log_info("daemon", "peer is back, tries again group=%s", group);
        session_retry(session);
        scheduler_kick(daemon->scheduler, session);
    }
    estate_session_put(daemon->estate, group);
}

void daemon_peer_is_here(struct daemon *daemon, const char *peer)
{
    size_t count = 0;
    struct estate_group *groups = estate_group_list(daemon->estate, &count);

    for (size_t i = 0; i < count; i++)
        if (str_eq(groups[i].peer, peer))
            send_again(daemon, groups[i].group);
    free(groups);
}
