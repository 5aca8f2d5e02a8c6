// SPDX-License-Identifier: Apache-2.0
/* Memory. mem_new never returns NULL: out of memory aborts, the supervisor restarts us and
 * recovery takes over. mem_try_new is for sizes that a disk, a peer or a plan chooses. */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdlib.h>

/* Zeroed memory; aborts when there is none. n * size is checked for overflow. */
void *mem_alloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
#define mem_new(type)          ((type *)mem_alloc(1, sizeof(type)))
#define mem_new_array(type, n) ((type *)mem_alloc((n), sizeof(type)))

/* Zeroed memory, or NULL with ERR_SPACE that names `what` and the size. */
void *mem_try_alloc(size_t bytes, const char *what, struct err *err) MUST_CHECK;

/* Grows to n * size; aborts when there is none. New bytes are not cleared. */
void *mem_grow(void *ptr, size_t n, size_t size) __attribute__((returns_nonnull));

char *mem_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((malloc, returns_nonnull));

/* For CLEANUP(mem_freep) on any pointer from this file. */
void mem_freep(void *ptr_to_ptr);

/* TAKE(p): p's value; p becomes NULL, so that its cleanup does nothing. */
#define TAKE(p)                     \
    (__extension__({                \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    }))

/* Defines x_freep for CLEANUP from x_free(struct x *). */
#define MEM_FREEP(type, free_fn)              \
    static inline void free_fn##p(type **ptr) \
    {                                         \
        free_fn(*ptr);                        \
        *ptr = NULL;                          \
    }

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
