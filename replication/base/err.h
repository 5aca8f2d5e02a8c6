// SPDX-License-Identifier: Apache-2.0
/* Errors that travel with their text. A function that can fail returns 0 / -1 (or pointer /
 * NULL) and takes a `struct err *` last. The code is what the caller decides by; the text is
 * one line for a person: what, which object, which numbers; a hint follows "; hint: ".
 * Plain values: any thread, no allocation. */
#pragma once

#include <stdarg.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define CLEANUP(fn)       __attribute__((cleanup(fn)))

enum err_code {
    ERR_NONE = 0,
    /* Retry helps: */
    ERR_BUSY,    /* someone else holds it now */
    ERR_TIMEOUT, /* a deadline passed */
    ERR_NET,     /* the peer cannot be reached or the connection broke */
    ERR_SPACE,   /* no room on a disk, or a bound on memory */
    ERR_IO,      /* the system refused; `sys` has the errno */
    /* Retry does not help: */
    ERR_INVALID,     /* what was asked is malformed */
    ERR_NOT_FOUND,   /* the named object is not there */
    ERR_EXISTS,      /* the named object is there already */
    ERR_STATE,       /* not allowed in the object's present state */
    ERR_CORRUPT,     /* bytes are not what their digest says */
    ERR_FENCED,      /* an older generation wanted to write */
    ERR_AUTH,        /* the peer is not who it should be */
    ERR_DENIED,      /* known, but not allowed to do this */
    ERR_PROTOCOL,    /* the peer or a program answered out of its protocol */
    ERR_UNSUPPORTED, /* this build, disk or peer cannot do that */
    ERR_LIMIT,       /* a bound of ours was passed */
    ERR_CANCELLED,   /* somebody asked us to stop */
    ERR_UNKNOWN,     /* it cannot be told whether it happened; a person decides */
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    int sys; /* errno of the cause, or 0 */
    char text[1024];
};

#define ERR_EMPTY \
    {             \
        0         \
    }

/* Sets code, errno and text; evaluates to -1. When `sys` is not 0, ": strerror" is appended.
 * `e` may be NULL. ENOSPC/EDQUOT given with ERR_IO turn the code into ERR_SPACE. */
#define err_set(e, ...) (err_put((e), __VA_ARGS__), -1)

/* Puts "what: " before the text, keeps code and errno; evaluates to -1. */
#define err_wrap(e, ...) (err_prefix((e), __VA_ARGS__), -1)

void err_put(struct err *err, enum err_code code, int sys, const char *fmt, ...) PRINTF_LIKE(4, 5);
void err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
void err_clear(struct err *err);

/* "not-found", "corrupt", ...: the word used in JSON, logs and the API. */
const char *err_code_name(enum err_code code);
/* The other way; an unknown word is ERR_PROTOCOL. */
enum err_code err_code_parse(const char *name);
/* True for the codes of the first half: trying again later can help. */
int err_is_retryable(enum err_code code);
