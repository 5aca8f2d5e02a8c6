// SPDX-License-Identifier: Apache-2.0
/* The branch of an old primary: what its machine wrote that no point of the replica holds. A folder
 * named by the point's number:
 *
 *   DIR/NUMBER/DISK-UUID   a segment per disk that changed
 *   DIR/NUMBER/manifest    its manifest: parent is the newest point that the replica confirmed,
 *                          generation the one this side wrote under
 *
 * It is built as NUMBER.new and gets its name when all of it is durable. Of a point in the outbox
 * whose delivery nobody confirmed the replica is asked: when it has it, that one is the parent;
 * else its changes go back into the open map, and are the branch's. The frozen map is merged back
 * after the cut, whatever came of it: until its process ends, the machine's QEMU knows all that the
 * branch must hold. */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sync/outbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MANIFEST     "manifest"
#define MANIFEST_MAX (4u * 1024u * 1024u)

static char *folder_of(const char *dir, uint64_t point, const char *suffix)
{
    return mem_printf("%s/%" PRIu64 "%s", dir, point, suffix);
}

static void tell(const struct session *s, enum session_branch_kind kind,
                 struct session_branch *branch)
{
    struct manifest next; /* only where it stands in the chain */

    manifest_init(&next);
    delta_chain(s, &next);
    memset(branch, 0, sizeof(*branch));
    branch->kind = kind;
    branch->point = next.point;
    branch->parent = s->ck.durable_point;
    branch->generation = s->config.generation;
    for (size_t i = 0; i < s->ck.disks.len && i < SESSION_DISKS_MAX; i++) {
        struct session_branch_disk *to = &branch->disks[branch->disk_count++];
        memcpy(to->name, s->ck.disks.at[i].name, sizeof(to->name));
        to->size = s->ck.disks.at[i].size;
    }
}

static void tell_segments(const struct manifest *manifest, struct session_branch *branch)
{
    branch->cut_wall_ms = manifest->cut_wall_ms;
    for (size_t i = 0; i < manifest->disks.len && i < branch->disk_count; i++)
        VEC_FOREACH(segment, &manifest->disks.at[i].segments)
            branch->disks[i].sealed += segment->bytes;
}

/* --- Sealing --------------------------------------------------------------------------------- */

static int changed_bytes(struct session *s, const char *disk, uint64_t *ret_bytes,
                         struct cancel *cancel, struct err *err)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    uint64_t bytes = 0;

    if (s->source->ops->changes(s->source, disk, &extents, cancel, err) < 0)
        return session_blame_source(s);
    VEC_FOREACH(extent, &extents)
        bytes += extent->len;
    *ret_bytes = bytes;
    return 0;
}

static int seal_disks(struct session *s, const char *folder, struct manifest *manifest,
                      struct session_branch *branch, struct cancel *cancel, struct err *err)
{
    for (size_t i = 0; i < s->ck.disks.len; i++) {
        const struct checkpoint_disk *disk = &s->ck.disks.at[i];

        if (delta_seal(s, disk, folder, &manifest->disks.at[i], cancel, err) < 0
            || changed_bytes(s, disk->name, &branch->disks[i].bytes, cancel, err) < 0)
            return err_wrap(err, "disk %s", disk->name);
    }
    return 0;
}

static int name_folder(const char *dir, const char *half, const char *folder, struct err *err)
{
    struct fs *fs = fs_real();

    if (fs->sync_dir(fs, half, err) < 0)
        return -1;
    CRASH_POINT("branch.sealed");
    /* One that was made before has nothing that this has not: the machine did not run since. */
    if (fs_exists(folder) && fs_remove_tree(fs, folder, err) < 0)
        return -1;
    if (fs->rename(fs, half, folder, err) < 0)
        return -1;
    return fs->sync_dir(fs, dir, err);
}

static int write_folder(struct session *s, const char *dir, const struct source_cut *cut,
                        struct session_branch *branch, struct cancel *cancel, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *half = folder_of(dir, branch->point, ".new");
    CLEANUP(mem_freep) char *folder = folder_of(dir, branch->point, "");
    CLEANUP(mem_freep) char *path = path_join(half, MANIFEST);
    struct fs *fs = fs_real();

    manifest_init(&manifest);
    delta_manifest(s, &manifest);
    if ((fs_exists(half) && fs_remove_tree(fs, half, err) < 0)
        || fs_make_dirs(fs, half, 0700, err) < 0
        || seal_disks(s, half, &manifest, branch, cancel, err) < 0)
        return -1;
    manifest.cut_wall_ms = cut->wall_ms;
    manifest.stall_us = cut->stall_us;
    if (s->config.machines)
        manifest.machines = s->config.machines(s->config.ctx);
    manifest_sign(&manifest, s->config.sign_key);
    CLEANUP(mem_freep) char *text = manifest_text(&manifest);
    if (fs_replace_file(fs, path, text, strlen(text), 0600, err) < 0)
        return -1;
    tell_segments(&manifest, branch);
    return name_folder(dir, half, folder, err);
}

/* What the cut froze goes back into the open map: the machine's process may end only later. */
static int take_back(struct session *s, struct cancel *cancel, struct err *err)
{
    if (s->source->ops->end(s->source, false, cancel, err) < 0)
        return session_blame_source(s);
    s->state.frozen = 0;
    s->ck.base = s->ck.cut;
    s->ck.cut = 0;
    return session_save(s, err);
}

static int seal(struct session *s, const char *dir, struct session_branch *ret_branch,
                struct cancel *cancel, struct err *err)
{
    struct source_cut cut = {0};

    tell(s, SESSION_BRANCH_SEALED, ret_branch);
    if (delta_cut(s, false, &cut, cancel, err) < 0)
        return -1;
    if (write_folder(s, dir, &cut, ret_branch, cancel, err) < 0) {
        session_drop_source(s); /* the next try opens it anew, and takes back what was frozen */
        return -1;
    }
    CRASH_POINT("branch.kept");
    return take_back(s, cancel, err);
}

/* --- What there is to seal -------------------------------------------------------------------- */

/* One that is complete is the answer: it was made before the maps went. */
static int without_maps(struct session *s, const char *dir, struct session_branch *ret_branch,
                        struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct session_branch branch;

    manifest_init(&manifest);
    tell(s, SESSION_BRANCH_UNKNOWN, &branch);
    CLEANUP(mem_freep) char *folder = folder_of(dir, branch.point, "");
    CLEANUP(mem_freep) char *path = path_join(folder, MANIFEST);
    if (fs_exists(path)) {
        if (fs_read_file(fs_real(), path, MANIFEST_MAX, &text, err) < 0)
            return -1;
        if (manifest_parse(str_text(&text), text.len, &manifest, err) < 0)
            return err_wrap(err, "%s", path);
        if (manifest.generation == s->config.generation) {
            branch.kind = SESSION_BRANCH_SEALED;
            tell_segments(&manifest, &branch);
        }
    }
    *ret_branch = branch;
    return 0;
}

/* Of disks that no process holds: the source that watched them says whether they were touched. */
static bool untouched(struct session *s, struct cancel *cancel)
{
    struct err touched = ERR_EMPTY;

    return s->source && !s->state.running && !s->scanning && s->ck.phase == PHASE_DELTA
           && s->state.open == s->ck.base && delta_quiet_check(s, cancel, &touched) == 0;
}

static int look(struct session *s, bool *ret_lost, uint64_t *ret_pending, struct cancel *cancel,
                struct err *err)
{
    session_drop_source(s);
    *ret_pending = 0;
    if (turn_look(s, cancel, err) < 0 || turn_reconcile(s, ret_lost, cancel, err) < 0)
        return -1;
    if (*ret_lost || s->ck.phase != PHASE_DELTA) {
        *ret_lost = true;
        return 0;
    }
    if (s->source->ops->pending(s->source, ret_pending, cancel, err) < 0)
        return session_blame_source(s);
    return 0;
}

/* What was sent last may have arrived although nobody said so. */
static int settle_outbox(struct session *s, const struct session_branch_ask *ask,
                         struct cancel *cancel, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *text = NULL;
    struct manifest next; /* only where it stands in the chain */
    struct sha256 hash;
    struct err why = ERR_EMPTY;
    bool holds = false;

    manifest_init(&manifest);
    manifest_init(&next);
    if (s->ck.cut == 0)
        return 0;
    if (outbox_load(s->config.dir, &manifest, &text, &why) < 0)
        return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, why.sys, "%s", why.text);
    delta_chain(s, &next);
    if (manifest.generation != s->config.generation || manifest.point != next.point
        || memcmp(&manifest.parent, &next.parent, sizeof(next.parent)) != 0)
        return 0;
    manifest_hash(&manifest, &hash);
    if (ask->holds(ask->ctx, manifest.point, &hash, &holds, cancel, err) < 0)
        return err_wrap(err, "whether point %" PRIu64 " arrived", manifest.point);
    if (!holds)
        return 0;
    return send_mark_durable(s, &manifest, err) < 0 ? -1 : outbox_clear(s->config.dir, err);
}

static int branch(struct session *s, const struct session_branch_ask *ask,
                  struct session_branch *ret_branch, struct cancel *cancel, struct err *err)
{
    const char *dir = ask->dir;
    bool alive = ask->alive;
    uint64_t pending;
    bool lost;

    if ((ask->stop && ask->stop(ask->ctx, cancel, err) < 0)
        || settle_outbox(s, ask, cancel, err) < 0)
        return -1;
    if (!alive && untouched(s, cancel)) {
        tell(s, SESSION_BRANCH_NONE, ret_branch);
        return 0;
    }
    if (!alive || (s->ck.phase != PHASE_DELTA && s->ck.phase != PHASE_RESYNC))
        return without_maps(s, dir, ret_branch, err);
    if (look(s, &lost, &pending, cancel, err) < 0)
        return -1;
    if (lost)
        return without_maps(s, dir, ret_branch, err);
    if (pending == 0) {
        tell(s, SESSION_BRANCH_NONE, ret_branch);
        return 0;
    }
    return seal(s, dir, ret_branch, cancel, err);
}

int session_branch(struct session *session, const struct session_branch_ask *ask,
                   struct session_branch *ret_branch, struct cancel *cancel, struct err *err)
{
    if (session_take(session, cancel, err) < 0)
        return -1;
    session->blame = BLAME_NONE;
    int rc = branch(session, ask, ret_branch, cancel, err);
    session_give(session);
    return rc < 0 ? err_wrap(err, "the branch of %s", session->config.group) : 0;
}
