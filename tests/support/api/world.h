// SPDX-License-Identifier: Apache-2.0
/* A whole site behind the API in one thread: real state, estate, jobs and runner in a folder of its
 * own, a provider that keeps machines in memory, an inline pool. Requests are made by a client of
 * this thread while the loop is turned. */
#pragma once

#include "api/api.h"
#include "base/json.h"
#include "base/str.h"
#include "providers/provider.h"

#include <pthread.h>
#include <stdbool.h>

#define API_WORLD_MACHINES 8

struct api_site {
    char *dir;
    struct config config;
    struct host *host;
    struct loop *loop;
    struct pool *pool;
    struct state *state;
    struct scheduler *scheduler;
    struct estate *estate;
    struct site *here;
    struct runner *runner;
    struct jobs *jobs;
    struct api *api;
    struct provider provider;
    /* What the provider was told, by name of the machine. */
    struct {
        char name[64];
        enum instance_state state;
    } machines[API_WORLD_MACHINES];
    bool guest_is_deaf;        /* shutdown ends in ERR_TIMEOUT */
    const char *adopt_problem; /* what stands in the way of adopting; NULL: nothing */
    int released;
    _Atomic int observed; /* looks at machines */
    int peers_changed;
    struct estate *peer; /* what a link to lyon reaches; NULL: not paired */
    bool peer_is_away;   /* instead: ERR_NET */
    struct link *peer_link;
    pthread_t peer_thread;
    bool peer_serves;
};

/* cmocka fixtures: *state is a struct api_site called "paris". */
int api_site_setup(void **state);
int api_site_teardown(void **state);
#define API_TEST(f) cmocka_unit_test_setup_teardown(f, api_site_setup, api_site_teardown)

/* What serves links to the peer has ended; the peer's estate may go. */
void api_site_peer_done(struct api_site *site);

/* One request; the status, and the answer as JSON (new reference). */
int api_ask(struct api_site *site, const char *method, const char *path, const char *body,
            json_t **ret_answer);
/* Fails the test unless the status is that and the answer's text has `part`. */
void api_expect(struct api_site *site, const char *method, const char *path, const char *body,
                int status, const char *part);
/* A row of a protection, as a job would have written it. */
void api_site_protect(struct api_site *site, const char *name, const char *role, const char *state);
