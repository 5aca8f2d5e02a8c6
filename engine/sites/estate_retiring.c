// SPDX-License-Identifier: Apache-2.0
/* Who was promoted here while his old site could not be told. Until that site says that it has
 * retired its machine it is asked again and again, over restarts of either side:
 *
 *   sessions/GROUP.retiring  JSON {"peer": SITE, "run": RUN, "generation": N, "since_ms": WALL};
 *                            written before the promotion, gone when the old site said yes
 *
 * One whose store is not at that generation speaks of a promotion that did not happen, or that was
 * left behind: it is not asked for. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "sites/estate_base.h"
#include "sites/estate_internal.h"
#include "sites/site.h"

#include <inttypes.h>
#include <stdio.h>

#define SUFFIX         ".retiring"
#define FILE_MAX_BYTES 4096

static struct estate_retiring *find(struct estate *estate, const char *group)
{
    VEC_FOREACH(retiring, &estate->retirings)
        if (str_eq(retiring->group, group))
            return retiring;
    return NULL;
}

static int load(struct estate *estate, const char *group, struct estate_retiring *ret_retiring,
                struct err *err)
{
    CLEANUP(mem_freep) char *path = estate_path(estate, "sessions", group, SUFFIX);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    struct estate_retiring retiring = {.group = ""};
    const char *peer;
    const char *run;

    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, &json, err) < 0
        || json_need_str(json, "peer", path, &peer, err) < 0
        || json_need_str(json, "run", path, &run, err) < 0
        || json_need_u64(json, "generation", path, &retiring.generation, err) < 0)
        return -1;
    (void)snprintf(retiring.group, sizeof(retiring.group), "%s", group);
    (void)snprintf(retiring.peer, sizeof(retiring.peer), "%s", peer);
    (void)snprintf(retiring.run, sizeof(retiring.run), "%s", run);
    retiring.since_ms = (int64_t)json_get_u64(json, "since_ms", 0);
    *ret_retiring = retiring;
    return 0;
}

static int save(struct estate *estate, const struct estate_retiring *retiring, struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(estate->dir, "sessions");
    CLEANUP(mem_freep) char *path = estate_path(estate, "sessions", retiring->group, SUFFIX);
    CLEANUP(json_freep)
    json_t *json = json_pack("{s:s, s:s, s:I, s:I}", "peer", retiring->peer, "run", retiring->run,
                             "generation", (json_int_t)retiring->generation, "since_ms",
                             (json_int_t)retiring->since_ms);
    CLEANUP(mem_freep) char *text = json_text(json);

    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

void estate_retiring_load(struct estate *estate)
{
    CLEANUP(mem_freep) char *dir = path_join(estate->dir, "sessions");
    CLEANUP(fs_names_free) struct fs_names names = {0};
    struct err err = ERR_EMPTY;

    if (!fs_exists(dir))
        return;
    if (fs_list(dir, &names, &err) < 0)
        log_error("fence", "who is to be retired is not known error=\"%s\"", err.text);
    for (size_t i = 0; i < names.len; i++) {
        size_t len = strlen(names.at[i]);
        struct estate_retiring retiring;

        if (len <= strlen(SUFFIX) || !str_eq(names.at[i] + len - strlen(SUFFIX), SUFFIX))
            continue;
        names.at[i][len - strlen(SUFFIX)] = '\0';
        if (load(estate, names.at[i], &retiring, &err) < 0)
            log_error("fence", "left out group=%s error=\"%s\"", names.at[i], err.text);
        else
            *estate_retirings_push(&estate->retirings) = retiring;
    }
}

int estate_retiring_begin(struct estate *estate, const char *group, const char *run,
                          uint64_t generation, struct err *err)
{
    struct clock *clock = estate_clock(estate);
    struct estate_retiring retiring = {.generation = generation};

    estate_lock(estate);
    const struct estate_holder *holder = estate_find_holder(estate, group);
    const struct estate_retiring *known = find(estate, group);
    bool there = known && known->generation >= generation;
    if (holder)
        (void)snprintf(retiring.peer, sizeof(retiring.peer), "%s", holder->replica.peer);
    estate_unlock(estate);
    if (there || !holder)
        return 0;
    (void)snprintf(retiring.group, sizeof(retiring.group), "%s", group);
    (void)snprintf(retiring.run, sizeof(retiring.run), "%s", run);
    retiring.since_ms = clock->wall_ms(clock);
    if (save(estate, &retiring, err) < 0)
        return err_wrap(err, "remember to retire the old %s", group);
    CRASH_POINT("replica.retiring");
    estate_lock(estate);
    struct estate_retiring *place = find(estate, group);
    *(place ? place : estate_retirings_push(&estate->retirings)) = retiring;
    estate_unlock(estate);
    return 0;
}

void estate_retiring_over(struct estate *estate, const char *group)
{
    CLEANUP(mem_freep) char *path = estate_path(estate, "sessions", group, SUFFIX);
    struct err err = ERR_EMPTY;

    estate_lock(estate);
    struct estate_retiring *place = find(estate, group);
    if (place)
        *place = estate->retirings.at[--estate->retirings.len];
    estate_unlock(estate);
    /* A file that comes back after a power cut costs one more question. */
    if (place && fs_real()->unlink(fs_real(), path, &err) < 0 && err.code != ERR_NOT_FOUND)
        log_warn("fence", "group=%s error=\"%s\"", group, err.text);
}

struct estate_retiring *estate_retiring_list(struct estate *estate, size_t *ret_count)
{
    estate_lock(estate);
    struct estate_retiring *list = mem_new_array(struct estate_retiring, estate->retirings.len + 1);
    *ret_count = estate->retirings.len;
    for (size_t i = 0; i < estate->retirings.len; i++)
        list[i] = estate->retirings.at[i];
    estate_unlock(estate);
    return list;
}

/* Of the replica; or, when its machine runs on those disks again, the one it came back under. */
static int generation_here(struct estate *estate, const char *group, uint64_t *ret_generation,
                           struct err *err)
{
    struct store_info info;
    struct store *store;
    int own = estate_base_look(estate, group, ret_generation, err);

    if (own != 0)
        return own < 0 ? -1 : 0;
    if (estate_store_get(estate, group, &store, err) < 0)
        return -1;
    int rc = store->ops->info(store, &info, err);
    estate_store_put(estate, group, store, rc < 0);
    if (rc == 0)
        *ret_generation = info.generation;
    return rc;
}

int estate_retiring_ask(struct estate *estate, const struct estate_retiring *retiring,
                        bool *ret_asked, struct cancel *cancel, struct err *err)
{
    CLEANUP(site_closep) struct site *site = NULL;
    struct err missing = ERR_EMPTY;
    uint64_t generation = 0;

    *ret_asked = false;
    if (generation_here(estate, retiring->group, &generation, &missing) < 0) {
        if (missing.code == ERR_NOT_FOUND) {
            estate_retiring_over(estate, retiring->group); /* the replica was given up */
            return 0;
        }
        return err_set(err, missing.code, missing.sys, "%s", missing.text);
    }
    if (generation > retiring->generation)
        estate_retiring_over(estate, retiring->group);
    if (generation != retiring->generation)
        return 0;
    *ret_asked = true;
    site = site_remote_new(estate, retiring->peer);
    return site_ask(site, "group.retire",
                    json_pack("{s:s, s:s, s:I}", "group", retiring->group, "run", retiring->run,
                              "generation", (json_int_t)generation),
                    NULL, cancel, err);
}
