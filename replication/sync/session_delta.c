// SPDX-License-Identifier: Apache-2.0
/* One cycle. The checkpoint says "cut N+1 is intended" before the cut; after it the source itself
 * is the witness (it has map N+1 open and N frozen), so no second write stands between the cut
 * and the replica:
 *
 *   intent ── cut ── segments ── manifest in the outbox ── send_outbox ...
 *        └── a crash in here: no complete outbox; ──┘  └── complete: it is sent, whatever
 *            the frozen changes go back into the           happens to the source
 *            open map and are in the next cut
 */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "replica/manifest.h"
#include "sync/outbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define READ_BYTES  (1024u * 1024u)
#define SMALL_BYTES (UINT64_C(512) * 1024 * 1024)

void delta_chain(const struct session *s, struct manifest *m)
{
    m->point = s->ck.durable_point + 1;
    m->parent = s->ck.durable_hash;
    if (s->ck.tip_point == 0)
        return;
    m->point = s->ck.tip_point + 1;
    m->parent = s->ck.tip_hash;
    m->base_point = s->ck.durable_point;
    m->base = s->ck.durable_hash;
}

static void segment_head_for(struct session *s, const struct checkpoint_disk *disk,
                             struct segment_head *ret_head)
{
    struct manifest next;
    struct policy policy;

    session_policy(s, &policy);
    manifest_init(&next);
    delta_chain(s, &next);
    memset(ret_head, 0, sizeof(*ret_head));
    (void)snprintf(ret_head->group, sizeof(ret_head->group), "%s", s->config.group);
    (void)snprintf(ret_head->disk, sizeof(ret_head->disk), "%s", disk->name);
    ret_head->disk_size = disk->size;
    ret_head->generation = s->config.generation;
    ret_head->point = next.point;
    ret_head->parent = next.parent;
    s->seal_packing = session_packing(s, &policy);
    s->seal_began_ms = session_now(s);
    ret_head->compression = adaptive_choice(s->seal_packing).compression;
    uuid_new(&ret_head->uuid);
}

/* Below `folder`; NULL: in the outbox. */
static int open_writer(struct session *s, const struct checkpoint_disk *disk, const char *folder,
                       struct segment_writer **ret_writer, struct err *err)
{
    struct segment_head head;
    char hex[2 * UUID_BYTES + 1];

    segment_head_for(s, disk, &head);
    str_hex(head.uuid.bytes, UUID_BYTES, hex);
    CLEANUP(mem_freep)
    char *path = folder ? mem_printf("%s/%s-%s", folder, disk->name, hex)
                        : outbox_segment_path(s->config.dir, disk->name, &head.uuid);
    if (segment_writer_open(fs_real(), path, &head, &s->config.group_key, ret_writer, err) < 0)
        return -1;
    segment_writer_set_level(*ret_writer, adaptive_choice(s->seal_packing).level);
    return 0;
}

static int close_writer(struct session *s, struct segment_writer *writer,
                        struct manifest_disk *into, struct err *err)
{
    struct segment_info info;

    if (segment_writer_finish(writer, &info, err) < 0)
        return -1;
    if (info.data_bytes >= ADAPTIVE_MIN_BYTES)
        session_packed(s, s->seal_packing, info.data_bytes, info.bytes,
                       session_now(s) - s->seal_began_ms);
    if (info.extent_count == 0) /* all of it is in another one; the file goes with the outbox */
        return 0;
    struct manifest_segment *segment = manifest_segments_push(&into->segments);
    segment->uuid = info.uuid;
    segment->root = info.root;
    segment->bytes = info.bytes;
    return 0;
}

static int write_extent(struct session *s, const char *disk, const struct source_extent *extent,
                        struct segment_writer *writer, uint8_t *buf, struct cancel *cancel,
                        struct err *err)
{
    for (uint64_t done = 0; done < extent->len;) {
        uint64_t left = extent->len - done;
        size_t n = left < READ_BYTES ? (size_t)left : READ_BYTES;
        uint64_t off = extent->off + done;

        if (s->source->ops->read(s->source, disk, off, buf, n, cancel, err) < 0)
            return session_blame_source(s);
        if (segment_writer_data(writer, off, buf, n, err) < 0)
            return -1;
        done += n;
    }
    return 0;
}

/* The extents' bytes, as they were at the cut. */
static int seal_extents(struct session *s, const struct checkpoint_disk *disk, const char *folder,
                        const struct source_extents *extents, struct manifest_disk *into,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    CLEANUP(mem_freep) uint8_t *buf = NULL;

    if (extents->len == 0)
        return 0;
    buf = mem_alloc(READ_BYTES, 1);
    if (open_writer(s, disk, folder, &writer, err) < 0)
        return -1;
    VEC_FOREACH(extent, extents)
        if (write_extent(s, disk->name, extent, writer, buf, cancel, err) < 0)
            return -1;
    return close_writer(s, writer, into, err);
}

int delta_seal(struct session *s, const struct checkpoint_disk *disk, const char *folder,
               struct manifest_disk *into, struct cancel *cancel, struct err *err)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;

    if (s->source->ops->changes(s->source, disk->name, &extents, cancel, err) < 0)
        return session_blame_source(s);
    return seal_extents(s, disk, folder, &extents, into, cancel, err);
}

/* What the rescan found on one disk, but for what the cut has anyway; `changes` may be NULL. */
static int seal_rescan(struct session *s, size_t disk, const struct source_extents *changes,
                       struct manifest_disk *into, struct err *err)
{
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;

    if (!s->rescan || rescan_bytes(s->rescan, disk) == 0)
        return 0;
    if (open_writer(s, &s->ck.disks.at[disk], NULL, &writer, err) < 0
        || rescan_write(s->rescan, disk, changes, writer, err) < 0)
        return -1;
    return close_writer(s, writer, into, err);
}

/* Sealing it takes no time that matters: then it is done after the cut. */
static bool rescan_is_small(const struct session *s)
{
    uint64_t bytes = 0;

    for (size_t i = 0; s->rescan && i < s->ck.disks.len; i++)
        bytes += rescan_bytes(s->rescan, i);
    return bytes <= SMALL_BYTES;
}

void delta_manifest(struct session *s, struct manifest *m)
{
    (void)snprintf(m->group, sizeof(m->group), "%s", s->config.group);
    (void)snprintf(m->site, sizeof(m->site), "%s", s->config.site);
    m->generation = s->config.generation;
    delta_chain(s, m);
    m->consistency = CONSISTENCY_CRASH;
    VEC_FOREACH(disk, &s->ck.disks) {
        struct manifest_disk *into = manifest_disks_push(&m->disks);
        (void)snprintf(into->name, sizeof(into->name), "%s", disk->name);
        into->size = disk->size;
    }
}

int delta_cut(struct session *s, bool application, struct source_cut *ret_cut,
              struct cancel *cancel, struct err *err)
{
    s->ck.cut = s->ck.base + 1;
    if (s->ck.serial < s->ck.cut)
        s->ck.serial = s->ck.cut;
    if (session_save(s, err) < 0)
        return -1;
    CRASH_POINT("sync.intent");
    int64_t before = session_now(s);
    int rc = application ? source_cut_application(s->source, s->ck.cut, ret_cut, cancel, err)
                         : s->source->ops->cut(s->source, s->ck.cut, ret_cut, cancel, err);
    if (rc < 0)
        return session_blame_source(s);
    application_cut(s, ret_cut);
    s->cut_ms = before;
    s->cut_age_ms = ret_cut->age_ms;
    s->cut_point = s->ck.tip_point ? s->ck.tip_point + 1 : s->ck.durable_point + 1;
    lag_begin(s);
    s->state.frozen = s->ck.base;
    s->state.open = s->ck.cut;
    CRASH_POINT("sync.cut");
    return 0;
}

/* Nothing is cut that could not be sealed. */
static int check_room(struct session *s, struct cancel *cancel, struct err *err)
{
    if (s->ck.phase != PHASE_DELTA && required_look(s, cancel, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&s->lock);
    uint64_t bytes = s->status.pending_bytes;
    (void)pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; s->rescan && i < s->ck.disks.len; i++)
        bytes += rescan_bytes(s->rescan, i);
    return required_room(s, bytes, err);
}

static void show_nothing_pending(struct session *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.pending_bytes = 0;
    for (size_t i = 0; i < s->status.disk_count; i++)
        s->status.disks[i].pending_bytes = 0;
    (void)pthread_mutex_unlock(&s->lock);
}

/* All disks up to the cut; each segment goes on its way as soon as it is sealed. A link that
 * breaks must not keep the rest from being sealed: the cut is made, and what is complete in the
 * outbox goes on later. */
static int seal_deltas(struct session *s, struct manifest *manifest, bool with_rescan,
                       struct err *ret_link_err, struct cancel *cancel, struct err *err)
{
    for (size_t i = 0; i < s->ck.disks.len; i++) {
        CLEANUP(source_extents_free) struct source_extents changes = VEC_EMPTY;
        struct manifest_disk *disk = &manifest->disks.at[i];
        size_t before = disk->segments.len;

        if (s->source->ops->changes(s->source, disk->name, &changes, cancel, err) < 0)
            return session_blame_source(s);
        lag_changed(s, source_extents_bytes(&changes));
        if ((with_rescan && seal_rescan(s, i, &changes, disk, err) < 0)
            || seal_extents(s, &s->ck.disks.at[i], NULL, &changes, disk, cancel, err) < 0)
            return -1;
        if (disk->segments.len == before || s->ck.phase != PHASE_DELTA
            || ret_link_err->code != ERR_NONE)
            continue;
        if (send_ahead(s, disk->name, &disk->segments.at[before], cancel, ret_link_err) < 0
            && cancel_check(cancel, err) < 0)
            return -1;
    }
    CRASH_POINT("sync.sealed");
    return 0;
}

int delta_cycle(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *text = NULL;
    struct source_cut cut = {0};
    struct err link_err = ERR_EMPTY;

    manifest_init(&manifest);
    delta_manifest(s, &manifest);
    if (outbox_clear(s->config.dir, err) < 0 || check_room(s, cancel, err) < 0)
        return -1;
    /* A large rescan's segments first: sealing them takes long, and the point dates from the cut. A
     * small one waits for the cut, which says what need not be sent twice. They are sent when the
     * point is complete, for only then a broken link costs nothing. */
    bool small = rescan_is_small(s);
    for (size_t i = 0; !small && i < s->ck.disks.len; i++)
        if (seal_rescan(s, i, NULL, &manifest.disks.at[i], err) < 0)
            return -1;
    bool ahead = s->ck.phase == PHASE_DELTA;
    if (delta_cut(s, application_begin(s), &cut, cancel, err) < 0)
        return -1;
    session_set_state(s, SESSION_SENDING);
    if (seal_deltas(s, &manifest, small, &link_err, cancel, err) < 0)
        return -1;

    manifest.cut_wall_ms = cut.wall_ms;
    manifest.stall_us = cut.stall_us;
    if (cut.freeze == SOURCE_FREEZE_HELD)
        manifest.consistency = CONSISTENCY_APPLICATION;
    if (s->config.machines)
        manifest.machines = s->config.machines(s->config.ctx);
    manifest_sign(&manifest, s->config.sign_key);
    text = manifest_text(&manifest);
    if (outbox_complete(s->config.dir, text, err) < 0)
        return -1;
    CRASH_POINT("sync.outbox");
    show_nothing_pending(s);
    if (link_err.code != ERR_NONE)
        return err_set(err, link_err.code, link_err.sys, "point %" PRIu64 ": %s", manifest.point,
                       link_err.text);
    return send_outbox(s, &manifest, text, ahead, cancel, err);
}

/* A point a second of a machine that is off would push the older ones out of retention and tell
 * nothing. Instead the time at which the replica was seen to equal the source moves on: what
 * would be lost now is what was written since, and nobody writes. The cut is only asked whether
 * the disks were touched, and leaves no trace in the checkpoint: such a map lives in the source's
 * object, and a new object is compared as a whole. */
int delta_quiet_check(struct session *s, struct cancel *cancel, struct err *err)
{
    struct source_cut cut = {0};
    int64_t now = session_now(s);

    if (s->source->ops->cut(s->source, s->ck.base + 1, &cut, cancel, err) < 0)
        return session_blame_source(s);
    if (s->source->ops->end(s->source, true, cancel, err) < 0)
        return session_blame_source(s);
    s->ck.base++;
    if (s->ck.serial < s->ck.base)
        s->ck.serial = s->ck.base;
    s->ck.durable_cut_ms = cut.wall_ms;
    s->ck.applied_cut_ms = cut.wall_ms;
    s->cut_age_ms = cut.age_ms;
    s->durable_cut_now = now - cut.age_ms;
    s->applied_cut_now = now - cut.age_ms;
    s->state.open = s->ck.base;
    session_show_points(s);
    return 0;
}
