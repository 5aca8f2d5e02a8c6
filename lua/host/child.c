// SPDX-License-Identifier: Apache-2.0
/* The child: reads its job, gives up the world, and only then looks at the author's text. It ends
 * with _exit: what runs at exit would want system calls that are gone. */
#include "host/child.h"

#include "base/json.h"
#include "base/mem.h"
#include "host/sandbox.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for ourselves beside what Lua and the result may take. */
#define ADDRESS_SPARE_BYTES (512ULL * 1024 * 1024)

static int read_line(int fd, struct str *ret_line, struct err *err)
{
    char chunk[16384];

    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, errno, "read the job");
        const char *end = memchr(chunk, '\n', (size_t)n);
        if (end || n == 0) {
            str_add_bytes(ret_line, chunk, end ? (size_t)(end - chunk) : 0);
            return end ? 0 : err_set(err, ERR_PROTOCOL, 0, "the job is cut off");
        }
        if (ret_line->len + (size_t)n > CHILD_JOB_BYTES_MAX)
            return err_set(err, ERR_LIMIT, 0, "the job is larger than %zu bytes",
                           CHILD_JOB_BYTES_MAX);
        str_add_bytes(ret_line, chunk, (size_t)n);
    }
}

static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return; /* the parent is gone: nobody left to tell */
        bytes += n;
        len -= (size_t)n;
    }
}

/* A place or a message may hold bytes of the author's that are no text. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);

    if (json)
        return json;
    CLEANUP(mem_freep) char *clean = mem_strdup(text);
    for (char *c = clean; *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    return json_string(clean);
}

static void send_error(int fd, const struct err *err, const struct sandbox_place *place)
{
    CLEANUP(json_freep)
    json_t *answer =
        json_pack("{s:{s:s, s:o, s:i, s:o}}", "error", "code", err_code_name(err->code), "text",
                  text_json(err->text), "line", place ? (int)place->line : 0, "path",
                  text_json(place ? str_text(&place->path) : ""));
    CLEANUP(mem_freep) char *text = json_text(answer);

    send_all(fd, text, strlen(text));
    send_all(fd, "\n", 1);
}

/* A body asks. A parent that is gone ends us: nobody waits for what we would do next. */
static int ask(void *ctx, const char *line, size_t len, json_t **ret_answer, struct err *err)
{
    int fd = *(const int *)ctx;
    CLEANUP(str_free) struct str text = STR_EMPTY;

    send_all(fd, line, len);
    if (read_line(fd, &text, err) < 0)
        _exit(0);
    return json_parse(text.ptr, text.len, ret_answer, err);
}

/* Whatever the author's pcall would do with it. */
static void fail(void *ctx, const struct err *err, unsigned line)
{
    const struct sandbox_place place = {.line = line};

    send_error(*(const int *)ctx, err, &place);
    _exit(0);
}

static enum host_mode mode_of(const char *word)
{
    return strcmp(word, "plan") == 0   ? HOST_PLAN
           : strcmp(word, "body") == 0 ? HOST_BODY
                                       : HOST_DATA;
}

static int read_job(const json_t *json, struct sandbox_job *ret_job,
                    struct child_bounds *ret_bounds, struct err *err)
{
    const char *mode;
    uint64_t memory_bytes;
    uint64_t result_bytes;
    uint64_t cpu_ms;

    if (json_need_str(json, "mode", "job", &mode, err) < 0
        || json_need_str(json, "text", "job", &ret_job->text, err) < 0
        || json_need_u64(json, "memory_bytes", "job", &memory_bytes, err) < 0
        || json_need_u64(json, "result_bytes", "job", &result_bytes, err) < 0
        || json_need_u64(json, "cpu_ms", "job", &cpu_ms, err) < 0)
        return -1;
    ret_job->mode = mode_of(mode);
    ret_job->step = json_get_str(json, "step", "");
    ret_job->len = json_string_length(json_object_get(json, "text"));
    ret_job->words = json_object_get(json, "words");
    ret_job->memory_bytes = memory_bytes;
    ret_job->result_bytes = result_bytes;
    ret_bounds->cpu_ms = (int64_t)cpu_ms;
    ret_bounds->address_bytes = ADDRESS_SPARE_BYTES + memory_bytes + 4 * result_bytes;
    return 0;
}

/* From the line of the job to a line for the parent. */
static void serve(int fd)
{
    struct str line = STR_EMPTY; /* never freed: the process ends soon */
    struct str answer = STR_EMPTY;
    struct sandbox_place place = {0};
    struct sandbox_job job = {.ask = ask, .fail = fail, .ctx = &fd};
    struct child_bounds bounds = {0};
    json_t *json = NULL;
    struct err err;

    if (read_line(fd, &line, &err) < 0 || json_parse(line.ptr, line.len, &json, &err) < 0
        || read_job(json, &job, &bounds, &err) < 0) {
        send_error(fd, &err, NULL);
        return;
    }
    str_free(&line);
    if (child_confine(fd, &bounds, &err) < 0) {
        send_error(fd, &err, NULL);
        return;
    }
    str_add(&answer, "{\"value\":");
    job.result_bytes += answer.len;
    if (sandbox_run(&job, &answer, &place, &err) < 0) {
        send_error(fd, &err, &place);
        return;
    }
    str_add(&answer, "}\n");
    send_all(fd, answer.ptr, answer.len);
}

int host_main(int argc, char **argv)
{
    uint64_t fd;

    if (argc != 3 || !str_to_u64(argv[2], &fd) || fd < 3 || fd > 1U << 20)
        return 2; /* only ever called by host_run */
    (void)setlocale(LC_ALL, "C");
    serve((int)fd);
    _exit(0);
}
