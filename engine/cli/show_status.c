// SPDX-License-Identifier: Apache-2.0
#include "cli/show.h"

#include "base/mem.h"
#include "cli/settings.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What a person calls the state: the machine's, or the session's when that says more. */
static const char *state_of(const json_t *protection)
{
    const char *state = json_get_str(protection, "state", "");
    const char *session = json_get_str(protection, "session", "");

    if (!str_eq(state, "protected") || !*session || str_eq(session, "sending"))
        return state;
    return session;
}

static void add_rate(struct table *table, const json_t *protection, const char *key,
                     const char *suffix)
{
    int64_t bytes = json_get_int(protection, key, -1);
    char text[32];

    if (bytes < 0)
        table_add(table, "-");
    else
        table_addf(table, "%s%s", str_bytes((uint64_t)bytes, text, sizeof(text)), suffix);
}

/* Ages of points say nothing where nothing is replicated. */
static void add_age(struct table *table, const json_t *protection, const char *key)
{
    bool none = str_eq(json_get_str(protection, "health", ""), "not-applicable");
    char text[32];

    table_add(table, none ? "-" : text_age(json_get_int(protection, key, -1), text, sizeof(text)));
}

static void add_target(struct table *table, const json_t *protection)
{
    bool none = str_eq(json_get_str(protection, "health", ""), "not-applicable");
    int64_t target = json_get_int(protection, "rpo_target_ms", 0);
    char text[32];

    table_add(table, none || target == 0 ? "-" : str_duration(target, text, sizeof(text)));
}

static bool is_several(const json_t *protection)
{
    return json_array_size(json_object_get(protection, "machines")) > 1;
}

/* "db1, web1" */
static void add_machines(const json_t *protection, struct str *out)
{
    const json_t *machine;
    size_t i;

    json_array_foreach(json_object_get(protection, "machines"), i, machine)
        str_addf(out, "%s%s", i ? ", " : "", json_string_value(machine));
}

static void machines_line(const json_t *protection, struct str *out)
{
    if (!is_several(protection))
        return;
    str_addf(out, "  %s: the machines ", json_get_str(protection, "name", ""));
    add_machines(protection, out);
    str_add(out, "\n");
}

static void add_line(struct table *table, const json_t *protection)
{
    bool replica = str_eq(json_get_str(protection, "role", ""), "replica");
    int64_t point = json_get_int(protection, "durable_point", 0);
    char text[32];

    table_add(table, json_get_str(protection, "name", ""));
    table_addf(table, "%s %s", replica ? "from" : "to", json_get_str(protection, "peer", ""));
    table_add(table, state_of(protection));
    table_add(table, json_get_str(protection, "health", ""));
    add_age(table, protection, "durable_age_ms");
    add_target(table, protection);
    add_age(table, protection, "applied_age_ms");
    table_add(table, str_duration(json_get_int(protection, "interval_ms", 0), text, sizeof(text)));
    if (point)
        table_addf(table, "%" PRId64 " of %s", point,
                   text_clock(json_get_int(protection, "durable_cut_ms", 0), text, sizeof(text)));
    else
        table_add(table, "-");
    add_rate(table, protection, "pending_bytes", "");
    add_rate(table, protection, "rate_per_s", "/s");
}

/* "12.0 MiB of 64.0 MiB (18 %)" */
static void add_progress(struct str *out, int64_t done, int64_t total)
{
    char a[32], b[32];

    str_addf(out, "%s of %s (%d %%)", str_bytes((uint64_t)done, a, sizeof(a)),
             str_bytes((uint64_t)total, b, sizeof(b)),
             (int)(total ? (double)done * 100.0 / (double)total : 0));
}

static void copy_lines(const json_t *protection, struct str *out)
{
    const char *session = json_get_str(protection, "session", "");
    int64_t left_ms = json_get_int(protection, "left_ms", -1);
    const json_t *disk;
    char text[32];
    size_t i;

    if (!str_eq(session, "copying") && !str_eq(session, "resyncing")
        && !str_eq(session, "resync-required"))
        return;
    json_array_foreach(json_object_get(protection, "disks"), i, disk) {
        str_addf(out, "  %s: %s of %s: ", json_get_str(protection, "name", ""),
                 str_eq(session, "copying") ? "initial copy" : "comparing",
                 json_get_str(disk, "name", ""));
        add_progress(out, json_get_int(disk, "done", 0), json_get_int(disk, "total", 0));
        str_add(out, "\n");
    }
    if (left_ms >= 0)
        str_addf(out, "  %s: about %s left\n", json_get_str(protection, "name", ""),
                 str_duration(left_ms, text, sizeof(text)));
}

/* A reason of health that tells of the error already. */
static bool is_told(const json_t *protection, const char *message)
{
    const json_t *reason;
    size_t i;

    json_array_foreach(json_object_get(protection, "health_reasons"), i, reason)
        if (strstr(json_get_str(reason, "reason", ""), message))
            return true;
    return false;
}

static void error_lines(const json_t *protection, struct str *out)
{
    const json_t *error = json_object_get(protection, "error");
    const char *name = json_get_str(protection, "name", "");
    const char *hint = json_get_str(error, "hint", NULL);
    int64_t since = json_get_int(protection, "error_since_ms", 0);
    int64_t retry = json_get_int(protection, "retry_at_ms", 0);
    char text[32];

    if (!error)
        return;
    bool told = is_told(protection, json_get_str(error, "message", ""));
    if (!told)
        str_addf(out, "  %s: %s\n", name, json_get_str(error, "message", ""));
    if (hint && !told)
        str_addf(out, "  %s: hint: %s\n", name, hint);
    if (since)
        str_addf(out, "  %s: since %s, %" PRId64 " failures in a row", name,
                 text_when(since, text, sizeof(text)), json_get_int(protection, "failures", 0));
    if (since && retry)
        str_addf(out, "; tried again at %s, or now by `muster retry %s`",
                 text_clock(retry, text, sizeof(text)), name);
    else if (since)
        str_addf(out, "; not tried again by itself: `muster retry %s`", name);
    if (since)
        str_add(out, "\n");
}

/* "  db1: critical since 12:00:00: the newest point is ..." */
static void reason_lines(const json_t *protection, struct str *out)
{
    const char *name = json_get_str(protection, "name", "");
    const json_t *reason;
    char text[32];
    size_t i;

    json_array_foreach(json_object_get(protection, "health_reasons"), i, reason) {
        int64_t since = json_get_int(reason, "since_ms", 0);
        const char *hint = json_get_str(reason, "hint", "");

        str_addf(out, "  %s: %s%s%s: %s\n", name, json_get_str(reason, "level", ""),
                 since ? " since " : "", since ? text_when(since, text, sizeof(text)) : "",
                 json_get_str(reason, "reason", ""));
        if (*hint)
            str_addf(out, "  %s: hint: %s\n", name, hint);
    }
}

static void notes(const json_t *protection, struct str *out)
{
    const char *name = json_get_str(protection, "name", "");
    const char *note = json_get_str(protection, "note", "");

    machines_line(protection, out);
    reason_lines(protection, out);
    if (*note)
        str_addf(out, "  %s: %s\n", name, note);
    copy_lines(protection, out);
    error_lines(protection, out);
}

/* Colours the health words of a rendered table: one place, so that widths stay right. */
static void colour_word(struct str *out, size_t from, const char *word, const char *colour)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const char *at = str_text(out) + from, *found;

    str_add_bytes(&text, str_text(out), from);
    while ((found = strstr(at, word))) {
        str_add_bytes(&text, at, (size_t)(found - at));
        str_addf(&text, "\033[%sm%s\033[0m", colour, word);
        at = found + strlen(word);
    }
    str_add(&text, at);
    str_clear(out);
    str_add(out, str_text(&text));
}

void show_status(const json_t *protections, const struct look *look, struct str *out)
{
    static const char *const columns[] = {"NAME",     "SITE",     "STATE",  "HEALTH",
                                          ">RPO NOW", ">TARGET",  ">READY", ">EVERY",
                                          "POINT",    ">PENDING", ">RATE",  NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *protection;
    size_t i, from = out->len;

    if (json_array_size(protections) == 0)
        str_add(out,
                "No machine is protected yet. `muster protect NAME --to SITE` protects one.\n");
    json_array_foreach(protections, i, protection)
        add_line(table, protection);
    table_render(table, out);
    if (look->colour) {
        colour_word(out, from, "critical", "31");
        colour_word(out, from, "warning", "33");
        colour_word(out, from, "healthy", "32");
    }
    json_array_foreach(protections, i, protection)
        notes(protection, out);
}

static void point_line(const json_t *protection, const char *which, const char *label,
                       struct str *out)
{
    CLEANUP(mem_freep) char *point_key = mem_printf("%s_point", which);
    CLEANUP(mem_freep) char *cut_key = mem_printf("%s_cut_ms", which);
    CLEANUP(mem_freep) char *age_key = mem_printf("%s_age_ms", which);
    int64_t point = json_get_int(protection, point_key, 0);
    char when[32], age[32];

    if (point)
        str_addf(out, "%s%" PRId64 ", cut %s, %s old\n", label, point,
                 text_when(json_get_int(protection, cut_key, 0), when, sizeof(when)),
                 text_age(json_get_int(protection, age_key, -1), age, sizeof(age)));
    else
        str_addf(out, "%snone yet\n", label);
}

/* What the interval of application-consistent points is at. */
static void application_lines(const json_t *protection, struct str *out)
{
    int64_t next = json_get_int(protection, "application_next_ms", 0);
    int64_t failing = json_get_int(protection, "application_failing_ms", 0);
    int64_t every = json_get_int(protection, "application_ms", 0);
    char a[32], b[32];

    if (every <= 0)
        return;
    point_line(protection, "application", "application  ", out);
    str_addf(out, "             one every %s", str_duration(every, a, sizeof(a)));
    if (next)
        str_addf(out, ", the next from %s on", text_when(next, b, sizeof(b)));
    str_add(out, "\n");
    if (failing)
        str_addf(out, "             none since %s: %s\n", text_when(failing, a, sizeof(a)),
                 json_get_str(protection, "application_note", ""));
}

/* What was read of a replica last, and when all of it. */
static void verified_lines(const json_t *protection, struct str *out)
{
    const json_t *verified = json_object_get(protection, "verified");
    const json_t *pass = json_object_get(verified, "pass");
    int64_t every = json_get_int(protection, "verify_ms", 0);
    int64_t at = json_get_int(verified, "at_ms", 0);
    int64_t whole = json_get_int(verified, "whole_ms", 0);
    int64_t found = json_get_int(verified, "damaged_head", 0)
                    + json_get_int(verified, "damaged_past", 0)
                    + json_get_int(verified, "faults", 0);
    char text[32];

    if (!str_eq(json_get_str(protection, "role", ""), "replica") || (!verified && every <= 0))
        return;
    if (!at) {
        str_addf(out, "verified     never yet, by itself all of it every %s\n",
                 str_duration(every, text, sizeof(text)));
        return;
    }
    str_addf(out, "verified     at %s, ", text_when(at, text, sizeof(text)));
    if (json_get_int(verified, "of", 0))
        str_addf(out, "part %" PRId64 " of %" PRId64 ": ", json_get_int(verified, "subset", 0),
                 json_get_int(verified, "of", 0));
    else if (json_get_int(verified, "point", 0))
        str_addf(out, "point %" PRId64 ": ", json_get_int(verified, "point", 0));
    if (found)
        str_addf(out, "%" PRId64 " chunks or files were damaged\n", found);
    else
        str_add(out, "all as it was written\n");
    str_addf(out, "             all of it: %s",
             whole ? text_when(whole, text, sizeof(text)) : "never yet");
    if (json_get_int(pass, "done", 0))
        str_addf(out, "; %" PRId64 " of %" PRId64 " parts since", json_get_int(pass, "done", 0),
                 json_get_int(pass, "of", 0));
    str_add(out, "\n");
}

static void rate_lines(const json_t *protection, struct str *out)
{
    const json_t *lag = json_object_get(protection, "not_converging");
    char a[32], b[32], c[32];

    if (lag)
        str_addf(out, "too slow     since %s: %s/s change, %s/s are sent; %s\n",
                 text_when(json_get_int(lag, "since_ms", 0), a, sizeof(a)),
                 str_bytes((uint64_t)json_get_int(lag, "changed_per_s", 0), b, sizeof(b)),
                 str_bytes((uint64_t)json_get_int(lag, "sent_per_s", 0), c, sizeof(c)),
                 json_get_str(lag, "advice", ""));
}

static void resync_lines(const json_t *protection, struct str *out)
{
    const json_t *resync = json_object_get(protection, "resync");
    int64_t next = json_get_int(resync, "next_ms", 0);
    char text[32];

    if (!resync)
        return;
    str_addf(out, "resync       %s, since %s: %s\n", json_get_str(resync, "cause", ""),
             text_when(json_get_int(resync, "since_ms", 0), text, sizeof(text)),
             json_get_str(resync, "why", ""));
    if (next)
        str_addf(out, "             goes on at %s, or by `muster resync %s --now`\n",
                 text_when(next, text, sizeof(text)), json_get_str(protection, "name", ""));
    else if (json_get_bool(resync, "waits", false))
        str_addf(out, "             begins by `muster resync %s`\n",
                 json_get_str(protection, "name", ""));
}

/* By disk, where there are several, or one is near its limit. */
static void pending_lines(const json_t *protection, struct str *out)
{
    const json_t *disks = json_object_get(protection, "disks");
    const json_t *disk;
    char a[32], b[32];
    size_t i;

    json_array_foreach(disks, i, disk) {
        int64_t pending = json_get_int(disk, "pending_bytes", 0);
        int64_t size = json_get_int(disk, "size", 0);

        if (pending > 0 && size > 0)
            str_addf(out, "             %s: %s of %s (%d %%)\n", json_get_str(disk, "name", ""),
                     str_bytes((uint64_t)pending, a, sizeof(a)),
                     str_bytes((uint64_t)size, b, sizeof(b)),
                     (int)((double)pending * 100.0 / (double)size));
    }
}

static void sending_lines(const json_t *protection, struct str *out)
{
    int64_t pending = json_get_int(protection, "pending_bytes", 0);
    char a[32], b[32], c[32];

    if (!json_object_get(protection, "session"))
        return;
    str_addf(out, "session      %s\n", json_get_str(protection, "session", ""));
    rate_lines(protection, out);
    resync_lines(protection, out);
    str_addf(out, "pending      %s, sent at %s/s\n",
             pending < 0 ? "-" : str_bytes((uint64_t)pending, a, sizeof(a)),
             str_bytes((uint64_t)json_get_int(protection, "rate_per_s", 0), b, sizeof(b)));
    pending_lines(protection, out);
    if (*json_get_str(protection, "packing", ""))
        str_addf(out, "packing      %s", json_get_str(protection, "packing", ""));
    if (*json_get_str(protection, "packing", "")
        && json_get_int(protection, "packed_percent", -1) >= 0)
        str_addf(out, ", to %" PRId64 " %% of its size",
                 json_get_int(protection, "packed_percent", -1));
    if (*json_get_str(protection, "packing", ""))
        str_add(out, "\n");
    str_addf(out, "last cycle   %s in %s, the machine stood still for %" PRId64 " us\n",
             str_bytes((uint64_t)json_get_int(protection, "last_bytes", 0), a, sizeof(a)),
             str_duration(json_get_int(protection, "last_cycle_ms", 0), c, sizeof(c)),
             json_get_int(protection, "last_stall_us", 0));
}

void show_protection(const json_t *protection, struct str *out)
{
    bool replica = str_eq(json_get_str(protection, "role", ""), "replica");
    const char *there;
    json_t *here;
    char text[32], a[32], b[32];

    bool several = is_several(protection);
    str_addf(out, "%s %s\n", several ? "group       " : "machine     ",
             json_get_str(protection, "name", ""));
    if (several) {
        str_add(out, "machines     ");
        add_machines(protection, out);
        str_add(out, "\n");
    }
    str_addf(out, "%s %s\n", replica ? "replica of  " : "protected to",
             json_get_str(protection, "peer", ""));
    str_addf(out, "state        %s, since %s\n", state_of(protection),
             text_when(json_get_int(protection, "since_ms", 0), text, sizeof(text)));
    str_addf(out, "health       %s\n", json_get_str(protection, "health", ""));
    reason_lines(protection, out);
    point_line(protection, "durable", "newest point ", out);
    point_line(protection, "applied", "ready to use ", out);
    application_lines(protection, out);
    verified_lines(protection, out);
    str_add(out, "policy       ");
    show_policy_of(protection, out);
    str_addf(out, "\nsettings     a point every %s, %" PRId64 " kept, compression %s\n",
             str_duration(json_get_int(protection, "interval_ms", 0), text, sizeof(text)),
             json_get_int(protection, "keep", 0), json_get_str(protection, "compression", ""));
    if (str_eq(json_get_str(protection, "encryption", ""), "at-rest"))
        str_addf(out, "encryption   at rest: the replica's disks are LUKS containers\n");
    json_object_foreach(json_object_get(protection, "networks"), there, here)
        str_addf(out, "network      %s becomes %s\n", there, json_string_value(here));
    str_addf(out, "generation   %" PRId64 "\n", json_get_int(protection, "generation", 0));
    sending_lines(protection, out);
    if (json_get_int(protection, "seed_data_bytes", 0) > 0)
        str_addf(out, "seeded       %s of %s were there already\n",
                 str_bytes((uint64_t)json_get_int(protection, "seed_same_bytes", 0), a, sizeof(a)),
                 str_bytes((uint64_t)json_get_int(protection, "seed_data_bytes", 0), b, sizeof(b)));
    if (*json_get_str(protection, "note", ""))
        str_addf(out, "note         %s\n", json_get_str(protection, "note", ""));
    copy_lines(protection, out);
    error_lines(protection, out);
}

/* "pinned as before-upgrade, held by run lyon-4", "newest", "one per 1 h". */
static void kept_text(const json_t *point, struct str *out)
{
    static const char person[] = "person ";
    const char *why = json_get_str(point, "why", "");
    const json_t *pin;
    char text[32];
    size_t i;

    json_array_foreach(json_object_get(point, "pins"), i, pin) {
        const char *holder = json_string_value(pin);
        bool by_person = holder && str_starts(holder, person);
        str_addf(out, "%s%s %s", out->len ? ", " : "", by_person ? "pinned as" : "held by",
                 by_person ? holder + strlen(person)
                 : holder  ? holder
                           : "?");
    }
    if (out->len == 0 && str_eq(why, "tier"))
        str_addf(out, "one per %s",
                 str_duration(json_get_int(point, "every_ms", 0), text, sizeof(text)));
    else if (out->len == 0)
        str_add(out, why);
}

void show_points(const json_t *points, struct str *out)
{
    static const char *const columns[] = {">POINT",     "CUT AT", ">AGE",  ">SIZE", ">UNDO", ">GEN",
                                          "CONSISTENT", ">STALL", "STATE", "KEPT",  NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *point;
    char text[32];
    size_t i;

    if (json_array_size(points) == 0)
        str_add(out, "No points yet: the first one follows the initial copy.\n");
    json_array_foreach(points, i, point) {
        CLEANUP(str_free) struct str kept = STR_EMPTY;
        bool promotion = json_get_bool(point, "promotion", false);

        table_addf(table, "%" PRId64, json_get_int(point, "point", 0));
        table_add(table, text_when(json_get_int(point, "cut_ms", 0), text, sizeof(text)));
        table_add(table, text_age(json_get_int(point, "age_ms", -1), text, sizeof(text)));
        table_add(table, str_bytes((uint64_t)json_get_int(point, "bytes", 0), text, sizeof(text)));
        table_add(table,
                  str_bytes((uint64_t)json_get_int(point, "undo_bytes", 0), text, sizeof(text)));
        table_addf(table, "%" PRId64, json_get_int(point, "generation", 0));
        table_add(table, json_get_str(point, "consistency", ""));
        /* Rounded up: a cut always takes some of the machine's time. */
        table_add(table, str_duration((json_get_int(point, "stall_us", 0) + 999) / 1000, text,
                                      sizeof(text)));
        table_addf(table, "%s%s", json_get_int(point, "damaged", 0) ? "damaged, " : "",
                   promotion                                ? "promotion"
                   : json_get_bool(point, "applied", false) ? "ready"
                                                            : "safe, not yet applied");
        kept_text(point, &kept);
        table_add(table, str_text(&kept));
    }
    table_render(table, out);
}

static bool goes(const json_t *point)
{
    return str_eq(json_get_str(point, "why", ""), "goes");
}

void show_prune(const json_t *reply, struct str *out)
{
    static const char *const columns[] = {">POINT", "CUT AT", ">AGE", ">UNDO", "", "WHY", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    bool dry = json_get_bool(reply, "dry_run", false);
    const json_t *point;
    size_t going = 0;
    char text[32];
    size_t i;

    json_array_foreach(json_object_get(reply, "points"), i, point) {
        CLEANUP(str_free) struct str kept = STR_EMPTY;
        going += goes(point);
        table_addf(table, "%" PRId64, json_get_int(point, "point", 0));
        table_add(table, text_when(json_get_int(point, "cut_ms", 0), text, sizeof(text)));
        table_add(table, text_age(json_get_int(point, "age_ms", -1), text, sizeof(text)));
        table_add(table,
                  str_bytes((uint64_t)json_get_int(point, "undo_bytes", 0), text, sizeof(text)));
        table_add(table, goes(point) ? dry ? "would go" : "gone" : "stays");
        if (!goes(point))
            kept_text(point, &kept);
        table_add(table, str_text(&kept));
    }
    table_render(table, out);
    if (dry)
        str_addf(out, "%zu would go. Nothing was removed.\n", going);
    else
        str_addf(out, "Removed %" PRId64 ". Files are merged little by little.\n",
                 json_get_int(reply, "removed", 0));
}

void show_operations(const json_t *reply, struct str *out)
{
    const json_t *list = json_object_get(reply, "operations");
    const char *name = json_get_str(reply, "name", "");
    const json_t *entry;
    size_t i;

    str_add(out, "\n  now:\n");
    json_array_foreach(list, i, entry)
        if (json_get_bool(entry, "allowed", false))
            str_addf(out, "    muster %s %s\n", json_get_str(entry, "operation", ""), name);
    str_add(out, "  not now:\n");
    json_array_foreach(list, i, entry) {
        const char *why = json_get_str(entry, "why", "");
        const char *hint = strstr(why, "; hint: ");
        if (!json_get_bool(entry, "allowed", false))
            str_addf(out, "    %-22s %.*s\n", json_get_str(entry, "operation", ""),
                     (int)(hint ? hint - why : (ptrdiff_t)strlen(why)), why);
    }
}
