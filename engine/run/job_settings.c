// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "run/job.h"
#include "run/policies.h"

#include <stdio.h>

json_t *job_overrides_json(uint32_t overrides)
{
    json_t *keys = json_array();

    for (size_t i = 0; policy_keys[i]; i++)
        if (overrides & (UINT32_C(1) << i))
            (void)json_array_append_new(keys, json_string(policy_keys[i]));
    return keys;
}

static int override_bit(const char *key, uint32_t *ret_bit)
{
    for (size_t i = 0; policy_keys[i]; i++)
        if (str_eq(policy_keys[i], key)) {
            *ret_bit = UINT32_C(1) << i;
            return 0;
        }
    return -1;
}

int job_overrides_parse(const json_t *keys, uint32_t *ret_overrides, struct err *err)
{
    uint32_t overrides = 0;
    uint32_t bit;
    const json_t *key;
    size_t i;

    json_array_foreach(keys, i, key) {
        const char *name = json_is_string(key) ? json_string_value(key) : "";

        if (override_bit(name, &bit) < 0)
            return err_set(err, ERR_INVALID, 0, "overrides: \"%.64s\" is no field of a policy",
                           name);
        overrides |= bit;
    }
    *ret_overrides = overrides;
    return 0;
}

int job_settings_take(const json_t *in, struct job_settings *settings, struct err *err)
{
    struct job_settings taken = *settings;
    const char *name = json_get_str(in, "policy", NULL);
    const json_t *overrides = json_object_get(in, "overrides");

    if (name && !str_is_name(name))
        return err_set(err, ERR_INVALID, 0, "policy \"%.64s\" is no name", name);
    if (name)
        (void)snprintf(taken.policy_name, sizeof(taken.policy_name), "%s", name);
    if (policy_from_json(in, &taken.policy, err) < 0
        || (overrides && job_overrides_parse(overrides, &taken.overrides, err) < 0))
        return -1;
    *settings = taken;
    return 0;
}

int job_settings_parse(const char *json, struct job_settings *ret_settings, struct err *err)
{
    CLEANUP(json_freep) json_t *settings = NULL;
    struct job_settings parsed = {.policy_name = POLICY_DEFAULT};
    struct policy plain;

    policy_init(&parsed.policy);
    policy_init(&plain);
    if (json_parse(json, strlen(json), &settings, err) < 0
        || job_settings_take(settings, &parsed, err) < 0)
        return err_wrap(err, "settings of a protection");
    if (!json_object_get(settings, "policy"))
        parsed.overrides = policy_differences(&parsed.policy, &plain);
    parsed.recreated_ms = (int64_t)json_get_u64(settings, "recreated_ms", 0);
    *ret_settings = parsed;
    return 0;
}

void job_settings_put(const struct job_settings *settings, json_t *into)
{
    bool named = *settings->policy_name;
    uint32_t overrides = settings->overrides;
    struct policy plain;

    policy_init(&plain);
    if (!named)
        overrides = policy_differences(&settings->policy, &plain);
    policy_put(&settings->policy, into);
    (void)json_object_set_new(into, "policy",
                              json_string(named ? settings->policy_name : POLICY_DEFAULT));
    (void)json_object_set_new(into, "overrides", job_overrides_json(overrides));
}

void job_settings_copy(const json_t *from, json_t *into)
{
    static const char *const more[] = {"policy", "overrides", NULL};
    const char *const *const lists[] = {policy_keys, more};

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (const char *const *key = lists[i]; *key; key++)
            if (json_object_get(from, *key))
                (void)json_object_set(into, *key, json_object_get(from, *key));
}

bool job_settings_equal(const struct job_settings *a, const struct job_settings *b)
{
    return policy_equal(&a->policy, &b->policy) && a->overrides == b->overrides
           && str_eq(a->policy_name, b->policy_name);
}

int job_settings_change(char **text, const struct job_settings *settings, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    if (json_parse(*text, strlen(*text), &json, err) < 0)
        return err_wrap(err, "settings of a protection");
    job_settings_put(settings, json);
    free(*text);
    *text = json_text(json);
    return 0;
}

int job_settings_check(const json_t *in, struct err *err)
{
    struct job_settings settings = {.policy_name = ""};

    policy_init(&settings.policy);
    return job_settings_take(in, &settings, err);
}

int job_machines(const struct state_protection *row, struct machine_names *ret_machines,
                 struct err *err)
{
    CLEANUP(json_freep) json_t *settings = NULL;

    if (json_parse(row->settings, strlen(row->settings), &settings, err) < 0
        || machine_names_parse(json_object_get(settings, "machines"), row->group, ret_machines, err)
               < 0)
        return err_wrap(err, "settings of a protection");
    return 0;
}
