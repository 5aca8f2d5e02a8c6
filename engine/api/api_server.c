// SPDX-License-Identifier: Apache-2.0
/* The listening socket is ours; accepted connections are given to libmicrohttpd, which has no
 * thread: its epoll descriptor is watched by our loop, its timeouts are our timers.
 * The socket is bound under another name, made 0660, and renamed: at no time can somebody
 * connect who may not, and a daemon that was killed leaves nothing in the way. */
#include "api/api_internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 128
#define IDLE_S          120
#define ACCEPTS_A_TURN  16
#define HEADERS_BYTES   (32u * 1024u)
#define TIMER_MAX_MS    60000

static void on_timer(void *ctx);

static void set_timer(struct api *api, int64_t after_ms)
{
    if (api->timer)
        loop_timer_cancel(api->world.loop, api->timer);
    api->timer = loop_timer(api->world.loop, after_ms, on_timer, api);
}

/* Lets MHD do what is ready, and sets the timer for what is not. Never from within MHD. */
static void pump(struct api *api)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    api->woken = false;
    (void)MHD_run(api->daemon);
    if (api->woken)
        set_timer(api, 0);
    else if (MHD_get_timeout(api->daemon, &wait_ms) == MHD_YES)
        set_timer(api, wait_ms > TIMER_MAX_MS ? TIMER_MAX_MS : (int64_t)wait_ms);
}

void api_wake(struct api *api)
{
    api->woken = true;
    set_timer(api, 0);
}

static void on_timer(void *ctx)
{
    struct api *api = ctx;

    api->timer = 0;
    pump(api);
}

static void on_ready(void *ctx, uint32_t events)
{
    (void)events;
    pump(ctx);
}

static void on_connect(void *ctx, uint32_t events)
{
    struct api *api = ctx;
    struct sockaddr_un from = {.sun_family = AF_UNIX};

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(api->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            break;
        /* MHD closes the descriptor when it refuses (too many connections). */
        (void)MHD_add_connection(api->daemon, fd, (struct sockaddr *)&from, sizeof(from));
    }
    pump(api);
}

/* ERR_BUSY when a daemon answers at `path`; a dead socket is no obstacle. */
static int check_path(const char *path, const struct sockaddr_un *address, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct stat st;

    if (lstat(path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_EXISTS, 0,
                       "%s is there and is no socket; hint: remove it, or set another socket in "
                       "config.lua",
                       path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, ERR_IO, errno, "socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return err_set(err, ERR_BUSY, 0,
                       "another daemon answers on %s; hint: this site's `muster serve` runs "
                       "already",
                       path);
    return 0;
}

static int address_of(const char *path, struct sockaddr_un *ret_address, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, ERR_LIMIT, 0,
                       "the socket's path has %zu bytes, a unix socket takes %zu: %s; hint: set a "
                       "shorter socket in config.lua",
                       strlen(path), sizeof(address.sun_path) - 1, path);
    (void)strcpy(address.sun_path, path);
    *ret_address = address;
    return 0;
}

static int listen_on(const char *path, int *ret_fd, struct err *err)
{
    CLEANUP(mem_freep) char *fresh = mem_printf("%s.new", path);
    CLEANUP(mem_freep) char *folder = mem_printf("%.*s", (int)(strrchr(path, '/') - path), path);
    CLEANUP(fd_close) int fd = -1;
    struct sockaddr_un address;

    if (address_of(path, &address, err) < 0 || check_path(path, &address, err) < 0
        || address_of(fresh, &address, err) < 0)
        return -1;
    /* /run is empty after a reboot. */
    if (*folder && fs_make_dirs(fs_real(), folder, 0755, err) < 0)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, ERR_IO, errno, "socket");
    (void)unlink(fresh);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_set(err, ERR_IO, errno, "bind %s", fresh);
    if (chmod(fresh, 0660) < 0 || listen(fd, 64) < 0 || rename(fresh, path) < 0) {
        int saved = errno;

        (void)unlink(fresh);
        return err_set(err, ERR_IO, saved, "listen on %s", path);
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static void on_mhd_log(void *cls, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[256];

    (void)cls;
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("api", "http: %s", text);
}

static int start_http(struct api *api, struct err *err)
{
    const union MHD_DaemonInfo *info;

    api->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, api_on_request, api, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, api_on_completed, api, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADERS_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
    if (!api->daemon)
        return err_set(err, ERR_IO, errno, "start the HTTP server");
    info = MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || info->epoll_fd < 0)
        return err_set(err, ERR_UNSUPPORTED, 0, "libmicrohttpd was built without epoll");
    api->epoll_fd = info->epoll_fd;
    return 0;
}

int api_server_start(const struct api_world *world, const struct api_table *tables,
                     const char *socket_path, struct api **ret_api, struct err *err)
{
    struct api *api = mem_new(struct api);

    api->world = *world;
    for (size_t i = 0; tables[i].routes; i++) {
        assert(i + 1 < API_TABLES_MAX);
        api->tables[i] = tables[i];
    }
    api->listen_fd = -1;
    if (listen_on(socket_path, &api->listen_fd, err) < 0) {
        api_stop(api);
        return err_wrap(err, "API");
    }
    api->socket_path = mem_strdup(socket_path);
    if (start_http(api, err) < 0) {
        api_stop(api);
        return err_wrap(err, "API");
    }
    loop_watch(world->loop, api->listen_fd, EPOLLIN, on_connect, api);
    loop_watch(world->loop, api->epoll_fd, EPOLLIN, on_ready, api);
    *ret_api = api;
    return 0;
}

void api_stop(struct api *api)
{
    if (!api)
        return;
    if (api->daemon) {
        loop_unwatch(api->world.loop, api->epoll_fd);
        loop_unwatch(api->world.loop, api->listen_fd);
        api_requests_abandon(api);
        MHD_stop_daemon(api->daemon);
        if (api->timer)
            loop_timer_cancel(api->world.loop, api->timer);
    }
    assert(!api->requests);
    if (api->listen_fd >= 0)
        (void)close(api->listen_fd);
    if (api->socket_path)
        (void)unlink(api->socket_path);
    json_decref(api->memory);
    free(api->socket_path);
    api_users_free(&api->users);
    free(api);
}

void api_changed(struct api *api)
{
    api->change++;
    api_requests_changed(api);
}
