// SPDX-License-Identifier: Apache-2.0
/* The file "verified" of a replica's folder: a record (replica/record.h), one line of JSON as verified_read
 * gives it. Nothing depends on it but when something is read again, so one that is lost or damaged is
 * none. */
#include "sites/verified.h"

#include "base/mem.h"
#include "replica/record.h"

#include <string.h>

#define FILE_NAME "verified"

json_t *verified_read(struct estate *estate, const char *group)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, group);
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    json_t *json;

    if (record_read(fs_real(), path, &text, &none) < 0
        || json_parse(str_text(&text), text.len, &json, &none) < 0)
        return json_null();
    return json;
}

/* The part that was just read, if it is the next one; `ret_began_ms` when it was the last of all. */
static bool pass_step(json_t *pass, const struct store_scrub_ask *ask, int64_t now)
{
    uint64_t of = json_get_u64(pass, "of", 0);
    uint64_t done = json_get_u64(pass, "done", 0);

    if (ask->subset == 1 && (ask->of != of || done != 1))
        (void)json_object_set_new(pass, "began_ms", json_integer(now));
    else if (ask->of != of || ask->subset != done + 1)
        return false;
    bool whole = ask->subset == ask->of;
    (void)json_object_set_new(pass, "of", json_integer((json_int_t)ask->of));
    (void)json_object_set_new(pass, "done", json_integer(whole ? 0 : (json_int_t)ask->subset));
    return whole;
}

int verified_note(struct estate *estate, const char *group, const struct store_scrub *scrub,
                  struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, group);
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(json_freep) json_t *before = verified_read(estate, group);
    const struct store_scrub_ask *ask = &scrub->ask;
    int64_t now = estate_clock(estate)->wall_ms(estate_clock(estate));
    uint64_t whole_ms = json_get_u64(before, "whole_ms", 0);
    json_t *old = json_object_get(before, "pass");
    CLEANUP(json_freep) json_t *pass = json_is_object(old) ? json_deep_copy(old) : json_object();

    if (ask->point == 0 && ask->of > 0 && pass_step(pass, ask, now))
        whole_ms = (uint64_t)now;
    if (ask->point == 0 && ask->of == 0) { /* the parts begin again */
        whole_ms = (uint64_t)now;
        (void)json_object_set_new(pass, "done", json_integer(0));
    }
    CLEANUP(json_freep)
    json_t *json = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "at_ms", (json_int_t)now, "subset",
        (json_int_t)ask->subset, "of", (json_int_t)ask->of, "point", (json_int_t)ask->point,
        "damaged_head", (json_int_t)scrub->damaged_head, "damaged_past",
        (json_int_t)scrub->damaged_past, "healed", (json_int_t)scrub->healed, "faults",
        (json_int_t)scrub->faults, "whole_ms", (json_int_t)whole_ms, "pass", pass);
    CLEANUP(mem_freep) char *line = json_text(json);
    CLEANUP(mem_freep) char *text = mem_printf("%s\n", line);
    return record_write(fs_real(), path, text, err);
}

uint32_t verified_due(const json_t *verified, int64_t every_ms, uint32_t parts, int64_t now_ms)
{
    int64_t part_ms = every_ms / parts;
    int64_t at = (int64_t)json_get_u64(verified, "at_ms", 0);
    int64_t whole = (int64_t)json_get_u64(verified, "whole_ms", 0);
    const json_t *pass = json_object_get(verified, "pass");
    uint64_t done = json_get_u64(pass, "of", 0) == parts ? json_get_u64(pass, "done", 0) : 0;
    /* What was read by hand, of one point or of other parts, counts for nothing but its time. */
    int64_t last = done > 0 || json_get_u64(verified, "of", 0) == parts ? at : whole;

    if (last > now_ms)
        last = now_ms - part_ms + 1;
    if (last > 0 && now_ms - last < part_ms)
        return 0;
    return done < parts ? (uint32_t)done + 1 : 1;
}
