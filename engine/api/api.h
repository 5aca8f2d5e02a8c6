// SPDX-License-Identifier: Apache-2.0
/* The /v1 HTTP/JSON API on a unix socket: what the command line and programs speak to the daemon.
 * Everything here belongs to the loop thread; whatever blocks goes to the pool while the
 * connection is suspended. A caller is who the kernel says (SO_PEERCRED): his user name stands
 * in the audit log. What there is to ask stands in tables (api_routes.h), from which docs/api.md
 * and GET /v1 are made. */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "core/config.h"
#include "core/loop.h"
#include "core/pool.h"

struct estate;
struct host;
struct jobs;
struct runner;
struct scheduler;
struct state;

/* Everything is borrowed and outlives the API. */
struct api_world {
    struct loop *loop;
    struct pool *pool;
    struct clock *clock;
    const struct config *config;
    struct state *state;
    struct estate *estate;
    struct scheduler *scheduler; /* to wake sessions */
    struct runner *runner;
    struct jobs *jobs;
    const struct host *host; /* for plans */
    const char *keys_dir;    /* authority, peers: the `dir` of link/tls.h */

    void *ctx;
    /* Makes what this turn wrote durable and starts what it decided (state_turn_end, then
     * jobs_turn_committed and runner_turn_committed), or ends the process: called before a reply
     * to a changing request leaves. The loop's turn end itself will do. May be NULL (tests). */
    void (*commit)(void *ctx);
    /* A pairing was made or removed: load the peers anew. May be NULL. Loop thread. */
    void (*peers_changed)(void *ctx);
};

struct api;
/* Listens on `socket_path` (absolute; mode 0660; its folder is made when missing); a socket file nobody listens on is replaced. ERR_BUSY:
 * another daemon answers there; ERR_EXISTS: something that is no socket; ERR_LIMIT: path too
 * long for a unix socket (both lengths). */
int api_start(const struct api_world *world, const char *socket_path, struct api **ret_api,
              struct err *err) MUST_CHECK;
/* Ends all connections and removes the socket; requests still in the pool end into nothing (run
 * the loop until the pool is idle before freeing it). NULL is fine. */
void api_stop(struct api *api);

/* Something a watcher may want to see changed (a run, a job, a protection): waiting
 * /v1/events requests are answered. Loop thread; cheap. */
void api_changed(struct api *api);

/* docs/api.md, from the tables; free with free(). */
char *api_markdown(void);
