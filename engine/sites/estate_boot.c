// SPDX-License-Identifier: Apache-2.0
/* After a host went down without a word, nobody here knows what happened meanwhile: the peer may
 * have taken its machines over. So none of them is started before its peer was heard, or a person
 * took that on himself.
 *
 *   boot.json  JSON {"boot": ID, "clean": BOOL, "doubted": [GROUP]}: the start of the host that
 *              this daemon runs in; whether it ended by command; groups whose peer was not heard
 *              since a start of the host that was not clean
 *
 * The same host, only a daemon that was killed: the ID is the same, and nothing is in doubt. */
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "sites/estate_internal.h"
#include "sites/site.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME      "boot.json"
#define FILE_MAX_BYTES (1024 * 1024)
#define BOOT_ID_PATH   "/proc/sys/kernel/random/boot_id"
#define MEET_MS        5000

int estate_boot_id(char *ret_id, size_t len, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), BOOT_ID_PATH, 128, &text, err) < 0)
        return err_wrap(err, "which start of the host this is");
    (void)snprintf(ret_id, len, "%.*s", (int)strcspn(str_text(&text), "\n"), str_text(&text));
    return 0;
}

static int load(struct estate *estate, json_t **ret_json, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(estate->dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, ret_json, err) < 0) {
        err->code = ERR_CORRUPT;
        return err_wrap(err, "%s", path);
    }
    return 0;
}

/* `boot_lock` held. */
static int save(struct estate *estate, bool clean, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(estate->dir, FILE_NAME);
    CLEANUP(json_freep)
    json_t *json = json_pack("{s:s, s:b, s:O}", "boot", estate->boot_id, "clean", clean, "doubted",
                             estate->doubted);
    CLEANUP(mem_freep) char *text = json_text(json);

    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

static void lock_boot(struct estate *estate)
{
    (void)pthread_mutex_lock(&estate->boot_lock);
}

static void unlock_boot(struct estate *estate)
{
    (void)pthread_mutex_unlock(&estate->boot_lock);
}

static size_t find(const struct estate *estate, const char *group)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(estate->doubted, i, entry)
        if (str_eq(json_string_value(entry), group))
            return i;
    return SIZE_MAX;
}

/* Every group that is sent from here, and was not known to be retired anyway. */
static void doubt_all(struct estate *estate)
{
    size_t count;
    CLEANUP(mem_freep) struct estate_group *groups = estate_group_list(estate, &count);

    for (size_t i = 0; i < count; i++) {
        struct estate_mark mark;
        struct err ignored = ERR_EMPTY;
        bool retired =
            estate_mark_read(estate, groups[i].group, &mark, &ignored) == 0 && mark.retired;

        if (!retired && find(estate, groups[i].group) == SIZE_MAX)
            (void)json_array_append_new(estate->doubted, json_string(groups[i].group));
    }
}

int estate_boot_begin(struct estate *estate, const char *boot_id, struct err *err)
{
    CLEANUP(json_freep) json_t *before = NULL;
    struct err missing = ERR_EMPTY;
    bool clean = false;

    if (load(estate, &before, &missing) < 0 && missing.code != ERR_NOT_FOUND)
        log_error("daemon", "how the host went down is not known error=\"%s\"", missing.text);
    bool same = str_eq(json_get_str(before, "boot", ""), boot_id);
    clean = same || json_get_bool(before, "clean", false);
    lock_boot(estate);
    (void)snprintf(estate->boot_id, sizeof(estate->boot_id), "%s", boot_id);
    if (json_is_array(json_object_get(before, "doubted")))
        (void)json_array_extend(estate->doubted, json_object_get(before, "doubted"));
    if (!clean)
        doubt_all(estate);
    size_t count = json_array_size(estate->doubted);
    int rc = save(estate, false, err);
    unlock_boot(estate);
    if (rc == 0 && count > 0)
        log_warn("daemon",
                 "the host was not shut down cleanly: machines wait for their peers "
                 "groups=%zu",
                 count);
    return rc;
}

int estate_boot_end(struct estate *estate, struct err *err)
{
    lock_boot(estate);
    int rc = save(estate, true, err);
    unlock_boot(estate);
    return rc;
}

bool estate_boot_doubts(struct estate *estate, const char *machine)
{
    char group[NAME_MAX_BYTES];

    (void)estate_group_of(estate, machine, group);
    lock_boot(estate);
    bool doubted = find(estate, group) != SIZE_MAX;
    unlock_boot(estate);
    return doubted;
}

int estate_boot_trust(struct estate *estate, const char *machine, struct err *err)
{
    char group[NAME_MAX_BYTES];
    int rc = 0;

    (void)estate_group_of(estate, machine, group);
    lock_boot(estate);
    size_t i = find(estate, group);
    if (i != SIZE_MAX) {
        (void)json_array_remove(estate->doubted, i);
        rc = save(estate, false, err);
        if (rc < 0)
            (void)json_array_append_new(estate->doubted, json_string(group));
    }
    unlock_boot(estate);
    return rc;
}

/* --- Meeting the peer ------------------------------------------------------------------------- */

static bool find_group(struct estate *estate, const char *name, struct estate_group *ret_group)
{
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, name);
    if (sender)
        *ret_group = sender->group;
    estate_unlock(estate);
    return sender != NULL;
}

int estate_meet(struct estate *estate, const char *name, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(estate_clock(estate), cancel, MEET_MS);
    CLEANUP(site_closep) struct site *site = NULL;
    CLEANUP(json_freep) json_t *seen = NULL;
    struct estate_group group;

    if (!find_group(estate, name, &group))
        return err_set(err, ERR_NOT_FOUND, 0, "%s does not send \"%s\"", estate->site, name);
    site = site_remote_new(estate, group.peer);
    if (site_ask(site, "group.observe", json_pack("{s:s, s:s}", "group", name, "run", ""), &seen,
                 limit, err)
        < 0)
        return -1;
    if (!str_eq(json_get_str(seen, "role", ""), "replica"))
        return err_set(err, ERR_STATE, 0, "%s holds no replica of %s", group.peer, name);
    uint64_t generation = json_get_u64(seen, "generation", 0);
    /* A generation above ours was promoted without us; at ours or below, nothing happened. */
    if (generation > group.generation)
        return estate_retire(estate, name, group.peer, generation, cancel, err);
    return estate_boot_trust(estate, name, err);
}

int estate_boot_check(struct estate *estate, const char *machine, struct cancel *cancel,
                      struct err *err)
{
    struct err why = ERR_EMPTY;
    char name[NAME_MAX_BYTES];
    struct estate_group group;

    (void)estate_group_of(estate, machine, name);
    if (!estate_boot_doubts(estate, name) || !find_group(estate, name, &group))
        return 0;
    if (estate_meet(estate, name, cancel, &why) < 0)
        return err_set(err, ERR_STATE, 0,
                       "this host was not shut down cleanly, and %s, which may have taken %s over, "
                       "has not answered since (%.500s); hint: it can be started once %s answers; "
                       "`muster machine start %s --without-peer` takes that on you, and is "
                       "recorded",
                       group.peer, machine, why.text, group.peer, machine);
    return estate_may_start(estate, machine, err);
}
