// SPDX-License-Identifier: Apache-2.0
/* Programs for plans. Each has a folder of its own, runs/RUN/ID (base/command.h): so it is found
 * again by whoever asks, and run once. Whether a program may be run is this site's own word, for its
 * own runs and for a peer's alike. */
#include "base/command.h"
#include "base/fs.h"
#include "base/mem.h"
#include "sites/site_local.h"

#include <stdlib.h>

#define WITHIN_MAX_MS ((uint64_t)7 * 24 * 3600 * 1000)

static int folder_of(struct estate *estate, const json_t *args, char **ret_dir, struct err *err)
{
    const char *run;
    const char *id;

    if (json_need_str(args, "run", "ask", &run, err) < 0
        || json_need_str(args, "id", "ask", &id, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *of_run = estate_path(estate, "runs", run, "");
    *ret_dir = path_join(of_run, id);
    return 0;
}

static int check_allowed(struct estate *estate, const char *program, struct err *err)
{
    const json_t *allowed;
    size_t i;

    json_array_foreach(estate->config.commands, i, allowed) {
        if (str_eq(json_string_value(allowed), program))
            return 0;
    }
    return err_set(err, ERR_DENIED, 0,
                   "%s does not allow \"%.200s\" to be run; hint: commands = { \"%.200s\" } in the"
                   " config.lua of %s, and restart its daemon",
                   estate_site(estate), program, program, estate_site(estate));
}

static int check_texts(const json_t *args, const char *key, const json_t **ret_list,
                       struct err *err)
{
    const json_t *list = json_object_get(args, key);
    const json_t *item;
    size_t i;

    *ret_list = json_is_array(list) ? list : NULL;
    json_array_foreach(list, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_INVALID, 0, "command: %s %zu is no text", key, i + 1);
    }
    return 0;
}

int ask_command_start(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    struct command_spec spec = {.grace_ms = COMMAND_GRACE_MS};
    CLEANUP(mem_freep) char *dir = NULL;
    uint64_t within_ms;

    (void)ret_result;
    if (folder_of(estate, args, &dir, err) < 0
        || json_need_str(args, "program", "ask", &spec.program, err) < 0
        || json_need_u64(args, "within_ms", "ask", &within_ms, err) < 0
        || check_texts(args, "args", &spec.args, err) < 0
        || check_allowed(estate, spec.program, err) < 0)
        return -1;
    if (within_ms == 0 || within_ms > WITHIN_MAX_MS)
        return err_set(err, ERR_INVALID, 0, "%s: within must be between 1 ms and 7 days",
                       spec.program);
    spec.within_ms = (int64_t)within_ms;
    spec.env = json_object_get(args, "env");
    return command_begin(dir, &spec, estate->config.self, cancel, err);
}

int ask_command_observe(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *dir = NULL;
    struct command_status s;

    (void)cancel;
    if (folder_of(estate, args, &dir, err) < 0 || command_look(dir, &s, err) < 0)
        return -1;
    *ret_result = json_pack(
        "{s:s, s:i, s:i, s:b, s:b, s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "state",
        command_state_name(s.state), "exit_status", s.exit_status, "signal", s.signal, "timed_out",
        s.timed_out, "stopped", s.stopped, "why", s.why, "started_ms", (json_int_t)s.started_ms,
        "ended_ms", (json_int_t)s.ended_ms, "output_bytes", (json_int_t)s.output_bytes,
        "dropped_bytes", (json_int_t)s.dropped_bytes, "output", s.last_output, "folder", dir);
    return 0;
}

int ask_command_stop(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *dir = NULL;

    (void)ret_result;
    if (folder_of(estate, args, &dir, err) < 0)
        return -1;
    return command_stop(dir, cancel, err);
}
