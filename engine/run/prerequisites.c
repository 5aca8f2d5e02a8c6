// SPDX-License-Identifier: Apache-2.0
/* The rows, in the order in which they are shown:
 *
 *   here   each disk, what would stop a start, change tracking, room for staging
 *   peer   reachable and willing, clock, room for the head, room for undo
 *   there  seeds; what a recovered machine needs: programs, files, networks, memory, processors
 *
 * The peer looks at its own side (op replica.check, engine/daemon/peer_check.c). */
#include "run/prerequisites.h"

#include "base/fs.h"
#include "base/mem.h"
#include "run/job_kind.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PEER_MS          15000
#define STAGING_MIN      16777216
#define STAGING_FRACTION 10
#define DAY_MS           INT64_C(86400000)
#define LUKS_HEADER      (16 * 1024 * 1024)
#define HINT             "; hint: "
#define FAILED_BYTES     800 /* of an error's text; the rest is counted */

enum verdict { OK, WARNING, FAILED };

struct look {
    const struct prerequisites_ask *ask;
    const struct machine *machine; /* the one that is looked at */
    struct prerequisites all;
    uint64_t bytes; /* of all disks */
    uint64_t held;  /* of these, what their files take: the rest are holes */
};

void prerequisites_done(struct prerequisites *all)
{
    json_decref(all->list);
    all->list = NULL;
}

/* --- Rows ------------------------------------------------------------------------------------ */

/* The provider and we look at the same disks: what both see is said once. */
static bool is_said(const struct look *look, const char *text)
{
    const json_t *row;
    size_t i;

    json_array_foreach(look->all.list, i, row) {
        if (str_eq(json_get_str(row, "full", ""), text))
            return true;
    }
    return false;
}

/* `text`: with its hint; "" for what is fine. */
static void add(struct look *look, enum verdict state, const char *site, const char *what,
                const char *needed, const char *found, const char *text)
{
    static const char *const names[] = {[OK] = "ok", [WARNING] = "warning", [FAILED] = "failed"};
    const char *hint = strstr(text, HINT);

    if (*text && is_said(look, text))
        return;
    (void)json_array_append_new(
        look->all.list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s%, s:s, s:s}", "what", what, "site",
                                  site, "state", names[state], "needed", needed, "found", found,
                                  "text", text, hint ? (size_t)(hint - text) : strlen(text), "hint",
                                  hint ? hint + strlen(HINT) : "", "full", text));
    look->all.failed += state == FAILED;
    look->all.warnings += state == WARNING;
}

static void PRINTF_LIKE(5, 6) bad(struct look *look, enum verdict state, const char *site,
                                  const char *what, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    add(look, state, site, what, "", "", text);
}

/* "change tracking"; "change tracking of db1" where there are several. */
static char *label(const struct look *look, const char *what)
{
    return look->ask->machine_count > 1 ? mem_printf("%s of %s", what, look->machine->name)
                                        : mem_strdup(what);
}

/* --- Here ------------------------------------------------------------------------------------ */

/* A file may have holes; of a device nobody can tell. */
static uint64_t held_bytes(const char *path, uint64_t size)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return size;
    uint64_t held = (uint64_t)st.st_blocks * 512;
    return held < size ? held : size;
}

static void look_at_disks(struct look *look)
{
    const struct machine *machine = look->machine;
    bool several = look->ask->machine_count > 1;
    const char *site = look->ask->world->site;

    if (machine->disks.len == 0)
        bad(look, FAILED, site, "disks", "%s has no disks", machine->name);
    VEC_FOREACH(disk, &machine->disks) {
        CLEANUP(mem_freep)
        char *what =
            mem_printf("disk %s%s%s", several ? machine->name : "", several ? "." : "", disk->name);
        struct err err = ERR_EMPTY;
        uint64_t size = 0;
        char text[32];

        if (job_disk_size(disk->path, disk->format, &size, &err) < 0) {
            bad(look, FAILED, site, what, "%s: %s", what, err.text);
            continue;
        }
        CLEANUP(mem_freep)
        char *found = mem_printf("%s, %s", disk->format, str_bytes(size, text, sizeof(text)));
        add(look, OK, site, what, "raw or qcow2", found, "");
        look->bytes += size;
        look->held += held_bytes(disk->path, size);
    }
}

/* A provider names its problems one per line. */
static void look_at_host(struct look *look)
{
    CLEANUP(str_free) struct str lines = STR_EMPTY;
    struct provider *provider = estate_provider(look->ask->world->estate);
    CLEANUP(mem_freep) char *what = label(look, "host");
    const char *site = look->ask->world->site;
    struct err err = ERR_EMPTY;
    char *save = NULL;

    if (provider->check(provider, look->machine, &lines, &err) < 0)
        bad(look, FAILED, site, what, "%s", err.text);
    for (char *line = lines.ptr ? strtok_r(lines.ptr, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        bad(look, FAILED, site, what, "%s", line);
}

static void look_at_tracking(struct look *look)
{
    struct estate *estate = look->ask->world->estate;
    struct provider *provider = estate_provider(estate);
    const char *site = look->ask->world->site;
    CLEANUP(mem_freep) char *run_dir = estate_machine_dir(estate, look->machine->name);
    CLEANUP(mem_freep) char *what = label(look, "change tracking");
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(look->ask->world->clock, look->ask->cancel, PEER_MS);
    const struct provider_instance instance = {
        .machine = look->machine, .run_dir = run_dir, .netns = ""};
    struct err err = ERR_EMPTY;
    bool running = false;

    if (!provider->can_track)
        return;
    estate_machine_lock(estate, look->machine->name);
    int rc = provider->can_track(provider, &instance, &running, limit, &err);
    estate_machine_unlock(estate, look->machine->name);
    if (rc < 0)
        bad(look, FAILED, site, what, "%s: %s", look->machine->name, err.text);
    else
        add(look, OK, site, what, "dirty bitmaps",
            running ? "its QEMU has them" : "off: disks are compared", "");
}

/* `need` of `have` bytes. */
static void look_at_room(struct look *look, enum verdict otherwise, const char *site,
                         const char *what, uint64_t need, uint64_t have, const char *text)
{
    char a[32];
    char b[32];

    add(look, have < need ? otherwise : OK, site, what, str_bytes(need, a, sizeof(a)),
        str_bytes(have, b, sizeof(b)), have < need ? text : "");
}

static void look_at_staging(struct look *look)
{
    const char *dir = look->ask->world->dir;
    uint64_t need = look->held / STAGING_FRACTION;
    uint64_t have = 0;
    char a[32];
    char b[32];
    struct err err = ERR_EMPTY;

    if (need < STAGING_MIN)
        need = STAGING_MIN;
    if (fs_free_bytes(dir, &have, &err) < 0) {
        bad(look, FAILED, look->ask->world->site, "room for staging", "%s", err.text);
        return;
    }
    CLEANUP(mem_freep)
    char *text = mem_printf("%s has %s free, staging of changes needs %s" HINT
                            "make room, or give the site's `dir` another file system",
                            dir, str_bytes(have, a, sizeof(a)), str_bytes(need, b, sizeof(b)));
    look_at_room(look, FAILED, look->ask->world->site, "room for staging", need, have, text);
}

/* --- The peer -------------------------------------------------------------------------------- */

static void look_at_clock(struct look *look, int64_t apart)
{
    const char *peer = look->ask->peer;
    bool off = apart >= ESTATE_CLOCK_APART_MS || apart <= -ESTATE_CLOCK_APART_MS;
    char limit[32];
    char text[32];
    CLEANUP(mem_freep)
    char *found = mem_printf("%s %s", str_duration(apart < 0 ? -apart : apart, text, sizeof(text)),
                             apart < 0 ? "behind" : "ahead");
    CLEANUP(mem_freep)
    char *needed =
        mem_printf("within %s", str_duration(ESTATE_CLOCK_APART_MS, limit, sizeof(limit)));
    CLEANUP(mem_freep)
    char *said = mem_printf("the clock of %s is %s%s ours" HINT "set both by NTP", peer, found,
                            apart < 0 ? "" : " of");

    add(look, off ? WARNING : OK, peer, "clock", needed, found, off ? said : "");
}

uint64_t prerequisites_undo_bytes(const struct policy *policy, uint64_t bytes, int64_t *ret_kept_ms)
{
    const struct retention *retention = &policy->retention;
    double kept = (double)retention->keep * (double)policy->interval_ms;

    for (size_t i = 0; i < retention->tier_count; i++)
        if ((double)retention->tiers[i].for_ms > kept)
            kept = (double)retention->tiers[i].for_ms;
    if (kept > (double)RETENTION_SPAN_MAX)
        kept = (double)RETENTION_SPAN_MAX;
    if (ret_kept_ms)
        *ret_kept_ms = (int64_t)kept;
    return (uint64_t)((double)bytes * PREREQUISITE_CHANGE_PERCENT / 100 * kept / (double)DAY_MS);
}

static size_t disk_count(const struct prerequisites_ask *ask)
{
    size_t count = 0;

    for (size_t i = 0; i < ask->machine_count; i++)
        count += ask->machines[i].disks.len;
    return count;
}

/* What the disks hold must find room, and all of them when they are encrypted: such a head has no holes.
 * That they may fill up, and undo, which is an estimate, are only warned of. */
static void look_at_replica_room(struct look *look, uint64_t have, bool head_is_there)
{
    const struct prerequisites_ask *ask = look->ask;
    bool at_rest = ask->policy->encryption == POLICY_ENCRYPTION_AT_REST;
    uint64_t head = look->bytes + (at_rest ? LUKS_HEADER * disk_count(ask) : 0);
    uint64_t now = at_rest ? head : look->held;
    int64_t kept_ms = 0;
    uint64_t undo = prerequisites_undo_bytes(ask->policy, look->bytes, &kept_ms);
    char a[32], b[32], c[32];

    if (head_is_there)
        head = now = 0;
    CLEANUP(mem_freep)
    char *no_room =
        mem_printf("%s has %s free, what the disks hold needs %s" HINT
                   "make room there, in `replicas/` of its `dir`",
                   ask->peer, str_bytes(have, a, sizeof(a)), str_bytes(now, b, sizeof(b)));
    look_at_room(look, FAILED, ask->peer, "room for what the disks hold", now, have, no_room);
    CLEANUP(mem_freep)
    char *no_head =
        mem_printf("%s has %s free, the disks need up to %s when they fill up" HINT
                   "make room there before they do, in `replicas/` of its `dir`",
                   ask->peer, str_bytes(have, a, sizeof(a)), str_bytes(head, b, sizeof(b)));
    look_at_room(look, WARNING, ask->peer, "room for the disks", head, have, no_head);
    uint64_t left = have > head ? have - head : 0;
    CLEANUP(mem_freep)
    char *no_undo =
        mem_printf("%s has %s left beside the disks; older points may take about %s (%d %% of the "
                   "disks a day, kept for %s)" HINT "make room there, or keep fewer points",
                   ask->peer, str_bytes(left, a, sizeof(a)), str_bytes(undo, b, sizeof(b)),
                   PREREQUISITE_CHANGE_PERCENT, str_duration(kept_ms, c, sizeof(c)));
    CLEANUP(mem_freep)
    char *what = mem_printf("room for points of %s, about", str_duration(kept_ms, c, sizeof(c)));
    look_at_room(look, WARNING, ask->peer, what, undo, left, no_undo);
}

/* --- What a recovered machine needs there ------------------------------------------------------ */

/* The machines of a group are recovered together. */
static uint64_t memory_of(const struct prerequisites_ask *ask)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < ask->machine_count; i++)
        bytes += ask->machines[i].memory_bytes;
    return bytes;
}

static void look_at_memory(struct look *look, enum verdict refused, const json_t *host)
{
    const struct prerequisites_ask *ask = look->ask;
    const char *peer = ask->peer;
    uint64_t need = memory_of(ask);
    uint64_t all = json_get_u64(host, "memory_bytes", 0);
    uint64_t available = json_get_u64(host, "memory_available_bytes", 0);
    char a[32], b[32];

    if (all == 0)
        return;
    (void)str_bytes(need, a, sizeof(a));
    CLEANUP(mem_freep)
    char *little = mem_printf("the host of %s has %s of memory, %s needs %s" HINT
                              "recover it elsewhere, or give it less",
                              peer, str_bytes(all, b, sizeof(b)), ask->group, a);
    if (need > all) {
        look_at_room(look, refused, peer, "memory", need, all, little);
        return;
    }
    CLEANUP(mem_freep)
    char *busy = mem_printf("the host of %s has %s of memory available now, %s needs %s" HINT
                            "see that it is free when it is needed",
                            peer, str_bytes(available, b, sizeof(b)), ask->group, a);
    look_at_room(look, WARNING, peer, "memory", need, available, busy);
}

static void look_at_processors(struct look *look, const json_t *host)
{
    const struct machine *machine = look->machine;
    CLEANUP(mem_freep) char *what = label(look, "processors");
    uint64_t cpus = json_get_u64(host, "cpus", 0);
    char needed[32], found[32];

    if (cpus == 0)
        return;
    (void)snprintf(needed, sizeof(needed), "%" PRIu32, machine->cpus);
    (void)snprintf(found, sizeof(found), "%" PRIu64, cpus);
    CLEANUP(mem_freep)
    char *text =
        mem_printf("the host of %s has %s processors, %s wants %s" HINT "it runs there, and slower",
                   look->ask->peer, found, machine->name, needed);
    add(look, machine->cpus > cpus ? WARNING : OK, look->ask->peer, what, needed, found,
        machine->cpus > cpus ? text : "");
}

/* By the peer's word; one of an older release has none. */
static void look_at_recovery(struct look *look, const json_t *answer)
{
    enum verdict refused = look->ask->force ? WARNING : FAILED;
    const char *peer = look->ask->peer;
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(answer, "networks"), i, item) {
        CLEANUP(mem_freep)
        char *network = mem_printf("network %s", json_get_str(item, "there", ""));
        CLEANUP(mem_freep) char *what = label(look, network);
        add(look, OK, peer, what, "", json_get_str(item, "here", ""), "");
    }
    json_array_foreach(json_object_get(answer, "problems"), i, item) {
        const char *text = json_is_string(item) ? json_string_value(item) : "";
        const char *own = strstr(text, HINT);
        CLEANUP(mem_freep) char *what = label(look, "recovery");
        bad(look, refused, peer, what, "could not be recovered at %s: %s%s", peer, text,
            own ? "" : HINT "mend that there, or protect it with --force");
    }
    if (look->machine == look->ask->machines)
        look_at_memory(look, refused, json_object_get(answer, "host"));
    look_at_processors(look, json_object_get(answer, "host"));
}

/* The size, once more, of a disk as the group's points call it. */
static uint64_t size_of(const struct prerequisites_ask *ask, const char *name)
{
    bool several = ask->machine_count > 1;
    struct err none = ERR_EMPTY;
    uint64_t size = 0;

    for (size_t i = 0; i < ask->machine_count; i++)
        VEC_FOREACH(disk, &ask->machines[i].disks) {
            CLEANUP(mem_freep)
            char *full = mem_printf("%s%s%s", several ? ask->machines[i].name : "",
                                    several ? "." : "", disk->name);
            if (str_eq(full, name) && job_disk_size(disk->path, disk->format, &size, &none) == 0)
                return size;
        }
    return 0;
}

static void look_at_seeds(struct look *look, const json_t *found)
{
    const char *peer = look->ask->peer;
    const char *disk;
    json_t *file;

    json_object_foreach((json_t *)(uintptr_t)look->ask->seeds, disk, file) {
        const json_t *seed = json_object_get(found, disk);
        const char *problem = json_get_str(seed, "problem", NULL);
        CLEANUP(mem_freep) char *what = mem_printf("seed of disk %s", disk);
        char a[32], b[32];

        if (!seed)
            problem = "no seeds are taken there" HINT "run the same release at both sites";
        if (problem) {
            bad(look, FAILED, peer, what, "seed of disk %s at %s: %s", disk, peer, problem);
            continue;
        }
        CLEANUP(mem_freep)
        char *size = mem_printf("%s, %s", json_get_str(seed, "format", ""),
                                str_bytes(json_get_u64(seed, "size", 0), a, sizeof(a)));
        CLEANUP(mem_freep)
        char *needed = mem_printf("at most %s", str_bytes(size_of(look->ask, disk), b, sizeof(b)));
        add(look, OK, peer, what, needed, size, "");
    }
}

/* What it says once, whatever machine it is asked about. */
static void look_at_site(struct look *look, const json_t *answer, int64_t asked_ms,
                         int64_t answered_ms)
{
    const char *peer = look->ask->peer;
    const char *replica = json_get_str(answer, "replica", "absent");
    int64_t theirs = (int64_t)json_get_u64(answer, "wall_ms", 0);

    if (!str_eq(replica, "other"))
        add(look, OK, peer, "peer", "paired, free to take it", "it answers", "");
    int64_t apart = theirs - (asked_ms + (answered_ms - asked_ms) / 2);
    estate_clock_note(look->ask->world->estate, peer, apart);
    look_at_clock(look, apart);
    look_at_replica_room(look, json_get_u64(answer, "free_bytes", 0), !str_eq(replica, "absent"));
    look_at_seeds(look, json_object_get(answer, "seeds"));
}

static void look_at_answer(struct look *look, const json_t *answer, int64_t asked_ms,
                           int64_t answered_ms)
{
    const char *peer = look->ask->peer;

    if (str_eq(json_get_str(answer, "replica", ""), "other"))
        bad(look, FAILED, peer, "peer", "%s does not accept it: %s", peer,
            json_get_str(answer, "why", "no reason"));
    if (look->machine == look->ask->machines)
        look_at_site(look, answer, asked_ms, answered_ms);
    look_at_recovery(look, answer);
}

/* What the peer judges: as the definition will travel. */
static json_t *question(const struct look *look)
{
    json_t *definition = machine_to_json(look->machine);
    const json_t *wanted = look->machine == look->ask->machines ? look->ask->seeds : NULL;
    json_t *seeds = wanted ? json_object() : NULL;
    const char *disk;
    json_t *file;

    json_object_foreach((json_t *)(uintptr_t)wanted, disk, file)
        (void)json_object_set_new(
            seeds, disk,
            json_pack("{s:O, s:I}", "file", file, "size", (json_int_t)size_of(look->ask, disk)));
    return json_pack("{s:s, s:s, s:o, s:O*, s:o*}", "op", "replica.check", "group",
                     look->ask->group, "machine", definition, "networks", look->ask->networks,
                     "seeds", seeds);
}

static void ask_peer(struct look *look, struct link *link, struct cancel *cancel)
{
    const struct jobs_world *world = look->ask->world;
    CLEANUP(json_freep) json_t *ask = question(look);
    CLEANUP(link_msg_done) struct link_msg answer = {0};
    struct err err = ERR_EMPTY;
    int64_t asked = world->clock->wall_ms(world->clock);

    if (link_call(link, ask, NULL, 0, &answer, cancel, &err) < 0)
        bad(look, FAILED, look->ask->peer, "peer", "%s", err.text);
    else
        look_at_answer(look, answer.head, asked, world->clock->wall_ms(world->clock));
}

static void look_at_peer(struct look *look)
{
    const struct jobs_world *world = look->ask->world;
    const char *peer = look->ask->peer;
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(world->clock, look->ask->cancel, PEER_MS);
    CLEANUP(link_closep) struct link *link = NULL;
    struct err err = ERR_EMPTY;

    if (world->open_link(world->ctx, peer, &link, cancel, &err) < 0) {
        bad(look, FAILED, peer, "peer", "%s", err.text);
        return;
    }
    for (size_t i = 0; i < look->ask->machine_count; i++) {
        look->machine = &look->ask->machines[i];
        ask_peer(look, link, cancel);
    }
}

/* --- All of it ------------------------------------------------------------------------------- */

int prerequisites_look(const struct prerequisites_ask *ask, struct prerequisites *ret_all,
                       struct err *err)
{
    struct look look = {.ask = ask, .all = {.list = json_array()}};
    json_t *row;
    size_t i;

    for (i = 0; i < ask->machine_count; i++) {
        look.machine = &ask->machines[i];
        look_at_disks(&look);
        look_at_host(&look);
        look_at_tracking(&look);
    }
    look_at_staging(&look);
    look_at_peer(&look);
    json_array_foreach(look.all.list, i, row)
        (void)json_object_del(row, "full");
    if (cancel_check(ask->cancel, err) < 0) {
        prerequisites_done(&look.all);
        return -1;
    }
    *ret_all = look.all;
    return 0;
}

/* "text; hint: hint" of a row in that state, or false. */
static bool says(const json_t *row, const char *state, struct str *out)
{
    const char *hint = json_get_str(row, "hint", "");

    if (!str_eq(json_get_str(row, "state", ""), state))
        return false;
    str_addf(out, "%s%s%s", json_get_str(row, "text", ""), *hint ? HINT : "", hint);
    return true;
}

int prerequisites_judge(const struct prerequisites *all, const char *group, struct err *err)
{
    CLEANUP(str_free) struct str texts = STR_EMPTY;
    size_t said = 0;
    const json_t *row;
    size_t i;

    if (all->failed == 0)
        return 0;
    json_array_foreach(all->list, i, row) {
        CLEANUP(str_free) struct str text = STR_EMPTY;

        if (!says(row, "failed", &text) || (said > 0 && texts.len + text.len > FAILED_BYTES))
            continue;
        said++;
        str_addf(&texts, "%s(%zu) %s", said > 1 ? "; " : "", said, str_text(&text));
    }
    if (said < all->failed)
        str_addf(&texts, "; and %zu more, in `muster jobs show`", all->failed - said);
    return err_set(err, ERR_STATE, 0, "%zu prerequisite%s of protecting %s %s not met: %s",
                   all->failed, all->failed == 1 ? "" : "s", group, all->failed == 1 ? "is" : "are",
                   str_text(&texts));
}

void prerequisites_note(const struct prerequisites *all, char *ret_note, size_t len)
{
    CLEANUP(str_free) struct str texts = STR_EMPTY;
    const json_t *row;
    size_t i;

    json_array_foreach(all->list, i, row) {
        CLEANUP(str_free) struct str text = STR_EMPTY;

        if (says(row, "warning", &text))
            str_addf(&texts, "%swarning: %s", texts.len ? "; " : "", str_text(&text));
    }
    (void)snprintf(ret_note, len, "%s", str_text(&texts));
}
