// SPDX-License-Identifier: Apache-2.0
/* sessions/GROUP.base/
 *
 *   digests     the list, as sync/digests.c has it, of the promotion's point
 *   base.json   {point, hash: hex, generation, cut_ms, armed, each: [machine], disks: [{name, size}],
 *               tip, first, proof: [text]}:
 *               written after the list; without it the folder is nothing. `armed`: the map's serial
 *               number, 0 before all machines had one; `each`: those of a group of several that
 *               have. `tip`, `first`, `proof`: as in struct estate_promotion.
 */
#include "sites/estate_base_file.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sites/site_local.h"
#include "sync/checkpoint.h"
#include "sync/digests.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME      "base.json"
#define FILE_MAX_BYTES (256 * 1024)
#define BATCH          4096U

void base_done(struct base *base)
{
    store_disks_free(&base->disks);
    estate_promotion_done(&base->promotion);
}

char *base_dir(const struct estate *estate, const char *group)
{
    return estate_path(estate, "sessions", group, ".base");
}

/* --- base.json ------------------------------------------------------------------------------ */

static int parse_disks(const json_t *list, struct base *base, struct err *err)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        struct store_disk *disk = store_disks_push(&base->disks);
        const char *name;
        if (json_need_str(item, "name", FILE_NAME, &name, err) < 0
            || json_need_u64(item, "size", FILE_NAME, &disk->size, err) < 0)
            return -1;
        (void)snprintf(disk->name, sizeof(disk->name), "%s", name);
    }
    return 0;
}

static int parse(const json_t *json, struct base *base, struct err *err)
{
    const char *hash;
    const char *tip;
    const char *first;
    const json_t *name;
    json_t *disks;
    size_t i;

    if (json_need_u64(json, "point", FILE_NAME, &base->tip.point, err) < 0
        || json_need_str(json, "tip", FILE_NAME, &tip, err) < 0
        || json_need_str(json, "first", FILE_NAME, &first, err) < 0
        || json_need_str(json, "hash", FILE_NAME, &hash, err) < 0
        || json_need_u64(json, "generation", FILE_NAME, &base->generation, err) < 0
        || json_need_array(json, "disks", FILE_NAME, &disks, err) < 0)
        return -1;
    if (!str_unhex(hash, base->tip.hash.bytes, sizeof(base->tip.hash.bytes)))
        return err_set(err, ERR_CORRUPT, 0, "hash \"%.80s\"", hash);
    base->cut_ms = (int64_t)json_get_u64(json, "cut_ms", 0);
    base->armed = json_get_u64(json, "armed", 0);
    json_array_foreach(json_object_get(json, "each"), i, name)
        if (machine_names_add(&base->each, json_is_string(name) ? json_string_value(name) : "", err)
            < 0)
            return -1;
    base->promotion.tip = mem_strdup(tip);
    base->promotion.first = mem_strdup(first);
    base->promotion.proof = json_incref(json_object_get(json, "proof"));
    return parse_disks(disks, base, err);
}

int base_load(const struct estate *estate, const char *group, struct base *ret_base,
              struct err *err)
{
    CLEANUP(mem_freep) char *dir = base_dir(estate, group);
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(base_done) struct base base = {0};

    if (!fs_exists(path))
        return 0;
    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, &json, err) < 0 || parse(json, &base, err) < 0) {
        err->code = ERR_CORRUPT;
        return err_wrap(err, "%s", path);
    }
    *ret_base = base;
    base = (struct base){0};
    return 1;
}

static int save(const struct estate *estate, const char *group, const struct base *base,
                struct err *err)
{
    CLEANUP(mem_freep) char *dir = base_dir(estate, group);
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    json_t *disks = json_array();
    char hash[2 * SHA256_BYTES + 1];

    str_hex(base->tip.hash.bytes, SHA256_BYTES, hash);
    VEC_FOREACH(disk, &base->disks)
        (void)json_array_append_new(
            disks, json_pack("{s:s, s:I}", "name", disk->name, "size", (json_int_t)disk->size));
    CLEANUP(json_freep)
    json_t *json = json_pack(
        "{s:I, s:s, s:I, s:I, s:I, s:o, s:s, s:s, s:O?}", "point", (json_int_t)base->tip.point,
        "hash", hash, "generation", (json_int_t)base->generation, "cut_ms",
        (json_int_t)base->cut_ms, "armed", (json_int_t)base->armed, "disks", disks, "tip",
        base->promotion.tip, "first", base->promotion.first, "proof", base->promotion.proof);
    if (base->each.count > 0)
        (void)json_object_set_new(json, "each", machine_names_json(&base->each));
    CLEANUP(mem_freep) char *text = json_text(json);
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

int estate_base_look(struct estate *estate, const char *group, uint64_t *ret_generation,
                     struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    int rc = base_load(estate, group, &base, err);

    if (rc > 0)
        *ret_generation = base.generation;
    return rc;
}

int estate_base_observe(struct estate *estate, const char *group, json_t **ret_result,
                        struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    int64_t now = estate->config.clock->wall_ms(estate->config.clock);
    int rc = base_load(estate, group, &base, err);

    if (rc <= 0)
        return rc < 0 ? -1
                      : err_set(err, ERR_NOT_FOUND, 0, "%s keeps no base of \"%s\"", estate->site,
                                group);
    json_int_t point = (json_int_t)base.tip.point;
    json_int_t age = now > base.cut_ms ? now - base.cut_ms : 0;
    *ret_result = json_pack("{s:s, s:s, s:I, s:n, s:I, s:I, s:I, s:I, s:I, s:I}", "role", "own",
                            "state", "own", "generation", (json_int_t)base.generation, "pinned",
                            "durable_point", point, "durable_cut_ms", (json_int_t)base.cut_ms,
                            "durable_age_ms", age, "applied_point", point, "applied_cut_ms",
                            (json_int_t)base.cut_ms, "applied_age_ms", age);
    return 0;
}

int estate_base_armed(struct estate *estate, const char *group, const char *machine,
                      uint64_t serial, struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    struct machine_names machines;
    int rc = base_load(estate, group, &base, err);

    if (rc <= 0 || base.armed == serial || machine_names_have(&base.each, machine))
        return rc < 0 ? -1 : 0;
    estate_group_machines(estate, group, &machines);
    if (machines.count > 1 && machine_names_add(&base.each, machine, err) < 0)
        return -1;
    if (machines.count == 1 || machine_names_equal(&base.each, &machines))
        base.armed = serial;
    return save(estate, group, &base, err);
}

int estate_base_unarmed(struct estate *estate, const char *group, const char *machine,
                        bool *ret_unarmed, struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    int rc = base_load(estate, group, &base, err);

    *ret_unarmed = rc > 0 && base.armed == 0 && !machine_names_have(&base.each, machine);
    return rc < 0 ? -1 : 0;
}

int estate_base_remove(struct estate *estate, const char *group, struct err *err)
{
    CLEANUP(mem_freep) char *dir = base_dir(estate, group);

    return fs_remove_tree(fs_real(), dir, err);
}

/* --- Making it ------------------------------------------------------------------------------- */

static int copy_digests(struct store *store, const struct base *base, uint64_t applied,
                        struct digests_writer *writer, struct err *err)
{
    CLEANUP(mem_freep) struct digest *batch = mem_new_array(struct digest, BATCH);

    VEC_FOREACH(disk, &base->disks) {
        uint64_t chunks = chunk_count(disk->size);
        for (uint64_t at = 0; at < chunks;) {
            uint64_t n = chunks - at < BATCH ? chunks - at : BATCH;
            if (store->ops->digests(store, disk->name, applied, at, n, batch, err) < 0
                || digests_writer_add(writer, batch, n, err) < 0)
                return -1;
            at += n;
        }
    }
    return 0;
}

void estate_promotion_done(struct estate_promotion *promotion)
{
    free(promotion->tip);
    free(promotion->first);
    json_decref(promotion->proof);
    memset(promotion, 0, sizeof(*promotion));
}

static int add_text(struct store *store, uint64_t point, json_t *list, struct err *err)
{
    CLEANUP(mem_freep) char *text = NULL;

    if (store->ops->point_manifest(store, point, &text, err) < 0)
        return -1;
    (void)json_array_append_new(list, json_string(text));
    return 0;
}

/* The newest point is a promotion; its parent is the point it chose. */
static int read_promotion(struct store *store, const char *group,
                          struct estate_promotion *ret_promotion, struct err *err)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    CLEANUP(manifest_done) struct manifest tip;
    CLEANUP(estate_promotion_done) struct estate_promotion p = {.proof = json_array()};

    manifest_init(&tip);
    if (store->ops->points(store, &points, err) < 0)
        return -1;
    size_t last = points.len ? points.len - 1 : 0;
    if (points.len == 0 || !points.at[last].promotion)
        return err_set(err, ERR_STATE, 0, "the newest point of %s here is no promotion", group);
    if (store->ops->point_manifest(store, points.at[last].point, &p.tip, err) < 0
        || manifest_parse(p.tip, strlen(p.tip), &tip, err) < 0)
        return -1;
    for (size_t i = 0; i < last; i++) {
        const struct store_point *point = &points.at[i];
        if (p.first && add_text(store, point->point, p.proof, err) < 0)
            return -1;
        if (memcmp(&point->hash, &tip.parent, sizeof(tip.parent)) == 0
            && store->ops->point_manifest(store, point->point, &p.first, err) < 0)
            return -1;
    }
    if (!p.first)
        return err_set(err, ERR_STATE, 0,
                       "the point that %s was promoted from is not kept any more", group);
    *ret_promotion = p;
    memset(&p, 0, sizeof(p));
    return 0;
}

int estate_promotion_get(struct estate *estate, const char *group,
                         struct estate_promotion *ret_promotion, struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    struct store *store;
    int rc = base_load(estate, group, &base, err);

    if (rc > 0 && base.promotion.tip[0]) {
        *ret_promotion = base.promotion;
        memset(&base.promotion, 0, sizeof(base.promotion));
        return 0;
    }
    if (rc < 0 || estate_store_get(estate, group, &store, err) < 0)
        return -1;
    rc = read_promotion(store, group, ret_promotion, err);
    estate_store_put(estate, group, store, rc < 0 && err->code == ERR_IO);
    return rc;
}

/* A promotion changes no data: its image is as old as the point it chose. */
static int cut_of(const char *text, int64_t *ret_ms, struct err *err)
{
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    if (manifest_parse(text, strlen(text), &m, err) < 0)
        return -1;
    *ret_ms = m.cut_wall_ms;
    return 0;
}

static int write_base(struct estate *estate, const char *group, struct store *store,
                      struct err *err)
{
    CLEANUP(base_done) struct base base = {0};
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    CLEANUP(mem_freep) char *dir = base_dir(estate, group);
    struct store_info info;

    if (store->ops->info(store, &info, err) < 0 || store->ops->disks(store, &base.disks, err) < 0)
        return -1;
    if (info.state != STORE_READY || info.applied_point != info.durable_point)
        return err_set(err, ERR_STATE, 0,
                       "the disks of %s are at point %" PRIu64 ", the newest is %" PRIu64
                       "; hint: try again, what is missing is applied first",
                       group, info.applied_point, info.durable_point);
    base.tip = (struct digests_tip){info.durable_point, info.durable_hash};
    base.generation = info.generation;
    if (read_promotion(store, group, &base.promotion, err) < 0
        || cut_of(base.promotion.first, &base.cut_ms, err) < 0
        || fs_remove_tree(fs_real(), dir, err) < 0 || fs_make_dirs(fs_real(), dir, 0700, err) < 0
        || digests_writer_open(dir, &base.disks, &writer, err) < 0
        || copy_digests(store, &base, info.applied_point, writer, err) < 0
        || digests_writer_commit(writer, &base.tip, err) < 0)
        return -1;
    CRASH_POINT("base.digests");
    return save(estate, group, &base, err);
}

int estate_base_make(struct estate *estate, const char *group, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, group);
    CLEANUP(base_done) struct base have = {0};
    struct store *store;
    int rc = base_load(estate, group, &have, err);

    if (rc < 0)
        return -1;
    if (rc == 0) {
        if (estate_store_get(estate, group, &store, err) < 0)
            return -1;
        rc = store_dir_release(store, cancel, err);
        if (rc == 0)
            rc = write_base(estate, group, store, err);
        estate_store_put(estate, group, store, true); /* closed: its heads are the machine's now */
        if (rc < 0)
            return err_wrap(err, "take the disks of %s back from its replica", group);
    }
    CRASH_POINT("base.made");
    if (!fs_exists(dir))
        return 0;
    return store_dir_remove(fs_real(), dir, err);
}

/* The session's list is at the point that it delivered last. */
int estate_base_from_session(struct estate *estate, const char *group, uint64_t generation,
                             struct err *err)
{
    CLEANUP(base_done) struct base base = {.generation = generation};
    CLEANUP(digests_closep) struct digests *from = NULL;
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    CLEANUP(mem_freep) struct digest *batch = mem_new_array(struct digest, BATCH);
    CLEANUP(mem_freep) char *session = estate_path(estate, "sessions", group, "");
    CLEANUP(mem_freep) char *dir = base_dir(estate, group);
    CLEANUP(checkpoint_done) struct checkpoint ck = {.phase = PHASE_NEW};
    struct err why = ERR_EMPTY;

    if (checkpoint_load(session, &ck, err) < 0)
        return -1;
    VEC_FOREACH(disk, &ck.disks) {
        struct store_disk *to = store_disks_push(&base.disks);
        (void)snprintf(to->name, sizeof(to->name), "%s", disk->name);
        to->size = disk->size;
    }
    base.tip = (struct digests_tip){ck.durable_point, ck.durable_hash};
    base.cut_ms = ck.durable_cut_ms;
    base.promotion.tip = mem_strdup("");
    base.promotion.first = mem_strdup("");
    if (digests_open(session, &base.disks, &base.tip, &from, &why) < 0)
        return 0; /* then everything is compared */
    if (fs_remove_tree(fs_real(), dir, err) < 0 || fs_make_dirs(fs_real(), dir, 0700, err) < 0
        || digests_writer_open(dir, &base.disks, &writer, err) < 0)
        return -1;
    for (size_t i = 0; i < base.disks.len; i++) {
        uint64_t chunks = chunk_count(base.disks.at[i].size);
        for (uint64_t at = 0; at < chunks;) {
            uint64_t n = chunks - at < BATCH ? chunks - at : BATCH;
            if (digests_read(from, i, at, n, batch, err) < 0
                || digests_writer_add(writer, batch, n, err) < 0)
                return -1;
            at += n;
        }
    }
    if (digests_writer_commit(writer, &base.tip, err) < 0)
        return -1;
    return save(estate, group, &base, err);
}
