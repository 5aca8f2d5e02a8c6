// SPDX-License-Identifier: Apache-2.0
/* The folder of a command, each file replaced as a whole and synced:
 *
 *   spec.json    {program, args, env, within_ms, grace_ms}       by whoever begins it, first
 *   started.json {boot_id, pid, start_ticks, started_ms}         by the runner, before the program
 *                                                                starts; pid: the runner's
 *   result.json  {exit_status, signal, timed_out, stopped, why, ended_ms, output_bytes,
 *                dropped_bytes}                                  by the runner, at the end
 *   output       the first 64 KiB as they come; at the end a line that counts what is left out, and
 *                the last 64 KiB
 *   lock         held by the runner for its life: there is one
 *   runner.log   what the runner itself had to say
 *
 * A runner that finds started.json ends: so the program is started at most once, however often it is
 * asked for. With started.json and without result.json it runs while the runner does; when that is
 * gone, or the host has another boot_id, nobody knows how it ended. Stopping what was not begun
 * writes both files, so that no late runner begins it. */
#include "base/command.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_MAX ((size_t)1 << 20)
#define BEGIN_MS   20000
#define LOOK_MS    5
#define BOOT_PATH  "/proc/sys/kernel/random/boot_id"

static const char *const state_names[] = {
    [COMMAND_NONE] = "none",
    [COMMAND_RUNNING] = "running",
    [COMMAND_ENDED] = "ended",
    [COMMAND_LOST] = "lost",
};

const char *command_state_name(enum command_state state)
{
    return state_names[state];
}

/* --- Records ---------------------------------------------------------------------------------- */

int command_boot_id(char ret_id[64], struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), BOOT_PATH, 256, &text, err) < 0)
        return -1;
    (void)snprintf(ret_id, 64, "%.*s", (int)strcspn(str_text(&text), "\n"), str_text(&text));
    return 0;
}

int command_read(const char *dir, const char *name, json_t **ret_json, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, RECORD_MAX, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, ret_json, err) < 0)
        return err_wrap(err, "%s", path);
    return 0;
}

int command_write(const char *dir, const char *name, const json_t *json, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);
    CLEANUP(mem_freep) char *text = json_text(json);

    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

/* --- Looking ---------------------------------------------------------------------------------- */

/* What a terminal and a line of JSON can bear: anything else becomes a question mark. */
static void make_printable(char *text)
{
    for (char *c = text; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || (unsigned char)*c >= 0x7f)
            *c = '?';
}

static void read_last(const char *dir, struct command_status *status)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "output");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    size_t most = COMMAND_HEAD_BYTES + COMMAND_TAIL_BYTES + 256;

    status->last_output[0] = '\0';
    if (fs_read_file(fs_real(), path, most, &text, &none) < 0)
        return; /* none yet */
    size_t from = text.len > COMMAND_LAST_BYTES ? text.len - COMMAND_LAST_BYTES : 0;
    size_t len = text.len - from;
    for (size_t i = 0; i < len; i++) /* a NUL is no end of it */
        status->last_output[i] = text.ptr[from + i] ? text.ptr[from + i] : '?';
    status->last_output[len] = '\0';
    make_printable(status->last_output);
}

static void take_result(const json_t *result, struct command_status *status)
{
    status->state = COMMAND_ENDED;
    status->ended_ms = (int64_t)json_get_u64(result, "ended_ms", 0);
    status->exit_status = (int)json_integer_value(json_object_get(result, "exit_status"));
    status->signal = (int)json_get_u64(result, "signal", 0);
    status->timed_out = json_get_bool(result, "timed_out", false);
    status->stopped = json_get_bool(result, "stopped", false);
    status->output_bytes = json_get_u64(result, "output_bytes", 0);
    status->dropped_bytes = json_get_u64(result, "dropped_bytes", 0);
    (void)snprintf(status->why, sizeof(status->why), "%s", json_get_str(result, "why", ""));
}

static bool runner_lives(const json_t *started)
{
    const struct proc_id id = {
        .pid = (pid_t)json_get_u64(started, "pid", 0),
        .start_ticks = json_get_u64(started, "start_ticks", 0),
    };

    return proc_is_alive(&id);
}

/* The file may be missing: NULL then. */
static int read_or_none(const char *dir, const char *name, json_t **ret_json, struct err *err)
{
    *ret_json = NULL;
    if (command_read(dir, name, ret_json, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

static int look(const char *dir, struct command_status *status, struct err *err)
{
    CLEANUP(json_freep) json_t *started = NULL;
    CLEANUP(json_freep) json_t *result = NULL;
    char boot[64];

    if (read_or_none(dir, "started.json", &started, err) < 0 || command_boot_id(boot, err) < 0)
        return -1;
    if (!started)
        return 0;
    status->started_ms = (int64_t)json_get_u64(started, "started_ms", 0);
    bool same_boot = str_eq(json_get_str(started, "boot_id", ""), boot);
    bool lives = same_boot && runner_lives(started);
    /* Read after the look at the runner: one that ended has written its result before. */
    if (read_or_none(dir, "result.json", &result, err) < 0)
        return -1;
    if (result)
        take_result(result, status);
    else if (lives)
        status->state = COMMAND_RUNNING;
    else
        status->state = COMMAND_LOST;
    if (status->state == COMMAND_LOST)
        (void)snprintf(status->why, sizeof(status->why), "%s",
                       same_boot ? "its runner was killed, and the program with it"
                                 : "the host was started anew while it ran");
    return 0;
}

int command_look(const char *dir, struct command_status *ret_status, struct err *err)
{
    struct command_status status = {.exit_status = -1};

    if (look(dir, &status, err) < 0)
        return err_wrap(err, "command in %s", dir);
    if (status.state != COMMAND_NONE)
        read_last(dir, &status);
    *ret_status = status;
    return 0;
}

/* --- Beginning and stopping ------------------------------------------------------------------- */

static json_t *spec_json(const struct command_spec *spec)
{
    json_t *json = json_pack("{s:s, s:I, s:I}", "program", spec->program, "within_ms",
                             (json_int_t)spec->within_ms, "grace_ms", (json_int_t)spec->grace_ms);

    (void)json_object_set_new(
        json, "args", json_is_array(spec->args) ? json_deep_copy(spec->args) : json_array());
    (void)json_object_set_new(
        json, "env", json_is_object(spec->env) ? json_deep_copy(spec->env) : json_object());
    return json;
}

static int put_spec(const char *dir, const struct command_spec *spec, struct err *err)
{
    CLEANUP(json_freep) json_t *wanted = spec_json(spec);
    CLEANUP(json_freep) json_t *there = NULL;

    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0
        || read_or_none(dir, "spec.json", &there, err) < 0)
        return -1;
    if (!there)
        return command_write(dir, "spec.json", wanted, err);
    if (!json_equal(there, wanted))
        return err_set(err, ERR_EXISTS, 0, "%s holds another command (%s)", dir,
                       json_get_str(there, "program", "?"));
    return 0;
}

static int start_failed(const char *dir, struct err *err)
{
    CLEANUP(mem_freep) char *log = path_join(dir, "runner.log");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;

    if (fs_read_file(fs_real(), log, RECORD_MAX, &text, &none) < 0 || text.len == 0)
        return err_set(err, ERR_IO, 0, "the runner ended before it began; hint: see %s", log);
    make_printable(text.ptr);
    text.ptr[strcspn(text.ptr, "\n")] = '\0';
    return err_set(err, ERR_IO, 0, "%.400s", text.ptr);
}

int command_begin(const char *dir, const struct command_spec *spec, const char *self,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *log = path_join(dir, "runner.log");
    const char *argv[] = {self ? self : "/proc/self/exe", COMMAND_WORD, dir, NULL};
    const struct proc_spec runner = {.argv = argv, .log_path = log};
    struct command_status status;
    struct proc_id id;

    if (put_spec(dir, spec, err) < 0 || command_look(dir, &status, err) < 0)
        return -1;
    if (status.state != COMMAND_NONE)
        return 0;
    if (proc_spawn_detached(&runner, &id, err) < 0)
        return err_wrap(err, "start the runner of %s", spec->program);
    CLEANUP(cancel_freep) struct cancel *begin = cancel_new(NULL, cancel, BEGIN_MS);
    for (;;) {
        bool lives = proc_is_alive(&id); /* looked at before the record, as in look() */
        if (command_look(dir, &status, err) < 0)
            return -1;
        if (status.state != COMMAND_NONE)
            return 0;
        if (!lives)
            return start_failed(dir, err) < 0 ? err_wrap(err, "run %s", spec->program) : 0;
        if (cancel_sleep(begin, LOOK_MS, err) < 0)
            return err_wrap(err, "start the runner of %s", spec->program);
    }
}

/* Under the runner's lock: nobody begins it any more. ERR_BUSY: a runner is there. */
static int close_unbegun(const char *dir, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "lock");
    CLEANUP(fd_close) int lock = -1;
    CLEANUP(json_freep) json_t *started = NULL;
    CLEANUP(json_freep)
    json_t *result = json_pack("{s:i, s:b, s:s}", "exit_status", -1, "stopped", 1, "why",
                               "it was stopped before it began");
    char boot[64];

    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0 || fs_lock(path, &lock, err) < 0
        || read_or_none(dir, "started.json", &started, err) < 0)
        return -1;
    if (started)
        return 0;
    if (command_boot_id(boot, err) < 0)
        return -1;
    started = json_pack("{s:s, s:i, s:i, s:i}", "boot_id", boot, "pid", 0, "start_ticks", 0,
                        "started_ms", 0);
    /* The result first: cut in between, the next stop does the rest. */
    if (command_write(dir, "result.json", result, err) < 0)
        return -1;
    return command_write(dir, "started.json", started, err);
}

static int end_runner(const char *dir, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *started = NULL;
    CLEANUP(json_freep) json_t *spec = NULL;

    if (command_read(dir, "started.json", &started, err) < 0
        || command_read(dir, "spec.json", &spec, err) < 0)
        return -1;
    const struct proc_id id = {
        .pid = (pid_t)json_get_u64(started, "pid", 0),
        .start_ticks = json_get_u64(started, "start_ticks", 0),
    };
    int64_t grace = (int64_t)json_get_u64(spec, "grace_ms", COMMAND_GRACE_MS);
    return proc_end(&id, 2 * grace + 10000, cancel, err);
}

int command_stop(const char *dir, struct cancel *cancel, struct err *err)
{
    struct command_status status;

    for (;;) {
        if (command_look(dir, &status, err) < 0)
            return -1;
        if (status.state == COMMAND_ENDED || status.state == COMMAND_LOST)
            return 0;
        if (status.state == COMMAND_RUNNING)
            return end_runner(dir, cancel, err);
        if (close_unbegun(dir, err) == 0)
            continue;
        if (err->code != ERR_BUSY)
            return -1;
        err_clear(err); /* a runner is about to begin */
        if (cancel_sleep(cancel, LOOK_MS, err) < 0)
            return -1;
    }
}
