// SPDX-License-Identifier: Apache-2.0
/* Start and stop. The order of the start is the order of dependence: what is durable first, then
 * what is live, then what went on without us (runs, jobs), and doors to the outside last. A stop is
 * a courtesy: whatever does not end in time is ended as a crash would, and found again. */
#include "daemon/daemon.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "daemon/daemon_internal.h"
#include "link/identity.h"
#include "link/shaper.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define POOL_THREADS  32
#define STOP_MS       10000
#define STOP_MAX_S    30
#define STEP_MS       100
#define EXIT_NO_STATE 70

void daemon_commit(void *ctx)
{
    struct daemon *daemon = ctx;
    struct err err = ERR_EMPTY;
    bool wrote = state_in_turn(daemon->state);

    if (state_turn_end(daemon->state, &err) < 0) {
        log_error("daemon", "state cannot be written, the daemon ends error=\"%s\"", err.text);
        _exit(EXIT_NO_STATE);
    }
    daemon_calls_answer(daemon);
    if (wrote && daemon->described)
        daemon_describe(daemon);
    if (daemon->jobs)
        jobs_turn_committed(daemon->jobs);
    if (daemon->runner)
        runner_turn_committed(daemon->runner);
}

/* A limit that cannot be read is no reason not to replicate; it is said. */
static void load_throttles(struct daemon *daemon)
{
    size_t count;
    char **names = peers_names(daemon->peers, &count);

    for (size_t i = 0; i < count; i++) {
        struct throttle_plan plan;
        struct err err = ERR_EMPTY;
        if (pair_throttle(daemon->identity_dir, names[i], &plan, &err) < 0)
            log_error("daemon", "throttle not read peer=%s error=\"%s\"", names[i], err.text);
        else
            shaper_set_plan(estate_shaper(daemon->estate, names[i]), &plan);
        free(names[i]);
    }
    free(names);
}

void daemon_peers_changed(void *ctx)
{
    struct daemon *daemon = ctx;
    struct err err = ERR_EMPTY;

    if (peers_load(daemon->peers, &err) < 0)
        log_error("daemon", "peers not loaded error=\"%s\"", err.text);
    estate_links_drop(daemon->estate, NULL);
    load_throttles(daemon);
}

/* --- What the rooms ask of us ------------------------------------------------------------- */

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *err)
{
    const struct daemon *daemon = ctx;

    return peers_connect(daemon->peers, peer, ret_link, cancel, err);
}

static struct site *peer_site(void *ctx, const char *name)
{
    const struct daemon *daemon = ctx;

    return peers_site(daemon->peers, daemon->estate, name);
}

static void jobs_changed(void *ctx)
{
    const struct daemon *daemon = ctx;

    if (daemon->api)
        api_changed(daemon->api);
}

static void run_changed(void *ctx, int64_t run)
{
    (void)run;
    jobs_changed(ctx);
}

/* A failover at the other site left its mark on a group of ours: the row follows. */
struct mark {
    struct daemon *daemon;
    char *group;
    char *what;
    uint64_t generation;
};

static int follow_mark(const struct mark *mark, struct err *err)
{
    struct daemon *daemon = mark->daemon;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    bool retired = str_eq(mark->what, "retired");

    if (state_protection_get(daemon->state, mark->group, &row, err) < 0)
        return -1;
    free(row.state);
    row.state = mem_strdup(retired                      ? "failed-over"
                           : str_eq(mark->what, "held") ? "failing-over"
                                                        : "protected");
    row.since_ms = daemon->clock->wall_ms(daemon->clock);
    if (str_eq(mark->what, "returned"))
        row.generation = mark->generation;
    if (state_protection_put(daemon->state, &row, err) < 0)
        return -1;
    log_info("daemon", "group=%s %s generation=%" PRIu64, mark->group, mark->what,
             mark->generation);
    CLEANUP(mem_freep) char *act = mem_printf("group.%s", mark->what);
    return state_audit(daemon->state, row.since_ms, row.peer, act, mark->group, "", err);
}

/* The other side's part of it may need a person: then the job says so. */
static int reprotect(struct daemon *daemon, const char *machine, bool accept_branch,
                     const char *who, struct err *err)
{
    const struct job_reprotect spec = {
        .machine = machine, .accept_branch = accept_branch, .who = who};
    int64_t job;

    return jobs_reprotect(daemon->jobs, &spec, &job, err);
}

static void on_committed(void *ctx, const char *group, const json_t *machines, const char *who)
{
    struct daemon *daemon = ctx;
    struct err err = ERR_EMPTY;
    const json_t *name;
    int64_t job;
    size_t i;

    if (reprotect(daemon, group, false, who, &err) < 0)
        log_error("daemon", "not protected again group=%s error=\"%s\"", group, err.text);
    json_array_foreach(machines, i, name)
        if (jobs_stream(daemon->jobs, json_string_value(name), who, &job, &err) < 0)
            log_error("daemon", "not streamed machine=%s error=\"%s\"", json_string_value(name),
                      err.text);
}

static void on_mark(void *ctx)
{
    struct mark *mark = ctx;
    struct err err = ERR_EMPTY;
    int rc;

    if (str_starts(mark->what, "reprotect"))
        rc = reprotect(mark->daemon, mark->group, str_eq(mark->what, "reprotect-branch"), "a plan",
                       &err);
    else
        rc = follow_mark(mark, &err);
    if (rc < 0)
        log_error("daemon", "group=%s %s error=\"%s\"", mark->group, mark->what, err.text);
    jobs_changed(mark->daemon);
    free(mark->group);
    free(mark->what);
    free(mark);
}

static void group_changed(void *ctx, const char *group, const char *what, uint64_t generation)
{
    struct mark *mark = mem_new(struct mark);

    *mark = (struct mark){ctx, mem_strdup(group), mem_strdup(what), generation};
    loop_post(mark->daemon->loop, on_mark, mark);
}

static void on_signal(void *ctx, uint32_t events)
{
    struct daemon *daemon = ctx;
    struct signalfd_siginfo info;

    (void)events;
    if (read(daemon->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    log_info("daemon", "told to stop signal=%s", strsignal((int)info.ssi_signo));
    loop_stop(daemon->loop);
}

/* --- Start -------------------------------------------------------------------------------- */

static enum log_level level_of(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(names[i], name))
            return (enum log_level)i;
    return LOG_LEVEL_INFO;
}

/* Signals reach the loop by a descriptor; they are blocked before the first thread is started. */
static int catch_signals(struct daemon *daemon, struct err *err)
{
    sigset_t set;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_set(err, ERR_IO, errno, "block signals");
    daemon->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (daemon->signal_fd < 0)
        return err_set(err, ERR_IO, errno, "signalfd");
    loop_watch(daemon->loop, daemon->signal_fd, EPOLLIN, on_signal, daemon);
    return 0;
}

static int make_dirs(const struct daemon *daemon, struct err *err)
{
    static const char *const names[] = {"replicas", "sessions", "machines", "instances",
                                        "keys",     "runs",     "secrets"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *dir = path_join(daemon->config.dir, names[i]);
        if (fs_make_dirs(fs_real(), dir, 0700, err) < 0)
            return -1;
    }
    return 0;
}

/* Peers know a site by the name in its certificate: under another they would all refuse it. */
static int check_name(const struct daemon *daemon, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(daemon->identity_dir, IDENTITY_SITE_CRT);
    char name[IDENTITY_NAME_BYTES] = "";
    X509 *cert = NULL;

    if (identity_read_cert(path, &cert, err) < 0)
        return -1;
    bool named = identity_cert_name(cert, name);
    X509_free(cert);
    if (!named)
        return err_set(err, ERR_CORRUPT, 0, "%s: no certificate of a site", path);
    if (!str_eq(name, daemon->config.site))
        return err_set(err, ERR_INVALID, 0,
                       "config.lua: site: \"%s\", but %s is of site \"%s\"; hint: write site = "
                       "\"%s\", or make a new site in another directory",
                       daemon->config.site, path, name, name);
    return 0;
}

static int open_durable(struct daemon *daemon, struct err *err)
{
    CLEANUP(mem_freep) char *lock = path_join(daemon->config.dir, "lock");
    CLEANUP(mem_freep) char *state = path_join(daemon->config.dir, "state.db");

    if (make_dirs(daemon, err) < 0)
        return -1;
    if (fs_lock(lock, &daemon->lock_fd, err) < 0)
        return err_wrap(err, "site %s has a daemon already", daemon->config.site);
    daemon->identity_dir = path_join(daemon->config.dir, CLI_IDENTITY_DIR);
    if (check_name(daemon, err) < 0 || state_open(state, &daemon->state, err) < 0
        || peers_new(daemon->identity_dir, &daemon->peers, err) < 0)
        return -1;
    return pair_sign_key(daemon->identity_dir, daemon->sign_private, daemon->sign_public, err);
}

static void make_estate(struct daemon *daemon)
{
    const struct provider_qemu_config provider = {
        .qemu_path = daemon->config.qemu,
        .plugin_path = daemon->config.plugin,
        .clock = daemon->clock,
    };
    struct estate_config estate = {
        .site = daemon->config.site,
        .dir = daemon->config.dir,
        .clock = daemon->clock,
        .networks = daemon->config.networks,
        .seeds = daemon->config.seeds,
        .commands = daemon->config.commands,
        .ctx = daemon,
        .open_link = open_link,
        .changed = group_changed,
    };

    daemon->scheduler = scheduler_new(daemon->clock, daemon->config.data_threads);
    if (!daemon->provider)
        daemon->provider = provider_qemu_new(&provider);
    estate.scheduler = daemon->scheduler;
    estate.provider = daemon->provider;
    memcpy(estate.sign_key, daemon->sign_private, sizeof(estate.sign_key));
    daemon->estate = estate_new(&estate);
    explicit_bzero(estate.sign_key, sizeof(estate.sign_key));
}

static void make_control(struct daemon *daemon)
{
    daemon->here = site_local_new(daemon->estate);
    const struct runner_world runner = {
        .loop = daemon->loop,
        .pool = daemon->pool,
        .state = daemon->state,
        .here = daemon->here,
        .ctx = daemon,
        .peer = peer_site,
        .changed = run_changed,
        .committed = on_committed,
        .host = &daemon->host,
    };
    daemon->runner = runner_new(&runner);
    struct jobs_world jobs = {
        .loop = daemon->loop,
        .pool = daemon->pool,
        .clock = daemon->clock,
        .state = daemon->state,
        .estate = daemon->estate,
        .site = daemon->config.site,
        .here = daemon->here,
        .dir = daemon->config.dir,
        .ctx = daemon,
        .open_link = open_link,
        .changed = jobs_changed,
    };
    memcpy(jobs.writer_key, daemon->sign_public, sizeof(jobs.writer_key));
    daemon->jobs = jobs_new(&jobs);
}

static int open_api(struct daemon *daemon, struct err *err)
{
    const struct api_world world = {
        .loop = daemon->loop,
        .pool = daemon->pool,
        .clock = daemon->clock,
        .config = &daemon->config,
        .state = daemon->state,
        .estate = daemon->estate,
        .scheduler = daemon->scheduler,
        .runner = daemon->runner,
        .jobs = daemon->jobs,
        .host = &daemon->host,
        .keys_dir = daemon->identity_dir,
        .ctx = daemon,
        .commit = daemon_commit,
        .peers_changed = daemon_peers_changed,
    };

    return api_start(&world, daemon->config.socket, &daemon->api, err);
}

static int start(struct daemon *daemon, struct err *err)
{
    daemon->loop = loop_new(daemon->clock);
    daemon->stop = cancel_new(daemon->clock, NULL, CANCEL_NEVER);
    if (catch_signals(daemon, err) < 0 || open_durable(daemon, err) < 0)
        return -1;
    daemon->pool = pool_new(daemon->loop, POOL_THREADS);
    make_estate(daemon);
    load_throttles(daemon);
    char boot_id[64];
    if (daemon_describe_begin(daemon, err) < 0 || daemon_fill(daemon, err) < 0
        || estate_boot_id(boot_id, sizeof(boot_id), err) < 0
        || estate_boot_begin(daemon->estate, boot_id, err) < 0)
        return -1;
    make_control(daemon);
    loop_set_turn_end(daemon->loop, daemon_commit, daemon);
    if (runner_recover(daemon->runner, err) < 0 || jobs_take_up(daemon->jobs, err) < 0)
        return -1;
    daemon_commit(daemon);
    daemon_describe(daemon);
    if (daemon_listen(daemon, err) < 0 || open_api(daemon, err) < 0)
        return -1;
    daemon_fence(daemon);
    daemon_watch(daemon);
    daemon_verify(daemon);
    daemon_greet(daemon);
    return 0;
}

static void say_ready(const struct daemon *daemon, int ready_fd)
{
    uint16_t port = 0;
    char line[1024];
    struct err err = ERR_EMPTY;
    const char *address = daemon->config.address;
    int host_len = (int)(strrchr(address, ':') - address);

    if (tls_port(daemon->listen_fd, &port, &err) < 0)
        log_warn("daemon", "port error=\"%s\"", err.text);
    int len = snprintf(line, sizeof(line), "muster: site %s ready on %.*s:%u, API %s\n",
                       daemon->config.site, host_len, address, port, daemon->config.socket);
    if (ready_fd >= 0) {
        if (write(ready_fd, line, (size_t)len) < 0)
            log_warn("daemon", "nobody waits to hear that it is ready");
        (void)close(ready_fd);
    }
    (void)fputs(line, stdout);
    (void)fflush(stdout);
}

/* --- Stop --------------------------------------------------------------------------------- */

/* New work is refused, what runs is told to end, and the loop turns until it has. */
static void wind_down(struct daemon *daemon)
{
    int64_t until = daemon->clock->now_ms(daemon->clock) + STOP_MS;

    api_stop(daemon->api);
    daemon->api = NULL;
    daemon_unlisten(daemon);
    cancel_fire(daemon->stop);
    if (daemon->jobs)
        jobs_stop(daemon->jobs);
    if (daemon->runner)
        runner_stop(daemon->runner);
    while ((daemon->pool && pool_busy(daemon->pool) > 0)
           || (daemon->link_pool && pool_busy(daemon->link_pool) > 0)
           || (daemon->data_pool && pool_busy(daemon->data_pool) > 0)) {
        (void)loop_step(daemon->loop, STEP_MS);
        if (daemon->clock->now_ms(daemon->clock) < until)
            continue;
        log_warn("daemon", "what runs did not end within %d ms and is taken up at the next start",
                 STOP_MS);
        _exit(0);
    }
}

/* The next start of the host finds that this one was ended by command. */
static void end_cleanly(struct daemon *daemon)
{
    struct err err = ERR_EMPTY;

    if (estate_boot_end(daemon->estate, &err) < 0)
        log_warn("daemon", "a clean end is not noted error=\"%s\"", err.text);
}

static void daemon_done(struct daemon *daemon)
{
    (void)alarm(STOP_MAX_S); /* data threads that do not end in time are ended with us */
    if (daemon->loop)
        wind_down(daemon);
    runner_free(daemon->runner);
    jobs_free(daemon->jobs);
    pool_free(daemon->link_pool); /* first: a link may move on to the next */
    pool_free(daemon->data_pool);
    pool_free(daemon->pool);
    site_close(daemon->here);
    if (daemon->estate)
        estate_free(daemon->estate);
    if (daemon->scheduler)
        scheduler_free(daemon->scheduler);
    peers_free(daemon->peers); /* the sessions' turns connected by it until now */
    if (daemon->provider && !daemon->provider_lent)
        provider_free(daemon->provider);
    if (daemon->state)
        state_close(daemon->state);
    json_decref(daemon->looks);
    json_decref(daemon->described);
    json_decref(daemon->undescribed);
    json_decref(daemon->seen);
    json_decref(daemon->verify_tried);
    cancel_free(daemon->stop);
    loop_free(daemon->loop);
    fd_close(&daemon->signal_fd);
    fd_close(&daemon->listen_fd);
    fd_close(&daemon->lock_fd);
    config_done(&daemon->config);
    explicit_bzero(daemon->sign_private, sizeof(daemon->sign_private));
    free(daemon->identity_dir);
    free(daemon->repair_said);
    (void)alarm(0);
}

/* Frames and batches of a MiB come and go with every point: from the heap, where memory that was
 * touched is kept, instead of anew from the kernel each time, page by page (mallopt(3)). */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 16 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

/* Each group has some files open; what a shell allows by default is for programs that poll by select. */
static void allow_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warn("daemon", "open files stay limited error=\"%s\"", strerror(errno));
}

int daemon_serve(const char *config_path, int ready_fd, struct err *err)
{
    return daemon_serve_machines(NULL, config_path, ready_fd, err);
}

int daemon_serve_machines(struct provider *provider, const char *config_path, int ready_fd,
                          struct err *err)
{
    struct daemon daemon = {
        .clock = clock_real(),
        .provider = provider,
        .provider_lent = provider != NULL,
        .lock_fd = -1,
        .listen_fd = -1,
        .signal_fd = -1,
    };

    keep_memory();
    allow_files();
    daemon.host.clock = daemon.clock;
    host_limits_default(&daemon.host.limits);
    if (daemon_config_load(&daemon.host, config_path, &daemon.config, err) < 0)
        return -1;
    log_set_level(level_of(daemon.config.log_level));
    int rc = start(&daemon, err);
    if (rc == 0) {
        log_info("daemon", "ready site=%s version=%s dir=%s", daemon.config.site, MUSTER_VERSION,
                 daemon.config.dir);
        say_ready(&daemon, ready_fd);
        loop_run(daemon.loop);
        end_cleanly(&daemon);
    }
    daemon_done(&daemon);
    if (rc == 0)
        log_info("daemon", "stopped; machines and served disks go on");
    return rc;
}
