// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <stdlib.h>

void json_freep(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}

int json_parse(const char *text, size_t len, json_t **ret_json, struct err *err)
{
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);

    if (!json)
        return err_set(err, ERR_INVALID, 0, "not JSON: line %d, column %d: %s", why.line,
                       why.column, why.text);
    *ret_json = json;
    return 0;
}

char *json_text(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

    if (!text)
        abort(); /* no memory, or NULL: a mistake of ours */
    return text;
}

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a text",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real",    [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null",
    };
    return value ? names[json_typeof(value)] : "missing";
}

static int wrong_field(const json_t *obj, const char *key, const char *what, const char *wanted,
                       struct err *err)
{
    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, 0, "%s: not an object (looking for field \"%s\")", what,
                       key);
    return err_set(err, ERR_INVALID, 0, "%s: field \"%s\" must be %s, but is %s", what, key, wanted,
                   type_name(json_object_get(obj, key)));
}

int json_need_str(const json_t *obj, const char *key, const char *what, const char **ret_text,
                  struct err *err)
{
    const char *text = json_string_value(json_object_get(obj, key));

    if (!text)
        return wrong_field(obj, key, what, "a text", err);
    *ret_text = text;
    return 0;
}

int json_need_u64(const json_t *obj, const char *key, const char *what, uint64_t *ret_value,
                  struct err *err)
{
    const json_t *value = json_object_get(obj, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong_field(obj, key, what, "an integer of 0 or more", err);
    *ret_value = (uint64_t)json_integer_value(value);
    return 0;
}

int json_need_array(const json_t *obj, const char *key, const char *what, json_t **ret_array,
                    struct err *err)
{
    json_t *value = json_object_get(obj, key);

    if (!json_is_array(value))
        return wrong_field(obj, key, what, "an array", err);
    *ret_array = value;
    return 0;
}

int json_need_object(const json_t *obj, const char *key, const char *what, json_t **ret_object,
                     struct err *err)
{
    json_t *value = json_object_get(obj, key);

    if (!json_is_object(value))
        return wrong_field(obj, key, what, "an object", err);
    *ret_object = value;
    return 0;
}

const char *json_get_str(const json_t *obj, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text ? text : fallback;
}

uint64_t json_get_u64(const json_t *obj, const char *key, uint64_t fallback)
{
    const json_t *value = json_object_get(obj, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return fallback;
    return (uint64_t)json_integer_value(value);
}

bool json_get_bool(const json_t *obj, const char *key, bool fallback)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

bool json_lists(const json_t *array, const char *text)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(array, i, entry)
        if (str_eq(json_string_value(entry), text))
            return true;
    return false;
}
