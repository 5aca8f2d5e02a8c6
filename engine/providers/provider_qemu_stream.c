// SPDX-License-Identifier: Apache-2.0
/* A served disk becomes one of its own: what its overlay lacks of the point is streamed into it,
 * below diskN, where bitmaps and backups go on meanwhile. A job that has copied all waits to be let
 * go (qemu/stream.h); then QEMU needs pointN and serverN no longer: their absence is the sign. Then all of it is flushed, made durable, and looked
 * at in the file itself, before anybody may believe that the point is not needed any more. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/overlay.h"
#include "providers/provider_qemu.h"
#include "qemu/blocks.h"
#include "qemu/graph.h"
#include "qemu/stream.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#define CANCEL_MS 60000

static void names_of(size_t disk, char job[QEMU_NODE_BYTES], char overlay[QEMU_NODE_BYTES],
                     char point[QEMU_NODE_BYTES])
{
    (void)snprintf(job, QEMU_NODE_BYTES, "stream%u", (unsigned)disk);
    (void)snprintf(overlay, QEMU_NODE_BYTES, "overlay%u", (unsigned)disk);
    (void)snprintf(point, QEMU_NODE_BYTES, "point%u", (unsigned)disk);
}

static int open_living(struct provider *provider, const struct provider_instance *instance,
                       struct qmp **ret_qmp, struct cancel *cancel, struct err *err)
{
    enum instance_state state;

    if (!instance->served)
        return err_set(err, ERR_STATE, 0, "machine %s has disks of its own",
                       instance->machine->name);
    if (qemu_look(provider, instance, &state, ret_qmp, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_OFF)
        return err_set(err, ERR_STATE, 0,
                       "machine %s is off: its disks are streamed while it is on; hint: start it",
                       instance->machine->name);
    return 0;
}

static int look(struct qmp *qmp, size_t disk, struct provider_stream *ret_stream,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    char job[QEMU_NODE_BYTES], overlay[QEMU_NODE_BYTES], point[QEMU_NODE_BYTES];
    struct stream_state state;

    names_of(disk, job, overlay, point);
    if (stream_look(qmp, job, &state, cancel, err) < 0 || blocks_list(qmp, &nodes, cancel, err) < 0)
        return -1;
    if (!blocks_find(&nodes, overlay))
        return err_set(err, ERR_NOT_FOUND, 0, "this QEMU has no node %s", overlay);
    *ret_stream = (struct provider_stream){
        .own = !blocks_find(&nodes, point),
        .there = state.there,
        .copied = state.copied,
        .failed = state.failed,
        .no_space = state.no_space,
        .done = state.done,
        .total = blocks_find(&nodes, overlay)->size,
    };
    if (ret_stream->own)
        ret_stream->done = ret_stream->total;
    return 0;
}

int qemu_stream_look(struct provider *provider, const struct provider_instance *instance,
                     size_t disk, struct provider_stream *ret_stream, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;

    if (open_living(provider, instance, &qmp, cancel, err) < 0
        || look(qmp, disk, ret_stream, cancel, err) < 0)
        return err_wrap(err, "machine %s", instance->machine->name);
    return 0;
}

/* The lock of whoever begins or ends a job in this machine's QEMU. */
static int hold(const struct provider_instance *instance, int *ret_fd, struct cancel *cancel,
                struct err *err)
{
    CLEANUP(mem_freep) char *monitor = path_join(instance->run_dir, "qmp");

    return graph_lock(monitor, ret_fd, cancel, err);
}

static int set_going(struct qmp *qmp, size_t disk, uint64_t rate_per_s, struct cancel *cancel,
                     struct err *err)
{
    char job[QEMU_NODE_BYTES], overlay[QEMU_NODE_BYTES], point[QEMU_NODE_BYTES];
    struct provider_stream now;
    struct stream_state state;

    names_of(disk, job, overlay, point);
    if (look(qmp, disk, &now, cancel, err) < 0 || stream_look(qmp, job, &state, cancel, err) < 0)
        return -1;
    if (now.own || now.copied)
        return 0;
    if (!now.there)
        return stream_start(qmp, job, overlay, rate_per_s, cancel, err);
    if (stream_set_rate(qmp, job, rate_per_s, cancel, err) < 0)
        return -1;
    return state.paused ? stream_go_on(qmp, job, cancel, err) : 0;
}

int qemu_stream_begin(struct provider *provider, const struct provider_instance *instance,
                      size_t disk, uint64_t rate_per_s, struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    CLEANUP(fd_close) int held = -1;

    if (hold(instance, &held, cancel, err) < 0
        || open_living(provider, instance, &qmp, cancel, err) < 0
        || set_going(qmp, disk, rate_per_s, cancel, err) < 0)
        return err_wrap(err, "machine %s: stream disk %s", instance->machine->name,
                        instance->machine->disks.at[disk].name);
    return 0;
}

int qemu_stream_stop(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, CANCEL_MS);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    CLEANUP(fd_close) int held = -1;
    enum instance_state state;

    if (hold(instance, &held, limit, err) < 0
        || qemu_look(provider, instance, &state, &qmp, limit, err) < 0)
        return -1;
    for (size_t i = 0; state != INSTANCE_OFF && i < instance->machine->disks.len; i++) {
        char job[QEMU_NODE_BYTES], overlay[QEMU_NODE_BYTES], point[QEMU_NODE_BYTES];

        names_of(i, job, overlay, point);
        if (stream_cancel(qmp, job, limit, err) < 0)
            return err_wrap(err, "machine %s: end the stream of disk %s", instance->machine->name,
                            instance->machine->disks.at[i].name);
    }
    return 0;
}

/* All is copied: QEMU lets go of the point. */
static int let_go(struct provider *provider, const struct provider_instance *instance, size_t disk,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    CLEANUP(fd_close) int held = -1;
    char job[QEMU_NODE_BYTES], overlay[QEMU_NODE_BYTES], point[QEMU_NODE_BYTES];

    names_of(disk, job, overlay, point);
    if (hold(instance, &held, cancel, err) < 0
        || open_living(provider, instance, &qmp, cancel, err) < 0)
        return -1;
    return stream_finish(qmp, job, cancel, err);
}

/* --- Believing it ---------------------------------------------------------------------------- */

static int flush(struct qmp *qmp, size_t disk, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(mem_freep) char *line = mem_printf("qemu-io overlay%zu flush", disk);
    const char *words;

    if (qmp_command(qmp, "human-monitor-command", json_pack("{s:s}", "command-line", line), &answer,
                    cancel, err)
        < 0)
        return -1;
    words = json_string_value(answer);
    if (words && *words)
        return err_set(err, ERR_IO, 0, "flush: %.200s", words);
    return 0;
}

int qemu_overlay_extents(struct provider *provider, const struct provider_instance *instance,
                         size_t disk, struct source_extents *ret_extents, uint64_t *ret_size,
                         struct cancel *cancel, struct err *err)
{
    const char *path = instance->served ? instance->served->at[disk].overlay : "";
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    CLEANUP(fd_close) int fd = -1;
    struct fs *fs = fs_real();

    if (open_living(provider, instance, &qmp, cancel, err) < 0 || flush(qmp, disk, cancel, err) < 0
        || fs->open(fs, path, O_RDWR, 0, &fd, err) < 0 || fs->sync(fs, fd, err) < 0
        || overlay_allocated(path, ret_extents, ret_size, err) < 0)
        return err_wrap(err, "machine %s: disk %s", instance->machine->name,
                        instance->machine->disks.at[disk].name);
    return 0;
}

int qemu_stream_settle(struct provider *provider, const struct provider_instance *instance,
                       size_t disk, struct cancel *cancel, struct err *err)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    struct provider_stream now;
    uint64_t size;

    if (qemu_stream_look(provider, instance, disk, &now, cancel, err) < 0)
        return -1;
    if (now.copied
        && (let_go(provider, instance, disk, cancel, err) < 0
            || qemu_stream_look(provider, instance, disk, &now, cancel, err) < 0))
        return err_wrap(err, "machine %s: end the stream of disk %s", instance->machine->name,
                        instance->machine->disks.at[disk].name);
    if (!now.own)
        return err_set(err, ERR_STATE, 0, "machine %s: disk %s still needs its point",
                       instance->machine->name, instance->machine->disks.at[disk].name);
    if (qemu_overlay_extents(provider, instance, disk, &extents, &size, cancel, err) < 0)
        return -1;
    if (source_extents_bytes(&extents) != size)
        return err_set(err, ERR_CORRUPT, 0,
                       "machine %s: disk %s was streamed, but %" PRIu64 " of %" PRIu64
                       " bytes are in %s",
                       instance->machine->name, instance->machine->disks.at[disk].name,
                       source_extents_bytes(&extents), size, instance->served->at[disk].overlay);
    return 0;
}
