// SPDX-License-Identifier: Apache-2.0
/* Keys and marks, the estate's only files.
 *
 *   keys/GROUP.key       32 raw bytes, mode 0600: what replica and segments are sealed with
 *   keys/GROUP.luks      64 hex digits, mode 0600: opens the heads of a replica that is encrypted at rest
 *   sessions/GROUP.mark  JSON {"held": RUN, "final_point": N, "retired": GENERATION, "by": SITE,
 *                        "since_ms": WALL, "clean": N, "settled": GENERATION, "seal": N,
 *                        "generation": GENERATION}: what a failover left here; absent when there is
 *                        nothing to say */
#include "base/fs.h"
#include "base/json.h"
#include "base/luks.h"
#include "base/mem.h"
#include "sites/estate_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MARK_MAX_BYTES 4096

static void str_wipe(struct str *text)
{
    if (text->ptr)
        explicit_bzero(text->ptr, text->cap);
    str_free(text);
}

int estate_key_load(const char *path, struct key *ret_key, struct err *err)
{
    CLEANUP(str_wipe) struct str bytes = STR_EMPTY;
    struct stat st;

    if (fs_read_file(fs_real(), path, KEY_BYTES + 1, &bytes, err) < 0)
        return -1;
    if (bytes.len != KEY_BYTES)
        return err_set(err, ERR_CORRUPT, 0, "%s: %zu bytes, a key has %d", path, bytes.len,
                       KEY_BYTES);
    if (stat(path, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", path);
    if (st.st_mode & 077)
        return err_set(err, ERR_DENIED, 0, "%s can be read by others (mode %04o); hint: chmod 600",
                       path, (unsigned)st.st_mode & 07777U);
    memcpy(ret_key->bytes, bytes.ptr, KEY_BYTES);
    return 0;
}

int estate_key_read(struct estate *estate, const char *group, struct key *ret_key, struct err *err)
{
    CLEANUP(mem_freep) char *path = estate_key_path(estate, group);

    if (estate_key_load(path, ret_key, err) == 0)
        return 0;
    return err && err->code == ERR_NOT_FOUND ? err_wrap(err, "key of %s", group) : -1;
}

int estate_key_write(struct estate *estate, const char *group, const struct key *key,
                     struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(estate->dir, "keys");
    CLEANUP(mem_freep) char *path = estate_key_path(estate, group);

    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, key->bytes, KEY_BYTES, 0600, err);
}

int estate_luks_need(struct estate *estate, const char *group, struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(estate->dir, "keys");
    CLEANUP(mem_freep) char *path = estate_luks_path(estate, group);
    CLEANUP(luks_secret_wipe) struct luks_secret secret;

    if (fs_exists(path))
        return luks_secret_read(path, &secret, err);
    luks_secret_new(&secret);
    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0)
        return -1;
    return luks_secret_write(path, &secret, err);
}

int estate_keys_remove(struct estate *estate, const char *group, struct err *err)
{
    char *const paths[] = {estate_key_path(estate, group), estate_luks_path(estate, group)};
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (rc == 0 && fs_exists(paths[i]))
            rc = fs_real()->unlink(fs_real(), paths[i], err);
        free(paths[i]);
    }
    return rc;
}

int estate_mark_read(struct estate *estate, const char *group, struct estate_mark *ret_mark,
                     struct err *err)
{
    CLEANUP(mem_freep) char *path = estate_path(estate, "sessions", group, ".mark");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    struct estate_mark mark = {0};

    if (fs_read_file(fs_real(), path, MARK_MAX_BYTES, &text, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return err_wrap(err, "mark of %s", group);
        err_clear(err);
        *ret_mark = mark;
        return 0;
    }
    /* A mark that cannot be read must not be taken for none: the old side would send again. */
    if (json_parse(str_text(&text), text.len, &json, err) < 0) {
        err->code = ERR_CORRUPT;
        return err_wrap(err, "%s", path);
    }
    (void)snprintf(mark.held, sizeof(mark.held), "%s", json_get_str(json, "held", ""));
    mark.final_point = json_get_u64(json, "final_point", 0);
    mark.retired = json_get_u64(json, "retired", 0);
    (void)snprintf(mark.by, sizeof(mark.by), "%s", json_get_str(json, "by", ""));
    mark.since_ms = (int64_t)json_get_u64(json, "since_ms", 0);
    mark.clean = json_get_u64(json, "clean", 0);
    mark.settled = json_get_u64(json, "settled", 0);
    mark.seal = json_get_u64(json, "seal", 0);
    mark.generation = json_get_u64(json, "generation", 0);
    *ret_mark = mark;
    return 0;
}

int estate_mark_write(struct estate *estate, const char *group, const struct estate_mark *mark,
                      struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(estate->dir, "sessions");
    CLEANUP(mem_freep) char *path = estate_path(estate, "sessions", group, ".mark");

    if (!estate_mark_stops(mark) && mark->generation == 0) {
        if (!fs_exists(path))
            return 0;
        if (fs_real()->unlink(fs_real(), path, err) < 0)
            return -1;
        return fs_real()->sync_dir(fs_real(), dir, err);
    }
    CLEANUP(json_freep)
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "held", mark->held,
                  "final_point", (json_int_t)mark->final_point, "retired",
                  (json_int_t)mark->retired, "by", mark->by, "since_ms", (json_int_t)mark->since_ms,
                  "clean", (json_int_t)mark->clean, "settled", (json_int_t)mark->settled, "seal",
                  (json_int_t)mark->seal, "generation", (json_int_t)mark->generation);
    CLEANUP(mem_freep) char *text = json_text(json);
    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

static bool add_disks(struct estate *estate, const char *name, struct str *text)
{
    CLEANUP(machine_done) struct machine machine;

    machine_init(&machine);
    if (estate_machine_get(estate, name, &machine, NULL) < 0)
        return false;
    VEC_FOREACH(disk, &machine.disks) {
        struct stat st;
        if (stat(disk->path, &st) < 0)
            return false;
        str_addf(text, "%s %ju %ju %jd.%09ld;", disk->path, (uintmax_t)st.st_ino,
                 (uintmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    }
    return true;
}

/* 0: a disk cannot be seen. */
static uint64_t seal_of(struct estate *estate, const char *group)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct machine_names machines;
    struct sha256 hash;
    uint64_t seal;

    estate_group_machines(estate, group, &machines);
    for (size_t i = 0; i < machines.count; i++)
        if (!add_disks(estate, machines.at[i], &text))
            return 0;
    sha256_of(str_text(&text), text.len, &hash);
    memcpy(&seal, hash.bytes, sizeof(seal));
    seal &= INT64_MAX; /* JSON's integers have a sign */
    return seal ? seal : 1;
}

int estate_seal(struct estate *estate, const char *group, struct estate_mark *mark, struct err *err)
{
    mark->seal = seal_of(estate, group);
    return estate_mark_write(estate, group, mark, err);
}

bool estate_seal_matches(struct estate *estate, const char *group, const struct estate_mark *mark)
{
    return mark->seal != 0 && mark->seal == seal_of(estate, group);
}

bool estate_mark_stops(const struct estate_mark *mark)
{
    return mark->held[0] || mark->retired != 0;
}

int estate_mark_clear(struct estate *estate, const char *machine, struct err *err)
{
    const struct estate_mark none = {0};

    return estate_mark_write(estate, machine, &none, err);
}

int estate_may_start(struct estate *estate, const char *machine, struct err *err)
{
    struct estate_mark mark;
    char group[NAME_MAX_BYTES];
    char peer[NAME_MAX_BYTES] = "the other site";
    char since[32];

    (void)estate_group_of(estate, machine, group);
    if (estate_mark_read(estate, group, &mark, err) < 0)
        return -1;
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender)
        (void)snprintf(peer, sizeof(peer), "%s", sender->group.peer);
    estate_unlock(estate);
    if (mark.retired)
        return err_set(err, ERR_FENCED, 0,
                       "%s was failed over to %s (generation %" PRIu64 "), as is known here since "
                       "%s: started here, too, it would be there twice; hint: it runs at %s now",
                       machine, peer, mark.retired, str_time(mark.since_ms, since, sizeof(since)),
                       peer);
    if (mark.held[0])
        return err_set(err, ERR_STATE, 0,
                       "%s is held for the failover %s; hint: let that run end, or cancel it at %s",
                       machine, mark.held, peer);
    return 0;
}
