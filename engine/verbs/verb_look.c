// SPDX-License-Identifier: Apache-2.0
/* What wait_until and check share. A tcp target is "HOST:PORT"; HOST is a machine of the plan (the
 * site finds its address) or an address. It is looked at from where the machine's clients would
 * be: in a test from within the test's own network. */
#include "base/mem.h"
#include "verbs/verb_help.h"

#include <stdio.h>
#include <string.h>

/* "db1:5432", "10.0.0.5:5432", "[::1]:5432". */
static int split_target(const char *target, char *ret_host, size_t host_len, uint64_t *ret_port,
                        struct err *err)
{
    const char *colon = strrchr(target, ':');
    bool bracket = target[0] == '[' && colon && colon > target + 1 && colon[-1] == ']';
    uint64_t port = 0;

    if (!colon || colon == target || !str_to_u64(colon + 1, &port) || port < 1 || port > 65535)
        return err_set(err, ERR_INVALID, 0, "\"%s\" is not host:port; hint: tcp = \"db1:5432\"",
                       target);
    int len = (int)(colon - target) - (bracket ? 2 : 0);
    if (snprintf(ret_host, host_len, "%.*s", len, target + (bracket ? 1 : 0)) >= (int)host_len)
        return err_set(err, ERR_INVALID, 0, "\"%s\": the host is too long", target);
    *ret_port = port;
    return 0;
}

static int ask_tcp(const struct verb_call *call, const char *target, json_t **ret_reply,
                   struct cancel *cancel, struct err *err)
{
    char host[256];
    uint64_t port;

    if (split_target(target, host, sizeof(host), &port, err) < 0)
        return -1;
    bool known = verb_machine(call, host) != NULL;
    const char *assigned = json_get_str(verb_machine(call, host), "address", "");
    return site_ask(call->here, "probe.tcp",
                    json_pack("{s:s, s:s, s:b, s:s, s:I}", "machine", known ? host : "", "run",
                              known ? verb_run_of(call, host) : call->run, "test",
                              verb_is_test(call), "address", known ? assigned : host, "port",
                              (json_int_t)port),
                    ret_reply, cancel, err);
}

static json_t *machine_args(const struct verb_call *call, const char *machine)
{
    return json_pack("{s:s, s:s, s:b}", "machine", machine, "run", verb_run_of(call, machine),
                     "test", verb_is_test(call));
}

int verb_look(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *tcp = verb_text(call, "tcp");
    const char *agent = verb_text(call, "agent");
    const char *console = verb_text(call, "console");
    int rc;

    if (*tcp) {
        rc = ask_tcp(call, tcp, &reply, cancel, err);
    } else if (*agent) {
        rc = site_ask(call->here, "probe.agent", machine_args(call, agent), &reply, cancel, err);
    } else if (*console) {
        json_t *args = machine_args(call, console);
        (void)json_object_set_new(args, "text", json_string(verb_text(call, "line")));
        rc = site_ask(call->here, "probe.console", args, &reply, cancel, err);
    } else {
        rc = err_set(err, ERR_INVALID, 0,
                     "nothing to look at; hint: give tcp = \"machine:port\", agent = \"machine\" or"
                     " console = \"machine\" with line = \"text\"");
    }
    if (rc < 0)
        return -1;
    return json_get_bool(reply, "answer", false) ? 1 : 0;
}

char *verb_look_text(const json_t *args)
{
    const char *tcp = json_get_str(args, "tcp", "");
    const char *agent = json_get_str(args, "agent", "");

    if (*tcp)
        return mem_printf("%s accepts connections", tcp);
    if (*agent)
        return mem_printf("the guest agent of %s answers", agent);
    return mem_printf("the console of %s shows \"%s\"", json_get_str(args, "console", "?"),
                      json_get_str(args, "line", ""));
}

int verb_within(const struct verb_call *call, int64_t fallback_ms, int64_t *ret_ms, struct err *err)
{
    const char *within = verb_text(call, "within");

    if (!*within)
        *ret_ms = fallback_ms;
    else if (!str_to_ms(within, ret_ms))
        return err_set(err, ERR_INVALID, 0,
                       "within = \"%s\" is not a duration; hint: \"90s\", \"5m\"", within);
    return 0;
}
