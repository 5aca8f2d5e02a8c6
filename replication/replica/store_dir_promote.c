// SPDX-License-Identifier: Apache-2.0
/* Promotion: the record "promotion" holds all of it, one line of JSON {chosen, generation,
 * manifest (its text), token}. Once that is durable the promotion happens, whatever is cut: the
 * manifest, then the generation, and, when the newest point was chosen, head, which is there
 * already. The last record stays, to answer the same request again. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/generation.h"
#include "replica/record.h"

#include <inttypes.h>
#include <string.h>

#define TOKEN_MAX 200U

struct promotion {
    char *token;
    uint64_t chosen;
    uint64_t generation;
    struct manifest manifest;
    char *text;
};

static void promotion_done(struct promotion *p)
{
    free(p->token);
    free(p->text);
    manifest_done(&p->manifest);
}

static int parse(const char *path, const char *text, struct promotion *p, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;
    const char *token;
    const char *manifest;

    if (json_parse(text, strlen(text), &json, err) < 0
        || json_need_str(json, "token", path, &token, err) < 0
        || json_need_str(json, "manifest", path, &manifest, err) < 0
        || json_need_u64(json, "chosen", path, &p->chosen, err) < 0
        || json_need_u64(json, "generation", path, &p->generation, err) < 0
        || manifest_parse(manifest, strlen(manifest), &p->manifest, err) < 0) {
        if (err)
            err->code = ERR_CORRUPT;
        return err_wrap(err, "%s", path);
    }
    p->token = mem_strdup(token);
    p->text = mem_strdup(manifest);
    return 0;
}

/* 0 without a token when there never was one. */
static int load(struct store_dir *d, struct promotion *p, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PROMOTION);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (!fs_exists(path))
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    return parse(path, str_text(&text), p, err);
}

static int save(struct store_dir *d, const struct promotion *p, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PROMOTION);
    CLEANUP(json_freep) json_t *json = json_object();

    (void)json_object_set_new(json, "token", json_string(p->token));
    (void)json_object_set_new(json, "manifest", json_string(p->text));
    (void)json_object_set_new(json, "chosen", json_integer((json_int_t)p->chosen));
    (void)json_object_set_new(json, "generation", json_integer((json_int_t)p->generation));
    CLEANUP(mem_freep) char *line = json_text(json);
    CLEANUP(mem_freep) char *text = mem_printf("%s\n", line);
    return record_write(d->fs, path, text, err);
}

static int apply_all(struct store_dir *d, struct err *err)
{
    uint64_t point;

    do {
        if (store_dir_point_apply(&d->store, &point, NULL, NULL, err) < 0)
            return -1;
    } while (point != 0);
    return 0;
}

static int finish(struct store_dir *d, const struct promotion *p, struct err *err)
{
    const struct manifest *m = &p->manifest;
    const struct dir_point *newest = dir_point_newest(d);

    if (newest && m->point > newest->point && dir_manifest_add(d, m, p->text, err) < 0)
        return -1;
    CRASH_POINT("replica.promote-manifest");
    if (d->generation < p->generation) {
        if (generation_raise(d->fs, d->dir, d->generation, p->generation, err) < 0)
            return -1;
        d->generation = p->generation;
    }
    CRASH_POINT("replica.promote-generation");
    /* Rolling head back to an older point takes its time, and nothing waits for it. */
    if (m->point > d->applied && memcmp(&m->parent, &d->applied_hash, sizeof(m->parent)) == 0)
        return apply_all(d, err);
    return 0;
}

int dir_promotion_finish(struct store_dir *d, struct err *err)
{
    CLEANUP(promotion_done) struct promotion p = {0};

    if (load(d, &p, err) < 0)
        return -1;
    return p.token ? finish(d, &p, err) : 0;
}

/* What was asked for. */
struct request {
    uint64_t expected;
    uint64_t point;
    const char *token;
    const char *site;
    const uint8_t *sign;
    int64_t wall_ms;
};

static int make_manifest(struct store_dir *d, const struct dir_point *chosen,
                         const struct request *request, struct manifest *m, struct err *err)
{
    /* Machines, disks and consistency are the chosen point's. */
    if (dir_manifest_read(d, chosen->point, m, NULL, err) < 0)
        return -1;
    VEC_FOREACH(disk, &m->disks)
        manifest_segments_clear(&disk->segments);
    memset(m->site, 0, sizeof(m->site));
    memcpy(m->site, request->site, strlen(request->site) + 1);
    m->generation = d->generation + 1;
    m->point = dir_point_newest(d)->point + 1;
    if (m->point <= d->tip.point) /* that number is taken, elsewhere */
        m->point = d->tip.point + 1;
    m->base_point = 0;
    memset(&m->base, 0, sizeof(m->base));
    m->parent = chosen->hash;
    if (chosen->point + 1 != m->point) {
        m->base_point = dir_point_newest(d)->point;
        m->base = dir_point_newest(d)->hash;
    }
    m->promotion = true;
    m->cut_wall_ms = request->wall_ms;
    m->stall_us = 0;
    manifest_sign(m, request->sign);
    return 0;
}

static int check_request(const struct store_dir *d, const struct request *request, struct err *err)
{
    if (!str_is_name(request->site) || request->wall_ms < 0 || request->token[0] == '\0'
        || strlen(request->token) > TOKEN_MAX)
        return err_set(err, ERR_INVALID, 0,
                       "%s: a promotion needs a site's name, a time and a token of 1 to %u bytes",
                       d->group, TOKEN_MAX);
    if (d->generation != request->expected)
        return err_set(err, ERR_FENCED, 0,
                       "%s is at generation %" PRIu64 ", the promotion is for %" PRIu64, d->group,
                       d->generation, request->expected);
    if (d->points.len == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "%s has no point to promote yet", d->group);
    return 0;
}

static int promote(struct store_dir *d, const struct request *request, struct promotion *p,
                   struct err *err)
{
    if (dir_own_held(d, err) < 0 || dir_own_check(d, err) < 0 || check_request(d, request, err) < 0
        || apply_all(d, err) < 0)
        return -1;
    const struct dir_point *chosen =
        dir_point_find(d, request->point ? request->point : d->applied);
    if (!chosen)
        return dir_no_point(d, request->point, err);
    if (dir_damage_check(d, chosen->point, err) < 0)
        return -1;
    if (make_manifest(d, chosen, request, &p->manifest, err) < 0)
        return -1;
    p->token = mem_strdup(request->token);
    p->text = manifest_text(&p->manifest);
    p->chosen = chosen->point;
    p->generation = p->manifest.generation;
    if (save(d, p, err) < 0)
        return -1;
    CRASH_POINT("replica.promote-record");
    return finish(d, p, err);
}

/* NOLINTNEXTLINE(readability-function-size): the seam's signature */
int store_dir_promote(struct store *store, uint64_t expected, uint64_t point, const char *token,
                      const char *site, const uint8_t sign[SIGN_KEY_BYTES], int64_t wall_ms,
                      uint64_t *ret_generation, uint64_t *ret_point, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct request request = {expected, point, token, site, sign, wall_ms};
    CLEANUP(promotion_done) struct promotion last = {0};
    CLEANUP(promotion_done) struct promotion fresh = {0};
    struct promotion *p = &last;

    if (guard_fs_check(&d->guard, err) < 0 || load(d, &last, err) < 0)
        return -1;
    bool again = last.token && str_eq(last.token, token);
    if (!again)
        p = &fresh;
    if ((again ? finish(d, p, err) : promote(d, &request, p, err)) < 0)
        return err_wrap(err, "promote %s", d->group);
    *ret_generation = p->generation;
    *ret_point = p->chosen;
    return 0;
}
