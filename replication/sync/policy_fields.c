// SPDX-License-Identifier: Apache-2.0
#include "sync/policy_fields.h"

#include "base/mem.h"
#include "sync/policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROW(option, key, value, form, help, fallback) {option, key, value, form, help, fallback},

const struct policy_field policy_fields[POLICY_FIELD_COUNT + 1] = {
    POLICY_FIELDS(ROW){0},
};

static int read_value(const struct policy_field *field, const char *text, json_t **ret_value,
                      struct err *err)
{
    uint64_t number = 0;
    int64_t ms = 0;

    switch (field->form) {
    case POLICY_DURATION_OR_NONE:
    case POLICY_DURATION:
        if (field->form == POLICY_DURATION_OR_NONE && str_eq(text, "none"))
            break;
        if (!str_to_ms(text, &ms))
            return err_set(err, ERR_INVALID, 0,
                           "\"%.64s\" is no duration; hint: a number with its unit, like 15s; %s",
                           text, field->help);
        if (ms == 0)
            return err_set(err, ERR_INVALID, 0, "%.64s is out of range; hint: %s", text,
                           field->help);
        break;
    case POLICY_NUMBER:
        if (!str_to_u64(text, &number))
            return err_set(err, ERR_INVALID, 0, "\"%.64s\" is no number; hint: %s", text,
                           field->help);
        if (number > INT64_MAX)
            number = INT64_MAX;
        ms = (int64_t)number;
        break;
    case POLICY_TEXT: *ret_value = json_string(text); return 0;
    }
    *ret_value = json_integer((json_int_t)ms);
    return 0;
}

int policy_field_parse(const struct policy_field *field, const char *text, json_t **ret_value,
                       struct err *err)
{
    CLEANUP(json_freep) json_t *value = NULL;
    CLEANUP(json_freep) json_t *alone = json_object();
    struct policy policy;

    policy_init(&policy);
    if (read_value(field, text, &value, err) < 0)
        return -1;
    if (!value)
        return err_set(err, ERR_INVALID, 0, "no UTF-8; hint: %s", field->help);
    (void)json_object_set(alone, field->key, value);
    if (policy_from_json(alone, &policy, err) < 0) {
        if (field->form != POLICY_TEXT) /* what people wrote, not milliseconds */
            return err_set(err, ERR_INVALID, 0, "%.64s is out of range; hint: %s", text,
                           field->help);
        return -1;
    }
    *ret_value = TAKE(value);
    return 0;
}

const char *policy_field_text(const struct policy_field *field, const json_t *value, char *buf,
                              size_t len)
{
    int64_t number = json_integer_value(value);

    switch (field->form) {
    case POLICY_DURATION: return str_ms(number, buf, len);
    case POLICY_DURATION_OR_NONE: return number ? str_ms(number, buf, len) : "none";
    case POLICY_NUMBER: (void)snprintf(buf, len, "%" PRId64, number); return buf;
    case POLICY_TEXT: break;
    }
    return json_is_string(value) ? json_string_value(value) : "";
}

const struct policy_field *policy_field_find(const char *name)
{
    for (const struct policy_field *field = policy_fields; field->option; field++)
        if (str_eq(field->option, name) || str_eq(field->key, name))
            return field;
    return NULL;
}
