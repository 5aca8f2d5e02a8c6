// SPDX-License-Identifier: Apache-2.0
/* One child per text, one line there, one line back (child.h). */
#include "host/host.h"

#include "base/fs.h"
#include "base/mem.h"
#include "host/talk.h"

#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)16 * 1024 * 1024)

void host_limits_default(struct host_limits *ret_limits)
{
    ret_limits->memory_bytes = (size_t)64 * 1024 * 1024;
    ret_limits->cpu_ms = 2000;
    ret_limits->wall_ms = 10000;
    ret_limits->result_bytes = (size_t)16 * 1024 * 1024;
}

static int talk(const struct child *child, const char *job, json_t **ret_value,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep)
    struct cancel *within = cancel_new(child->host->clock, cancel, child->host->limits.wall_ms);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    int status = 0;

    int rc = talk_send(child, job, strlen(job), within, err);
    if (rc == 0)
        rc = talk_read(child, &answer, within, err);
    proc_reap(&child->id, &status);
    if (rc < 0)
        return err->code == ERR_LIMIT ? -1 : talk_judge_wait(child, cancel, err);
    return answer.len ? talk_judge_answer(child, &answer, ret_value, err)
                      : talk_judge_end(child, status, err);
}

int host_run(const struct host *host, enum host_mode mode, const char *name, const char *text,
             size_t len, const json_t *words, json_t **ret_value, struct cancel *cancel,
             struct err *err)
{
    static const char mark[] = "\xef\xbb\xbf"; /* some editors begin a file with it */
    bool marked = len >= 3 && memcmp(text, mark, 3) == 0;
    struct child child = {.name = name,
                          .text = marked ? text + 3 : text,
                          .len = marked ? len - 3 : len,
                          .host = host,
                          .fd = -1};
    CLEANUP(json_freep) json_t *body = NULL;
    CLEANUP(mem_freep) char *line = NULL;

    if (talk_check_text(&child, &body, err) < 0)
        return -1;
    CLEANUP(json_freep)
    json_t *job = json_pack(
        "{s:s, s:O, s:I, s:I, s:I, s:O?}", "mode", mode == HOST_PLAN ? "plan" : "data", "text",
        body, "memory_bytes", (json_int_t)host->limits.memory_bytes, "result_bytes",
        (json_int_t)host->limits.result_bytes, "cpu_ms", (json_int_t)host->limits.cpu_ms, "words",
        mode == HOST_PLAN ? (json_t *)(uintptr_t)words : NULL);
    CLEANUP(mem_freep) char *job_text = json_text(job);
    line = mem_printf("%s\n", job_text);
    int rc = talk_start(&child, err);
    if (rc == 0)
        rc = talk(&child, line, ret_value, cancel, err);
    fd_close(&child.fd);
    return rc;
}

int host_run_file(const struct host *host, enum host_mode mode, const char *path,
                  const json_t *words, json_t **ret_value, struct cancel *cancel, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, FILE_BYTES_MAX, &text, err) < 0)
        return -1;
    return host_run(host, mode, path, str_text(&text), text.len, words, ret_value, cancel, err);
}
