// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static _Noreturn void out_of_memory(size_t n, size_t size)
{
    (void)fprintf(stderr, "muster: out of memory (%zu * %zu bytes)\n", n, size);
    abort();
}

void *mem_alloc(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes) || bytes > PTRDIFF_MAX)
        out_of_memory(n, size);
    /* Nothing asked for still gives a pointer of its own. */
    void *ptr = calloc(bytes ? bytes : 1, 1);
    if (!ptr)
        out_of_memory(n, size);
    return ptr;
}

void *mem_try_alloc(size_t bytes, const char *what, struct err *err)
{
    void *ptr = bytes <= PTRDIFF_MAX ? calloc(bytes ? bytes : 1, 1) : NULL;

    if (!ptr)
        (void)err_set(err, ERR_SPACE, 0, "%s: no memory for %zu bytes", what, bytes);
    return ptr;
}

void *mem_grow(void *ptr, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        out_of_memory(n, size);
    void *grown = realloc(ptr, bytes ? bytes : 1);
    if (!grown)
        out_of_memory(n, size);
    return grown;
}

char *mem_strdup(const char *text)
{
    size_t len = strlen(text) + 1;

    return memcpy(mem_alloc(len, 1), text, len);
}

char *mem_printf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    int len = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (len < 0 || !text)
        out_of_memory(1, strlen(fmt));
    return text;
}

void mem_freep(void *ptr_to_ptr)
{
    void *ptr;

    memcpy(&ptr, ptr_to_ptr, sizeof(ptr));
    free(ptr);
    ptr = NULL;
    memcpy(ptr_to_ptr, &ptr, sizeof(ptr));
}
