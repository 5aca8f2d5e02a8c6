// SPDX-License-Identifier: Apache-2.0
/* VEC_DEFINE(name, type) defines `struct name { type *at; size_t len, cap; }` with name_push
 * (returns the new element, cleared), name_clear and name_free (for CLEANUP; elements that own
 * memory are freed by their owner first). */
#pragma once

#include "base/mem.h"

#include <string.h>

#define VEC_EMPTY \
    {             \
        0         \
    }

#define VEC_DEFINE(name, type)                                              \
    struct name {                                                           \
        type *at;                                                           \
        size_t len;                                                         \
        size_t cap;                                                         \
    };                                                                      \
    static inline __attribute__((unused)) type *name##_push(struct name *v) \
    {                                                                       \
        if (v->len == v->cap) {                                             \
            v->cap = v->cap ? v->cap * 2 : 8;                               \
            v->at = (type *)mem_grow(v->at, v->cap, sizeof(type));          \
        }                                                                   \
        memset(&v->at[v->len], 0, sizeof(type));                            \
        return &v->at[v->len++];                                            \
    }                                                                       \
    static inline __attribute__((unused)) void name##_clear(struct name *v) \
    {                                                                       \
        v->len = 0;                                                         \
    }                                                                       \
    static inline __attribute__((unused)) void name##_free(struct name *v)  \
    {                                                                       \
        free(v->at);                                                        \
        memset(v, 0, sizeof(*v));                                           \
    }

#define VEC_FOREACH(item, vec)                     \
    for (__typeof__(*(vec)->at) *item = (vec)->at; \
         (vec)->len > 0 && item < (vec)->at + (vec)->len; item++)
