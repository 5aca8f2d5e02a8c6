// SPDX-License-Identifier: Apache-2.0
/* One line is one write(2), so that lines of several threads and processes never mix:
 *
 *   2026-03-01T12:00:00.123Z info sync point durable group=shop note="two words"
 *
 * A value that the format writes as `key=%s` is quoted when it is empty or holds white space,
 * quotes, '=' or control characters; a backslash stands before '"' and '\', \n \t and \xNN
 * stand for control characters. Those are escaped in the rest of the line too. So a value from
 * outside can neither end the line nor make up a key. To know which piece is a value, the
 * format is taken apart here and each conversion printed on its own. */
#include "base/log.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int threshold = LOG_LEVEL_INFO;
static _Atomic int sink = STDERR_FILENO;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_set_fd(int fd)
{
    atomic_store(&sink, fd);
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

static void add_escaped(struct str *line, const char *text, size_t len, bool quoted)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '\n')
            str_add(line, "\\n");
        else if (c == '\t')
            str_add(line, "\\t");
        else if (is_control(c))
            str_addf(line, "\\x%02x", c);
        else if (quoted && (c == '"' || c == '\\'))
            str_addf(line, "\\%c", c);
        else
            str_add_bytes(line, &text[i], 1);
    }
}

static void add_value(struct str *line, const char *text)
{
    bool plain = *text != '\0';

    for (const char *c = text; *c && plain; c++)
        plain = !is_control((unsigned char)*c) && !strchr(" \"=\\", *c);
    if (plain) {
        str_add(line, text);
        return;
    }
    str_add(line, "\"");
    add_escaped(line, text, strlen(text), true);
    str_add(line, "\"");
}

/* One conversion of a format: "%-8.*lld". */
struct conversion {
    char spec[32]; /* with the numbers in place of its stars */
    char type;     /* 'd', 's', ... */
    int longs;     /* l, ll, z, j, t: as a width below */
};
enum { ARG_INT, ARG_LONG, ARG_LONG_LONG, ARG_SIZE, ARG_MAX, ARG_PTRDIFF };

static int length_of(const char **fmt)
{
    const char *f = *fmt;
    int longs = ARG_INT;

    for (; *f && strchr("hlzjt", *f); f++) {
        if (*f == 'l')
            longs = longs == ARG_LONG ? ARG_LONG_LONG : ARG_LONG;
        else if (*f != 'h')
            longs = *f == 'z' ? ARG_SIZE : *f == 'j' ? ARG_MAX : ARG_PTRDIFF;
    }
    *fmt = f;
    return longs;
}

/* Reads the conversion at *fmt (behind '%') and moves behind it. */
static void read_conversion(const char **fmt, va_list *ap, struct conversion *ret)
{
    struct str spec = STR_EMPTY;

    str_add(&spec, "%");
    for (; **fmt && strchr("-+ #0123456789.*", **fmt); (*fmt)++) {
        if (**fmt == '*')
            str_addf(&spec, "%d", va_arg(*ap, int));
        else
            str_add_bytes(&spec, *fmt, 1);
    }
    const char *length = *fmt;
    ret->longs = length_of(fmt);
    str_add_bytes(&spec, length, (size_t)(*fmt - length));
    ret->type = **fmt;
    if (**fmt)
        str_add_bytes(&spec, (*fmt)++, 1);
    (void)snprintf(ret->spec, sizeof(ret->spec), "%s", str_text(&spec));
    str_free(&spec);
}

/* The formats handed on below are pieces of one the compiler has checked at log_line's caller. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void add_number(struct str *text, const struct conversion *c, va_list *ap)
{
    switch (c->longs) {
    case ARG_LONG: str_addf(text, c->spec, va_arg(*ap, long)); break;
    case ARG_LONG_LONG: str_addf(text, c->spec, va_arg(*ap, long long)); break;
    case ARG_SIZE: str_addf(text, c->spec, va_arg(*ap, size_t)); break;
    case ARG_MAX: str_addf(text, c->spec, va_arg(*ap, intmax_t)); break;
    case ARG_PTRDIFF: str_addf(text, c->spec, va_arg(*ap, ptrdiff_t)); break;
    default: str_addf(text, c->spec, va_arg(*ap, int)); break;
    }
}

static void add_conversion(struct str *text, const struct conversion *c, va_list *ap)
{
    if (c->type == '%')
        str_add(text, "%");
    else if (c->type == 's')
        str_addf(text, c->spec, va_arg(*ap, const char *));
    else if (c->type == 'p')
        str_addf(text, c->spec, va_arg(*ap, void *));
    else if (strchr("aAeEfFgG", c->type))
        str_addf(text, c->spec, va_arg(*ap, double));
    else
        add_number(text, c, ap);
}

#pragma GCC diagnostic pop

static void add_message(struct str *line, const char *fmt, va_list *ap)
{
    struct str piece = STR_EMPTY;
    struct conversion c;

    while (*fmt) {
        size_t plain = strcspn(fmt, "%");
        bool is_value = plain && fmt[plain - 1] == '=';

        add_escaped(line, fmt, plain, false);
        fmt += plain;
        if (!*fmt)
            break;
        fmt++;
        read_conversion(&fmt, ap, &c);
        str_clear(&piece);
        add_conversion(&piece, &c, ap);
        if (is_value && c.type == 's')
            add_value(line, str_text(&piece));
        else
            add_escaped(line, str_text(&piece), piece.len, false);
    }
    str_free(&piece);
}

void log_line(enum log_level level, const char *area, const char *fmt, ...)
{
    int saved = errno;
    struct str line = STR_EMPTY;
    struct clock *clock = clock_real();
    char when[32];
    va_list ap;

    if ((int)level < atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    str_addf(&line, "%s %s %s ", str_time(clock->wall_ms(clock), when, sizeof(when)),
             level_names[level], area);
    va_start(ap, fmt);
    add_message(&line, fmt, &ap);
    va_end(ap);
    str_add(&line, "\n");
    /* There is nobody to tell when the log itself cannot be written. */
    while (write(atomic_load(&sink), line.ptr, line.len) < 0 && errno == EINTR) {
    }
    str_free(&line);
    errno = saved;
}
