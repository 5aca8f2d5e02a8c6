// SPDX-License-Identifier: Apache-2.0
/* Old primaries, from both ends, once a second:
 *
 *   here    what was promoted elsewhere is stopped and settled (sites/estate_fence.c)
 *   peer    one look at a time per peer, in a few seconds at most: groups that we promoted are
 *           retired there; groups of ours whose sending waits for that peer ask which generation
 *           it is at. Not a session, so the schedule of retries keeps its meaning; but a peer
 *           that is back after it was away is sent to at once (greet.c)
 *
 * A peer is looked for only while there is something to ask it. */
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define EVERY_MS   1000
#define CONNECT_MS 3000
#define ASK_MS     5000
#define GRACE_MS   3000  /* a run retires the old side by itself first */
#define REFUSED_MS 30000 /* a no is asked for again, but not every second */
#define SAME_MS    10000 /* a peer that answers has other reasons for not being sent to */

struct peer_look {
    struct pool_job base; /* first */
    struct daemon *daemon;
    char peer[NAME_MAX_BYTES];
    bool answered;
    bool refused;
    bool unsaid; /* a question without an answer */
};

struct here_look {
    struct pool_job base; /* first */
    struct daemon *daemon;
    uint32_t count;
    struct err err;
};

/* --- Here ------------------------------------------------------------------------------------- */

static void run_here(struct pool_job *base)
{
    struct here_look *look = (struct here_look *)base;

    (void)(estate_fence_all(look->daemon->estate, &look->count, base->cancel, &look->err) < 0);
}

static void schedule_here(void *ctx);

static void done_here(struct pool_job *base)
{
    struct here_look *look = (struct here_look *)base;
    struct daemon *daemon = look->daemon;

    if (look->err.code != ERR_NONE && !cancel_is_fired(daemon->stop))
        log_error("fence", "an old machine is not settled error=\"%s\"", look->err.text);
    if (look->count > 0 && daemon->api)
        api_changed(daemon->api);
    cancel_free(base->cancel);
    free(look);
    if (!cancel_is_fired(daemon->stop))
        (void)loop_timer(daemon->loop, EVERY_MS, schedule_here, daemon);
}

static void schedule_here(void *ctx)
{
    struct daemon *daemon = ctx;
    struct here_look *look = mem_new(struct here_look);

    look->base = (struct pool_job){.run = run_here, .done = done_here};
    look->base.cancel = cancel_new(daemon->clock, daemon->stop, CANCEL_NEVER);
    look->daemon = daemon;
    pool_submit(daemon->pool, &look->base);
}

/* --- At a peer -------------------------------------------------------------------------------- */

static bool waits_for_peer(struct daemon *daemon, const char *group)
{
    struct session *session = estate_session_get(daemon->estate, group);
    struct session_status status;

    if (!session)
        return false;
    session_status(session, &status);
    estate_session_put(daemon->estate, group);
    return status.state == SESSION_BACKING_OFF
           && (status.error.code == ERR_NET || status.error.code == ERR_TIMEOUT);
}

static bool is_due(struct daemon *daemon, const struct estate_retiring *retiring)
{
    return daemon->clock->wall_ms(daemon->clock) - retiring->since_ms >= GRACE_MS;
}

static bool has_questions(struct daemon *daemon, const char *peer)
{
    size_t groups = 0;
    size_t count = 0;
    CLEANUP(mem_freep) struct estate_group *group = estate_group_list(daemon->estate, &groups);
    CLEANUP(mem_freep)
    struct estate_retiring *retiring = estate_retiring_list(daemon->estate, &count);

    for (size_t i = 0; i < count; i++)
        if (str_eq(retiring[i].peer, peer) && is_due(daemon, &retiring[i]))
            return true;
    for (size_t i = 0; i < groups; i++)
        if (str_eq(group[i].peer, peer) && waits_for_peer(daemon, group[i].group))
            return true;
    return false;
}

/* Is anybody there? The cheapest question, and the only one that a dead network may hold up. */
static bool knock(struct peer_look *look)
{
    struct daemon *daemon = look->daemon;
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(daemon->clock, look->base.cancel, CONNECT_MS);
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(json_freep) json_t *ping = json_pack("{s:s}", "op", "ping");
    struct err away = ERR_EMPTY;

    return peers_connect(daemon->peers, look->peer, &link, limit, &away) == 0
           && link_call(link, ping, NULL, 0, NULL, limit, &away) == 0;
}

static void retire(struct peer_look *look, const struct estate_retiring *retiring)
{
    struct daemon *daemon = look->daemon;
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(daemon->clock, look->base.cancel, ASK_MS);
    struct err err = ERR_EMPTY;
    bool asked;

    if (estate_retiring_ask(daemon->estate, retiring, &asked, limit, &err) == 0) {
        if (!asked)
            return;
        log_info("fence", "group=%s peer=%s knows of generation=%" PRIu64, retiring->group,
                 retiring->peer, retiring->generation);
        return;
    }
    look->unsaid = true;
    if (err_is_retryable(err.code))
        return; /* out of reach again, or busy with it */
    look->refused = true;
    log_warn("fence", "group=%s not retired peer=%s error=\"%s\"", retiring->group, retiring->peer,
             err.text);
}

/* A generation above ours was promoted without us; at ours or below, nothing happened. */
static void compare(struct peer_look *look, const struct estate_group *group)
{
    struct daemon *daemon = look->daemon;
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(daemon->clock, look->base.cancel, ASK_MS);
    CLEANUP(site_closep) struct site *site = site_remote_new(daemon->estate, look->peer);
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err err = ERR_EMPTY;

    if (site_ask(site, "group.observe", json_pack("{s:s, s:s}", "group", group->group, "run", ""),
                 &seen, limit, &err)
        < 0) {
        look->unsaid = true;
        return;
    }
    uint64_t generation = json_get_u64(seen, "generation", 0);
    if (!str_eq(json_get_str(seen, "role", ""), "replica") || generation <= group->generation)
        return;
    if (estate_retire(daemon->estate, group->group, look->peer, generation, limit, &err) < 0)
        log_error("fence", "group=%s error=\"%s\"", group->group, err.text);
}

static void run_peer(struct pool_job *base)
{
    struct peer_look *look = (struct peer_look *)base;
    struct daemon *daemon = look->daemon;
    size_t groups = 0;
    size_t count = 0;

    look->answered = knock(look);
    if (!look->answered)
        return;
    CLEANUP(mem_freep) struct estate_group *group = estate_group_list(daemon->estate, &groups);
    CLEANUP(mem_freep)
    struct estate_retiring *retiring = estate_retiring_list(daemon->estate, &count);
    for (size_t i = 0; i < count; i++)
        if (str_eq(retiring[i].peer, look->peer) && is_due(daemon, &retiring[i]))
            retire(look, &retiring[i]);
    for (size_t i = 0; i < groups; i++)
        if (str_eq(group[i].peer, look->peer) && waits_for_peer(daemon, group[i].group))
            compare(look, &group[i]);
}

/* daemon->looks: peer -> {busy, away, not_before_ms} */
static json_t *look_state(struct daemon *daemon, const char *peer)
{
    json_t *state = json_object_get(daemon->looks, peer);

    if (!state) {
        state = json_pack("{s:b, s:b, s:I}", "busy", false, "away", false, "not_before_ms",
                          (json_int_t)0);
        (void)json_object_set_new(daemon->looks, peer, state);
    }
    return state;
}

static void done_peer(struct pool_job *base)
{
    struct peer_look *look = (struct peer_look *)base;
    struct daemon *daemon = look->daemon;
    json_t *state = look_state(daemon, look->peer);
    bool was_away = json_get_bool(state, "away", false);
    int64_t wait = look->refused ? REFUSED_MS : look->answered && !look->unsaid ? SAME_MS : 0;

    (void)json_object_set_new(state, "busy", json_false());
    (void)json_object_set_new(state, "away", json_boolean(!look->answered));
    (void)json_object_set_new(state, "not_before_ms",
                              json_integer(daemon->clock->now_ms(daemon->clock) + wait));
    if (was_away && look->answered && !cancel_is_fired(daemon->stop))
        daemon_peer_is_here(daemon, look->peer);
    cancel_free(base->cancel);
    free(look);
}

static void look_for(struct daemon *daemon, const char *peer)
{
    json_t *state = look_state(daemon, peer);

    if (json_get_bool(state, "busy", false)
        || (int64_t)json_get_u64(state, "not_before_ms", 0) > daemon->clock->now_ms(daemon->clock)
        || !has_questions(daemon, peer))
        return;
    struct peer_look *look = mem_new(struct peer_look);
    look->base = (struct pool_job){.run = run_peer, .done = done_peer};
    look->base.cancel = cancel_new(daemon->clock, daemon->stop, CANCEL_NEVER);
    look->daemon = daemon;
    (void)snprintf(look->peer, sizeof(look->peer), "%s", peer);
    (void)json_object_set_new(state, "busy", json_true());
    pool_submit(daemon->pool, &look->base);
}

static void schedule_peers(void *ctx)
{
    struct daemon *daemon = ctx;
    size_t count = 0;
    char **names = peers_names(daemon->peers, &count);

    for (size_t i = 0; i < count; i++) {
        if (!cancel_is_fired(daemon->stop))
            look_for(daemon, names[i]);
        free(names[i]);
    }
    free(names);
    if (!cancel_is_fired(daemon->stop))
        (void)loop_timer(daemon->loop, EVERY_MS, schedule_peers, daemon);
}

void daemon_fence(struct daemon *daemon)
{
    daemon->looks = json_object();
    schedule_here(daemon);
    schedule_peers(daemon);
}
