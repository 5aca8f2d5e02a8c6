// SPDX-License-Identifier: Apache-2.0
/* notify { "https://HOOK", text, json, token_file, within }: one POST of JSON to a web hook. Whether a
 * message arrived before a crash nobody can ask; so it is sent again, under the same Idempotency-Key,
 * by which the receiver knows it. */
#include "base/mem.h"
#include "verbs/verb_help.h"

#include <string.h>

#define WITHIN_TEXT "30s"
#define WITHIN_MS   30000

static const struct verb_arg args[] = {
    {.type = ARG_URL,
     .required = true,
     .help = "Where to: https, or http. Redirects are not followed, certificates are verified."},
    {.name = "text", .type = ARG_TEXT, .required = true, .help = "What to say."},
    {.name = "json", .type = ARG_DATA, .help = "Data of your own, in the body as `json`."},
    {.name = "token_file",
     .type = ARG_TEXT,
     .help = "A file in the site's `secrets` folder, readable by the daemon alone: what is in it is"
             " sent as `Authorization: Bearer`, and stands nowhere else."},
    {.name = "within",
     .type = ARG_DURATION,
     .help = "How long the answer may take; " WITHIN_TEXT " by default."},
};

/* "https://hooks.example.com": the path of a hook may be a secret. */
static int origin_len(const char *url)
{
    const char *host = strstr(url, "://");

    return (int)(host ? host + 3 - url + (long)strcspn(host + 3, "/?#") : (long)strlen(url));
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    const char *url = verb_text(call, "value");
    const char *token = verb_text(call, "token_file");
    const json_t *data = json_object_get(call->args, "json");
    int64_t within_ms;

    if (verb_within(call, WITHIN_MS, &within_ms, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *key = mem_printf("%s.%s", call->run_name, call->action_id);
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "run", call->run_name, "plan",
                             call->plan, "kind", run_kind_name(call->kind), "site",
                             call->here->name, "step", call->step, "text", verb_text(call, "text"));
    if (data)
        (void)json_object_set(body, "json", (json_t *)(uintptr_t)data);
    if (site_ask(call->here, "hook.post",
                 json_pack("{s:s, s:s, s:o, s:s, s:I}", "url", url, "key", key, "body", body,
                           "token_file", token, "within_ms", (json_int_t)within_ms),
                 ret_result, cancel, err)
        < 0)
        return err_wrap(err, "notify %.*s", origin_len(url), url);
    return 0;
}

static int check(const json_t *call_args, const char **ret_arg, struct err *err)
{
    const char *url = json_get_str(call_args, "value", "");
    const char *token = json_get_str(call_args, "token_file", NULL);

    *ret_arg = "token_file";
    if (token && !str_is_name(token))
        return err_set(err, ERR_INVALID, 0,
                       "token_file: \"%.80s\" is no name; hint: the name of a file in the site's"
                       " secrets folder, \"hook.token\"",
                       token);
    if (token && !str_starts(url, "https://") && !str_starts(url, "http://127.0.0.1")
        && !str_starts(url, "http://[::1]"))
        return err_set(err, ERR_INVALID, 0, "token_file: a token is sent over https only");
    return 0;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    const char *url = json_get_str(call_args, "value", "?");

    return mem_printf("Tell %.*s%s: \"%s\"", origin_len(url), url,
                      kind == RUN_TEST ? " (marked as a test)" : "",
                      json_get_str(call_args, "text", ""));
}

const struct verb verb_notify = {
    .name = "notify",
    .help =
        "Posts JSON to a web hook: `{run, plan, kind, site, step, text, json}`. In doubt after a"
        " crash it is sent again, with the same `Idempotency-Key`. In a test its kind is"
        " `\"test\"`.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .idempotent = true,
    .run = run,
    .check = check,
    .describe = describe,
};
