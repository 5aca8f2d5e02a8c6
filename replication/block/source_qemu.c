// SPDX-License-Identifier: Apache-2.0
/* The disks of a living QEMU: finding them, tracking, scanning. The cut is in source_qemu_cut.c. */
#include "block/source_qemu.h"

#include "base/fs.h"
#include "base/mem.h"
#include "block/clone.h"
#include "block/stage.h"
#include "block/stage_map.h"
#include "qemu/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARKS_MAP "marks" /* in the file that brings them */

int source_qemu_find(struct source_qemu *qemu, const char *name,
                     struct source_qemu_disk_state **ret_disk, struct err *err)
{
    for (size_t i = 0; i < qemu->disk_count; i++) {
        if (str_eq(qemu->disks[i].name, name)) {
            *ret_disk = &qemu->disks[i];
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, 0, "group %s: no disk %s", qemu->group, name);
}

int source_qemu_look(struct source_qemu *qemu, struct blocks_nodes *ret_nodes,
                     struct source_state *ret_state, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    struct source_state state = {.running = true};
    char status[32];

    if (blocks_machine_status(qemu->qmp, status, sizeof(status), cancel, err) < 0
        || blocks_list(qemu->qmp, &nodes, cancel, err) < 0
        || maps_judge(&nodes, qemu->maps, qemu->disk_count, qemu->group, qemu->generation, &state,
                      err)
               < 0)
        return err_wrap(err, "group %s", qemu->group);
    state.quiet = str_eq(status, "shutdown");
    *ret_state = state;
    *ret_nodes = nodes;
    memset(&nodes, 0, sizeof(nodes));
    return 0;
}

int source_qemu_hold(const struct source_qemu *qemu, int *ret_fd, struct cancel *cancel,
                     struct err *err)
{
    *ret_fd = -1;
    if (qemu->lent)
        return 0;
    return graph_lock(qemu->qmp_path, ret_fd, cancel, err) < 0
               ? err_wrap(err, "group %s", qemu->group)
               : 0;
}

/* --- What was left behind ------------------------------------------------------------------ */

static bool is_ours(const struct source_qemu *qemu, const char *name)
{
    return str_starts(name, qemu->tag) && name[strlen(qemu->tag)] == '-';
}

static int clear_jobs(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_jobs_free) struct blocks_jobs jobs = VEC_EMPTY;

    if (blocks_list_jobs(qemu->qmp, &jobs, cancel, err) < 0)
        return -1;
    VEC_FOREACH(job, &jobs) {
        if (is_ours(qemu, job->id) && blocks_cancel_job(qemu->qmp, job->id, cancel, err) < 0)
            return -1;
    }
    return 0;
}

static int clear_nodes(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;

    if (blocks_list(qemu->qmp, &nodes, cancel, err) < 0)
        return -1;
    VEC_FOREACH(node, &nodes) {
        if (is_ours(qemu, node->name) && blocks_remove(qemu->qmp, node->name, cancel, err) < 0)
            return -1;
    }
    return 0;
}

static int clear_files(struct source_qemu *qemu, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};

    if (fs_list(qemu->work_dir, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        if (!str_starts(names.at[i], "stage-"))
            continue;
        char *path = path_join(qemu->work_dir, names.at[i]);
        (void)unlink(path);
        free(path);
    }
    return 0;
}

int source_qemu_clear(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    qemu->staged = false;
    for (size_t i = 0; i < qemu->disk_count; i++) {
        stage_reader_close(TAKE(qemu->disks[i].staged));
        qemu->disks[i].stage_room = 0;
    }
    if (clear_jobs(qemu, cancel, err) < 0 || clear_nodes(qemu, cancel, err) < 0)
        return err_wrap(err, "group %s: remove what the last cut left in QEMU", qemu->group);
    return clear_files(qemu, err);
}

/* --- Looking ------------------------------------------------------------------------------- */

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int qemu_disks(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                      struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;

    if (blocks_list(qemu->qmp, &nodes, cancel, err) < 0)
        return err_wrap(err, "group %s", qemu->group);
    source_disks_clear(ret_disks);
    for (size_t i = 0; i < qemu->disk_count; i++) {
        const struct source_qemu_disk_state *disk = &qemu->disks[i];
        const struct blocks_node *node = blocks_find(&nodes, disk->node);
        struct source_disk *out = source_disks_push(ret_disks);

        if (!node)
            return err_set(err, ERR_NOT_FOUND, 0, "disk %s: this QEMU has no node %s", disk->name,
                           disk->node);
        memcpy(out->name, disk->name, sizeof(out->name));
        out->size = node->size;
        out->zero_tail = !disk->raw || (disk->path && is_file(disk->path));
        out->allocated_bytes =
            node->actual_bytes && node->actual_bytes < node->size ? node->actual_bytes : node->size;
    }
    return 0;
}

static int qemu_inspect(struct source *source, struct source_state *ret_state,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;

    return source_qemu_look(source_qemu(source), &nodes, ret_state, cancel, err);
}

static int qemu_pending_disks(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                              struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    struct source_state state;
    char name[BLOCKS_NAME_BYTES];

    if (source_qemu_look(qemu, &nodes, &state, cancel, err) < 0)
        return -1;
    maps_name(qemu->group, qemu->generation, state.open, name);
    for (size_t i = 0; i < qemu->disk_count; i++)
        ret_bytes[i] =
            state.open ? blocks_find_bitmap(blocks_find(&nodes, qemu->disks[i].node), name)->count
                       : 0;
    return 0;
}

static int qemu_pending(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                        struct err *err)
{
    const size_t count = source_qemu(source)->disk_count;
    CLEANUP(mem_freep) uint64_t *bytes = mem_new_array(uint64_t, count);

    if (qemu_pending_disks(source, bytes, cancel, err) < 0)
        return -1;
    *ret_bytes = 0;
    for (size_t i = 0; i < count; i++)
        *ret_bytes += bytes[i];
    return 0;
}

/* --- Tracking ------------------------------------------------------------------------------ */

/* Removes every map of the group, whatever its generation and state. */
static int drop_maps(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    json_t *actions = json_array();

    if (blocks_list(qemu->qmp, &nodes, cancel, err) < 0) {
        json_decref(actions);
        return -1;
    }
    for (size_t i = 0; i < qemu->disk_count; i++) {
        const struct blocks_node *node = blocks_find(&nodes, qemu->disks[i].node);
        uint64_t generation, serial;

        for (size_t k = 0; node && k < node->bitmaps.len; k++)
            if (maps_parse(node->bitmaps.at[k].name, qemu->group, &generation, &serial))
                (void)json_array_append_new(
                    actions, blocks_bitmap_remove(node->name, node->bitmaps.at[k].name));
    }
    return blocks_transaction(qemu->qmp, actions, cancel, err);
}

static json_t *add_maps(const struct source_qemu *qemu, uint64_t serial)
{
    json_t *actions = json_array();
    char name[BLOCKS_NAME_BYTES];

    maps_name(qemu->group, qemu->generation, serial, name);
    for (size_t i = 0; i < qemu->disk_count; i++)
        (void)json_array_append_new(actions,
                                    blocks_bitmap_add(qemu->disks[i].node, name, STAGE_MAP_BLOCK));
    return actions;
}

/* A file of ours that carries the marks, as a node that QEMU can merge from. */
static int add_marks(struct source_qemu *qemu, const struct source_marks *marks, uint64_t serial,
                     json_t *actions, struct cancel *cancel, struct err *err)
{
    struct source_qemu_disk_state *disk;
    char name[BLOCKS_NAME_BYTES];

    maps_name(qemu->group, qemu->generation, serial, name);
    if (source_qemu_find(qemu, marks->disk, &disk, err) < 0)
        return -1;
    if (marks->extents->len == 0)
        return 0;
    if (stage_map_make(disk->stage_path, disk->size, MARKS_MAP, marks->extents, err) < 0
        || blocks_add(qemu->qmp,
                      json_pack("{s:s, s:s, s:b, s:{s:s, s:s}}", "driver", "qcow2", "node-name",
                                disk->stage_node, "read-only", 1, "file", "driver", "file",
                                "filename", disk->stage_path),
                      cancel, err)
               < 0)
        return err_wrap(err, "disk %s: bring its change map into QEMU", disk->name);
    (void)json_array_append_new(actions,
                                blocks_bitmap_merge(disk->node, name, disk->stage_node, MARKS_MAP));
    return 0;
}

static int qemu_track_from(struct source *source, uint64_t serial, const struct source_marks *marks,
                           size_t count, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    CLEANUP(json_freep) json_t *actions = add_maps(qemu, serial);
    CLEANUP(fd_close) int held = -1;
    struct err ignored = ERR_EMPTY;
    int rc;

    if (source_qemu_hold(qemu, &held, cancel, err) < 0)
        return -1;
    rc = source_qemu_clear(qemu, cancel, err) < 0 || drop_maps(qemu, cancel, err) < 0 ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = add_marks(qemu, &marks[i], serial, actions, cancel, err);
    /* One transaction: a map is never there without its marks. */
    if (rc == 0)
        rc = blocks_transaction(qemu->qmp, TAKE(actions), cancel, err);
    if (source_qemu_clear(qemu, cancel, rc == 0 ? err : &ignored) < 0)
        rc = -1;
    return rc < 0 ? err_wrap(err, "group %s: begin tracking", qemu->group) : 0;
}

static int qemu_track(struct source *source, uint64_t serial, struct cancel *cancel,
                      struct err *err)
{
    return qemu_track_from(source, serial, NULL, 0, cancel, err);
}

static int qemu_forget(struct source *source, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    CLEANUP(fd_close) int held = -1;

    if (source_qemu_hold(qemu, &held, cancel, err) < 0)
        return -1;
    if (source_qemu_clear(qemu, cancel, err) < 0 || drop_maps(qemu, cancel, err) < 0)
        return err_wrap(err, "group %s: end tracking", qemu->group);
    return 0;
}

/* --- Scanning ------------------------------------------------------------------------------ */

static void qemu_scan_end(struct source *source)
{
    struct source_qemu *qemu = source_qemu(source);

    scan_close(TAKE(qemu->scan));
    mirror_close(TAKE(qemu->mirror));
}

static int qemu_scan_begin(struct source *source, const char *name, uint64_t from,
                           bool *ret_ordered, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    struct source_qemu_disk_state *disk;

    qemu_scan_end(source);
    if (source_qemu_find(qemu, name, &disk, err) < 0)
        return -1;
    if (disk->raw && disk->path) {
        if (scan_raw_open(disk->name, disk->path, disk->size, from, &qemu->scan, err) < 0)
            return -1;
        *ret_ordered = true;
        return 0;
    }
    const struct mirror_config config = {.disk = disk->name,
                                         .node = disk->node,
                                         .size = disk->size,
                                         .tag = qemu->tag,
                                         .work_dir = qemu->work_dir,
                                         .plugin_path = qemu->plugin_path,
                                         .qmp_path = qemu->qmp_path,
                                         .lent = qemu->lent};
    if (mirror_open(&config, qemu->qmp, &qemu->mirror, cancel, err) < 0)
        return -1;
    *ret_ordered = false;
    return 0;
}

/* Of all disks that we read: they may be cloned at the same time. */
static uint64_t clones_room(const struct source_qemu *qemu)
{
    uint64_t room = 0;

    for (size_t i = 0; i < qemu->disk_count; i++)
        if (qemu->disks[i].raw && qemu->disks[i].path)
            room += clone_room(qemu->disks[i].path);
    return room;
}

/* No word with QEMU: whoever only lends us its monitor need not be asked. */
int source_qemu_scan_open(struct source *source, const char *name, uint64_t from,
                          struct scan **ret_scan, struct cancel *cancel, struct err *err)
{
    struct source_qemu_disk_state *disk;

    (void)cancel;
    if (source_qemu_find(source_qemu(source), name, &disk, err) < 0)
        return -1;
    if (disk->raw && disk->path)
        return scan_written_open(disk->name, disk->path, disk->size, from,
                                 clones_room(source_qemu(source)), ret_scan, err);
    *ret_scan = NULL;
    return 0;
}

static int qemu_scan_next(struct source *source, struct source_piece *ret_piece,
                          struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (qemu->scan)
        return scan_next(qemu->scan, ret_piece, cancel, err);
    if (qemu->mirror)
        return mirror_next(qemu->mirror, ret_piece, cancel, err);
    return err_set(err, ERR_STATE, 0, "group %s: no scan was begun", qemu->group);
}

/* --- Opening ------------------------------------------------------------------------------- */

static void qemu_close(struct source *source)
{
    struct source_qemu *qemu = source_qemu(source);

    qemu_scan_end(source);
    for (size_t i = 0; i < qemu->disk_count; i++) {
        stage_reader_close(qemu->disks[i].staged);
        free(qemu->disks[i].path);
        free(qemu->disks[i].stage_path);
    }
    qmp_close(qemu->qmp);
    free(qemu->machine);
    free(qemu->agent_path);
    free(qemu->guardian_path);
    free(qemu->still_path);
    free(qemu->qmp_path);
    free(qemu->disks);
    free(qemu->maps);
    free(qemu->group);
    free(qemu->work_dir);
    free(qemu->plugin_path);
    free(qemu);
}

const struct source_ops source_qemu_ops = {
    .close = qemu_close,
    .disks = qemu_disks,
    .inspect = qemu_inspect,
    .pending = qemu_pending,
    .track = qemu_track,
    .scan_begin = qemu_scan_begin,
    .scan_next = qemu_scan_next,
    .scan_end = qemu_scan_end,
    .cut = source_qemu_cut,
    .changes = source_qemu_changes,
    .read = source_qemu_read,
    .end = source_qemu_end,
    .forget = qemu_forget,
    .track_from = qemu_track_from,
    .pending_disks = qemu_pending_disks,
    .cut_application = source_qemu_cut_application,
    .scan_open = source_qemu_scan_open,
};

/* FNV-1a: only to tell a few groups apart. */
static void make_tag(const char *group, char *ret_tag, size_t len)
{
    uint32_t hash = 2166136261U;

    for (; *group; group++)
        hash = (hash ^ (uint8_t)*group) * 16777619U;
    (void)snprintf(ret_tag, len, "muster-%08" PRIx32, hash);
}

static int copy_disk(struct source_qemu *qemu, size_t i, const struct source_qemu_disk *from,
                     struct err *err)
{
    struct source_qemu_disk_state *disk = &qemu->disks[i];

    if (strlen(from->node) >= sizeof(disk->node) || strlen(from->name) >= sizeof(disk->name))
        return err_set(err, ERR_INVALID, 0, "disk %s, node %s: name too long", from->name,
                       from->node);
    (void)snprintf(disk->name, sizeof(disk->name), "%s", from->name);
    (void)snprintf(disk->node, sizeof(disk->node), "%s", from->node);
    (void)snprintf(disk->stage_node, sizeof(disk->stage_node), "%s-s%u", qemu->tag, (unsigned)i);
    disk->path = from->path ? mem_strdup(from->path) : NULL;
    disk->raw = str_eq(from->format, "raw");
    disk->stage_path = mem_printf("%s/stage-%zu.qcow2", qemu->work_dir, i);
    qemu->maps[i] = (struct maps_disk){disk->name, disk->node};
    qemu->disk_count++;
    return 0;
}

static int learn_sizes(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;

    if (qemu_disks(&qemu->base, &disks, cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < qemu->disk_count && i < disks.len; i++)
        qemu->disks[i].size = disks.at[i].size;
    return 0;
}

int source_qemu_open(const struct source_qemu_config *config, struct source **ret_source,
                     struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = mem_new(struct source_qemu);
    CLEANUP(source_closep) struct source *source = &qemu->base;
    CLEANUP(fd_close) int held = -1;

    qemu->base.ops = &source_qemu_ops;
    qemu->qmp_path = mem_strdup(config->qmp_path);
    qemu->lent = config->lent;
    qemu->machine = mem_strdup(config->machine ? config->machine : config->group);
    qemu->agent_path =
        config->agent_path && *config->agent_path ? mem_strdup(config->agent_path) : NULL;
    qemu->guardian_path = config->guardian_path ? mem_strdup(config->guardian_path) : NULL;
    qemu->still_path = config->still_path ? mem_strdup(config->still_path)
                                          : path_join(config->work_dir, STANDSTILL_FILE);
    qemu->group = mem_strdup(config->group);
    qemu->generation = config->generation;
    qemu->work_dir = mem_strdup(config->work_dir);
    qemu->plugin_path = mem_strdup(config->plugin_path ? config->plugin_path : "");
    qemu->clock = config->clock ? config->clock : clock_real();
    qemu->disks = mem_new_array(struct source_qemu_disk_state, config->disk_count);
    qemu->maps = mem_new_array(struct maps_disk, config->disk_count);
    make_tag(config->group, qemu->tag, sizeof(qemu->tag));
    for (size_t i = 0; i < config->disk_count; i++)
        if (copy_disk(qemu, i, &config->disks[i], err) < 0)
            return -1;
    if (fs_make_dirs(fs_real(), config->work_dir, 0700, err) < 0
        || qmp_open(config->qmp_path, qemu->clock, &qemu->qmp, cancel, err) < 0)
        return err_wrap(err, "group %s", config->group);
    if (source_qemu_hold(qemu, &held, cancel, err) < 0)
        return -1;
    if (source_qemu_clear(qemu, cancel, err) < 0 || learn_sizes(qemu, cancel, err) < 0)
        return err_wrap(err, "group %s", config->group);
    if (config->lent) {
        qmp_closep(&qemu->qmp);
        qemu->base.ops = &source_qemu_lent_ops;
    }
    *ret_source = TAKE(source);
    return 0;
}
