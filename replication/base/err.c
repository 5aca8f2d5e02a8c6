// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define HINT "; hint: "

static const char *const code_names[ERR_CODE_COUNT] = {
    [ERR_NONE] = "none",         [ERR_BUSY] = "busy",
    [ERR_TIMEOUT] = "timeout",   [ERR_NET] = "net",
    [ERR_SPACE] = "space",       [ERR_IO] = "io",
    [ERR_INVALID] = "invalid",   [ERR_NOT_FOUND] = "not-found",
    [ERR_EXISTS] = "exists",     [ERR_STATE] = "state",
    [ERR_CORRUPT] = "corrupt",   [ERR_FENCED] = "fenced",
    [ERR_AUTH] = "auth",         [ERR_DENIED] = "denied",
    [ERR_PROTOCOL] = "protocol", [ERR_UNSUPPORTED] = "unsupported",
    [ERR_LIMIT] = "limit",       [ERR_CANCELLED] = "cancelled",
    [ERR_UNKNOWN] = "unknown",
};

/* Puts `part` into `text` (of sizeof(struct err.text)) at `at`; what stands there moves right,
 * what does not fit falls off at the end. */
static void insert(char *text, size_t at, const char *part)
{
    const size_t room = sizeof(((struct err *)0)->text) - 1;
    size_t old = strlen(text);
    size_t add = strlen(part);

    if (at > old)
        at = old;
    if (add > room - at)
        add = room - at;
    size_t tail = old - at;
    if (tail > room - at - add)
        tail = room - at - add;
    memmove(text + at + add, text + at, tail);
    memcpy(text + at, part, add);
    text[at + add + tail] = '\0';
}

void err_put(struct err *err, enum err_code code, int sys, const char *fmt, ...)
{
    /* Formatted aside: an argument may be the old text. */
    char text[sizeof(err->text)];
    int saved = errno;
    va_list ap;

    if (!err)
        return;
    if (code == ERR_IO && (sys == ENOSPC || sys == EDQUOT))
        code = ERR_SPACE;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    if (sys) {
        char buf[128];
        char why[160];
        /* The cause belongs to what happened, so it stands before the hint. */
        const char *hint = strstr(text, HINT);
        size_t at = hint ? (size_t)(hint - text) : strlen(text);

        (void)snprintf(why, sizeof(why), ": %s", strerror_r(sys, buf, sizeof(buf)));
        if (at > sizeof(text) - sizeof(why))
            at = sizeof(text) - sizeof(why);
        insert(text, at, why);
    }
    err->code = code;
    err->sys = sys;
    memcpy(err->text, text, sizeof(text));
    errno = saved;
}

void err_prefix(struct err *err, const char *fmt, ...)
{
    char prefix[sizeof(err->text) / 2];
    int saved = errno;
    va_list ap;

    if (!err)
        return;
    va_start(ap, fmt);
    if (vsnprintf(prefix, sizeof(prefix), fmt, ap) < 0)
        prefix[0] = '\0';
    va_end(ap);
    insert(err->text, 0, ": ");
    insert(err->text, 0, prefix);
    errno = saved;
}

void err_clear(struct err *err)
{
    if (!err)
        return;
    err->code = ERR_NONE;
    err->sys = 0;
    err->text[0] = '\0';
}

const char *err_code_name(enum err_code code)
{
    if ((int)code < 0 || code >= ERR_CODE_COUNT)
        return "unknown";
    return code_names[code];
}

enum err_code err_code_parse(const char *name)
{
    for (int i = 0; name && i < ERR_CODE_COUNT; i++)
        if (strcmp(code_names[i], name) == 0)
            return (enum err_code)i;
    return ERR_PROTOCOL;
}

int err_is_retryable(enum err_code code)
{
    return code >= ERR_BUSY && code <= ERR_IO;
}
