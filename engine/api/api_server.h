// SPDX-License-Identifier: Apache-2.0
/* The API's own machinery: routes as tables, requests, answers now or later. Handlers are called
 * on the loop's thread and never block; what blocks goes to the pool by api_defer. */
#pragma once

#include "api/api.h"
#include "base/cancel.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct api_request;

enum api_type {
    API_TEXT,
    API_NAME,   /* str_is_name */
    API_NUMBER, /* an integer >= 0 */
    API_BOOL,
    API_OBJECT,
    API_NAMES, /* a list of names, one at least */
};
/* A field of the body (POST, PUT, DELETE) or of the query (GET). */
struct api_field {
    const char *name;
    enum api_type type;
    bool required;
    const char *help;
};

/* Answers at once (0 with a new reference in `ret_reply`, or -1), or arranged to answer later with
 * api_defer / api_hold (0, ret_reply left alone). What it wrote to the state is made durable
 * before the reply leaves. */
typedef int api_handler(struct api_request *req, json_t **ret_reply, struct err *err);

#define API_PARAMS_MAX 4
/* A path is "/v1/machines/{name}/start"; {name} takes a name, {id} a number above 0. */
struct api_route {
    const char *method;
    const char *path;
    api_handler *handle;
    const char *help;               /* one sentence */
    const char *reply;              /* what comes back, as JSON in words */
    const struct api_field *fields; /* ends with name NULL; NULL: none */
};
/* One table per noun; ends with method NULL. */
struct api_table {
    const char *title;
    const char *help;
    const struct api_route *routes;
};

#define API_TABLES_MAX 16
/* api_start over these tables (ends with routes NULL; at most API_TABLES_MAX with that), which are
 * copied; their rows are borrowed. */
int api_server_start(const struct api_world *world, const struct api_table *tables,
                     const char *socket_path, struct api **ret_api, struct err *err) MUST_CHECK;

/* --- For handlers -------------------------------------------------------------------------- */

const struct api_world *api_world_of(const struct api_request *req);
const char *api_who(const struct api_request *req); /* the caller's user name */
const char *api_param(const struct api_request *req, const char *name);
uint64_t api_param_u64(const struct api_request *req, const char *name);
/* What handlers remember under `key` as long as the API lives: an object, borrowed, empty at first. On
 * the loop's thread. */
json_t *api_memory(const struct api_request *req, const char *key);
/* The body or the query as one object, checked against the route's fields. Borrowed. */
const json_t *api_in(const struct api_request *req);

/* Runs on a pool thread: may block, may use the estate and the host, never state, runner or jobs.
 * `in` is the deferred input; `ret_out` (may stay NULL) goes to finish. */
typedef int api_work_fn(const struct api_world *world, const json_t *in, json_t **ret_out,
                        struct cancel *cancel, struct err *err);
/* Runs on the loop's thread after it, like a handler; may defer again. NULL: `out` is the reply. */
typedef int api_finish_fn(struct api_request *req, const json_t *in, json_t *out,
                          json_t **ret_reply, struct err *err);
/* `in` is stolen. The work's cancel ends `within_ms` from now. Always 0. */
int api_defer(struct api_request *req, json_t *in, int64_t within_ms, api_work_fn *work,
              api_finish_fn *finish);

/* The same for work over something that is no JSON; `what` is taken and freed with `free_what` on the
 * loop's thread. Its `ret_out` is the reply. */
int api_defer_over(struct api_request *req, void *what, void (*free_what)(void *what),
                   int64_t within_ms,
                   int (*work)(void *what, json_t **ret_out, struct cancel *cancel,
                               struct err *err));

/* Answers when api_changed was called after change number `since`, or after `wait_ms`. Always 0. */
int api_hold_for_change(struct api_request *req, uint64_t since, int64_t wait_ms);
uint64_t api_change_number(const struct api_request *req);

/* --- Parts, for tests ---------------------------------------------------------------------- */

/* The route of a request, or NULL with ERR_NOT_FOUND, or ERR_UNSUPPORTED (the path is there,
 * the method not). Parameters are written to `params` as owned texts in the order of the path. */
const struct api_route *api_route_find(const struct api_table *tables, const char *method,
                                       const char *path, char *params[API_PARAMS_MAX],
                                       struct err *err);
/* ERR_INVALID names the field, what it is and what it should be, and the nearest known one. */
int api_fields_check(const struct api_field *fields, const json_t *in, struct err *err) MUST_CHECK;
unsigned api_status_of(enum err_code code);
/* {error: {code, message, hint}} */
json_t *api_error_json(const struct err *err);
/* The tables as Markdown and as JSON. */
char *api_tables_markdown(const struct api_table *tables);
json_t *api_tables_json(const struct api_table *tables);
