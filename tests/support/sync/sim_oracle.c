// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"
#include "base/mem.h"
#include "replica/view.h"
#include "support/sync/sim_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sim_fail(struct sim *sim, const char *fmt, ...)
{
    va_list args;

    if (sim->failure[0])
        return false;
    va_start(args, fmt);
    (void)vsnprintf(sim->failure, sizeof(sim->failure), fmt, args);
    va_end(args);
    return false;
}

static struct sim_point *seen(struct sim *sim, uint64_t point)
{
    VEC_FOREACH(p, &sim->points)
        if (p->point == point)
            return p;
    return NULL;
}

static const struct duo_image *image_at(struct sim *sim, uint64_t cut)
{
    VEC_FOREACH(image, &sim->duo.images)
        if (image->cut == cut)
            return image;
    return NULL;
}

/* What the disks held at a point that was seen. */
static const struct duo_image *image_of(struct sim *sim, uint64_t point)
{
    const struct sim_point *p = seen(sim, point);
    const struct duo_image *image = p ? image_at(sim, p->cut) : NULL;

    if (!image)
        abort(); /* note_point takes none without */
    return image;
}

/* Of which cut is it? A promotion holds what its parent does. */
static bool cut_of(struct sim *sim, const char *text, uint64_t *ret_cut)
{
    CLEANUP(manifest_done) struct manifest m;
    struct err err = ERR_EMPTY;

    manifest_init(&m);
    if (manifest_parse(text, strlen(text), &m, &err) < 0)
        return sim_fail(sim, "invariant 1: a manifest cannot be read: %s", err.text);
    *ret_cut = json_get_u64(json_object_get(m.machines, DUO_GROUP), "cut", 0);
    VEC_FOREACH(p, &sim->points)
        if (m.promotion && memcmp(&p->hash, &m.parent, sizeof(p->hash)) == 0)
            *ret_cut = p->cut;
    return image_at(sim, *ret_cut) || sim_fail(sim, "invariant 2: a point of no cut");
}

/* What was seen once stays what it was. */
static bool note_point(struct sim *sim, struct store *store, const struct store_point *point)
{
    struct sim_point *p = seen(sim, point->point);
    CLEANUP(mem_freep) char *text = NULL;
    struct err err = ERR_EMPTY;
    uint64_t cut = 0;

    if (p && memcmp(&p->hash, &point->hash, sizeof(p->hash)) != 0)
        return sim_fail(sim, "invariant 1: point %" PRIu64 " is another one than before",
                        point->point);
    if (p)
        return true;
    if (sim->promoted && point->generation < 2 && point->point > sim->promoted)
        return sim_fail(
            sim, "invariant 3: point %" PRIu64 " came under generation 1 after the promotion",
            point->point);
    if (store->ops->point_manifest(store, point->point, &text, &err) < 0)
        return sim_fail(sim, "invariant 1: point %" PRIu64 ": %s", point->point, err.text);
    if (!cut_of(sim, text, &cut))
        return false;
    *sim_points_push(&sim->points) = (struct sim_point){
        .point = point->point, .generation = point->generation, .hash = point->hash, .cut = cut};
    return true;
}

static bool same(struct sim *sim, const uint8_t *have, size_t disk, uint64_t point,
                 const char *what)
{
    const struct duo_image *image = image_of(sim, point);
    uint64_t size = sim->machine->disks[disk].size;

    if (memcmp(have, image->bytes[disk], size) == 0)
        return true;
    uint64_t at = 0;
    while (have[at] == image->bytes[disk][at])
        at++;
    return sim_fail(sim,
                    "invariants 1, 2: %s of point %" PRIu64
                    " is not what disk%zu held at cut %" PRIu64 ": byte %" PRIu64,
                    what, point, disk, image->cut, at);
}

static bool check_view(struct sim *sim, uint64_t point)
{
    CLEANUP(mem_freep) char *dir = duo_replica_dir(&sim->duo);
    struct err err = ERR_EMPTY;

    for (size_t i = 0; i < sim->machine->disk_count; i++) {
        const struct fake_disk *disk = &sim->machine->disks[i];
        CLEANUP(view_closep) struct view *view = NULL;
        CLEANUP(mem_freep) uint8_t *have = mem_alloc(disk->size, 1);
        if (view_open(dir, disk->name, point, &sim->duo.config.group_key, NULL, &view, &err) < 0
            || view_read(view, 0, have, disk->size, &err) < 0)
            return sim_fail(sim, "invariant 1: point %" PRIu64 " cannot be read: %s", point,
                            err.text);
        if (!same(sim, have, i, point, "the view"))
            return false;
    }
    return true;
}

static bool check_head(struct sim *sim, uint64_t point)
{
    CLEANUP(mem_freep) char *dir = duo_replica_dir(&sim->duo);

    for (size_t i = 0; i < sim->machine->disk_count; i++) {
        const struct fake_disk *disk = &sim->machine->disks[i];
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s/head.raw", dir, disk->name);
        CLEANUP(mem_freep) uint8_t *have = mem_alloc(disk->size, 1);
        CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, have, disk->size, 0) != (ssize_t)disk->size)
            return sim_fail(sim, "invariant 1: %s cannot be read", path);
        if (!same(sim, have, i, point, "head"))
            return false;
    }
    return true;
}

static bool check_points(struct sim *sim, struct store *store, const struct store_info *info)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    uint64_t newest = info->applied_point;
    struct err err = ERR_EMPTY;

    if (store->ops->points(store, &kept, &err) < 0)
        return sim_fail(sim, "invariant 1: %s", err.text);
    if (info->durable_point > 0 && kept.len == 0)
        return sim_fail(sim, "invariant 1: no points are left");
    if (newest > 0 && kept.at[0].point > (newest > DUO_KEEP ? newest - DUO_KEEP + 1 : 1))
        return sim_fail(sim, "invariant 1: the oldest point is %" PRIu64 ", the newest %" PRIu64,
                        kept.at[0].point, newest);
    VEC_FOREACH(point, &kept) {
        if (!note_point(sim, store, point)
            || (point->point <= newest && !check_view(sim, point->point)))
            return false;
    }
    return newest == 0 || check_head(sim, newest);
}

/* Invariant 9. What the newest durable point holds, the source held until `same_until_ms`. */
static bool check_rpo(struct sim *sim, const struct session_status *s, uint64_t durable)
{
    struct clock *time = &sim->duo.time.clock;

    if (s->durable_point == 0 || !seen(sim, durable) || sim->clock_lost)
        return true;
    int64_t true_age = time->now_ms(time) - image_of(sim, durable)->same_until_ms;
    if (s->durable_age_ms >= true_age && s->applied_age_ms >= -1)
        return true;
    return sim_fail(
        sim, "invariant 9: the newest point is said to be %" PRId64 " ms old, and is %" PRId64,
        s->durable_age_ms, true_age);
}

static bool check_told(struct sim *sim, const struct session_status *s,
                       const struct store_info *info)
{
    if (s->durable_point > sim->told_durable)
        sim->told_durable = s->durable_point;
    if (s->applied_point > sim->told_applied)
        sim->told_applied = s->applied_point;
    if (info->durable_point < sim->told_durable)
        return sim_fail(sim,
                        "invariant 1: point %" PRIu64 " was acknowledged, the newest is %" PRIu64,
                        sim->told_durable, info->durable_point);
    if (info->applied_point < sim->told_applied)
        return sim_fail(
            sim, "invariant 1: point %" PRIu64 " was said to be applied, head is at %" PRIu64,
            sim->told_applied, info->applied_point);
    if (sim->promoted && info->generation < 2)
        return sim_fail(sim, "invariant 3: lyon was promoted, and is at generation %" PRIu64,
                        info->generation);
    return true;
}

bool sim_check(struct sim *sim)
{
    struct session_status s = duo_status(&sim->duo);
    struct err err = ERR_EMPTY;
    struct store *store;
    struct store_info info;

    if (sim->failure[0])
        return false;
    if (sim->duo.lyon.dead)
        return true;
    bool fails = sim->duo.lyon.fault.count > 0;
    struct site_fs *before = site_enter(&sim->duo.lyon);
    int rc = duo_store(&sim->duo, &store, &err);
    if (rc == 0)
        rc = store->ops->info(store, &info, &err);
    (void)site_enter(before);
    if (rc < 0)
        return fails || sim->duo.lyon.dead
               || sim_fail(sim, "invariant 1: the replica cannot be opened: %s", err.text);
    if (!check_told(sim, &s, &info))
        return false;
    if (sim->look || info.durable_point != sim->seen_durable
        || info.applied_point != sim->seen_applied) {
        if (info.applying == 0 && !check_points(sim, store, &info))
            return false;
        sim->look = info.applying != 0;
        sim->seen_durable = info.durable_point;
        sim->seen_applied = info.applied_point;
    }
    return check_rpo(sim, &s, info.durable_point);
}
