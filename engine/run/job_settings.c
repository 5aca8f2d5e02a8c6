// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "run/job.h"

int job_settings_parse(const char *json, struct job_settings *ret_settings, struct err *err)
{
    CLEANUP(json_freep) json_t *settings = NULL;
    struct job_settings parsed;

    policy_init(&parsed.policy);
    if (json_parse(json, strlen(json), &settings, err) < 0
        || policy_from_json(settings, &parsed.policy, err) < 0)
        return err_wrap(err, "settings of a protection");
    parsed.recreated_ms = (int64_t)json_get_u64(settings, "recreated_ms", 0);
    *ret_settings = parsed;
    return 0;
}

int job_settings_change(char **settings, const struct policy *policy, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    if (json_parse(*settings, strlen(*settings), &json, err) < 0)
        return err_wrap(err, "settings of a protection");
    policy_put(policy, json);
    free(*settings);
    *settings = json_text(json);
    return 0;
}

int job_settings_check(const json_t *in, struct err *err)
{
    struct policy policy;

    policy_init(&policy);
    return policy_from_json(in, &policy, err);
}
