// SPDX-License-Identifier: Apache-2.0
/* The file `checkpoint`: canonical JSON of struct checkpoint's fields and "version": 1, a line
 * feed, "crc32c " and eight hex digits over what stands before the line feed. "resync" ({cause, now,
 * since_ms, why}) is there only while one is required or under way; whoever does not know it
 * compares nothing, and sends what is tracked. "grown_from" of a disk is there only until the first
 * point of its new size is durable. "seed" of a disk ({file, data, same}) says that its head began from a
 * file at the peer: while the phase is "copy", what was so filled must be compared before it counts. */
#include "sync/checkpoint.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define FILE_NAME    "checkpoint"
#define FILE_VERSION 1
#define FILE_MAX     (1024u * 1024u)

static const char *const phase_names[] = {
    [PHASE_NEW] = "new",
    [PHASE_COPY] = "copy",
    [PHASE_RESYNC] = "resync",
    [PHASE_DELTA] = "delta",
};

static const char *const cause_names[RESYNC_CAUSE_COUNT] = {
    [RESYNC_NONE] = "none",   [RESYNC_LOST] = "tracking-lost", [RESYNC_LOG] = "log-too-large",
    [RESYNC_ASKED] = "asked", [RESYNC_SEED] = "seed",          [RESYNC_GREW] = "disk-grew",
};

const char *resync_cause_name(enum resync_cause cause)
{
    return cause < RESYNC_CAUSE_COUNT ? cause_names[cause] : "?";
}

static json_t *resync_json(const struct checkpoint_resync *resync)
{
    return json_pack("{s:s, s:b, s:I, s:s}", "cause", cause_names[resync->cause], "now",
                     resync->now, "since_ms", (json_int_t)resync->since_ms, "why", resync->why);
}

static json_t *disks_json(const struct checkpoint *ck)
{
    json_t *array = json_array();

    VEC_FOREACH(disk, &ck->disks) {
        (void)json_array_append_new(array,
                                    json_pack("{s:s, s:I, s:I, s:b}", "name", disk->name, "size",
                                              (json_int_t)disk->size, "scanned",
                                              (json_int_t)disk->scanned, "done", disk->done));
        json_t *entry = json_array_get(array, json_array_size(array) - 1);
        if (disk->grown_from)
            (void)json_object_set_new(entry, "grown_from",
                                      json_integer((json_int_t)disk->grown_from));
        if (disk->seed[0])
            (void)json_object_set_new(entry, "seed",
                                      json_pack("{s:s, s:I, s:I}", "file", disk->seed, "data",
                                                (json_int_t)disk->seed_data, "same",
                                                (json_int_t)disk->seed_same));
    }
    return array;
}

static json_t *application_json(const struct checkpoint_application *a)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "tried_ms", (json_int_t)a->tried_ms,
                     "made_ms", (json_int_t)a->made_ms, "failing_ms", (json_int_t)a->failing_ms,
                     "point", (json_int_t)a->point, "cut_ms", (json_int_t)a->cut_ms, "note",
                     a->note);
}

/* Not in files of earlier releases. */
static void read_application(const json_t *json, struct checkpoint_application *a)
{
    a->tried_ms = (int64_t)json_get_u64(json, "tried_ms", 0);
    a->made_ms = (int64_t)json_get_u64(json, "made_ms", 0);
    a->failing_ms = (int64_t)json_get_u64(json, "failing_ms", 0);
    a->point = json_get_u64(json, "point", 0);
    a->cut_ms = (int64_t)json_get_u64(json, "cut_ms", 0);
    (void)snprintf(a->note, sizeof(a->note), "%s", json_get_str(json, "note", ""));
}

static json_t *to_json(const struct checkpoint *ck)
{
    char hash[2 * SHA256_BYTES + 1];
    char tip[2 * SHA256_BYTES + 1];

    str_hex(ck->durable_hash.bytes, SHA256_BYTES, hash);
    str_hex(ck->tip_hash.bytes, SHA256_BYTES, tip);
    return json_pack(
        "{s:i, s:s, s:I, s:I, s:I, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:s, s:o, s:o}", "version",
        FILE_VERSION, "phase", phase_names[ck->phase], "serial", (json_int_t)ck->serial, "base",
        (json_int_t)ck->base, "cut", (json_int_t)ck->cut, "note", ck->note, "durable",
        (json_int_t)ck->durable_point, "durable_hash", hash, "durable_cut_ms",
        (json_int_t)ck->durable_cut_ms, "applied", (json_int_t)ck->applied_point, "applied_cut_ms",
        (json_int_t)ck->applied_cut_ms, "tip", (json_int_t)ck->tip_point, "tip_hash", tip, "disks",
        disks_json(ck), "application", application_json(&ck->application));
}

int checkpoint_save(const char *dir, const struct checkpoint *ck, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(json_freep) json_t *json = to_json(ck);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (json && ck->resync.cause != RESYNC_NONE
        && json_object_set_new(json, "resync", resync_json(&ck->resync)) < 0)
        json_freep(&json);
    if (!json) /* a note that is not UTF-8: the source's words end there */
        return err_set(err, ERR_INVALID, 0, "%s: a note that is not UTF-8", path);
    CLEANUP(mem_freep) char *body = json_text(json);
    str_add(&text, body);
    str_addf(&text, "\ncrc32c %08x\n", crc32c(0, body, strlen(body)));
    return fs_replace_file(fs_real(), path, text.ptr, text.len, 0600, err);
}

static void read_seed(const json_t *json, struct checkpoint_disk *disk)
{
    (void)snprintf(disk->seed, sizeof(disk->seed), "%s", json_get_str(json, "file", ""));
    disk->seed_data = json_get_u64(json, "data", 0);
    disk->seed_same = json_get_u64(json, "same", 0);
}

static int read_disks(const json_t *json, struct checkpoint *ck, struct err *err)
{
    json_t *array;
    json_t *item;
    size_t i;

    if (json_need_array(json, "disks", FILE_NAME, &array, err) < 0)
        return -1;
    json_array_foreach(array, i, item) {
        struct checkpoint_disk *disk = checkpoint_disks_push(&ck->disks);
        const char *name;

        if (json_need_str(item, "name", FILE_NAME, &name, err) < 0
            || json_need_u64(item, "size", FILE_NAME, &disk->size, err) < 0
            || json_need_u64(item, "scanned", FILE_NAME, &disk->scanned, err) < 0)
            return -1;
        (void)snprintf(disk->name, sizeof(disk->name), "%s", name);
        disk->done = json_get_bool(item, "done", false);
        disk->grown_from = json_get_u64(item, "grown_from", 0);
        read_seed(json_object_get(item, "seed"), disk);
    }
    return 0;
}

static int read_phase(const json_t *json, enum phase *ret_phase, struct err *err)
{
    const char *name;

    if (json_need_str(json, "phase", FILE_NAME, &name, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(phase_names); i++)
        if (strcmp(name, phase_names[i]) == 0) {
            *ret_phase = (enum phase)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, 0, "unknown phase \"%s\"", name);
}

/* Not in files of the first releases, and not while there is none. */
static int read_resync(const json_t *json, struct checkpoint_resync *resync, struct err *err)
{
    const json_t *object = json_object_get(json, "resync");
    const char *cause = json_get_str(object, "cause", "");

    if (!object)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(cause_names); i++)
        if (strcmp(cause, cause_names[i]) == 0) {
            resync->cause = (enum resync_cause)i;
            resync->now = json_get_bool(object, "now", false);
            resync->since_ms = (int64_t)json_get_u64(object, "since_ms", 0);
            (void)snprintf(resync->why, sizeof(resync->why), "%s", json_get_str(object, "why", ""));
            return 0;
        }
    return err_set(err, ERR_INVALID, 0, "unknown cause of a resync \"%s\"", cause);
}

static int from_json(const json_t *json, struct checkpoint *ck, struct err *err)
{
    const char *hash;
    const char *tip = json_get_str(json, "tip_hash", "");
    uint64_t cut_ms;
    uint64_t applied_ms;

    if (json_get_u64(json, "version", 0) != FILE_VERSION)
        return err_set(err, ERR_INVALID, 0, "version %llu is not known",
                       (unsigned long long)json_get_u64(json, "version", 0));
    if (read_phase(json, &ck->phase, err) < 0
        || json_need_u64(json, "serial", FILE_NAME, &ck->serial, err) < 0
        || json_need_u64(json, "base", FILE_NAME, &ck->base, err) < 0
        || json_need_u64(json, "cut", FILE_NAME, &ck->cut, err) < 0
        || json_need_u64(json, "durable", FILE_NAME, &ck->durable_point, err) < 0
        || json_need_str(json, "durable_hash", FILE_NAME, &hash, err) < 0
        || json_need_u64(json, "durable_cut_ms", FILE_NAME, &cut_ms, err) < 0
        || json_need_u64(json, "applied", FILE_NAME, &ck->applied_point, err) < 0
        || json_need_u64(json, "applied_cut_ms", FILE_NAME, &applied_ms, err) < 0)
        return -1;
    if (strlen(hash) != 2 * SHA256_BYTES || !str_unhex(hash, ck->durable_hash.bytes, SHA256_BYTES))
        return err_set(err, ERR_INVALID, 0, "field \"durable_hash\" is not a hash");
    ck->tip_point = json_get_u64(json, "tip", 0); /* not in files of the first release */
    if (ck->tip_point
        && (strlen(tip) != 2 * SHA256_BYTES || !str_unhex(tip, ck->tip_hash.bytes, SHA256_BYTES)))
        return err_set(err, ERR_INVALID, 0, "field \"tip_hash\" is not a hash");
    ck->durable_cut_ms = (int64_t)cut_ms;
    ck->applied_cut_ms = (int64_t)applied_ms;
    (void)snprintf(ck->note, sizeof(ck->note), "%s", json_get_str(json, "note", ""));
    read_application(json_object_get(json, "application"), &ck->application);
    return read_resync(json, &ck->resync, err) < 0 ? -1 : read_disks(json, ck, err);
}

static int parse(struct str *text, struct checkpoint *ck, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;
    char *line = text->ptr ? strchr(text->ptr, '\n') : NULL;
    char want[32];

    if (!line)
        return err_set(err, ERR_INVALID, 0, "no check sum");
    size_t len = (size_t)(line - text->ptr);
    (void)snprintf(want, sizeof(want), "\ncrc32c %08x\n", crc32c(0, text->ptr, len));
    if (strcmp(line, want) != 0)
        return err_set(err, ERR_INVALID, 0, "wrong check sum");
    if (json_parse(text->ptr, len, &json, err) < 0)
        return -1;
    return from_json(json, ck, err);
}

int checkpoint_load(const char *dir, struct checkpoint *ret_ck, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct checkpoint ck = {0};
    struct err why = ERR_EMPTY;

    /* Its name may not be durable yet, and what is done by it must not outlive it. */
    if (fs_read_file(fs_real(), path, FILE_MAX, &text, err) < 0
        || fs_real()->sync_dir(fs_real(), dir, err) < 0)
        return -1;
    if (parse(&text, &ck, &why) < 0) {
        checkpoint_done(&ck);
        return err_set(err, ERR_CORRUPT, 0,
                       "%s cannot be read (%s); hint: move it away: the group is then compared "
                       "with its replica and goes on",
                       path, why.text);
    }
    *ret_ck = ck;
    return 0;
}

void checkpoint_done(struct checkpoint *ck)
{
    checkpoint_disks_free(&ck->disks);
}
