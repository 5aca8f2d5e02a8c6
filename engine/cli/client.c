// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include "base/fs.h"
#include "base/mem.h"
#include "host/host.h"

#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPLY_MAX  ((size_t)64 * 1024 * 1024)
#define CONNECT_MS 5000L
#define ANSWER_MS  120000

void client_host(struct host *ret_host)
{
    *ret_host = (struct host){.clock = clock_real()};
    host_limits_default(&ret_host->limits);
}

/* --- Where the socket is --------------------------------------------------------------------- */

int client_config(const struct cli *cli, struct config *ret_config, struct err *err)
{
    CLEANUP(mem_freep) char *path = cli_config_path(cli);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    char base[PATH_MAX];
    struct host host;

    if (cli_read_file(path, &text, err) < 0) {
        if (err->code == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, 0,
                           "there is no site in %s (no config.lua); hint: make one with `muster "
                           "--dir DIR site init NAME`, or name its directory with --dir or "
                           "MUSTER_DIR",
                           cli_config_dir(cli));
        return -1;
    }
    if (!realpath(cli_config_dir(cli), base))
        return err_set(err, ERR_IO, errno, "%s", cli_config_dir(cli));
    client_host(&host);
    if (host_run(&host, HOST_DATA, path, str_text(&text), text.len, NULL, &json, NULL, err) < 0)
        return -1;
    const struct config_origin origin = {
        .file = path,
        .base_dir = base,
        .text = str_text(&text),
        .len = text.len,
        .line_of = host_line_of,
    };
    return config_from_json(json, &origin, ret_config, err);
}

/* The usual place needs no Lua to find; config.lua decides when nothing is there. */
static int find_socket(struct cli *cli, struct err *err)
{
    CLEANUP(config_done) struct config config = {.site = ""};
    char *usual;

    if (cli->socket)
        return 0;
    usual = cli->dir ? path_join(cli->dir, "muster.sock") : mem_strdup("/run/muster/muster.sock");
    if (fs_exists(usual)) {
        cli->socket = usual;
        return 0;
    }
    free(usual);
    if (client_config(cli, &config, err) < 0)
        return -1;
    cli->socket = mem_strdup(config.socket);
    return 0;
}

/* --- One request ------------------------------------------------------------------------------- */

static size_t on_bytes(char *bytes, size_t size, size_t count, void *ctx)
{
    struct str *reply = ctx;

    if (reply->len + size * count > REPLY_MAX)
        return 0;
    str_add_bytes(reply, bytes, size * count);
    return size * count;
}

static int no_daemon(const struct cli *cli, const char *why, struct err *err)
{
    return err_set(err, ERR_NET, 0,
                   "no daemon answers on %s (%s); hint: start it with `muster%s%s serve`",
                   cli->socket, why, cli->dir ? " --dir " : "", cli->dir ? cli->dir : "");
}

/* It is there, and took longer than any question takes it. */
static int silent(const struct cli *cli, CURL *curl, struct err *err)
{
    curl_off_t connected_us = 0;

    (void)curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME_T, &connected_us);
    return err_set(err, ERR_NET, 0,
                   "the daemon on %s %s; hint: its log says what it is at, and it may be killed "
                   "and started again at any time",
                   cli->socket,
                   connected_us ? "took the question and does not answer"
                                : "is too busy to accept");
}

/* The daemon's {error: {code, message, hint}} as an error of ours. */
static int daemon_error(long status, const json_t *reply, struct err *err)
{
    const json_t *error = json_object_get(reply, "error");
    const char *hint = json_get_str(error, "hint", NULL);

    if (!error)
        return err_set(err, ERR_PROTOCOL, 0, "the daemon answered with status %ld", status);
    return err_set(err, err_code_parse(json_get_str(error, "code", "")), 0, "%s%s%s",
                   json_get_str(error, "message", ""), hint ? "; hint: " : "", hint ? hint : "");
}

static void set_options(const struct cli *cli, CURL *curl, const char *method, const char *url,
                        const char *body, struct curl_slist *headers, struct str *reply)
{
    (void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, cli->socket);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    if (str_eq(method, "GET")) {
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                               (long)(cli->answer_ms ? cli->answer_ms : ANSWER_MS));
        return;
    }
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

static int perform(struct cli *cli, const char *method, const char *url, const char *body,
                   struct str *reply, long *ret_status, struct err *err)
{
    /* No "Expect: 100-continue": a round trip for nothing. */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    CURL *curl = cli->curl;
    CURLcode rc;

    curl_easy_reset(curl);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    set_options(cli, curl, method, url, body, headers, reply);
    rc = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    if (rc == CURLE_COULDNT_CONNECT)
        return no_daemon(cli, "nobody listens", err);
    if (rc == CURLE_GOT_NOTHING || rc == CURLE_RECV_ERROR || rc == CURLE_SEND_ERROR)
        return no_daemon(cli, "the connection broke", err);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return silent(cli, curl, err);
    if (rc != CURLE_OK)
        return err_set(err, ERR_PROTOCOL, 0, "ask the daemon: %s", curl_easy_strerror(rc));
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
    return 0;
}

int client_call(struct cli *cli, const char *method, const char *path, json_t *body,
                json_t **ret_reply, struct err *err)
{
    CLEANUP(json_freep) json_t *taken = body;
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(mem_freep) char *text = taken ? json_text(taken) : mem_strdup("");
    CLEANUP(mem_freep) char *url = mem_printf("http://muster%s", path);
    CLEANUP(str_free) struct str reply = STR_EMPTY;
    long status = 0;

    if (find_socket(cli, err) < 0)
        return -1;
    if (!cli->curl)
        cli->curl = curl_easy_init();
    if (!cli->curl)
        return err_set(err, ERR_IO, 0, "libcurl cannot be used");
    if (perform(cli, method, url, text, &reply, &status, err) < 0)
        return -1;
    if (json_parse(str_text(&reply), reply.len, &json, err) < 0)
        return err_set(err, ERR_PROTOCOL, 0, "the daemon's answer is no JSON (status %ld)", status);
    if (status >= 400)
        return daemon_error(status, json, err);
    if (ret_reply)
        *ret_reply = TAKE(json);
    return 0;
}

int client_get(struct cli *cli, json_t **ret_reply, struct err *err, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return client_call(cli, "GET", text, NULL, ret_reply, err);
}

void client_close(struct cli *cli)
{
    if (cli->curl)
        curl_easy_cleanup(cli->curl);
    cli->curl = NULL;
}
