// SPDX-License-Identifier: Apache-2.0
/* What a group needs to be known again when state.db is gone: an old machine that runs must be
 * fenced even then. Beside the session, replaced whenever the rows change:
 *
 *   sessions/GROUP/group.json  JSON {"version": 1, "group", "peer", "state", "generation",
 *                              "settings", "since_ms",
 *                              "machines": [{"definition", "wanted_running", "added_ms"}]}
 *
 * Releases that had one machine in each group wrote "machine": its definition or null,
 * "wanted_running" and "added_ms" beside the rest; that is read, too.
 *
 * That is of groups that this site sends. A replica it holds has the same with itself, without the
 * machine, whose definition is in its points (replicas/GROUP/protection, replica/inspect.h): there it is
 * found by `replica adopt` and not by a start. The loop compares rows with what is written, a pool thread
 * writes; one write at a time, so that the last one is of the last rows. Runs, plans and the audit
 * log are in no such file: they are gone with their database. */
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "replica/inspect.h"

#include <stdio.h>

#define FILE_NAME      "group.json"
#define FILE_VERSION   1
#define FILE_MAX_BYTES (1024 * 1024)
#define REPLICA        "replica/" /* before a group's name: of the replica, not of what is sent */

struct writing {
    struct pool_job base; /* first */
    struct daemon *daemon;
    json_t *texts; /* group (REPLICA group) -> text, or null: no longer sent (held) */
    json_t *done;  /* those that were written */
};

static char *path_of(const struct daemon *daemon, const char *group)
{
    return mem_printf("%s/sessions/%s/" FILE_NAME, daemon->config.dir, group);
}

/* --- Writing ---------------------------------------------------------------------------------- */

static json_t *parsed(const char *text)
{
    struct err ignored = ERR_EMPTY;
    json_t *json = NULL;

    return json_parse(text, strlen(text), &json, &ignored) < 0 ? json_null() : json;
}

static json_t *row_json(const struct state_protection *row)
{
    return json_pack("{s:i, s:s, s:s, s:s, s:I, s:o, s:I}", "version", FILE_VERSION, "group",
                     row->group, "peer", row->peer, "state", row->state, "generation",
                     (json_int_t)row->generation, "settings", parsed(row->settings), "since_ms",
                     (json_int_t)row->since_ms);
}

/* One that is not ours (recovered here) is in its own folder. */
static void add_machine(struct daemon *daemon, const char *name, json_t *machines)
{
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    struct err missing = ERR_EMPTY;

    if (state_machine_get(daemon->state, name, &machine, &missing) == 0)
        (void)json_array_append_new(
            machines,
            json_pack("{s:o, s:b, s:I}", "definition", parsed(machine.definition), "wanted_running",
                      (int)machine.wanted_running, "added_ms", (json_int_t)machine.added_ms));
}

static char *text_of(struct daemon *daemon, const struct state_protection *row)
{
    CLEANUP(json_freep) json_t *json = row_json(row);
    json_t *machines = json_array();
    struct machine_names names;
    struct err unknown = ERR_EMPTY;

    if (job_machines(row, &names, &unknown) < 0)
        machine_names_alone(&names, row->group);
    for (size_t i = 0; i < names.count; i++)
        add_machine(daemon, names.at[i], machines);
    (void)json_object_set_new(json, "machines", machines);
    return json_text(json);
}

static char *replica_text_of(const struct state_protection *row)
{
    CLEANUP(json_freep) json_t *json = row_json(row);

    return json_text(json);
}

/* Begun or given up half-way, it is not sent: nothing to know again. */
static bool is_described(const struct state_protection *row)
{
    return str_eq(row->role, "source") && !str_starts(row->state, "enabling")
           && !str_starts(row->state, "disabling");
}

static bool is_held(const struct state_protection *row)
{
    return str_eq(row->role, "replica") && !str_starts(row->state, "disabling");
}

/* What the group's file, or that of its replica, is to say: NULL for none. */
static int wanted(struct daemon *daemon, const char *group, bool of_replica, char **ret_text,
                  struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err missing = ERR_EMPTY;

    *ret_text = NULL;
    if (state_protection_get(daemon->state, group, &row, &missing) == 0) {
        if (of_replica ? is_held(&row) : is_described(&row))
            *ret_text = of_replica ? replica_text_of(&row) : text_of(daemon, &row);
        return 0;
    }
    if (missing.code == ERR_NOT_FOUND)
        return 0;
    *err = missing;
    return -1;
}

/* Adds the group's text when it differs from what is written, and a null when it went; false: it is
 * right already. */
static bool add_difference(struct daemon *daemon, const char *group, bool of_replica, json_t *texts)
{
    CLEANUP(mem_freep) char *key = mem_printf("%s%s", of_replica ? REPLICA : "", group);
    const char *known = json_get_str(daemon->described, key, NULL);
    CLEANUP(mem_freep) char *text = NULL;
    struct err err = ERR_EMPTY;

    if (wanted(daemon, group, of_replica, &text, &err) < 0)
        log_error("daemon", "group=%s not described error=\"%s\"", group, err.text);
    else if (str_eq(known, text))
        return false;
    else
        (void)json_object_set_new(texts, key, text ? json_string(text) : json_null());
    return true;
}

/* What must be written. Groups whose files are right already need no other look until their rows
 * change. */
static json_t *differences(struct daemon *daemon)
{
    json_t *texts = json_object();
    const char *group;
    json_t *mark;
    void *next;

    json_object_foreach_safe(daemon->undescribed, next, group, mark)
    {
        bool sent = add_difference(daemon, group, false, texts);
        bool held = add_difference(daemon, group, true, texts);
        if (!sent && !held)
            (void)json_object_del(daemon->undescribed, group);
    }
    return texts;
}

/* Before its copy begins there is nothing to describe; the next state of its row comes after that. */
static int write_replica(const struct daemon *daemon, const char *group, const char *text,
                         struct err *err)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/replicas/%s", daemon->config.dir, group);
    CLEANUP(mem_freep) char *record = path_join(dir, "replica");
    CLEANUP(json_freep) json_t *json = NULL;

    if (!text || !fs_exists(record))
        return 0;
    if (json_parse(text, strlen(text), &json, err) < 0)
        return -1;
    return replica_describe(fs_real(), dir, json, err);
}

static int write_one(const struct daemon *daemon, const char *group, const char *text,
                     struct err *err)
{
    CLEANUP(mem_freep) char *path = path_of(daemon, group);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/sessions/%s", daemon->config.dir, group);

    if (str_starts(group, REPLICA))
        return write_replica(daemon, group + strlen(REPLICA), text, err);
    if (text)
        return fs_make_dirs(fs_real(), dir, 0700, err) < 0
                   ? -1
                   : fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
    if (!fs_exists(path))
        return 0;
    return fs_real()->unlink(fs_real(), path, err);
}

static void run(struct pool_job *base)
{
    struct writing *writing = (struct writing *)base;
    const char *group;
    json_t *text;

    json_object_foreach(writing->texts, group, text) {
        struct err err = ERR_EMPTY;

        if (write_one(writing->daemon, group, json_string_value(text), &err) < 0)
            log_error("daemon", "group=%s not described error=\"%s\"", group, err.text);
        else
            (void)json_object_set(writing->done, group, text);
    }
}

static void done(struct pool_job *base)
{
    struct writing *writing = (struct writing *)base;
    struct daemon *daemon = writing->daemon;
    bool failed = json_object_size(writing->done) < json_object_size(writing->texts);
    const char *group;
    json_t *text;

    json_object_foreach(writing->done, group, text)
        if (json_is_null(text))
            (void)json_object_del(daemon->described, group);
        else
            (void)json_object_set(daemon->described, group, text);
    daemon->describing = false;
    json_decref(writing->texts);
    json_decref(writing->done);
    free(writing);
    if (!failed && !cancel_is_fired(daemon->stop))
        daemon_describe(daemon); /* what changed meanwhile; a failure waits for the next change */
}

void daemon_describe(struct daemon *daemon)
{
    CLEANUP(json_freep) json_t *touched = state_touched_take(daemon->state);

    (void)json_object_update(daemon->undescribed, touched);
    if (daemon->describing)
        return;
    json_t *texts = differences(daemon);
    if (json_object_size(texts) == 0) {
        json_decref(texts);
        return;
    }
    struct writing *writing = mem_new(struct writing);
    *writing = (struct writing){{.run = run, .done = done}, daemon, texts, json_object()};
    daemon->describing = true;
    pool_submit(daemon->pool, &writing->base);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static int recreate_machine(struct daemon *daemon, const json_t *json, const json_t *definition,
                            struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine known = {0};
    struct err missing = ERR_EMPTY;
    char host[] = "";
    const char *said;

    if (!json_is_object(definition))
        return 0;
    if (json_need_str(definition, "name", FILE_NAME, &said, err) < 0)
        return -1;
    if (state_machine_get(daemon->state, said, &known, &missing) == 0)
        return 0;
    CLEANUP(mem_freep) char *name = mem_strdup(said);
    CLEANUP(mem_freep) char *text = json_text(definition);
    const struct state_machine row = {
        .name = name,
        .host = host,
        .definition = text,
        .wanted_running = json_get_bool(json, "wanted_running", false),
        .added_ms = (int64_t)json_get_u64(json, "added_ms", 0),
    };
    return state_machine_put(daemon->state, &row, err);
}

static int recreate_machines(struct daemon *daemon, const json_t *json, struct err *err)
{
    const json_t *machine;
    size_t i;

    json_array_foreach(json_object_get(json, "machines"), i, machine) {
        if (recreate_machine(daemon, machine, json_object_get(machine, "definition"), err) < 0)
            return -1;
    }
    return recreate_machine(daemon, json, json_object_get(json, "machine"), err);
}

static int recreate(struct daemon *daemon, const json_t *json, const char *group, struct err *err)
{
    int64_t now = daemon->clock->wall_ms(daemon->clock);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    json_t *settings;
    const char *peer;
    const char *state;

    if (json_get_u64(json, "version", 0) != FILE_VERSION
        || !str_eq(json_get_str(json, "group", ""), group))
        return err_set(err, ERR_CORRUPT, 0, "it is of another release, or of another group");
    if (json_need_str(json, "peer", FILE_NAME, &peer, err) < 0
        || json_need_str(json, "state", FILE_NAME, &state, err) < 0
        || json_need_object(json, "settings", FILE_NAME, &settings, err) < 0
        || json_need_u64(json, "generation", FILE_NAME, &row.generation, err) < 0
        || recreate_machines(daemon, json, err) < 0)
        return -1;
    (void)json_object_set_new(settings, "recreated_ms", json_integer(now));
    row.group = mem_strdup(group);
    row.peer = mem_strdup(peer);
    row.role = mem_strdup("source");
    row.state = mem_strdup(state);
    row.settings = json_text(settings);
    row.since_ms = (int64_t)json_get_u64(json, "since_ms", (uint64_t)now);
    if (state_protection_put(daemon->state, &row, err) < 0)
        return -1;
    log_warn("daemon", "rows made again from sessions/%s/" FILE_NAME " group=%s peer=%s", group,
             group, peer);
    return state_audit(daemon->state, now, "daemon", "protection.recreated", group, "", err);
}

/* What is written is what the rows say, or will be: the rows are looked at with the next change. */
static int take_up(struct daemon *daemon, const char *group, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_of(daemon, group);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *json = NULL;
    struct err missing = ERR_EMPTY;

    if (!fs_exists(path))
        return 0;
    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0
        || json_parse(str_text(&text), text.len, &json, err) < 0)
        return err_wrap(err, "%s", path);
    (void)json_object_set_new(daemon->described, group, json_string(str_text(&text)));
    if (state_protection_get(daemon->state, group, &row, &missing) == 0)
        return 0;
    if (missing.code != ERR_NOT_FOUND)
        return err_set(err, missing.code, missing.sys, "%s", missing.text);
    return recreate(daemon, json, group, err) < 0 ? err_wrap(err, "%s", path) : 0;
}

/* At the start nobody knows which files are right. */
static int look_at_all(struct daemon *daemon, struct err *err)
{
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;
    const char *group;
    json_t *text;

    if (state_protection_list(daemon->state, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows)
        (void)json_object_set_new(daemon->undescribed, row->group, json_true());
    json_object_foreach(daemon->described, group, text)
        (void)json_object_set_new(daemon->undescribed, group, json_true());
    return 0;
}

int daemon_describe_begin(struct daemon *daemon, struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(daemon->config.dir, "sessions");
    CLEANUP(fs_names_free) struct fs_names names = {0};

    daemon->described = json_object();
    daemon->undescribed = json_object();
    if (fs_list(dir, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        struct err failure = ERR_EMPTY;

        if (str_is_name(names.at[i]) && take_up(daemon, names.at[i], &failure) < 0)
            log_error("daemon", "left out error=\"%s\"", failure.text);
    }
    return look_at_all(daemon, err);
}
