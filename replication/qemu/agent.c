// SPDX-License-Identifier: Apache-2.0
/* The agent speaks QMP without greeting and events. Its stream may start in the middle of
 * something a former client left behind: 0xFF makes its parser start over, and it puts 0xFF before
 * the answer to guest-sync-delimited (QEMU's docs/interop/qemu-ga-ref). */
#include "qemu/agent.h"

#include "base/mem.h"
#include "qemu/line.h"

#include <stdio.h>
#include <string.h>

#define SYNC_EVERY_MS   1000
#define ANSWER_LIMIT_MS 30000
#define EXEC_LOOK_MS    20
#define FREEZE          "guest-fsfreeze-freeze"
#define THAW            "guest-fsfreeze-thaw"

struct agent {
    char *path;
    struct clock *clock;
    struct line_socket *socket;
    int64_t sync_id;
};

/* The next object, whatever noise stands before it; lines that are none are skipped. */
static int next_answer(struct agent *agent, json_t **ret_answer, struct cancel *cancel,
                       struct err *err)
{
    for (;;) {
        const char *line, *mark;
        struct err noise = ERR_EMPTY;
        json_t *answer = NULL;
        size_t len;

        if (line_receive(agent->socket, true, &line, &len, cancel, err) < 0)
            return err_wrap(err, "guest agent at %s", agent->path);
        mark = memrchr(line, 0xff, len);
        if (mark) {
            len -= (size_t)(mark + 1 - line);
            line = mark + 1;
        }
        if (json_parse(line, len, &answer, &noise) == 0 && json_is_object(answer)) {
            *ret_answer = answer;
            return 0;
        }
        json_decref(answer);
    }
}

static int send_text(struct agent *agent, const char *prefix, const json_t *message,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char *json = json_text(message);

    str_addf(&text, "%s%s\n", prefix, json);
    free(json);
    if (line_send(agent->socket, text.ptr, text.len, -1, cancel, err) < 0)
        return err_wrap(err, "guest agent at %s", agent->path);
    return 0;
}

/* Waits a while for the answer to one of our syncs: 1 when it is the newest one's (nothing older
 * can be under way then), 0 when nothing came in time. */
static int sync_answer(struct agent *agent, int64_t first_id, bool *alive, struct cancel *cancel,
                       struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *slice = cancel_new(agent->clock, cancel, SYNC_EVERY_MS);

    for (;;) {
        CLEANUP(json_freep) json_t *answer = NULL;
        const json_t *id;

        if (next_answer(agent, &answer, slice, err) < 0) {
            if (err->code != ERR_TIMEOUT)
                return -1;
            err_clear(err);
            return 0;
        }
        id = json_object_get(answer, "return");
        if (!json_is_integer(id) || json_integer_value(id) < first_id)
            continue;
        *alive = true;
        if (json_integer_value(id) == agent->sync_id)
            return 1;
    }
}

static int agent_sync(struct agent *agent, struct cancel *cancel, struct err *err)
{
    /* Some number no former client has used lately. */
    int64_t first_id = agent->clock->wall_ms(agent->clock) & 0x7fffffff;
    bool alive = false;
    int rc;

    for (agent->sync_id = first_id;;) {
        CLEANUP(json_freep) json_t *message = NULL;

        if (cancel_check(cancel, err) < 0)
            return err_wrap(err, "guest agent at %s does not answer", agent->path);
        /* Once it has answered to an old question, the newest one's answer is on its way. */
        if (!alive) {
            message = json_pack("{s:s, s:{s:I}}", "execute", "guest-sync-delimited", "arguments",
                                "id", (json_int_t)++agent->sync_id);
            if (send_text(agent, "\xff", message, cancel, err) < 0)
                return -1;
        }
        rc = sync_answer(agent, first_id, &alive, cancel, err);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
}

int agent_open(const char *path, struct clock *clock, struct agent **ret_agent,
               struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, ANSWER_LIMIT_MS);
    CLEANUP(agent_closep) struct agent *agent = mem_new(struct agent);
    struct err spare = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    agent->path = mem_strdup(path);
    agent->clock = clock ? clock : clock_real();
    if (line_connect(path, &agent->socket, limit, err) < 0)
        return err_wrap(err, "guest agent");
    if (agent_sync(agent, limit, err) < 0)
        return -1;
    *ret_agent = TAKE(agent);
    return 0;
}

void agent_close(struct agent *agent)
{
    if (!agent)
        return;
    line_close(agent->socket);
    free(agent->path);
    free(agent);
}

void agent_closep(struct agent **agent)
{
    agent_close(*agent);
    *agent = NULL;
}

static int refusal(const char *command, const json_t *error, struct err *err)
{
    const char *class = json_get_str(error, "class", "");
    const char *words = json_get_str(error, "desc", "no reason given");
    enum err_code code = ERR_STATE;

    if (str_eq(class, "CommandNotFound") || strstr(words, "has been disabled"))
        code = ERR_UNSUPPORTED;
    return err_set(err, code, 0, "the guest agent refused %s: %s", command, words);
}

static json_t *message_new(const char *command, json_t *arguments)
{
    json_t *message = json_pack("{s:s}", "execute", command);

    if (arguments)
        (void)json_object_set_new(message, "arguments", arguments);
    return message;
}

/* The answer to a command that was sent. */
static int take_answer(struct agent *agent, const char *command, json_t **ret_result,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    json_t *result;

    if (next_answer(agent, &answer, cancel, err) < 0)
        return err_wrap(err, "%s", command);
    if (json_object_get(answer, "error"))
        return refusal(command, json_object_get(answer, "error"), err);
    result = json_object_get(answer, "return");
    if (!result)
        return err_set(err, ERR_PROTOCOL, 0, "guest agent at %s: %s: neither return nor error",
                       agent->path, command);
    if (ret_result)
        *ret_result = json_incref(result);
    return 0;
}

int agent_command(struct agent *agent, const char *command, json_t *arguments, json_t **ret_result,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(agent->clock, cancel, ANSWER_LIMIT_MS);
    CLEANUP(json_freep) json_t *message = message_new(command, arguments);

    if (send_text(agent, "", message, limit, err) < 0)
        return err_wrap(err, "%s", command);
    return take_answer(agent, command, ret_result, limit, err);
}

/* --- In our words -------------------------------------------------------------------------- */

int agent_shutdown(struct agent *agent, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep)
    json_t *message = message_new("guest-shutdown", json_pack("{s:s}", "mode", "powerdown"));

    return send_text(agent, "", message, cancel, err);
}

static int count_of(const char *command, const json_t *result, uint64_t *ret_count, struct err *err)
{
    if (!json_is_integer(result) || json_integer_value(result) < 0)
        return err_set(err, ERR_PROTOCOL, 0, "guest agent: %s: no count", command);
    *ret_count = (uint64_t)json_integer_value(result);
    return 0;
}

int agent_freeze_begin(struct agent *agent, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *message = message_new(FREEZE, NULL);

    return send_text(agent, "", message, cancel, err);
}

int agent_freeze_end(struct agent *agent, uint64_t *ret_count, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(json_freep) json_t *result = NULL;

    if (take_answer(agent, FREEZE, &result, cancel, err) < 0)
        return -1;
    return count_of(FREEZE, result, ret_count, err);
}

int agent_freeze(struct agent *agent, uint64_t *ret_count, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(agent->clock, cancel, ANSWER_LIMIT_MS);

    if (agent_freeze_begin(agent, limit, err) < 0)
        return -1;
    return agent_freeze_end(agent, ret_count, limit, err);
}

int agent_thaw(struct agent *agent, uint64_t *ret_count, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *result = NULL;

    if (agent_command(agent, THAW, NULL, &result, cancel, err) < 0)
        return -1;
    return count_of(THAW, result, ret_count, err);
}

/* One that its list does not name may be there all the same: old agents list nothing. */
static bool is_blocked(const json_t *info, const char *command)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(info, "supported_commands"), i, entry)
        if (str_eq(json_get_str(entry, "name", ""), command))
            return !json_get_bool(entry, "enabled", true);
    return false;
}

int agent_check_freeze(struct agent *agent, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *info = NULL;
    CLEANUP(json_freep) json_t *status = NULL;

    if (agent_command(agent, "guest-info", NULL, &info, cancel, err) < 0)
        return -1;
    if (is_blocked(info, FREEZE) || is_blocked(info, THAW))
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "the guest agent may not %s the guest's file systems; hint: allow " FREEZE
                       " and " THAW " in its settings in the guest",
                       is_blocked(info, FREEZE) ? "freeze" : "thaw");
    if (agent_command(agent, "guest-fsfreeze-status", NULL, &status, cancel, err) < 0)
        return -1;
    if (str_eq(json_is_string(status) ? json_string_value(status) : "", "frozen"))
        return err_set(err, ERR_STATE, 0,
                       "the guest's file systems are frozen already, by somebody else");
    return 0;
}

static void add_address(const json_t *interface, const json_t *address,
                        struct agent_addresses *addresses)
{
    struct agent_address *new = agent_addresses_push(addresses);

    (void)snprintf(new->interface, sizeof(new->interface), "%s",
                   json_get_str(interface, "name", ""));
    (void)snprintf(new->mac, sizeof(new->mac), "%s",
                   json_get_str(interface, "hardware-address", ""));
    (void)snprintf(new->address, sizeof(new->address), "%s",
                   json_get_str(address, "ip-address", ""));
    new->prefix = (uint32_t)json_get_u64(address, "prefix", 0);
    new->is_ipv6 = str_eq(json_get_str(address, "ip-address-type", ""), "ipv6");
}

int agent_addresses(struct agent *agent, struct agent_addresses *ret_addresses,
                    struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *interfaces = NULL;
    json_t *interface, *address;
    size_t i, k;

    if (agent_command(agent, "guest-network-get-interfaces", NULL, &interfaces, cancel, err) < 0)
        return -1;
    agent_addresses_clear(ret_addresses);
    json_array_foreach(interfaces, i, interface) {
        if (str_eq(json_get_str(interface, "name", ""), "lo"))
            continue;
        json_array_foreach(json_object_get(interface, "ip-addresses"), k, address)
            add_address(interface, address, ret_addresses);
    }
    return 0;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_value(int c)
{
    const char *at = c ? strchr(base64_digits, c) : NULL;

    return at ? (int)(at - base64_digits) : -1;
}

static void add_base64(struct str *out, const char *text)
{
    uint32_t bits = 0;
    int have = 0;

    for (; *text && *text != '='; text++) {
        int value = base64_value(*text);
        if (value < 0)
            continue;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            char byte = (char)(bits >> have & 0xff);
            str_add_bytes(out, &byte, 1);
        }
    }
}

/* RFC 4648, with padding. */
static json_t *base64_json(const char *text)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < have ? (unsigned char)text[i + k] : 0U);
        for (size_t k = 0; k < 4; k++)
            str_add_bytes(&out, k <= have ? &base64_digits[bits >> (18 - 6 * k) & 63] : "=", 1);
    }
    return json_string(str_text(&out));
}

static json_t *exec_args(const char *const *argv, const char *input)
{
    json_t *args = json_array();

    for (const char *const *arg = argv + 1; *arg; arg++)
        (void)json_array_append_new(args, json_string(*arg));
    json_t *command =
        json_pack("{s:s, s:o, s:b}", "path", argv[0], "arg", args, "capture-output", 1);
    if (input)
        (void)json_object_set_new(command, "input-data", base64_json(input));
    return command;
}

int agent_exec(struct agent *agent, const char *const *argv, const char *input,
               struct str *ret_output, int *ret_status, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *started = NULL;
    uint64_t pid;

    if (agent_command(agent, "guest-exec", exec_args(argv, input), &started, cancel, err) < 0)
        return err_wrap(err, "run %s in the guest", argv[0]);
    if (json_need_u64(started, "pid", "guest-exec", &pid, err) < 0)
        return -1;
    for (;;) {
        CLEANUP(json_freep) json_t *state = NULL;

        if (agent_command(agent, "guest-exec-status", json_pack("{s:I}", "pid", (json_int_t)pid),
                          &state, cancel, err)
            < 0)
            return err_wrap(err, "run %s in the guest", argv[0]);
        if (json_get_bool(state, "exited", false)) {
            uint64_t by_signal = json_get_u64(state, "signal", 0);
            add_base64(ret_output, json_get_str(state, "out-data", ""));
            add_base64(ret_output, json_get_str(state, "err-data", ""));
            *ret_status =
                by_signal ? (int)(128 + by_signal) : (int)json_get_u64(state, "exitcode", 0);
            return 0;
        }
        if (cancel_sleep(cancel, EXEC_LOOK_MS, err) < 0)
            return err_wrap(err, "wait for %s in the guest", argv[0]);
    }
}
