// SPDX-License-Identifier: Apache-2.0
#include "support/api/world.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/host.h"
#include "run/job.h"
#include "run/run.h"
#include "sites/estate.h"
#include "sites/site.h"
#include "state/state.h"
#include "support/expect.h"
#include "support/tmpdir.h"
#include "sync/scheduler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- The provider -------------------------------------------------------------------------- */

static struct api_site *site_of(struct provider *provider)
{
    return (struct api_site *)((char *)provider - offsetof(struct api_site, provider));
}

static enum instance_state *state_of(struct provider *provider, const char *name)
{
    struct api_site *site = site_of(provider);
    size_t i = 0;

    while (site->machines[i].name[0] && !str_eq(site->machines[i].name, name))
        i++;
    assert_true(i < API_WORLD_MACHINES);
    (void)snprintf(site->machines[i].name, sizeof(site->machines[i].name), "%s", name);
    return &site->machines[i].state;
}

static int check(struct provider *provider, const struct machine *machine, struct str *ret_problems,
                 struct err *failure)
{
    (void)provider;
    (void)failure;
    VEC_FOREACH(disk, &machine->disks)
        if (!fs_exists(disk->path))
            str_addf(ret_problems, "disk %s: %s is missing\n", disk->name, disk->path);
    return 0;
}

static int start(struct provider *provider, const struct provider_instance *instance, bool paused,
                 struct cancel *cancel, struct err *failure)
{
    (void)paused;
    (void)cancel;
    (void)failure;
    *state_of(provider, instance->machine->name) = INSTANCE_RUNNING;
    return 0;
}

static int resume(struct provider *provider, const struct provider_instance *instance,
                  struct cancel *cancel, struct err *failure)
{
    return start(provider, instance, false, cancel, failure);
}

static int pause_it(struct provider *provider, const struct provider_instance *instance,
                    struct cancel *cancel, struct err *failure)
{
    (void)cancel;
    (void)failure;
    if (*state_of(provider, instance->machine->name) == INSTANCE_RUNNING)
        *state_of(provider, instance->machine->name) = INSTANCE_PAUSED;
    return 0;
}

static int observe(struct provider *provider, const struct provider_instance *instance,
                   enum instance_state *ret_state, struct cancel *cancel, struct err *failure)
{
    (void)cancel;
    (void)failure;
    site_of(provider)->observed++;
    *ret_state = *state_of(provider, instance->machine->name);
    return 0;
}

static int shut_down(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *failure)
{
    (void)cancel;
    if (site_of(provider)->guest_is_deaf)
        return err_set(failure, ERR_TIMEOUT, 0, "the guest did not shut down");
    *state_of(provider, instance->machine->name) = INSTANCE_SHUTDOWN;
    return 0;
}

static int stop(struct provider *provider, const struct provider_instance *instance,
                struct cancel *cancel, struct err *failure)
{
    (void)cancel;
    (void)failure;
    *state_of(provider, instance->machine->name) = INSTANCE_OFF;
    return 0;
}

static int repair(struct provider *provider, const struct provider_instance *instance,
                  uint32_t *ret_repaired, struct cancel *cancel, struct err *failure)
{
    (void)provider;
    (void)instance;
    (void)cancel;
    (void)failure;
    *ret_repaired = 0;
    return 0;
}

static int agent_answers(struct provider *provider, const struct provider_instance *instance,
                         struct cancel *cancel, struct err *failure)
{
    (void)cancel;
    (void)failure;
    return *state_of(provider, instance->machine->name) == INSTANCE_RUNNING;
}

static int console_has(struct provider *provider, const struct provider_instance *instance,
                       const char *text, struct err *failure)
{
    (void)provider;
    (void)instance;
    (void)text;
    (void)failure;
    return 0;
}

static void source_done(struct source *source)
{
    free(source);
}

static int source_track(struct source *source, uint64_t serial, const struct source_marks *marks,
                        size_t count, struct cancel *cancel, struct err *failure)
{
    (void)source;
    (void)serial;
    (void)marks;
    (void)count;
    (void)cancel;
    (void)failure;
    return 0;
}

/* Recovered machines are tracked; nobody reads a disk here. */
static int open_source(struct provider *provider, const struct provider_instance *instance,
                       const char *group, uint64_t generation, const char *work_dir,
                       struct source **ret_source, struct cancel *cancel, struct err *failure)
{
    static const struct source_ops ops = {.close = source_done, .track_from = source_track};

    (void)provider;
    (void)generation;
    (void)work_dir;
    (void)cancel;
    if (!strstr(instance->run_dir, "/instances/"))
        return err_set(failure, ERR_UNSUPPORTED, 0, "%s has no source here", group);
    *ret_source = mem_new(struct source);
    (*ret_source)->ops = &ops;
    return 0;
}

static int tracked(struct provider *provider, const struct provider_instance *instance,
                   const char *group, uint64_t generation, uint64_t *ret_serial,
                   struct cancel *cancel, struct err *failure)
{
    (void)provider;
    (void)instance;
    (void)group;
    (void)generation;
    (void)cancel;
    (void)failure;
    *ret_serial = 0;
    return 0;
}

static int last_marks(struct provider *provider, const struct provider_instance *instance,
                      const char *group, uint64_t generation, uint64_t *ret_serial,
                      struct source_extents *ret_marks, struct cancel *cancel, struct err *failure)
{
    (void)ret_marks;
    return tracked(provider, instance, group, generation, ret_serial, cancel, failure);
}

/* --- The site ------------------------------------------------------------------------------ */

static void *peer_serve(void *ctx)
{
    struct api_site *site = ctx;
    struct link_msg msg = {0};
    struct err failure = ERR_EMPTY;

    while (link_recv(site->peer_link, &msg, NULL, &failure) == 0) {
        int rc = site_serve(site->peer, site->peer_link, &msg, NULL, &failure);

        link_msg_done(&msg);
        if (rc < 0)
            break;
    }
    link_close(site->peer_link);
    return NULL;
}

void api_site_peer_done(struct api_site *site)
{
    if (site->peer_serves)
        (void)pthread_join(site->peer_thread, NULL);
    site->peer_serves = false;
    site->peer = NULL;
}

static int peer_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *failure)
{
    struct api_site *site = ctx;
    struct transport *here;
    struct transport *there;

    (void)cancel;
    if (site->peer_is_away)
        return err_set(failure, ERR_NET, 0, "%s cannot be reached", peer);
    if (!site->peer)
        return err_set(failure, ERR_NOT_FOUND, 0, "not paired with %s", peer);
    struct estate *estate = site->peer;
    api_site_peer_done(site); /* the one before */
    site->peer = estate;
    transport_pair(1U << 16, &here, &there);
    site->peer_link = link_new(there, "paris");
    site->peer_serves = pthread_create(&site->peer_thread, NULL, peer_serve, site) == 0;
    *ret_link = link_new(here, peer);
    return 0;
}

static struct site *no_peer(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return NULL;
}

static void commit(void *ctx)
{
    struct api_site *site = ctx;

    EXPECT_OK(state_turn_end(site->state, &err));
    jobs_turn_committed(site->jobs);
    runner_turn_committed(site->runner);
}

static void peers_changed(void *ctx)
{
    ((struct api_site *)ctx)->peers_changed++;
}

static void open_world(struct api_site *site)
{
    CLEANUP(mem_freep) char *state = path_join(site->dir, "state.db");
    const struct estate_config estate = {
        .site = "paris",
        .dir = site->dir,
        .clock = clock_real(),
        .provider = &site->provider,
        .scheduler = site->scheduler = scheduler_new(clock_real(), 1),
        .ctx = site,
        .open_link = peer_link,
    };

    EXPECT_OK(state_open(state, &site->state, &err));
    site->estate = estate_new(&estate);
    site->here = site_local_new(site->estate);
    site->runner = runner_new(&(struct runner_world){
        .loop = site->loop,
        .pool = site->pool,
        .state = site->state,
        .here = site->here,
        .ctx = site,
        .peer = no_peer,
    });
    site->jobs = jobs_new(&(struct jobs_world){
        .loop = site->loop,
        .pool = site->pool,
        .clock = clock_real(),
        .state = site->state,
        .estate = site->estate,
        .site = "paris",
        .dir = site->dir,
        .ctx = site,
        .open_link = peer_link,
    });
}

/* One disk, named after its monitor. */
static int adopt(struct provider *provider, const struct provider_adoption *what,
                 struct provider_adopted *ret_adopted, struct cancel *cancel, struct err *failure)
{
    struct api_site *site = site_of(provider);
    CLEANUP(mem_freep) char *path = mem_printf("%s.raw", what->qmp);
    CLEANUP(json_freep)
    json_t *json = json_pack("{s:s, s:s, s:[{s:s, s:s}], s:s}", "name", what->name, "memory",
                             "64MiB", "disks", "path", path, "format", "raw", "qmp", what->qmp);

    (void)cancel;
    if (site->adopt_problem)
        str_addf(&ret_adopted->problems, "%s\n", site->adopt_problem);
    *state_of(provider, what->name) = INSTANCE_RUNNING;
    return machine_from_json(json, &ret_adopted->machine, failure);
}

static int release(struct provider *provider, const struct provider_instance *instance,
                   struct cancel *cancel, struct err *failure)
{
    (void)instance;
    (void)cancel;
    (void)failure;
    site_of(provider)->released++;
    return 0;
}

int api_site_setup(void **state)
{
    struct api_site *site = mem_new(struct api_site);
    void *dir;

    log_set_level(LOG_LEVEL_ERROR);
    if (tmpdir_setup(&dir) < 0)
        return -1;
    site->dir = dir;
    site->provider = (struct provider){
        .name = "memory",
        .check = check,
        .start = start,
        .resume = resume,
        .pause = pause_it,
        .observe = observe,
        .shutdown = shut_down,
        .stop = stop,
        .repair = repair,
        .agent_answers = agent_answers,
        .console_has = console_has,
        .open_source = open_source,
        .tracked = tracked,
        .last_marks = last_marks,
        .adopt = adopt,
        .release = release,
    };
    (void)snprintf(site->config.site, sizeof(site->config.site), "paris");
    (void)snprintf(site->config.dir, sizeof(site->config.dir), "%s", site->dir);
    (void)snprintf(site->config.address, sizeof(site->config.address), "0.0.0.0:7700");
    (void)snprintf(site->config.advertise, sizeof(site->config.advertise), "0.0.0.0:7700");
    (void)snprintf(site->config.socket, sizeof(site->config.socket), "%s/s", site->dir);
    site->host = mem_new(struct host);
    site->host->clock = clock_real();
    host_limits_default(&site->host->limits);
    site->loop = loop_new(clock_real());
    site->pool = pool_new_inline(site->loop);
    open_world(site);
    loop_set_turn_end(site->loop, commit, site);
    const struct api_world world = {
        .loop = site->loop,
        .pool = site->pool,
        .clock = clock_real(),
        .config = &site->config,
        .state = site->state,
        .estate = site->estate,
        .scheduler = site->scheduler,
        .runner = site->runner,
        .jobs = site->jobs,
        .host = site->host,
        .keys_dir = site->dir,
        .ctx = site,
        .commit = commit,
        .peers_changed = peers_changed,
    };
    EXPECT_OK(api_start(&world, site->config.socket, &site->api, &err));
    *state = site;
    return 0;
}

int api_site_teardown(void **state)
{
    struct api_site *site = *state;
    void *dir = site->dir;

    api_stop(site->api);
    while (pool_busy(site->pool) || loop_step(site->loop, 0))
        (void)loop_step(site->loop, 5);
    api_site_peer_done(site);
    jobs_free(site->jobs);
    runner_free(site->runner);
    site_close(site->here);
    scheduler_free(site->scheduler);
    estate_free(site->estate);
    state_close(site->state);
    pool_free(site->pool);
    loop_free(site->loop);
    free(site->host);
    free(site);
    return tmpdir_teardown(&dir);
}

/* --- The client ---------------------------------------------------------------------------- */

static int connect_to(const struct api_site *site)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%.100s", site->config.socket);
    assert_return_code(connect(fd, (struct sockaddr *)&to, sizeof(to)), errno);
    assert_return_code(fcntl(fd, F_SETFL, O_NONBLOCK), errno);
    return fd;
}

static void send_all(struct api_site *site, int fd, const struct str *text)
{
    size_t sent = 0;

    while (sent < text->len) {
        ssize_t n = send(fd, text->ptr + sent, text->len - sent, MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        else if (errno != EAGAIN)
            fail_msg("the API hung up: %s", strerror(errno));
        (void)loop_step(site->loop, 1);
    }
}

/* Until the server closes: the request says "Connection: close". */
static void receive_all(struct api_site *site, int fd, struct str *ret_text)
{
    char buf[4096];

    for (int quiet = 0; quiet < 4000; quiet++) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);

        if (n == 0)
            return;
        if (n > 0) {
            str_add_bytes(ret_text, buf, (size_t)n);
            continue;
        }
        (void)loop_step(site->loop, 5);
    }
    fail_msg("no answer; so far: %s", str_text(ret_text));
}

int api_ask(struct api_site *site, const char *method, const char *path, const char *body,
            json_t **ret_answer)
{
    CLEANUP(fd_close) int fd = connect_to(site);
    CLEANUP(str_free) struct str request = STR_EMPTY;
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    const char *start_of_body;

    str_addf(&request,
             "%s %s HTTP/1.1\r\nHost: muster\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
             method, path, body ? strlen(body) : 0, body ? body : "");
    send_all(site, fd, &request);
    receive_all(site, fd, &answer);
    start_of_body = strstr(str_text(&answer), "\r\n\r\n");
    if (!start_of_body)
        fail_msg("%s %s: no answer", method, path);
    EXPECT_OK(json_parse(start_of_body + 4, strlen(start_of_body + 4), ret_answer, &err));
    return (int)strtol(answer.ptr + 9, NULL, 10);
}

void api_expect(struct api_site *site, const char *method, const char *path, const char *body,
                int status, const char *part)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    int got = api_ask(site, method, path, body, &answer);
    CLEANUP(mem_freep) char *text = json_text(answer);

    if (got != status || !strstr(text, part))
        fail_msg("%s %s: wanted %d with %s, got %d: %s", method, path, status, part, got, text);
}

void api_site_protect(struct api_site *site, const char *name, const char *role, const char *state)
{
    const struct state_protection row = {
        .group = mem_strdup(name),
        .peer = mem_strdup("lyon"),
        .role = mem_strdup(role),
        .state = mem_strdup(state),
        .settings = mem_strdup("{\"interval_ms\":1000,\"keep\":5,\"compression\":\"zstd\","
                               "\"machines\":[],\"agents\":[\"web1\"]}"),
        .generation = 1,
        .since_ms = 1000,
    };

    EXPECT_OK(state_protection_put(site->state, &row, &err));
    EXPECT_OK(state_turn_end(site->state, &err));
    state_protection_done((struct state_protection *)(uintptr_t)&row);
}
