// SPDX-License-Identifier: Apache-2.0
/* A slice of a scrub. What the next one needs goes to whoever asked and comes back with it, so that a
 * daemon that is restarted meanwhile is no end of it, and nothing is left of one that nobody goes on
 * with. The store is given back between two slices. */
#include "base/mem.h"
#include "sites/estate_base.h"
#include "sites/site_local.h"
#include "sites/verified.h"

#include <stdio.h>

#define SLICE_BYTES (UINT64_C(64) * 1024 * 1024)

static const struct {
    const char *key;
    size_t at;
} counters[] = {
    {"at", offsetof(struct store_scrub, at)},
    {"row", offsetof(struct store_scrub, row)},
    {"done_bytes", offsetof(struct store_scrub, done_bytes)},
    {"total_bytes", offsetof(struct store_scrub, total_bytes)},
    {"damaged_head", offsetof(struct store_scrub, damaged_head)},
    {"damaged_past", offsetof(struct store_scrub, damaged_past)},
    {"healed", offsetof(struct store_scrub, healed)},
    {"faults", offsetof(struct store_scrub, faults)},
    {"stamps", offsetof(struct store_scrub, stamps)},
};

static uint64_t *counter(struct store_scrub *scrub, size_t i)
{
    return (uint64_t *)(void *)((char *)scrub + counters[i].at);
}

static json_t *cursor_of(struct store_scrub *scrub)
{
    json_t *cursor =
        json_pack("{s:I, s:s}", "stage", (json_int_t)scrub->stage, "disk", scrub->disk);

    for (size_t i = 0; i < ARRAY_LEN(counters); i++)
        (void)json_object_set_new(cursor, counters[i].key,
                                  json_integer((json_int_t)*counter(scrub, i)));
    return cursor;
}

static int take_cursor(const json_t *cursor, struct store_scrub *scrub, struct err *err)
{
    const char *disk;
    uint64_t stage;

    if (json_need_u64(cursor, "stage", "cursor", &stage, err) < 0
        || json_need_str(cursor, "disk", "cursor", &disk, err) < 0)
        return -1;
    scrub->stage = stage > UINT8_MAX ? UINT8_MAX : (unsigned)stage;
    (void)snprintf(scrub->disk, sizeof(scrub->disk), "%s", disk);
    for (size_t i = 0; i < ARRAY_LEN(counters); i++)
        if (json_need_u64(cursor, counters[i].key, "cursor", counter(scrub, i), err) < 0)
            return -1;
    return 0;
}

static int slice(struct store *store, const json_t *args, struct store_scrub *scrub,
                 struct cancel *cancel, struct err *err)
{
    const json_t *cursor = json_object_get(args, "cursor");
    const struct store_scrub_ask ask = {
        .subset = json_get_u64(args, "subset", 0),
        .of = json_get_u64(args, "of", 0),
        .point = json_get_u64(args, "at", 0),
    };

    if (store_dir_scrub_begin(store, &ask, scrub, err) < 0
        || (json_is_object(cursor) && take_cursor(cursor, scrub, err) < 0))
        return -1;
    return store_dir_scrub_slice(store, scrub, SLICE_BYTES, cancel, err);
}

static json_t *result_of(struct store_scrub *scrub)
{
    json_t *result = cursor_of(scrub);
    json_t *texts = json_array();

    for (size_t i = 0; i < scrub->text_count; i++)
        (void)json_array_append_new(texts, json_string(scrub->texts[i]));
    (void)json_object_set_new(result, "cursor", cursor_of(scrub));
    (void)json_object_set_new(result, "done", json_boolean(scrub->done));
    (void)json_object_set_new(result, "texts", texts);
    return result;
}

int ask_group_verify(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(store_scrub_done) struct store_scrub scrub = {0};
    const char *group;
    struct store *store;

    if (json_need_str(args, "group", "ask", &group, err) < 0
        || estate_store_get_to_scrub(estate, group, &store, err) < 0)
        return -1;
    int rc = slice(store, args, &scrub, cancel, err);
    if (rc == 0 && scrub.done)
        rc = verified_note(estate, group, &scrub, err);
    /* One that was opened for the scrub alone is nobody else's. */
    struct err doubt = ERR_EMPTY;
    bool own = store_dir_check_own(store, &doubt) < 0;
    estate_store_put(estate, group, store,
                     own || (rc < 0 && (err->code == ERR_IO || err->code == ERR_SPACE)));
    if (rc == 0)
        *ret_result = result_of(&scrub);
    return rc;
}
