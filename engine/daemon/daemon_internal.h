// SPDX-License-Identifier: Apache-2.0
/* What the daemon's files share. The loop thread owns everything but what says otherwise. */
#pragma once

#include "api/api.h"
#include "core/config.h"
#include "core/loop.h"
#include "core/pool.h"
#include "daemon/peers.h"
#include "host/host.h"
#include "providers/provider.h"
#include "run/job.h"
#include "run/run.h"
#include "sites/estate.h"
#include "sites/site.h"
#include "state/state.h"

struct loop_call;

struct daemon {
    struct config config;
    char *identity_dir;
    struct clock *clock;
    struct host host;
    int lock_fd;
    struct state *state;
    struct loop *loop;
    struct pool *pool;      /* verbs, jobs, requests */
    struct pool *link_pool; /* one thread per inbound link */
    struct pool *data_pool; /* one per inbound link that carries a session; they give way */
    struct cancel *stop;    /* fired when the daemon is to end; parent of what links wait by */
    struct peers *peers;    /* any thread */
    struct scheduler *scheduler;
    struct provider *provider;
    bool provider_lent; /* it is the caller's */
    struct estate *estate;
    struct site *here;
    struct runner *runner;
    struct jobs *jobs;
    struct api *api;
    int listen_fd;
    int signal_fd;
    uint8_t sign_private[SIGN_KEY_BYTES];
    uint8_t sign_public[SIGN_KEY_BYTES];
    json_t *looks;           /* peer -> how the fence's looks for it went */
    json_t *described;       /* group -> text of its file, as written */
    json_t *undescribed;     /* groups whose rows may say something else by now; keys */
    bool describing;         /* a write is under way */
    json_t *seen;            /* machine -> state, as the watch saw it last */
    struct loop_call *calls; /* ran in this turn; answered when it is committed */
    char *repair_said;       /* the watch's last complaint */
    json_t *verify_tried;    /* group -> when a part was begun by itself last, monotonic */
    bool links_full_said;
};

/* For the loop and the API, `ctx` is the daemon. Makes what this turn wrote durable and starts what it decided. A failed commit ends the process:
 * memory is ahead of what is durable then, and a new start is right again. */
void daemon_commit(void *ctx);

/* From a thread that is not the loop's: runs fn on the loop thread and returns its result when the
 * turn it ran in is durable. fn must check before it writes: what it wrote is committed even when
 * it fails. */
typedef int daemon_fn(struct daemon *daemon, void *ctx, struct err *err);
int daemon_on_loop(struct daemon *daemon, daemon_fn *fn, void *ctx, struct err *err) MUST_CHECK;
/* The turn is committed: those who called are answered. */
void daemon_calls_answer(struct daemon *daemon);

/* Fills the estate from state.db. What cannot be used is logged and left out. */
int daemon_fill(struct daemon *daemon, struct err *err) MUST_CHECK;

/* Groups are described beside their sessions (describe.c): whoever is there without a row gets it
 * again. Before daemon_fill. */
int daemon_describe_begin(struct daemon *daemon, struct err *err) MUST_CHECK;
/* Rows were changed: their files follow. */
void daemon_describe(struct daemon *daemon);

/* The port for peers. */
int daemon_listen(struct daemon *daemon, struct err *err) MUST_CHECK;
void daemon_unlisten(struct daemon *daemon);

/* The daemon's own answers to a peer: replica.*, plan.put. On a link's thread. -1 only when the
 * link is broken. */
int daemon_peer_op(struct daemon *daemon, struct link *link, struct link_msg *msg,
                   struct cancel *cancel, struct err *err) MUST_CHECK;

/* Loads the peers anew after a pairing; errors are logged. */
void daemon_peers_changed(void *ctx);

/* Tells the peers that we are here, and measures their clocks; from now on. Once. */
void daemon_greet(struct daemon *daemon);
/* That peer can be reached (again): what waited for it is sent now. Any thread. */
void daemon_peer_is_here(struct daemon *daemon, const char *peer);

/* Looks after machines and served disks once a second, from now until the daemon ends. */
void daemon_watch(struct daemon *daemon);

/* Reads the replicas that are kept here by their policies (verify_ms); from now on. */
void daemon_verify(struct daemon *daemon);

/* Stops what was promoted elsewhere, and tells peers what was promoted here; from now on. */
void daemon_fence(struct daemon *daemon);

/* Reads and checks a site's config.lua. */
int daemon_config_load(const struct host *host, const char *path, struct config *ret_config,
                       struct err *err) MUST_CHECK;
