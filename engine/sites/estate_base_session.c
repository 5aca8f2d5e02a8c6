// SPDX-License-Identifier: Apache-2.0
/* What a session gets of a base: our promotion, for the chain; digests and bytes of the moment at which its
 * map was opened, for the comparison. Its calls come on data threads. */
#include "base/fs.h"
#include "base/mem.h"
#include "block/nbd_image.h"
#include "sites/estate_base_file.h"
#include "sites/group_disks.h"
#include "sites/site_local.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_MS 60000

struct estate_base_reader {
    struct digests *digests;
    struct base base;
    struct nbd_image *image; /* of `image_disk` */
    char image_disk[NAME_MAX_BYTES];
};

void estate_base_reader_free(struct estate_base_reader *reader)
{
    if (!reader)
        return;
    digests_close(reader->digests);
    nbd_image_close(reader->image);
    base_done(&reader->base);
    free(reader);
}

static int own_digests(void *ctx, const char *disk, uint64_t first, uint64_t count,
                       struct digest *ret_digests, struct err *err)
{
    struct estate_sender *sender = ctx;
    struct estate_base_reader *reader = sender->base;

    for (size_t i = 0; i < reader->base.disks.len; i++)
        if (str_eq(reader->base.disks.at[i].name, disk))
            return digests_read(reader->digests, i, first, count, ret_digests, err);
    return err_set(err, ERR_STATE, 0, "disk %s of %s was not there when tracking began", disk,
                   sender->group.group);
}

static int read_raw(const struct machine_disk *disk, uint64_t off, void *buf, size_t len,
                    struct err *err)
{
    CLEANUP(fd_close) int fd = open(disk->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", disk->path);
    if (fs_real()->pread(fs_real(), fd, buf, len, off, err) < 0)
        return err_wrap(err, "%s", disk->path);
    return 0;
}

/* The machine has it open: what is read of chunks that it writes comes again with its changes. */
static int read_image(struct estate_sender *sender, const struct group_own *own, uint64_t off,
                      void *buf, size_t len, struct err *err)
{
    struct estate *estate = sender->estate;
    struct estate_base_reader *reader = sender->base;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(estate->config.clock, NULL, READ_MS);

    if (!reader->image || !str_eq(reader->image_disk, own->name)) {
        CLEANUP(mem_freep)
        char *socket = estate_path(estate, "sessions", sender->group.group, ".base/image");
        const struct nbd_image_config config = {.name = own->name,
                                                .path = own->disk.path,
                                                .format = own->disk.format,
                                                .socket = socket,
                                                .shared = true};
        nbd_image_close(reader->image);
        reader->image = NULL;
        if (nbd_image_start(&config, &reader->image, err) < 0)
            return -1;
        (void)snprintf(reader->image_disk, sizeof(reader->image_disk), "%s", own->name);
        if (nbd_image_connect(reader->image, limit, err) < 0)
            return -1;
    }
    if (nbd_image_read(reader->image, off, buf, len, limit, err) == 0)
        return 0;
    nbd_image_close(reader->image); /* a new one at the next try */
    reader->image = NULL;
    return -1;
}

static int own_read(void *ctx, const char *disk, uint64_t off, void *buf, size_t len,
                    struct err *err)
{
    struct estate_sender *sender = ctx;
    CLEANUP(group_owns_free) struct group_owns owns = VEC_EMPTY;

    if (group_owns_here(sender->estate, sender->group.group, &owns, err) < 0)
        return -1;
    const struct group_own *own = group_owns_find(&owns, disk);
    if (!own)
        return err_set(err, ERR_NOT_FOUND, 0, "%s has no disk %s", sender->group.group, disk);
    return str_eq(own->disk.format, "raw") ? read_raw(&own->disk, off, buf, len, err)
                                           : read_image(sender, own, off, buf, len, err);
}

static int find_own(struct estate_sender *sender, struct session_config *config, struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    CLEANUP(mem_freep) char *dir = base_dir(sender->estate, sender->group.group);
    struct err why = ERR_EMPTY;
    int rc = base_load(sender->estate, sender->group.group, &base, err);

    if (rc <= 0 || base.generation != sender->group.generation)
        return rc < 0 ? -1 : 0;
    if (base.promotion
            .tip[0]) { /* our own promotion; else the next point follows the peer's newest */
        config->tip.point = base.tip.point;
        config->tip.hash = base.tip.hash;
    }
    struct estate_base_reader *reader = mem_new(struct estate_base_reader);
    /* Without its list it is a comparison of everything, no more. */
    if (base.armed == 0 || digests_open(dir, &base.disks, &base.tip, &reader->digests, &why) < 0) {
        estate_base_reader_free(reader);
        return 0;
    }
    reader->base = base;
    base = (struct base){0};
    sender->base = reader;
    config->base = (struct session_base){reader->base.armed, own_digests, own_read};
    return 0;
}

static int store_digests(void *ctx, const char *disk, uint64_t first, uint64_t count,
                         struct digest *ret_digests, struct err *err)
{
    struct estate_sender *sender = ctx;
    struct store_info info;
    struct store *store;

    if (estate_store_get(sender->estate, sender->group.group, &store, err) < 0)
        return -1;
    int rc = store->ops->info(store, &info, err);
    if (rc == 0)
        rc = store->ops->digests(store, disk, info.applied_point, first, count, ret_digests, err);
    estate_store_put(sender->estate, sender->group.group, store, rc < 0 && err->code == ERR_IO);
    return rc;
}

static int store_read(void *ctx, const char *disk, uint64_t off, void *buf, size_t len,
                      struct err *err)
{
    struct estate_sender *sender = ctx;
    struct store *store;

    if (estate_store_get(sender->estate, sender->group.group, &store, err) < 0)
        return -1;
    int rc = store->ops->read(store, disk, off, buf, len, err);
    estate_store_put(sender->estate, sender->group.group, store, rc < 0 && err->code == ERR_IO);
    return rc;
}

/* The serial of the map that was opened before that recovered machine ran, if it has all since its
 * point; else 0. */
static int armed_serial(const struct estate_sender *sender, const char *machine,
                        uint64_t *ret_serial, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct site_armed armed;
    struct err why = ERR_EMPTY;

    machine_init(&instance.machine);
    *ret_serial = 0;
    if (site_instance_load(sender->estate, sender->group.run, machine, &instance, err) < 0)
        return -1;
    if (site_armed_read(&instance, &armed, &why) < 0)
        return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, why.sys, "%s", why.text);
    if (armed.armed && armed.base && armed.generation == sender->group.generation)
        *ret_serial = armed.serial;
    return 0;
}

/* All machines of the group have such a map, of one serial: else their disks are compared as a whole. */
static int find_armed(struct estate_sender *sender, struct session_config *config, struct err *err)
{
    uint64_t all = 0;

    for (size_t i = 0; i < sender->group.machines.count; i++) {
        uint64_t serial;
        if (armed_serial(sender, sender->group.machines.at[i], &serial, err) < 0)
            return -1;
        if (serial == 0 || (all != 0 && serial != all))
            return 0;
        all = serial;
    }
    config->base = (struct session_base){all, store_digests, store_read};
    return 0;
}

/* The promotion is the newest there is in the replica: it takes no points while we are the source. */
static int find_replica(struct estate_sender *sender, struct session_config *config,
                        struct err *err)
{
    const char *group = sender->group.group;
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    struct store_info info = {.state = STORE_EMPTY};
    struct store *store;

    if (estate_store_get(sender->estate, group, &store, err) < 0)
        return -1;
    int rc = store->ops->info(store, &info, err);
    if (rc == 0)
        rc = store->ops->points(store, &points, err);
    estate_store_put(sender->estate, group, store, rc < 0 && err->code == ERR_IO);
    if (rc < 0)
        return -1;
    if (points.len == 0 || !points.at[points.len - 1].promotion
        || info.generation != sender->group.generation)
        return err_set(err, ERR_STATE, 0,
                       "the replica of %s here is not at the promotion to generation %" PRIu64
                       ", but at generation %" PRIu64 ", point %" PRIu64,
                       group, sender->group.generation, info.generation, info.durable_point);
    config->tip.point = info.durable_point;
    config->tip.hash = info.durable_hash;
    return find_armed(sender, config, err);
}

int estate_base_find(struct estate_sender *sender, struct session_config *config, struct err *err)
{
    return sender->group.run[0] ? find_replica(sender, config, err) : find_own(sender, config, err);
}
