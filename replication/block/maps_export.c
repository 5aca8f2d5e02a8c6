// SPDX-License-Identifier: Apache-2.0
/* An empty image takes a persistent bitmap merged from the maps; QEMU writes it into the file when it
 * lets go of the image. No NBD server in QEMU: with disks in iothreads that would end it. */
#include "block/maps_export.h"

#include "base/fs.h"
#include "base/mem.h"
#include "block/stage.h"
#include "block/stage_reader.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NODE "muster-export" /* one at a time */
#define MAP  "maps"

static void add_merge(json_t *actions, const struct blocks_node *node, const char *group,
                      uint64_t generation, uint64_t serial)
{
    char name[BLOCKS_NAME_BYTES];

    maps_name(group, generation, serial, name);
    if (serial && blocks_find_bitmap(node, name))
        (void)json_array_append_new(actions, blocks_bitmap_merge(NODE, MAP, node->name, name));
}

static int remove_node(struct qmp *qmp, struct cancel *cancel, struct err *err)
{
    struct err why = ERR_EMPTY;

    /* QEMU's words for "no such node" have no class of their own: only looking tells. */
    if (blocks_remove(qmp, NODE, cancel, &why) == 0)
        return 0;
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    if (blocks_list(qmp, &nodes, cancel, err) < 0)
        return -1;
    return blocks_find(&nodes, NODE) ? err_set(err, why.code, why.sys, "%s", why.text) : 0;
}

static int fill(struct qmp *qmp, const char *path, json_t *merges, struct cancel *cancel,
                struct err *err)
{
    json_t *actions = json_array();

    if (blocks_add(qmp,
                   json_pack("{s:s, s:s, s:{s:b}, s:{s:s, s:s}}", "driver", "qcow2", "node-name",
                             NODE, "cache", "no-flush", 1, "file", "driver", "file", "filename",
                             path),
                   cancel, err)
        < 0) {
        json_decref(actions);
        return -1;
    }
    (void)json_array_append_new(actions, blocks_bitmap_keep(NODE, MAP, STAGE_MAP_BLOCK));
    (void)json_array_extend(actions, merges);
    if (blocks_transaction(qmp, actions, cancel, err) < 0)
        return -1;
    return remove_node(qmp, cancel, err);
}

static int export_disk(struct qmp *qmp, const struct blocks_node *node, const char *path,
                       json_t *merges, struct source_extents *extents, struct cancel *cancel,
                       struct err *err)
{
    CLEANUP(stage_reader_closep) struct stage_reader *reader = NULL;
    struct err ignored = ERR_EMPTY;
    int rc = stage_make(path, node->size, 0, err);

    if (rc == 0)
        rc = fill(qmp, path, merges, cancel, err);
    if (rc == 0)
        rc = stage_reader_open(path, MAP, node->size, &reader, err);
    if (rc == 0)
        rc = stage_reader_changes(reader, extents, err);
    if (rc < 0 && remove_node(qmp, cancel, &ignored) < 0)
        err_clear(&ignored); /* the next export tries again */
    (void)unlink(path);
    return rc;
}

int maps_export(struct qmp *qmp, const struct maps_disk *disks, size_t count, const char *group,
                uint64_t generation, const char *work_dir, uint64_t *ret_serial,
                struct source_extents *ret_extents, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    struct source_state state = {0};

    if (remove_node(qmp, cancel, err) < 0 || blocks_list(qmp, &nodes, cancel, err) < 0
        || maps_judge(&nodes, disks, count, group, generation, &state, err) < 0
        || fs_make_dirs(fs_real(), work_dir, 0700, err) < 0)
        return err_wrap(err, "group %s: read its change maps", group);
    for (size_t i = 0; state.open && i < count; i++) {
        const struct blocks_node *node = blocks_find(&nodes, disks[i].node);
        CLEANUP(json_freep) json_t *merges = json_array();
        CLEANUP(mem_freep) char *path = mem_printf("%s/export-%zu", work_dir, i);

        source_extents_clear(&ret_extents[i]);
        add_merge(merges, node, group, generation, state.open);
        add_merge(merges, node, group, generation, state.frozen);
        if (export_disk(qmp, node, path, merges, &ret_extents[i], cancel, err) < 0)
            return err_wrap(err, "disk %s: read its change maps", disks[i].name);
    }
    *ret_serial = state.open;
    return 0;
}
