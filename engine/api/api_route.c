// SPDX-License-Identifier: Apache-2.0
#include "api/api_server.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/vec.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static size_t segment_len(const char *path)
{
    return strcspn(path, "/");
}

/* One {name} or {id} of a pattern against one segment of a path. */
static bool param_fits(const char *pattern, const char *segment, size_t len)
{
    char text[64];
    uint64_t number;

    if (len == 0 || len >= sizeof(text))
        return false;
    memcpy(text, segment, len);
    text[len] = '\0';
    if (str_starts(pattern, "{id}"))
        return strspn(text, "0123456789") == len && str_to_u64(text, &number) && number > 0
               && number <= INT64_MAX;
    return str_is_name(text);
}

static void params_free(char *params[API_PARAMS_MAX])
{
    for (size_t i = 0; i < API_PARAMS_MAX; i++) {
        free(params[i]);
        params[i] = NULL;
    }
}

static bool path_matches(const char *pattern, const char *path, char *params[API_PARAMS_MAX])
{
    size_t count = 0;

    while (*pattern == '/' && *path == '/') {
        size_t want, have;

        pattern++;
        path++;
        want = segment_len(pattern);
        have = segment_len(path);
        if (*pattern == '{') {
            assert(count < API_PARAMS_MAX);
            if (!param_fits(pattern, path, have))
                return false;
            params[count++] = mem_printf("%.*s", (int)have, path);
        } else if (want != have || memcmp(pattern, path, want) != 0) {
            return false;
        }
        pattern += want;
        path += have;
    }
    return *pattern == '\0' && *path == '\0';
}

const struct api_route *api_route_find(const struct api_table *tables, const char *method,
                                       const char *path, char *params[API_PARAMS_MAX],
                                       struct err *err)
{
    CLEANUP(str_free) struct str allowed = STR_EMPTY;

    memset(params, 0, API_PARAMS_MAX * sizeof(params[0]));
    for (const struct api_table *table = tables; table->routes; table++) {
        for (const struct api_route *route = table->routes; route->method; route++) {
            if (path_matches(route->path, path, params)) {
                if (str_eq(route->method, method))
                    return route;
                str_addf(&allowed, "%s%s", allowed.len ? ", " : "", route->method);
            }
            params_free(params);
        }
    }
    if (allowed.len)
        err_put(err, ERR_UNSUPPORTED, 0, "%.16s is not possible on %.200s; hint: possible: %s",
                method, path, str_text(&allowed));
    else
        err_put(err, ERR_NOT_FOUND, 0,
                "there is nothing at %.200s; hint: GET /v1 describes what there is", path);
    return NULL;
}

static const char *const type_names[] = {
    [API_TEXT] = "text",    [API_NAME] = "name",     [API_NUMBER] = "number",
    [API_BOOL] = "boolean", [API_OBJECT] = "object", [API_NAMES] = "names",
};

static const char *const type_wanted[] = {
    [API_TEXT] = "a text",        [API_NAME] = "a name",      [API_NUMBER] = "a number, 0 or more",
    [API_BOOL] = "true or false", [API_OBJECT] = "an object", [API_NAMES] = "a list of names",
};

static bool are_names(const json_t *value)
{
    const json_t *name;
    size_t i;

    json_array_foreach(value, i, name) {
        if (!json_is_string(name) || !str_is_name(json_string_value(name)))
            return false;
    }
    return json_array_size(value) > 0;
}

static bool type_fits(enum api_type type, const json_t *value)
{
    switch (type) {
    case API_TEXT: return json_is_string(value);
    case API_NAME: return json_is_string(value) && str_is_name(json_string_value(value));
    case API_NUMBER: return json_is_integer(value) && json_integer_value(value) >= 0;
    case API_BOOL: return json_is_boolean(value);
    case API_OBJECT: return json_is_object(value);
    case API_NAMES: return are_names(value);
    }
    return false;
}

static const struct api_field *field_find(const struct api_field *fields, const char *name)
{
    for (; fields && fields->name; fields++)
        if (str_eq(fields->name, name))
            return fields;
    return NULL;
}

static int unknown_field(const struct api_field *fields, const char *name, struct err *err)
{
    const char *words[32] = {NULL};
    const char *near;

    for (size_t i = 0; fields && fields[i].name && i + 1 < ARRAY_LEN(words); i++)
        words[i] = fields[i].name;
    near = str_nearest(name, words);
    if (near)
        return err_set(err, ERR_INVALID, 0, "unknown field \"%.64s\"; hint: did you mean \"%s\"?",
                       name, near);
    return err_set(err, ERR_INVALID, 0, "unknown field \"%.64s\"", name);
}

int api_fields_check(const struct api_field *fields, const json_t *in, struct err *err)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)in, name, value) {
        const struct api_field *field = field_find(fields, name);

        if (!field)
            return unknown_field(fields, name, err);
        if (!type_fits(field->type, value))
            return err_set(err, ERR_INVALID, 0, "field \"%s\" must be %s; hint: %s", name,
                           type_wanted[field->type], field->help);
    }
    for (; fields && fields->name; fields++)
        if (fields->required && !json_object_get(in, fields->name))
            return err_set(err, ERR_INVALID, 0, "field \"%s\" is missing; hint: %s", fields->name,
                           fields->help);
    return 0;
}

unsigned api_status_of(enum err_code code)
{
    switch (code) {
    case ERR_INVALID: return 400;
    case ERR_DENIED: return 403;
    case ERR_NOT_FOUND: return 404;
    case ERR_BUSY:
    case ERR_EXISTS:
    case ERR_STATE:
    case ERR_FENCED:
    case ERR_CANCELLED: return 409;
    case ERR_LIMIT: return 422;
    case ERR_UNSUPPORTED: return 501;
    case ERR_NET:
    case ERR_AUTH:
    case ERR_PROTOCOL: return 502;
    case ERR_TIMEOUT: return 504;
    case ERR_SPACE: return 507;
    case ERR_NONE:
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_UNKNOWN:
    case ERR_CODE_COUNT: return 500;
    }
    return 500;
}

/* Texts of errors may quote what a caller, a disk or a program wrote; JSON is UTF-8. */
static json_t *clean_text(const char *text, size_t len)
{
    json_t *json = json_stringn(text, len);
    CLEANUP(mem_freep) char *ascii = NULL;

    if (json)
        return json;
    ascii = mem_printf("%.*s", (int)len, text);
    for (char *at = ascii; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    return json_string(ascii);
}

json_t *api_error_json(const struct err *err)
{
    static const char mark[] = "; hint: ";
    const char *hint = strstr(err->text, mark);
    size_t len = hint ? (size_t)(hint - err->text) : strlen(err->text);
    json_t *error = json_pack("{s:s, s:o}", "code", err_code_name(err->code), "message",
                              clean_text(err->text, len));

    if (hint)
        (void)json_object_set_new(
            error, "hint", clean_text(hint + sizeof(mark) - 1, strlen(hint + sizeof(mark) - 1)));
    return json_pack("{s:o}", "error", error);
}

static void markdown_route(struct str *out, const struct api_route *route)
{
    str_addf(out, "### %s %s\n\n%s\n", route->method, route->path, route->help);
    if (route->fields && route->fields->name) {
        str_addf(out, "\n| %s | type | | |\n|---|---|---|---|\n",
                 str_eq(route->method, "GET") ? "query" : "field");
        for (const struct api_field *field = route->fields; field->name; field++)
            str_addf(out, "| `%s` | %s | %s | %s |\n", field->name, type_names[field->type],
                     field->required ? "required" : "", field->help);
    }
    str_addf(out, "\nAnswer: %s\n\n", route->reply);
}

char *api_tables_markdown(const struct api_table *tables)
{
    struct str out = STR_EMPTY;

    for (const struct api_table *table = tables; table->routes; table++) {
        str_addf(&out, "## %s\n\n%s\n\n", table->title, table->help);
        for (const struct api_route *route = table->routes; route->method; route++)
            markdown_route(&out, route);
    }
    return str_take(&out);
}

static json_t *fields_json(const struct api_field *fields)
{
    json_t *list = json_array();

    for (; fields && fields->name; fields++)
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s}", "name", fields->name,
                                                    "type", type_names[fields->type], "required",
                                                    fields->required, "help", fields->help));
    return list;
}

json_t *api_tables_json(const struct api_table *tables)
{
    json_t *list = json_array();

    for (const struct api_table *table = tables; table->routes; table++)
        for (const struct api_route *route = table->routes; route->method; route++)
            (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:o}", "method",
                                                        route->method, "path", route->path, "help",
                                                        route->help, "reply", route->reply,
                                                        "fields", fields_json(route->fields)));
    return json_pack("{s:s, s:s, s:o}", "service", "muster", "version", MUSTER_VERSION, "endpoints",
                     list);
}
