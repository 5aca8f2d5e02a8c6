// SPDX-License-Identifier: Apache-2.0
/* A daemon that starts says so to its peers, and a peer that is heard of again is sent to at once:
 * without that, replication would wait for the next step of its retry schedule. Now and then it greets
 * again, to see how far apart the clocks are. */
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#define GREET_MS 10000
#define EVERY_MS 600000

struct greeting {
    struct pool_job base; /* first */
    struct daemon *daemon;
    bool first;
};

static int64_t wall(const struct daemon *daemon)
{
    return daemon->clock->wall_ms(daemon->clock);
}

/* `first`: a person may want to read of it. */
static void greet(struct daemon *daemon, const char *name, bool first)
{
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(daemon->clock, daemon->stop, GREET_MS);
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(json_freep) json_t *ping = json_pack("{s:s}", "op", "ping");
    CLEANUP(link_msg_done) struct link_msg answer = {0};
    struct err err = ERR_EMPTY;
    int64_t asked = 0;

    int rc = peers_connect(daemon->peers, name, &link, cancel, &err);
    if (rc == 0) {
        asked = wall(daemon);
        rc = link_call(link, ping, NULL, 0, &answer, cancel, &err);
    }
    if (rc < 0 && first)
        log_info("daemon", "peer does not answer peer=%s reason=\"%s\"", name, err.text);
    if (rc < 0)
        return;
    if (first)
        log_info("daemon", "peer answers peer=%s", name);
    int64_t theirs = (int64_t)json_get_u64(answer.head, "wall_ms", 0);
    if (theirs > 0)
        estate_clock_note(daemon->estate, name, theirs - (asked + (wall(daemon) - asked) / 2));
}

static void run(struct pool_job *base)
{
    const struct greeting *greeting = (struct greeting *)base;
    struct daemon *daemon = greeting->daemon;
    size_t count = 0;
    char **names = peers_names(daemon->peers, &count);

    for (size_t i = 0; i < count; i++) {
        greet(daemon, names[i], greeting->first);
        free(names[i]);
    }
    free(names);
}

static void again(void *ctx);

static void done(struct pool_job *base)
{
    struct daemon *daemon = ((struct greeting *)base)->daemon;

    free(base);
    if (!cancel_is_fired(daemon->stop))
        (void)loop_timer(daemon->loop, EVERY_MS, again, daemon);
}

static void start(struct daemon *daemon, bool first)
{
    struct greeting *greeting = mem_new(struct greeting);

    *greeting = (struct greeting){{.run = run, .done = done}, daemon, first};
    pool_submit(daemon->pool, &greeting->base);
}

static void again(void *ctx)
{
    start(ctx, false);
}

void daemon_greet(struct daemon *daemon)
{
    start(daemon, true);
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
