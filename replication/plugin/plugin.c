// SPDX-License-Identifier: Apache-2.0
/* nbdkit keeps no pointer of ours between its calls before the first connection, so what this
 * process serves is the one thing that is global here. */
#include "plugin/plugin.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct plugin_settings settings;
static const struct disk_ops *ops;
static void *disk;

/* A connection. */
struct client {
    atomic_bool wrote;
};

int plugin_failed(const struct err *err)
{
    nbdkit_error("%s", err->text);
    nbdkit_set_error(err->code == ERR_SPACE ? ENOSPC : err->sys ? err->sys : EIO);
    return -1;
}

/* --- Settings ---------------------------------------------------------------------------- */

static int set_path(char **to, const char *value)
{
    /* nbdkit may leave this folder when it goes to the background. */
    char *path = nbdkit_absolute_path(value);

    if (!path)
        return -1;
    free(*to);
    *to = path;
    return 0;
}

static int set_size(uint64_t *to, const char *value)
{
    int64_t size = nbdkit_parse_size(value);

    if (size < 0)
        return -1;
    *to = (uint64_t)size;
    return 0;
}

static int set_mode(const char *value)
{
    settings.sink = str_eq(value, "sink");
    if (settings.sink || str_eq(value, "view"))
        return 0;
    nbdkit_error("mode \"%s\" is neither view nor sink", value);
    return -1;
}

static int set_point(const char *value)
{
    return nbdkit_parse_uint64_t("point", value, &settings.point);
}

static int plugin_config(const char *key, const char *value)
{
    if (str_eq(key, "mode"))
        return set_mode(value);
    if (str_eq(key, "dir"))
        return set_path(&settings.dir, value);
    if (str_eq(key, "keyfile"))
        return set_path(&settings.keyfile, value);
    if (str_eq(key, "luks"))
        return set_path(&settings.luks, value);
    if (str_eq(key, "socket") || str_eq(key, "sink"))
        return set_path(&settings.socket, value);
    if (str_eq(key, "point"))
        return set_point(value);
    if (str_eq(key, "size"))
        return set_size(&settings.size, value);
    if (str_eq(key, "disk")) {
        free(settings.disk);
        settings.disk = mem_strdup(value);
        return 0;
    }
    nbdkit_error("unknown parameter \"%s\"", key);
    return -1;
}

static int plugin_config_complete(void)
{
    if (settings.sink && (settings.size == 0 || !settings.socket)) {
        nbdkit_error("mode=sink needs size= and socket=");
        return -1;
    }
    if (!settings.sink
        && (!settings.dir || !settings.disk || settings.point == 0 || !settings.keyfile)) {
        nbdkit_error("mode=view needs dir=, disk=, point= (from 1) and keyfile=");
        return -1;
    }
    return 0;
}

/* Still in the foreground: what is wrong is seen by whoever started us. */
static int plugin_get_ready(void)
{
    struct err err = ERR_EMPTY;
    int rc = settings.sink ? served_sink_open(&settings, &ops, &disk, &err)
                           : served_view_open(&settings, &ops, &disk, &err);

    return rc < 0 ? plugin_failed(&err) : 0;
}

static void plugin_unload(void)
{
    if (disk)
        ops->close(disk);
    disk = NULL;
    free(settings.dir);
    free(settings.disk);
    free(settings.keyfile);
    free(settings.luks);
    free(settings.socket);
}

/* --- Connections ------------------------------------------------------------------------- */

static void *plugin_open(int readonly)
{
    (void)readonly;
    return mem_new(struct client);
}

static void plugin_close(void *handle)
{
    struct client *client = handle;

    if (ops->client_left && atomic_load(&client->wrote))
        ops->client_left(disk);
    free(client);
}

static int64_t plugin_get_size(void *handle)
{
    (void)handle;
    return (int64_t)ops->size(disk);
}

static int plugin_can_write(void *handle)
{
    (void)handle;
    return ops->write != NULL;
}

static int plugin_can_flush(void *handle)
{
    (void)handle;
    return ops->flush != NULL;
}

static int plugin_can_zero(void *handle)
{
    (void)handle;
    return ops->zero != NULL;
}

/* Zeros are passed on as such, so they are never slower than data. */
static int plugin_can_fast_zero(void *handle)
{
    (void)handle;
    return ops->zero != NULL;
}

static int plugin_no(void *handle)
{
    (void)handle;
    return 0;
}

static int plugin_yes(void *handle)
{
    (void)handle;
    return 1;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct err err = ERR_EMPTY;

    (void)handle;
    (void)flags;
    return ops->read(disk, offset, buf, count, &err) < 0 ? plugin_failed(&err) : 0;
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    struct client *client = handle;
    struct err err = ERR_EMPTY;

    (void)flags;
    atomic_store(&client->wrote, true);
    return ops->write(disk, offset, buf, count, &err) < 0 ? plugin_failed(&err) : 0;
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct client *client = handle;
    struct err err = ERR_EMPTY;

    (void)flags;
    atomic_store(&client->wrote, true);
    return ops->zero(disk, offset, count, &err) < 0 ? plugin_failed(&err) : 0;
}

static int plugin_flush(void *handle, uint32_t flags)
{
    struct err err = ERR_EMPTY;

    (void)handle;
    (void)flags;
    return ops->flush(disk, &err) < 0 ? plugin_failed(&err) : 0;
}

static struct nbdkit_plugin plugin = {
    .name = "muster",
    .longname = "a recovery point of Muster as a disk",
    .version = MUSTER_VERSION,
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = "mode=view|sink\n"
                   "view: dir=<REPLICA> disk=<NAME> point=<N> keyfile=<PATH> [luks=<PATH>]\n"
                   "sink: size=<BYTES> socket=<PATH>",
    .get_ready = plugin_get_ready,
    .unload = plugin_unload,
    .open = plugin_open,
    .close = plugin_close,
    .get_size = plugin_get_size,
    .can_write = plugin_can_write,
    .can_flush = plugin_can_flush,
    .can_zero = plugin_can_zero,
    .can_fast_zero = plugin_can_fast_zero,
    .can_trim = plugin_no,
    .can_extents = plugin_no,
    .is_rotational = plugin_no,
    .can_multi_conn = plugin_yes,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .zero = plugin_zero,
    .flush = plugin_flush,
};

struct nbdkit_plugin *plugin_init(void); /* nbdkit's own header does not declare it */
NBDKIT_REGISTER_PLUGIN(plugin)
