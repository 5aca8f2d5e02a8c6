// SPDX-License-Identifier: Apache-2.0
/* The other site was promoted and is committed: our side becomes its replica.
 *
 *   our replica is here already   it follows the promotion
 *   our machines' disks are here  they become the heads of a replica: at the point that both sites
 *                                 have, when nothing was written after it; else at a point of our
 *                                 own above it, which is the branch of what we wrote
 *
 * Every step may be cut and is done again: the mark is first (the machine cannot be started here any
 * more), the session's files are last. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "replica/store.h"
#include "sites/branch.h"
#include "sites/estate_base.h"
#include "sites/group_disks.h"
#include "sites/site_local.h"
#include "sync/checkpoint.h"
#include "sync/digests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct taking {
    struct estate *estate;
    const struct estate_follow *what;
    struct machine_names machines;
    struct group_owns owns; /* of our own machines */
    json_t *definitions;    /* theirs */
    struct checkpoint ck;
    struct store_disks disks;
    char *session_dir;
    struct digests *digests; /* of the point that both have; NULL: all is read anew */
    bool clean;
};

static void taking_done(struct taking *t)
{
    group_owns_free(&t->owns);
    json_decref(t->definitions);
    checkpoint_done(&t->ck);
    store_disks_free(&t->disks);
    digests_close(t->digests);
    free(t->session_dir);
}

/* Borrowed from the JSON; the list itself is the caller's to free. */
static const char **proof_texts(const json_t *proof)
{
    const char **texts = mem_new_array(const char *, json_array_size(proof) + 1);
    const json_t *text;
    size_t i;

    json_array_foreach(proof, i, text)
        texts[i] = json_string_value(text);
    return texts;
}

/* --- Our machine's disks --------------------------------------------------------------------- */

static int known_digests(void *ctx, const char *disk, uint64_t first, uint64_t count,
                         struct digest *ret_digests, bool *ret_known, struct err *err)
{
    struct taking *t = ctx;

    if (!t->digests)
        return 0;
    for (size_t i = 0; i < t->disks.len; i++) {
        if (!str_eq(t->disks.at[i].name, disk))
            continue;
        if (digests_read(t->digests, i, first, count, ret_digests, err) < 0)
            return -1;
        memset(ret_known, 1, count * sizeof(*ret_known));
    }
    return 0;
}

/* Nothing of the disks was written after the point that the other site was promoted from. */
static int judge(struct taking *t, const struct manifest *common, struct err *err)
{
    struct estate_mark mark;
    struct sha256 hash;
    struct digests_tip tip = {t->ck.durable_point, t->ck.durable_hash};
    struct err why = ERR_EMPTY;

    if (estate_mark_read(t->estate, t->what->group, &mark, err) < 0)
        return -1;
    manifest_hash(common, &hash);
    t->clean = (mark.final_point == common->point || mark.clean == common->point)
               && t->ck.durable_point == common->point
               && memcmp(&hash, &t->ck.durable_hash, sizeof(hash)) == 0
               && estate_seal_matches(t->estate, t->what->group, &mark);
    if (!t->clean)
        return 0;
    if (digests_open(t->session_dir, &t->disks, &tip, &t->digests, &why) < 0)
        t->digests = NULL; /* read anew, it takes longer */
    return 0;
}

/* Our own writes after the last common point, as a point of our own. */
static char *branch_text(const struct taking *t, const struct manifest *common)
{
    const struct estate_config *config = &t->estate->config;
    CLEANUP(manifest_done) struct manifest m;
    CLEANUP(mem_freep) char *text = NULL;

    manifest_init(&m);
    (void)snprintf(m.group, sizeof(m.group), "%s", t->what->group);
    (void)snprintf(m.site, sizeof(m.site), "%s", t->estate->site);
    m.generation = common->generation;
    m.point = t->ck.durable_point + 1;
    m.parent = t->ck.durable_hash;
    m.cut_wall_ms = config->clock->wall_ms(config->clock);
    m.machines = json_incref(t->definitions);
    VEC_FOREACH(disk, &t->disks) {
        struct manifest_disk *to = manifest_disks_push(&m.disks);
        memset(to, 0, sizeof(*to));
        memcpy(to->name, disk->name, sizeof(to->name));
        to->size = disk->size;
    }
    manifest_sign(&m, config->sign_key);
    text = manifest_text(&m);
    return TAKE(text);
}

/* How far the reading of the disks is. */
static void adopt_progress(void *ctx, const char *disk, uint64_t done, uint64_t size)
{
    struct taking *t = ctx;

    if (t->what->progress)
        t->what->progress(t->what->ctx, disk, done, size);
}

static int adopt(struct taking *t, const char *first, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) const char **texts = proof_texts(t->what->proof);
    struct store_adopt_disk disks[SESSION_DISKS_MAX];
    struct store_adopt what = {
        .disks = disks,
        .first = first,
        .tip = t->what->tip,
        .proof = {.known = &t->ck.durable_hash,
                  .known_count = 1,
                  .manifests = texts,
                  .manifest_count = json_array_size(t->what->proof)},
        .digests = known_digests,
        .progress = adopt_progress,
        .ctx = t,
    };
    struct store *store;

    VEC_FOREACH(disk, &t->disks) {
        const struct group_own *own = group_owns_find(&t->owns, disk->name);
        if (!own)
            return err_set(
                err, ERR_STATE, 0,
                "disk %s of %s is in its points and not in its definition; hint: protect "
                "the machine anew",
                disk->name, t->what->group);
        disks[what.count++] =
            (struct store_adopt_disk){own->name, disk->size, own->disk.path, own->disk.format};
    }
    if (estate_store_get(t->estate, t->what->group, &store, err) < 0)
        return -1;
    int rc = store_dir_adopt(store, &what, cancel, err);
    uint64_t kept;
    if (rc == 0 && !t->clean) { /* the branch stays as long as the disks are a replica */
        CLEANUP(mem_freep) char *label = mem_printf(BRANCH_PIN "%" PRIu64, t->ck.durable_point + 1);
        rc = store->ops->pin(store, t->ck.durable_point + 1, label, &kept, err);
    }
    estate_store_put(t->estate, t->what->group, store, rc < 0);
    return rc;
}

/* The branch's manifest is made once: after a cut the same one is taken, or the store would meet two. */
static int first_text(struct taking *t, const struct manifest *common, char **ret_text,
                      struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(t->session_dir, "branch.manifest");
    CLEANUP(mem_freep) char *dir = branch_dir(t->estate, t->what->group);
    CLEANUP(mem_freep)
    char *sealed = mem_printf("%s/%" PRIu64 "/manifest", dir, t->ck.durable_point + 1);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (t->clean) {
        *ret_text = mem_strdup(t->what->first);
        return 0;
    }
    if (fs_exists(sealed)) { /* its extent is known: the fence sealed it */
        if (fs_read_file(fs_real(), sealed, 4 * 1024 * 1024, &text, err) < 0)
            return -1;
        *ret_text = str_take(&text);
        return 0;
    }
    if (fs_exists(path)) {
        if (fs_read_file(fs_real(), path, 1024 * 1024, &text, err) < 0)
            return -1;
        *ret_text = str_take(&text);
        return 0;
    }
    CLEANUP(mem_freep) char *made = branch_text(t, common);
    if (fs_replace_file(fs_real(), path, made, strlen(made), 0600, err) < 0)
        return -1;
    *ret_text = TAKE(made);
    return 0;
}

static int load_machines(struct taking *t, struct err *err)
{
    t->definitions = json_object();
    for (size_t i = 0; i < t->machines.count; i++) {
        CLEANUP(machine_done) struct machine machine;

        machine_init(&machine);
        if (estate_machine_get(t->estate, t->machines.at[i], &machine, err) < 0
            || group_owns_add(&t->machines, &machine, &t->owns, err) < 0)
            return -1;
        (void)json_object_set_new(t->definitions, machine.name, machine_to_json(&machine));
    }
    return 0;
}

static int load_source(struct taking *t, struct err *err)
{
    if (load_machines(t, err) < 0 || checkpoint_load(t->session_dir, &t->ck, err) < 0)
        return -1;
    VEC_FOREACH(disk, &t->ck.disks) {
        struct store_disk *to = store_disks_push(&t->disks);
        (void)snprintf(to->name, sizeof(to->name), "%s", disk->name);
        to->size = disk->size;
    }
    if (t->disks.len == 0 || t->disks.len > SESSION_DISKS_MAX || t->ck.durable_point == 0)
        return err_set(err, ERR_STATE, 0, "%s has no point of ours to go back to", t->what->group);
    return 0;
}

static int take_disks(struct taking *t, char *ret_note, size_t note_size, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(manifest_done) struct manifest common;
    CLEANUP(mem_freep) char *first = NULL;

    manifest_init(&common);
    if (manifest_parse(t->what->first, strlen(t->what->first), &common, err) < 0
        || load_source(t, err) < 0 || judge(t, &common, err) < 0
        || first_text(t, &common, &first, err) < 0)
        return -1;
    if (!t->digests)
        (void)snprintf(ret_note, note_size, "reading the disks of %s: %s", t->what->group,
                       t->clean ? "the list of their digests is gone"
                                : "they were written after the last common point");
    return adopt(t, first, cancel, err);
}

/* --- Both ways ------------------------------------------------------------------------------- */

/* From here on the machine cannot be started here, whatever is cut; what it wrote beyond the last point
 * is kept as a branch before its disks are touched. */
static int retire(struct estate *estate, const struct estate_follow *what, struct cancel *cancel,
                  struct err *err)
{
    bool settled = false;
    bool sends = estate_session_get(estate, what->group) != NULL;

    if (!sends)
        return 0; /* an earlier try was here */
    estate_session_put(estate, what->group);
    if (estate_retire(estate, what->group, what->peer, what->generation, cancel, err) < 0
        || estate_fence(estate, what->group, &settled, cancel, err) < 0)
        return -1;
    return settled ? 0
                   : err_set(err, ERR_BUSY, 0, "the old machine of %s is being ended", what->group);
}

static int add_replica(struct estate *estate, const struct estate_follow *what,
                       const struct machine_names *machines, struct err *err)
{
    struct estate_replica replica = {.group = "", .machines = *machines};

    (void)snprintf(replica.group, sizeof(replica.group), "%s", what->group);
    (void)snprintf(replica.peer, sizeof(replica.peer), "%s", what->peer);
    memcpy(replica.writer_key, what->writer_key, sizeof(replica.writer_key));
    return estate_replica_add(estate, &replica, err);
}

/* 1: it follows; 0: there is no replica with points of ours, or one that was cut while it was made of
 * our disks. */
static int follow_store(struct estate *estate, const struct estate_follow *what,
                        const char *session_dir, struct err *err)
{
    CLEANUP(checkpoint_done) struct checkpoint ck = {.phase = PHASE_NEW};
    CLEANUP(mem_freep) const char **texts = proof_texts(what->proof);
    struct store_proof proof = {.manifests = texts, .manifest_count = json_array_size(what->proof)};
    struct err none = ERR_EMPTY;
    struct store_info info;
    struct store *store;

    if (checkpoint_load(session_dir, &ck, &none) == 0) {
        proof.known = &ck.durable_hash;
        proof.known_count = 1;
    }

    if (estate_store_get(estate, what->group, &store, err) < 0)
        return -1;
    int rc = store->ops->info(store, &info, err);
    bool has = rc == 0 && info.state != STORE_COPYING && info.durable_point > 0;
    if (has)
        rc = store->ops->follow(store, what->tip, strlen(what->tip), &proof, err);
    estate_store_put(estate, what->group, store, rc < 0);
    return rc < 0 ? -1 : has;
}

int estate_follow(struct estate *estate, const struct estate_follow *what, char *ret_note,
                  size_t note_size, struct cancel *cancel, struct err *err)
{
    CLEANUP(taking_done) struct taking t = {.estate = estate, .what = what};
    CLEANUP(mem_freep) char *replica_dir = estate_replica_dir(estate, what->group);
    CLEANUP(mem_freep) char *replica_file = path_join(replica_dir, "replica");

    estate_group_machines(estate, what->group, &t.machines);
    t.session_dir = estate_path(estate, "sessions", what->group, "");
    if (retire(estate, what, cancel, err) < 0)
        return -1;
    estate_group_remove(estate, what->group); /* its files are ours now */
    CRASH_POINT("follow.stopped");
    /* An earlier way back left it: the disks are the machine's no more. */
    if (estate_base_remove(estate, what->group, err) < 0
        || add_replica(estate, what, &t.machines, err) < 0)
        return -1;
    int rc = fs_exists(replica_file) ? follow_store(estate, what, t.session_dir, err) : 0;
    if (rc < 0 || (rc == 0 && take_disks(&t, ret_note, note_size, cancel, err) < 0))
        return err_wrap(err, "make the disks of %s a replica of %s", what->group, what->peer);
    CRASH_POINT("follow.taken");
    return fs_remove_tree(fs_real(), t.session_dir, err);
}
