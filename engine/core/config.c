// SPDX-License-Identifier: Apache-2.0
#include "core/config.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_ADDRESS  "0.0.0.0:7700"
#define PLUGIN_NAME      "nbdkit-muster-plugin.so"
#define DATA_THREADS     4
#define DATA_THREADS_MAX 64

const char *const *config_fields(void)
{
    static const char *const fields[] = {
        "site",         "dir",      "address",  "advertise", "socket", "qemu", "plugin",
        "data_threads", "networks", "commands", "log_level", "seeds",  NULL,
    };

    return fields;
}

void config_done(struct config *config)
{
    json_decref(config->networks);
    config->networks = NULL;
    json_decref(config->commands);
    config->commands = NULL;
}

/* "FILE:LINE: FIELD: what"; the line is left out when it is not known. */
static int PRINTF_LIKE(4, 5) wrong(const struct config_origin *origin, const char *field,
                                   struct err *err, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    unsigned line = 0;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    if (origin->text && origin->line_of)
        line = origin->line_of(origin->text, origin->len, field);
    if (line > 0)
        return err_set(err, ERR_INVALID, 0, "%s:%u: %s: %s", origin->file, line, field, what);
    return err_set(err, ERR_INVALID, 0, "%s: %s: %s", origin->file, field, what);
}

static int check_fields(json_t *json, const struct config_origin *origin, struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(json, key, value) {
        bool known = false;
        for (const char *const *field = config_fields(); *field && !known; field++)
            known = str_eq(*field, key);
        if (known)
            continue;
        const char *near = str_nearest(key, config_fields());
        if (near)
            return wrong(origin, key, err, "unknown field; hint: did you mean \"%s\"?", near);
        return wrong(origin, key, err, "unknown field");
    }
    return 0;
}

/* The text of `field`, or `fallback` (NULL: it must be there), copied into `ret_text`. */
static int text_of(const json_t *json, const struct config_origin *origin, const char *field,
                   const char *fallback, char *ret_text, size_t size, struct err *err)
{
    const json_t *value = json_object_get(json, field);
    const char *text = value ? json_string_value(value) : fallback;

    if (value && !text)
        return wrong(origin, field, err, "must be a text");
    if (!text)
        return wrong(origin, field, err, "is missing");
    if (value && !*text)
        return wrong(origin, field, err, "must not be empty");
    if (strlen(text) >= size)
        return wrong(origin, field, err, "%zu bytes, the most is %zu", strlen(text), size - 1);
    memcpy(ret_text, text, strlen(text) + 1);
    return 0;
}

/* As text_of, for a path: a relative one begins at base_dir. */
static int path_of(const json_t *json, const struct config_origin *origin, const char *field,
                   const char *fallback, char *ret_path, size_t size, struct err *err)
{
    CLEANUP(mem_freep) char *joined = NULL;
    char path[CONFIG_PATH_BYTES] = "";

    if (text_of(json, origin, field, fallback, path, sizeof(path), err) < 0)
        return -1;
    joined = path[0] == '/' ? mem_strdup(path) : path_join(origin->base_dir, path);
    if (strlen(joined) >= size)
        return wrong(origin, field, err, "the path has %zu bytes, the most is %zu", strlen(joined),
                     size - 1);
    memcpy(ret_path, joined, strlen(joined) + 1);
    return 0;
}

/* A program: a path when there is a slash in it, else a name to be looked up. */
static int program_of(const json_t *json, const struct config_origin *origin, struct config *config,
                      struct err *err)
{
    const char *name = json_get_str(json, "qemu", "");

    if (strchr(name, '/'))
        return path_of(json, origin, "qemu", NULL, config->qemu, sizeof(config->qemu), err);
    return text_of(json, origin, "qemu", "qemu-system-x86_64", config->qemu, sizeof(config->qemu),
                   err);
}

static int plugin_of(const json_t *json, const struct config_origin *origin, struct config *config,
                     struct err *err)
{
    char beside[PATH_MAX] = "";
    ssize_t len = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof(PLUGIN_NAME) - 1);

    beside[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(beside, '/');
    if (slash)
        memcpy(slash + 1, PLUGIN_NAME, sizeof(PLUGIN_NAME));
    return path_of(json, origin, "plugin", slash ? beside : PLUGIN_NAME, config->plugin,
                   sizeof(config->plugin), err);
}

/* "HOST:PORT"; the host may be "[::1]"; port 0: any the system gives. */
static int check_address(const struct config_origin *origin, const char *field, const char *address,
                         struct err *err)
{
    const char *colon = strrchr(address, ':');
    uint64_t port = 0;

    if (!colon || colon == address || !str_to_u64(colon + 1, &port) || port > UINT16_MAX)
        return wrong(origin, field, err, "\"%s\" is not \"HOST:PORT\"", address);
    return 0;
}

static int sockets_of(const json_t *json, const struct config_origin *origin, struct config *config,
                      struct err *err)
{
    CLEANUP(mem_freep) char *socket = path_join(config->dir, "muster.sock");
    const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    if (text_of(json, origin, "address", DEFAULT_ADDRESS, config->address, sizeof(config->address),
                err)
            < 0
        || text_of(json, origin, "advertise", config->address, config->advertise,
                   sizeof(config->advertise), err)
               < 0
        || check_address(origin, "address", config->address, err) < 0
        || check_address(origin, "advertise", config->advertise, err) < 0
        || path_of(json, origin, "socket", socket, config->socket, sizeof(config->socket), err) < 0)
        return -1;
    if (strlen(config->socket) > most)
        return wrong(origin, "socket", err,
                     "%s: %zu bytes, a unix socket's path has at most %zu; hint: set \"socket\" to "
                     "a shorter path",
                     config->socket, strlen(config->socket), most);
    return 0;
}

static bool is_in(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    while (len > 1 && folder[len - 1] == '/')
        len--;
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || !path[len]);
}

/* Peers name files in it: nothing of this site's own may be among them. */
static int seeds_of(const json_t *json, const struct config_origin *origin, struct config *config,
                    struct err *err)
{
    CLEANUP(mem_freep) char *own = path_join(config->dir, "seeds");

    if (path_of(json, origin, "seeds", own, config->seeds, sizeof(config->seeds), err) < 0)
        return -1;
    if (is_in(config->dir, config->seeds)
        || (is_in(config->seeds, config->dir) && !is_in(config->seeds, own)))
        return wrong(origin, "seeds", err,
                     "%s: seeds are named by peers, and this site's own files are in %s; hint: a "
                     "folder elsewhere, or %s",
                     config->seeds, config->dir, own);
    if (strstr(config->seeds, "/../") || str_eq(config->seeds, "/"))
        return wrong(origin, "seeds", err, "%s is no folder for seeds", config->seeds);
    return 0;
}

static int threads_of(const json_t *json, const struct config_origin *origin, struct config *config,
                      struct err *err)
{
    const json_t *value = json_object_get(json, "data_threads");
    json_int_t threads = value ? json_integer_value(value) : DATA_THREADS;

    if (threads < 1 || threads > DATA_THREADS_MAX)
        return wrong(origin, "data_threads", err, "must be a number from 1 to %d",
                     DATA_THREADS_MAX);
    config->data_threads = (uint32_t)threads;
    return 0;
}

static int networks_of(const json_t *json, const struct config_origin *origin,
                       struct config *config, struct err *err)
{
    json_t *networks = json_object_get(json, "networks");
    const char *key;
    json_t *value;

    if (json_is_array(networks) && json_array_size(networks) == 0)
        return 0; /* an empty Lua table */
    if (networks && !json_is_object(networks))
        return wrong(origin, "networks", err,
                     "must be a table from the peer's network to ours, like "
                     "{ [\"bridge lan\"] = \"bridge lan2\" }");
    json_object_foreach(networks, key, value) {
        if (!json_is_string(value))
            return wrong(origin, "networks", err, "the network for \"%s\" must be a text", key);
    }
    config->networks = json_incref(networks);
    return 0;
}

/* Each is compared byte by byte with what a plan names: no way around, no pattern. */
static int commands_of(const json_t *json, const struct config_origin *origin,
                       struct config *config, struct err *err)
{
    json_t *commands = json_object_get(json, "commands");
    const json_t *value;
    size_t i;

    if (commands && !json_is_array(commands))
        return wrong(origin, "commands", err,
                     "must be a list of programs, like { \"/usr/local/bin/open-shop\" }");
    json_array_foreach(commands, i, value) {
        const char *path = json_string_value(value);
        if (!path || path[0] != '/')
            return wrong(origin, "commands", err, "\"%.100s\" is no absolute path",
                         path ? path : "?");
    }
    config->commands = json_incref(commands);
    return 0;
}

static int level_of(const json_t *json, const struct config_origin *origin, struct config *config,
                    struct err *err)
{
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};

    if (text_of(json, origin, "log_level", "info", config->log_level, sizeof(config->log_level),
                err)
        < 0)
        return -1;
    for (const char *const *level = levels; *level; level++)
        if (str_eq(*level, config->log_level))
            return 0;
    return wrong(origin, "log_level", err, "\"%s\" is none of debug, info, warn, error",
                 config->log_level);
}

int config_from_json(json_t *json, const struct config_origin *origin, struct config *ret_config,
                     struct err *err)
{
    CLEANUP(config_done) struct config config = {.site = ""};

    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, 0,
                       "%s: must return a table of fields, like return { site = \"paris\" }",
                       origin->file);
    if (check_fields(json, origin, err) < 0
        || text_of(json, origin, "site", NULL, config.site, sizeof(config.site), err) < 0)
        return -1;
    if (!str_is_name(config.site))
        return wrong(origin, "site", err,
                     "\"%s\" is no name; hint: a-z 0-9 . _ -, beginning with a letter or digit",
                     config.site);
    if (path_of(json, origin, "dir", origin->base_dir, config.dir, sizeof(config.dir), err) < 0
        || sockets_of(json, origin, &config, err) < 0 || seeds_of(json, origin, &config, err) < 0
        || program_of(json, origin, &config, err) < 0 || plugin_of(json, origin, &config, err) < 0
        || threads_of(json, origin, &config, err) < 0 || networks_of(json, origin, &config, err) < 0
        || commands_of(json, origin, &config, err) < 0 || level_of(json, origin, &config, err) < 0)
        return -1;
    *ret_config = config;
    config.networks = NULL;
    config.commands = NULL;
    return 0;
}
