// SPDX-License-Identifier: Apache-2.0
/* One request: headers -> body -> handler -> answer. Three ways to the answer:
 *
 *   at once      the handler returns it; what it wrote is committed, then the answer is queued
 *   by the pool  api_defer: the connection is suspended; work runs on a pool thread, finish on the
 *                loop, then the connection is resumed and MHD asks us again: the answer is ready
 *   by a change  api_hold_for_change: the same, woken by api_changed or a timer
 *
 * A request that is in the pool belongs to its job until `done`; when the API was stopped
 * meanwhile, req->api is NULL and nothing is answered. A caller who hangs up is not noticed while
 * suspended: the work and its finish run to their end, only the answer is lost. */
#include "api/api_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

struct api_request {
    struct pool_job job; /* while deferred; first, so that the job finds its request */
    struct api *api;     /* NULL: stopped */
    struct api_request *next;
    struct MHD_Connection *conn; /* NULL: gone */
    const struct api_route *route;
    char *params[API_PARAMS_MAX];
    struct str body;
    json_t *in;
    const char *method;
    char who[64];
    int64_t began_ms;

    bool handled;
    bool suspended;
    bool in_pool;
    struct api_world world; /* a copy: the pool may outlive the API */
    json_t *work_in;
    json_t *work_out;
    struct err work_err;
    bool work_failed;
    api_work_fn *work;
    api_finish_fn *finish;
    void *what; /* of api_defer_over */
    void (*free_what)(void *what);
    int (*work_over)(void *what, json_t **ret_out, struct cancel *cancel, struct err *err);
    bool held;
    uint64_t hold_timer;
    uint64_t hold_since;

    unsigned status;
    char *answer; /* ready when not NULL */
};

static struct api_request *request_new(struct api *api, struct MHD_Connection *conn)
{
    struct api_request *req = mem_new(struct api_request);

    req->api = api;
    req->world = api->world;
    req->conn = conn;
    req->next = api->requests;
    req->began_ms = api->world.clock->now_ms(api->world.clock);
    api->requests = req;
    return req;
}

static void request_unlink(struct api *api, const struct api_request *req)
{
    for (struct api_request **at = &api->requests; *at; at = &(*at)->next) {
        if (*at == req) {
            *at = req->next;
            return;
        }
    }
}

static void request_free(struct api_request *req)
{
    for (size_t i = 0; i < API_PARAMS_MAX; i++)
        free(req->params[i]);
    str_free(&req->body);
    json_decref(req->in);
    json_decref(req->work_in);
    json_decref(req->work_out);
    cancel_free(req->job.cancel);
    if (req->what)
        req->free_what(req->what);
    free(req->answer);
    free(req);
}

/* --- Answers --------------------------------------------------------------------------------- */

/* Takes `json`; NULL: it could not be made, because a text in it is no UTF-8. */
static void set_answer(struct api_request *req, unsigned status, json_t *json)
{
    free(req->answer);
    req->status = json ? status : 500;
    req->answer = json ? json_text(json)
                       : mem_strdup("{\"error\":{\"code\":\"corrupt\",\"message\":\"the answer "
                                    "holds text that is no UTF-8\"}}");
    json_decref(json);
}

static void set_failure(struct api_request *req, unsigned status, const struct err *err)
{
    set_answer(req, status, api_error_json(err));
}

static bool is_change(const struct api_request *req)
{
    return !str_eq(req->method, "GET");
}

static void log_answer(const struct api_request *req, const char *path)
{
    int64_t took = req->world.clock->now_ms(req->world.clock) - req->began_ms;

    if (req->status >= 500 || is_change(req))
        log_info("api", "%s %.200s who=%s status=%u ms=%" PRId64, req->method, path, req->who,
                 req->status, took);
    else
        log_debug("api", "%s %.200s who=%s status=%u ms=%" PRId64, req->method, path, req->who,
                  req->status, took);
}

static enum MHD_Result queue_answer(struct api_request *req)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(req->answer), req->answer, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result rc;

    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, "Content-Type", "application/json");
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    rc = MHD_queue_response(req->conn, req->status, response);
    MHD_destroy_response(response);
    return rc;
}

/* The answer is there: wakes the connection, MHD asks us again. */
static void resume(struct api_request *req)
{
    if (!req->suspended)
        return;
    req->suspended = false;
    MHD_resume_connection(req->conn);
    api_wake(req->api);
}

/* What a handler or a finish came back with. Takes `reply`. */
static void conclude(struct api_request *req, int rc, json_t *reply, const struct err *err)
{
    if (rc < 0) {
        json_decref(reply);
        set_failure(req, api_status_of(err->code), err);
        return;
    }
    if (req->in_pool || req->held || req->answer)
        return;
    if (is_change(req) && req->world.commit)
        req->world.commit(req->world.ctx);
    set_answer(req, 200, reply ? reply : json_object());
}

/* --- The pool ---------------------------------------------------------------------------------- */

static void run_work(struct pool_job *job)
{
    struct api_request *req = (struct api_request *)job;

    int rc = req->what ? req->work_over(req->what, &req->work_out, job->cancel, &req->work_err)
                       : req->work(&req->world, req->work_in, &req->work_out, job->cancel,
                                   &req->work_err);

    req->work_failed = rc < 0;
}

static void finish_work(struct api_request *req)
{
    CLEANUP(json_freep) json_t *in = TAKE(req->work_in);
    CLEANUP(json_freep) json_t *out = TAKE(req->work_out);
    struct err err = req->work_err;
    json_t *reply = NULL;
    int rc = req->work_failed ? -1 : 0;

    if (rc == 0 && req->finish)
        rc = req->finish(req, in, out, &reply, &err);
    else if (rc == 0)
        reply = json_incref(out);
    conclude(req, rc, reply, &err);
}

static void done_work(struct pool_job *job)
{
    struct api_request *req = (struct api_request *)job;

    req->in_pool = false;
    cancel_free(req->job.cancel);
    req->job.cancel = NULL;
    if (!req->api) {
        request_free(req);
        return;
    }
    finish_work(req);
    if (req->answer)
        resume(req);
}

int api_defer(struct api_request *req, json_t *in, int64_t within_ms, api_work_fn *work,
              api_finish_fn *finish)
{
    assert(!req->in_pool && !req->held);
    req->in_pool = true;
    req->work_in = in;
    req->work = work;
    req->finish = finish;
    req->work_failed = false;
    err_clear(&req->work_err);
    req->job.run = run_work;
    req->job.done = done_work;
    req->job.cancel = cancel_new(req->world.clock, NULL, within_ms);
    /* What was decided is durable before its effect starts. */
    if (is_change(req) && req->world.commit)
        req->world.commit(req->world.ctx);
    pool_submit(req->world.pool, &req->job);
    return 0;
}

int api_defer_over(struct api_request *req, void *what, void (*free_what)(void *what),
                   int64_t within_ms,
                   int (*work)(void *what, json_t **ret_out, struct cancel *cancel,
                               struct err *err))
{
    assert(!req->what);
    req->what = what;
    req->free_what = free_what;
    req->work_over = work;
    return api_defer(req, NULL, within_ms, NULL, NULL);
}

/* --- Waiting for a change ---------------------------------------------------------------------- */

static void end_hold(struct api_request *req)
{
    if (req->hold_timer)
        loop_timer_cancel(req->world.loop, req->hold_timer);
    req->hold_timer = 0;
    req->held = false;
    set_answer(req, 200, json_pack("{s:I}", "change", (json_int_t)req->api->change));
    resume(req);
}

static void on_hold_timeout(void *ctx)
{
    struct api_request *req = ctx;

    req->hold_timer = 0;
    end_hold(req);
}

int api_hold_for_change(struct api_request *req, uint64_t since, int64_t wait_ms)
{
    req->held = true;
    req->hold_since = since;
    if (req->api->change > since || wait_ms <= 0)
        end_hold(req);
    else
        req->hold_timer = loop_timer(req->world.loop, wait_ms, on_hold_timeout, req);
    return 0;
}

void api_requests_changed(struct api *api)
{
    for (struct api_request *req = api->requests; req; req = req->next)
        if (req->held && req->suspended && api->change > req->hold_since)
            end_hold(req);
}

json_t *api_memory(const struct api_request *req, const char *key)
{
    struct api *api = req->api;

    if (!api->memory)
        api->memory = json_object();
    if (!json_object_get(api->memory, key))
        (void)json_object_set_new(api->memory, key, json_object());
    return json_object_get(api->memory, key);
}

uint64_t api_change_number(const struct api_request *req)
{
    return req->api->change;
}

void api_requests_abandon(struct api *api)
{
    for (struct api_request *req = api->requests; req; req = req->next) {
        if (req->hold_timer)
            loop_timer_cancel(req->world.loop, req->hold_timer);
        req->hold_timer = 0;
        req->held = false;
        if (req->in_pool)
            cancel_fire(req->job.cancel);
        resume(req);
    }
}

/* --- The request itself ------------------------------------------------------------------------ */

struct query_fill {
    const struct api_field *fields;
    json_t *in;
    struct err *err;
    int rc;
};

static const struct api_field *query_field(const struct api_field *fields, const char *key)
{
    for (; fields && fields->name; fields++)
        if (str_eq(fields->name, key))
            return fields;
    return NULL;
}

/* Query values are texts; a field's type says what they become. What does not fit stays text and
 * is refused by api_fields_check. */
static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key,
                                 const char *value)
{
    struct query_fill *fill = cls;
    const struct api_field *field = query_field(fill->fields, key);
    json_t *json = NULL;
    uint64_t number;

    (void)kind;
    value = value ? value : "";
    if (field && field->type == API_NUMBER && str_to_u64(value, &number) && number <= INT64_MAX)
        json = json_integer((json_int_t)number);
    else if (field && field->type == API_BOOL && (str_eq(value, "true") || str_eq(value, "false")))
        json = json_boolean(str_eq(value, "true"));
    else
        json = json_string(value);
    if (!json || json_object_set_new(fill->in, key, json) < 0) {
        fill->rc = err_set(fill->err, ERR_INVALID, 0, "the query is not UTF-8");
        return MHD_NO;
    }
    return MHD_YES;
}

static int read_input(struct api_request *req, struct err *err)
{
    struct query_fill fill = {.fields = req->route->fields, .err = err};

    if (is_change(req) && req->body.len) {
        if (json_parse(req->body.ptr, req->body.len, &req->in, err) < 0)
            return err_wrap(err, "body");
        if (!json_is_object(req->in))
            return err_set(err, ERR_INVALID, 0, "the body must be a JSON object");
    } else {
        req->in = json_object();
    }
    fill.in = req->in;
    (void)MHD_get_connection_values(req->conn, MHD_GET_ARGUMENT_KIND, add_query, &fill);
    if (fill.rc < 0)
        return -1;
    return api_fields_check(req->route->fields, req->in, err);
}

static void handle(struct api_request *req)
{
    struct err err = ERR_EMPTY;
    json_t *reply = NULL;
    int rc = read_input(req, &err);

    req->handled = true;
    if (rc == 0)
        rc = req->route->handle(req, &reply, &err);
    conclude(req, rc, reply, &err);
}

/* Headers are there. A request that cannot succeed is refused before its body is taken. */
static struct api_request *begin(struct api *api, struct MHD_Connection *conn, const char *url,
                                 const char *method)
{
    struct api_request *req = request_new(api, conn);
    struct err err = ERR_EMPTY;
    const char *length = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Content-Length");
    uint64_t bytes = 0;

    req->method = method;
    api_find_who(api, conn, req->who, sizeof(req->who));
    req->route = api_route_find(api->tables, method, url, req->params, &err);
    if (!req->route) {
        set_failure(req, err.code == ERR_UNSUPPORTED ? 405 : 404, &err);
    } else if (length && str_to_u64(length, &bytes) && bytes > API_BODY_MAX) {
        err_put(&err, ERR_LIMIT, 0, "the body has %" PRIu64 " bytes, the most is %u", bytes,
                API_BODY_MAX);
        set_failure(req, 413, &err);
    }
    return req;
}

static void take_body(struct api_request *req, const char *bytes, size_t len)
{
    struct err err = ERR_EMPTY;

    if (req->answer)
        return;
    if (req->body.len + len > API_BODY_MAX) {
        err_put(&err, ERR_LIMIT, 0, "the body has more than %u bytes, which is the most",
                API_BODY_MAX);
        str_free(&req->body);
        set_failure(req, 413, &err);
        return;
    }
    str_add_bytes(&req->body, bytes, len);
}

enum MHD_Result api_on_request(void *cls, struct MHD_Connection *conn, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_len, void **req_cls)
{
    struct api_request *req = *req_cls;

    (void)version;
    if (!req) {
        req = begin(cls, conn, url, method);
        *req_cls = req;
        if (!req->answer)
            return MHD_YES;
    } else if (*upload_len) {
        take_body(req, upload, *upload_len);
        *upload_len = 0;
        return MHD_YES;
    }
    if (!req->answer && !req->handled)
        handle(req);
    if (!req->answer) {
        req->suspended = true;
        MHD_suspend_connection(conn);
        return MHD_YES;
    }
    log_answer(req, url);
    return queue_answer(req);
}

void api_on_completed(void *cls, struct MHD_Connection *conn, void **req_cls,
                      enum MHD_RequestTerminationCode code)
{
    struct api_request *req = *req_cls;

    (void)conn;
    (void)code;
    if (!req)
        return;
    *req_cls = NULL;
    request_unlink(cls, req);
    if (req->hold_timer)
        loop_timer_cancel(req->world.loop, req->hold_timer);
    req->hold_timer = 0;
    req->conn = NULL;
    req->suspended = false;
    if (req->in_pool)
        req->api = NULL;
    else
        request_free(req);
}

/* --- For handlers ------------------------------------------------------------------------------ */

const struct api_world *api_world_of(const struct api_request *req)
{
    return &req->world;
}

const char *api_who(const struct api_request *req)
{
    return req->who;
}

const char *api_param(const struct api_request *req, const char *name)
{
    size_t i = 0, len = strlen(name);

    for (const char *at = strchr(req->route->path, '{'); at; at = strchr(at + 1, '{'), i++)
        if (strncmp(at + 1, name, len) == 0 && at[1 + len] == '}')
            return req->params[i];
    abort(); /* not in the route's path: our own mistake */
}

uint64_t api_param_u64(const struct api_request *req, const char *name)
{
    uint64_t number = 0;
    bool good = str_to_u64(api_param(req, name), &number);

    assert(good);
    (void)good;
    return number;
}

const json_t *api_in(const struct api_request *req)
{
    return req->in;
}
