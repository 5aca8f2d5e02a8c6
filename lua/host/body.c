// SPDX-License-Identifier: Apache-2.0
/* The function of a step, run by a child that asks. After its job (child.h) the child sends lines
 * of JSON, and waits after each for one line:
 *
 *   child   {"act": {"verb": "check", "args": {...}}, "line": 12}   act(check { ... }) on line 12
 *   parent  {"result": {...}}                                       what act returns
 *     or    {"error": {"code": "timeout", "message": T, "verb": "check"}}   what act raises
 *
 *   child   {"result_of": "Look at web1", "line": 14}               result "Look at web1"
 *   parent  {"result": V}  or  {}                                   V, or nil
 *
 *   child   {"value": V}  or  {"error": {...}}                      its end, as of any child
 *
 * The child keeps nothing that is not in its text and in these answers. A parent that ends closes
 * the socket; the child ends then. */
#include "base/fs.h"
#include "base/mem.h"
#include "host/talk.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

struct host_body {
    struct child child;
    struct host host; /* with the bounds of a body */
    char *name;
    char *text; /* its places are told by it */
    char *job;  /* until it is sent */
};

static json_t *job_json(const struct host_body *body, json_t *text, const json_t *words,
                        const char *step)
{
    return json_pack("{s:s, s:O, s:I, s:I, s:I, s:O, s:s}", "mode", "body", "text", text,
                     "memory_bytes", (json_int_t)body->host.limits.memory_bytes, "result_bytes",
                     (json_int_t)body->host.limits.result_bytes, "cpu_ms",
                     (json_int_t)body->host.limits.cpu_ms, "words", words, "step", step);
}

int host_body_start(const struct host *host, const char *name, const char *text, size_t len,
                    const json_t *words, const char *step, struct host_body **ret_body,
                    struct err *err)
{
    static const char mark[] = "\xef\xbb\xbf"; /* some editors begin a file with it */
    bool marked = len >= 3 && memcmp(text, mark, 3) == 0;
    CLEANUP(json_freep) json_t *checked = NULL;
    const struct child look = {.name = name,
                               .text = marked ? text + 3 : text,
                               .len = marked ? len - 3 : len,
                               .host = host,
                               .fd = -1};

    if (talk_check_text(&look, &checked, err) < 0)
        return -1;
    struct host_body *body = mem_new(struct host_body);
    body->host = *host;
    body->host.limits.result_bytes = HOST_BODY_BYTES_MAX;
    body->name = mem_strdup(name);
    body->text = mem_printf("%.*s", (int)look.len, look.text);
    body->child = look;
    body->child.name = body->name;
    body->child.text = body->text;
    body->child.host = &body->host;
    CLEANUP(json_freep) json_t *job = job_json(body, checked, words, step);
    body->job = json_text(job);
    if (talk_start(&body->child, err) < 0) {
        host_body_free(body);
        return -1;
    }
    *ret_body = body;
    return 0;
}

/* Also what must not be taken for a program that is at fault, because running it again helps. */
static int judge_end(struct host_body *body, struct err *err)
{
    int status = 0;

    proc_reap(&body->child.id, &status);
    body->child.id = (struct proc_id){0};
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return err_set(err, ERR_IO, 0, "%s: the child that ran the function was killed",
                       body->name);
    return talk_judge_end(&body->child, status, err);
}

static bool is_request(const json_t *json)
{
    return json_object_get(json, "act") || json_object_get(json, "result_of");
}

/* Its last line, or a request. */
static int judge(struct host_body *body, const struct str *line, json_t **ret_request,
                 struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;
    json_t *value = NULL;

    if (json_parse(line->ptr, line->len, &json, err) == 0 && is_request(json)) {
        *ret_request = TAKE(json);
        return 0;
    }
    if (talk_judge_answer(&body->child, line, &value, err) < 0)
        return -1;
    *ret_request = json_pack("{s:o}", "value", value);
    return 0;
}

static int exchange(struct host_body *body, const json_t *answer, struct str *ret_line,
                    struct cancel *cancel, struct err *err)
{
    struct clock *clock = body->host.clock;
    CLEANUP(cancel_freep)
    struct cancel *within = cancel_new(clock, cancel, body->host.limits.wall_ms);
    CLEANUP(mem_freep) char *text = answer ? json_text(answer) : TAKE(body->job);
    CLEANUP(mem_freep) char *line = mem_printf("%s\n", text);

    if (talk_send(&body->child, line, strlen(line), within, err) < 0
        || talk_read(&body->child, ret_line, within, err) < 0)
        return err->code == ERR_LIMIT ? -1 : talk_judge_wait(&body->child, cancel, err);
    return 0;
}

int host_body_ask(struct host_body *body, const json_t *answer, json_t **ret_request,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(str_free) struct str line = STR_EMPTY;

    if (exchange(body, answer, &line, cancel, err) < 0)
        return -1;
    return line.len ? judge(body, &line, ret_request, err) : judge_end(body, err);
}

void host_body_free(struct host_body *body)
{
    if (!body)
        return;
    fd_close(&body->child.fd);
    if (body->child.id.pid > 0)
        proc_reap(&body->child.id, NULL);
    free(body->name);
    free(body->text);
    free(body->job);
    free(body);
}
