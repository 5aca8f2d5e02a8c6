// SPDX-License-Identifier: Apache-2.0
/* Web hooks: one POST by libcurl. A credential comes from DIR/secrets/NAME, a file of the daemon's
 * user that nobody else can read; it goes into a header and nowhere else, and is wiped afterwards. */
#include "base/fs.h"
#include "base/mem.h"
#include "sites/site_local.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKEN_MAX_BYTES ((size_t)8192)
#define KEY_MAX_BYTES   200
#define BODY_MAX_BYTES  (1 << 20)
#define CONNECT_MAX_MS  10000
#define WITHIN_MAX_MS   ((uint64_t)10 * 60 * 1000)

struct hook {
    CURL *curl;
    struct curl_slist *headers;
    char *body;
    struct str token; /* the whole header */
    struct cancel *cancel;
    size_t received;
    char why[CURL_ERROR_SIZE];
};

static void wipe(struct curl_slist *headers)
{
    for (struct curl_slist *at = headers; at; at = at->next)
        explicit_bzero(at->data, strlen(at->data));
}

static void hook_done(struct hook *hook)
{
    if (hook->curl)
        curl_easy_cleanup(hook->curl);
    wipe(hook->headers);
    curl_slist_free_all(hook->headers);
    if (hook->token.ptr)
        explicit_bzero(hook->token.ptr, hook->token.cap);
    str_free(&hook->token);
    free(hook->body);
}

/* --- The credential --------------------------------------------------------------------------- */

static int check_private(const char *path, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return err_set(err, ERR_NOT_FOUND, 0,
                       "token_file: %s is not there; hint: put the token into it, mode 0600", path);
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0
        || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_set(err, ERR_DENIED, 0,
                       "token_file: %s is not for the daemon alone; hint: chown it to the daemon's"
                       " user, chmod 600",
                       path);
    return 0;
}

/* One line of printable characters: anything else would end the header. */
static bool is_token(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return false;
    return *text != '\0';
}

static int read_token(struct estate *estate, const char *name, struct hook *hook, struct err *err)
{
    CLEANUP(mem_freep) char *path = NULL;
    struct str text = STR_EMPTY;

    if (!str_is_name(name))
        return err_set(err, ERR_INVALID, 0, "token_file: \"%.80s\" is not a name", name);
    path = estate_path(estate, "secrets", name, "");
    if (check_private(path, err) < 0
        || fs_read_file(fs_real(), path, TOKEN_MAX_BYTES, &text, err) < 0)
        return -1;
    str_add(&text, "");
    text.ptr[strcspn(text.ptr, "\r\n")] = '\0';
    bool good = is_token(text.ptr);
    if (good)
        str_addf(&hook->token, "Authorization: Bearer %s", text.ptr);
    explicit_bzero(text.ptr, text.cap);
    str_free(&text);
    return good ? 0
                : err_set(err, ERR_INVALID, 0, "token_file: %s holds no token of one line", path);
}

/* --- The request ------------------------------------------------------------------------------ */

/* The answer's body is nobody's; one without end is ended. */
static size_t on_bytes(char *bytes, size_t size, size_t count, void *ctx)
{
    struct hook *hook = ctx;

    (void)bytes;
    hook->received += size * count;
    return hook->received > BODY_MAX_BYTES ? 0 : size * count;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    const struct hook *hook = ctx;

    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    return cancel_check(hook->cancel, NULL) < 0;
}

static void add_header(struct hook *hook, const char *text)
{
    struct curl_slist *longer = curl_slist_append(hook->headers, text);

    if (!longer)
        abort(); /* as without memory everywhere */
    hook->headers = longer;
}

static void set_options(struct hook *hook, const char *url, int64_t within_ms)
{
    CURL *curl = hook->curl;
    int64_t connect_ms = within_ms < CONNECT_MAX_MS ? within_ms : CONNECT_MAX_MS;

    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)within_ms);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, hook->headers);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(hook->body));
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, hook->body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, hook);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, hook);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, hook->why);
}

/* libcurl's many codes in our few. */
static enum err_code code_of(CURLcode rc)
{
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return ERR_TIMEOUT;
    if (rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE)
        return ERR_AUTH;
    if (rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL)
        return ERR_INVALID;
    if (rc == CURLE_WRITE_ERROR)
        return ERR_LIMIT;
    return ERR_NET;
}

static int judge(const struct hook *hook, CURLcode rc, long status, struct err *err)
{
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return cancel_check(hook->cancel, err) < 0 ? -1 : err_set(err, ERR_CANCELLED, 0, "ended");
    if (rc == CURLE_WRITE_ERROR)
        return err_set(err, ERR_LIMIT, 0, "the answer has more than %d bytes", BODY_MAX_BYTES);
    if (rc != CURLE_OK)
        return err_set(err, code_of(rc), 0, "%s", *hook->why ? hook->why : curl_easy_strerror(rc));
    if (status >= 200 && status < 300)
        return 0;
    if (status >= 300 && status < 400)
        return err_set(err, ERR_STATE, 0,
                       "the hook answers with status %ld, a redirect; hint: write the URL it leads"
                       " to",
                       status);
    return err_set(err, status >= 500 || status == 429 ? ERR_BUSY : ERR_STATE, 0,
                   "the hook answers with status %ld", status);
}

static int post(struct hook *hook, const char *url, const char *key, int64_t within_ms,
                json_t **ret_result, struct err *err)
{
    CLEANUP(mem_freep) char *key_header = mem_printf("Idempotency-Key: %s", key);
    long status = 0;

    hook->curl = curl_easy_init();
    if (!hook->curl)
        return err_set(err, ERR_IO, 0, "libcurl cannot be used");
    add_header(hook, "Content-Type: application/json");
    add_header(hook, "User-Agent: muster/" MUSTER_VERSION);
    add_header(hook, "Expect:");
    add_header(hook, key_header);
    if (hook->token.len)
        add_header(hook, hook->token.ptr);
    set_options(hook, url, within_ms);
    CURLcode rc = curl_easy_perform(hook->curl);
    (void)curl_easy_getinfo(hook->curl, CURLINFO_RESPONSE_CODE, &status);
    if (judge(hook, rc, status, err) < 0)
        return -1;
    *ret_result = json_pack("{s:i}", "status", (int)status);
    return 0;
}

int ask_hook_post(struct estate *estate, const json_t *args, json_t **ret_result,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(hook_done) struct hook hook = {.cancel = cancel};
    const char *token = json_get_str(args, "token_file", "");
    const char *url;
    const char *key;
    json_t *body;
    uint64_t within_ms;

    if (json_need_str(args, "url", "ask", &url, err) < 0
        || json_need_str(args, "key", "ask", &key, err) < 0
        || json_need_object(args, "body", "ask", &body, err) < 0
        || json_need_u64(args, "within_ms", "ask", &within_ms, err) < 0)
        return -1;
    if (!is_token(key) || strlen(key) > KEY_MAX_BYTES)
        return err_set(err, ERR_INVALID, 0, "hook.post: \"%.80s\" is no key", key);
    if (within_ms == 0 || within_ms > WITHIN_MAX_MS)
        return err_set(err, ERR_INVALID, 0, "within must be between 1 ms and 10 minutes");
    if (*token && read_token(estate, token, &hook, err) < 0)
        return -1;
    hook.body = json_text(body);
    return post(&hook, url, key, (int64_t)within_ms, ret_result, err);
}
