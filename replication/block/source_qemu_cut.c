// SPDX-License-Identifier: Apache-2.0
/* The consistent cut by staged push (docs/qemu.md):
 *
 *   room reserved, staging nodes added
 *   ONE transaction over all disks: map N added, map N-1 frozen, N-1's blocks copied aside
 *   jobs ended, 4 KiB maps put into the staging files, nodes removed: the files are ours
 *   read by us (stage_reader); then N-1 is dropped (delivered) or merged into N (not)
 *
 * Until `end`, map N-1 stays in QEMU: whatever breaks off in between loses nothing. */
#include "block/source_qemu.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXACT_MAP  "chg" /* in the staging file */
#define ABANDON_MS 10000

static uint64_t map_count(const struct source_qemu *qemu, const struct blocks_nodes *nodes,
                          size_t i, uint64_t serial)
{
    char name[BLOCKS_NAME_BYTES];
    const struct blocks_node *node = blocks_find(nodes, qemu->disks[i].node);
    const struct blocks_bitmap *bitmap;

    maps_name(qemu->group, qemu->generation, serial, name);
    bitmap = node ? blocks_find_bitmap(node, name) : NULL;
    return bitmap ? bitmap->count : 0;
}

/* --- Before the cut ------------------------------------------------------------------------ */

static int prepare_disk(struct source_qemu *qemu, size_t i, uint64_t dirty_bytes,
                        struct cancel *cancel, struct err *err)
{
    struct source_qemu_disk_state *disk = &qemu->disks[i];

    disk->stage_room = stage_room(disk->size, dirty_bytes);
    if (stage_make(disk->stage_path, disk->size, disk->stage_room, err) < 0)
        return err_wrap(err, "disk %s", disk->name);
    /* The file is thrown away after any crash, so nothing in it needs to reach the disk. */
    if (blocks_add(qemu->qmp,
                   json_pack("{s:s, s:s, s:{s:b}, s:{s:s, s:s}}", "driver", "qcow2", "node-name",
                             disk->stage_node, "cache", "no-flush", 1, "file", "driver", "file",
                             "filename", disk->stage_path),
                   cancel, err)
        < 0)
        return err_wrap(err, "disk %s: open its staging file in QEMU", disk->name);
    return 0;
}

static int prepare(struct source_qemu *qemu, uint64_t serial, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    struct source_state state;

    if (source_qemu_look(qemu, &nodes, &state, cancel, err) < 0)
        return -1;
    if (state.open == 0 || state.open + 1 != serial || state.frozen)
        return err_set(
            err, ERR_STATE, 0,
            "group %s: cut %" PRIu64 ", but map %" PRIu64 " is open and map %" PRIu64 " frozen%s%s",
            qemu->group, serial, state.open, state.frozen, state.note[0] ? ": " : "", state.note);
    for (size_t i = 0; i < qemu->disk_count; i++)
        if (prepare_disk(qemu, i, map_count(qemu, &nodes, i, state.open), cancel, err) < 0)
            return -1;
    return 0;
}

static void job_name(const struct source_qemu *qemu, size_t i, char *ret_name, size_t len)
{
    (void)snprintf(ret_name, len, "%s-j%zu", qemu->tag, i);
}

static json_t *cut_actions(const struct source_qemu *qemu, uint64_t serial)
{
    json_t *actions = json_array();
    char open[BLOCKS_NAME_BYTES], frozen[BLOCKS_NAME_BYTES], job[64];

    maps_name(qemu->group, qemu->generation, serial, open);
    maps_name(qemu->group, qemu->generation, serial - 1, frozen);
    for (size_t i = 0; i < qemu->disk_count; i++) {
        const struct source_qemu_disk_state *disk = &qemu->disks[i];

        job_name(qemu, i, job, sizeof(job));
        (void)json_array_append_new(actions, blocks_bitmap_add(disk->node, open, STAGE_MAP_BLOCK));
        (void)json_array_append_new(actions, blocks_bitmap_disable(disk->node, frozen));
        (void)json_array_append_new(actions,
                                    blocks_backup(job, disk->node, disk->stage_node, frozen));
    }
    return actions;
}

/* --- After the cut ------------------------------------------------------------------------- */

/* The guest wrote between the count and the cut: the exact count may need more room. */
static int grow_room(struct source_qemu *qemu, const struct blocks_nodes *nodes, uint64_t frozen,
                     struct err *err)
{
    for (size_t i = 0; i < qemu->disk_count; i++) {
        struct source_qemu_disk_state *disk = &qemu->disks[i];
        uint64_t room = stage_room(disk->size, map_count(qemu, nodes, i, frozen));

        if (room <= disk->stage_room)
            continue;
        if (stage_reserve(disk->stage_path, room, err) < 0) {
            if (err && err->code == ERR_SPACE)
                err->code = ERR_IO; /* the cut has been made: ERR_SPACE would say it has not */
            return err_wrap(err, "disk %s: after the cut", disk->name);
        }
        disk->stage_room = room;
    }
    return 0;
}

static int wait_jobs(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    char job[64];

    for (size_t i = 0; i < qemu->disk_count; i++) {
        job_name(qemu, i, job, sizeof(job));
        if (blocks_wait_job(qemu->qmp, job, cancel, err) < 0)
            return err_wrap(err, "disk %s: copy the changed blocks aside", qemu->disks[i].name);
    }
    return 0;
}

/* The exact maps travel in the staging files; then QEMU lets go of these. */
static int take_over(struct source_qemu *qemu, uint64_t frozen, struct cancel *cancel,
                     struct err *err)
{
    json_t *actions = json_array();
    char map[BLOCKS_NAME_BYTES];

    maps_name(qemu->group, qemu->generation, frozen, map);
    for (size_t i = 0; i < qemu->disk_count; i++) {
        const struct source_qemu_disk_state *disk = &qemu->disks[i];

        (void)json_array_append_new(
            actions, blocks_bitmap_keep(disk->stage_node, EXACT_MAP, STAGE_MAP_BLOCK));
        (void)json_array_append_new(
            actions, blocks_bitmap_merge(disk->stage_node, EXACT_MAP, disk->node, map));
    }
    if (blocks_transaction(qemu->qmp, actions, cancel, err) < 0)
        return err_wrap(err, "keep the change maps");
    for (size_t i = 0; i < qemu->disk_count; i++)
        if (blocks_remove(qemu->qmp, qemu->disks[i].stage_node, cancel, err) < 0)
            return err_wrap(err, "disk %s: close its staging file", qemu->disks[i].name);
    return 0;
}

static int open_staged(struct source_qemu *qemu, const struct blocks_nodes *nodes, uint64_t frozen,
                       struct err *err)
{
    for (size_t i = 0; i < qemu->disk_count; i++) {
        struct source_qemu_disk_state *disk = &qemu->disks[i];

        if (map_count(qemu, nodes, i, frozen) == 0)
            continue; /* nothing changed on this disk */
        if (stage_reader_open(disk->stage_path, EXACT_MAP, disk->size, &disk->staged, err) < 0)
            return err_wrap(err, "disk %s", disk->name);
    }
    qemu->staged = true;
    return 0;
}

static int copy_aside(struct source_qemu *qemu, uint64_t frozen, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    int fault = fault_hit("source.copy");

    if (fault)
        return err_set(err, ERR_IO, fault, "copy the changed blocks aside");
    if (blocks_list(qemu->qmp, &nodes, cancel, err) < 0 || grow_room(qemu, &nodes, frozen, err) < 0
        || wait_jobs(qemu, cancel, err) < 0 || take_over(qemu, frozen, cancel, err) < 0
        || open_staged(qemu, &nodes, frozen, err) < 0)
        return -1;
    return 0;
}

/* Under a limit of its own: the caller's may be over, and the lock must outlast the copies. */
void source_qemu_abandon(struct source_qemu *qemu)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, ABANDON_MS);
    struct err ignored = ERR_EMPTY;

    if (source_qemu_clear(qemu, limit, &ignored) < 0)
        err_clear(&ignored); /* the next source_qemu_open tries again */
}

int source_qemu_cut_prepare(struct source_qemu *qemu, uint64_t serial, int *ret_held,
                            struct cancel *cancel, struct err *err)
{
    CLEANUP(fd_close) int held = -1;

    if (source_qemu_hold(qemu, &held, cancel, err) < 0 || source_qemu_clear(qemu, cancel, err) < 0)
        return -1;
    if (prepare(qemu, serial, cancel, err) < 0) {
        source_qemu_abandon(qemu);
        return -1;
    }
    qmp_drop_events(qemu->qmp);
    CRASH_POINT("source.cut.prepared");
    *ret_held = fd_take(&held);
    return 0;
}

int source_qemu_cut_make(struct source_qemu *qemu, uint64_t serial, struct source_cut *ret_cut,
                         struct cancel *cancel, struct err *err)
{
    struct source_cut cut = {.wall_ms = qemu->clock->wall_ms(qemu->clock)};
    int64_t before = qemu->clock->now_ms(qemu->clock);

    if (blocks_transaction(qemu->qmp, cut_actions(qemu, serial), cancel, err) < 0)
        return err_wrap(err, "group %s: cut %" PRIu64, qemu->group, serial);
    cut.stall_us = (qemu->clock->now_ms(qemu->clock) - before) * 1000;
    *ret_cut = cut;
    return 0;
}

int source_qemu_cut_stage(struct source_qemu *qemu, uint64_t serial, struct cancel *cancel,
                          struct err *err)
{
    if (copy_aside(qemu, serial - 1, cancel, err) < 0)
        return err_wrap(err, "group %s: cut %" PRIu64, qemu->group, serial);
    return 0;
}

static int cut_whole(struct source_qemu *qemu, uint64_t serial, bool application,
                     struct source_cut *ret_cut, struct cancel *cancel, struct err *err)
{
    CLEANUP(freeze_done) struct freeze freeze = {.wanted = application};
    CLEANUP(fd_close) int held = -1; /* until the copies have ended */
    struct source_cut cut;

    freeze_prepare(qemu, &freeze, cancel);
    if (source_qemu_cut_prepare(qemu, serial, &held, cancel, err) < 0)
        return -1;
    freeze_begin(&freeze, qemu->clock, cancel);
    int rc = source_qemu_cut_make(qemu, serial, &cut, cancel, err);
    freeze_end(&freeze, qemu->clock, rc == 0 ? &cut : NULL);
    if (rc < 0) {
        source_qemu_abandon(qemu); /* given up, it may be made all the same */
        return -1;
    }
    CRASH_POINT("source.cut.made");
    if (source_qemu_cut_stage(qemu, serial, cancel, err) < 0) {
        source_qemu_abandon(qemu);
        return -1;
    }
    CRASH_POINT("source.cut.staged");
    *ret_cut = cut;
    return 0;
}

int source_qemu_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                    struct cancel *cancel, struct err *err)
{
    return cut_whole(source_qemu(source), serial, false, ret_cut, cancel, err);
}

int source_qemu_cut_application(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                                struct cancel *cancel, struct err *err)
{
    return cut_whole(source_qemu(source), serial, true, ret_cut, cancel, err);
}

int source_qemu_catch_up(struct source_qemu *qemu, uint64_t serial, struct cancel *cancel,
                         struct err *err)
{
    json_t *actions = json_array();
    char open[BLOCKS_NAME_BYTES], frozen[BLOCKS_NAME_BYTES];

    maps_name(qemu->group, qemu->generation, serial, open);
    maps_name(qemu->group, qemu->generation, serial - 1, frozen);
    for (size_t i = 0; i < qemu->disk_count; i++) {
        const char *node = qemu->disks[i].node;

        (void)json_array_append_new(actions, blocks_bitmap_add(node, open, STAGE_MAP_BLOCK));
        (void)json_array_append_new(actions, blocks_bitmap_disable(node, frozen));
    }
    return blocks_transaction(qemu->qmp, actions, cancel, err);
}

/* --- Reading ------------------------------------------------------------------------------- */

static int staged_disk(struct source_qemu *qemu, const char *name,
                       struct source_qemu_disk_state **ret_disk, struct err *err)
{
    if (source_qemu_find(qemu, name, ret_disk, err) < 0)
        return -1;
    if (!qemu->staged)
        return err_set(err, ERR_STATE, 0, "group %s: no cut is staged", qemu->group);
    return 0;
}

int source_qemu_changes(struct source *source, const char *name, struct source_extents *ret_extents,
                        struct cancel *cancel, struct err *err)
{
    struct source_qemu_disk_state *disk;

    if (cancel_check(cancel, err) < 0 || staged_disk(source_qemu(source), name, &disk, err) < 0)
        return -1;
    source_extents_clear(ret_extents);
    if (disk->staged && stage_reader_changes(disk->staged, ret_extents, err) < 0)
        return err_wrap(err, "disk %s", disk->name);
    return 0;
}

int source_qemu_read(struct source *source, const char *name, uint64_t off, void *buf, size_t len,
                     struct cancel *cancel, struct err *err)
{
    struct source_qemu_disk_state *disk;

    if (cancel_check(cancel, err) < 0 || staged_disk(source_qemu(source), name, &disk, err) < 0)
        return -1;
    if (!disk->staged)
        return err_set(err, ERR_INVALID, 0, "disk %s: nothing changed in it", name);
    if (stage_reader_read(disk->staged, off, buf, len, err) < 0)
        return err_wrap(err, "disk %s", disk->name);
    return 0;
}

/* --- End ----------------------------------------------------------------------------------- */

int source_qemu_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    CLEANUP(json_freep) json_t *merges = json_array();
    CLEANUP(json_freep) json_t *removals = json_array();
    CLEANUP(fd_close) int held = -1;
    char open[BLOCKS_NAME_BYTES], frozen[BLOCKS_NAME_BYTES];
    struct source_state state;

    if (source_qemu_hold(qemu, &held, cancel, err) < 0 || source_qemu_clear(qemu, cancel, err) < 0
        || source_qemu_look(qemu, &nodes, &state, cancel, err) < 0)
        return -1;
    if (!state.frozen)
        return 0;
    maps_name(qemu->group, qemu->generation, state.open, open);
    maps_name(qemu->group, qemu->generation, state.frozen, frozen);
    for (size_t i = 0; i < qemu->disk_count; i++) {
        const char *node = qemu->disks[i].node;

        if (!blocks_find_bitmap(blocks_find(&nodes, node), frozen))
            continue;
        (void)json_array_append_new(merges, blocks_bitmap_merge(node, open, node, frozen));
        (void)json_array_append_new(removals, blocks_bitmap_remove(node, frozen));
    }
    /* Two steps: cut short between them, the blocks are in both maps, which is safe. */
    if (!delivered && blocks_transaction(qemu->qmp, TAKE(merges), cancel, err) < 0)
        return err_wrap(err, "group %s: take the undelivered changes back", qemu->group);
    CRASH_POINT("source.end.merged");
    if (blocks_transaction(qemu->qmp, TAKE(removals), cancel, err) < 0)
        return err_wrap(err, "group %s: drop map %" PRIu64, qemu->group, state.frozen);
    return 0;
}
