// SPDX-License-Identifier: Apache-2.0
/* What we need around jansson: cleanup, and reading fields with errors that name the field. */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

void json_freep(json_t **json); /* CLEANUP: json_decref */

int json_parse(const char *text, size_t len, json_t **ret_json, struct err *err) MUST_CHECK;
/* Compact text with sorted keys (the form that is hashed and signed); free with free(). */
char *json_text(const json_t *json);

/* A field that must be there; ERR_INVALID names `what` and the field. Borrowed strings. */
int json_need_str(const json_t *obj, const char *key, const char *what, const char **ret_text,
                  struct err *err) MUST_CHECK;
int json_need_u64(const json_t *obj, const char *key, const char *what, uint64_t *ret_value,
                  struct err *err) MUST_CHECK;
int json_need_array(const json_t *obj, const char *key, const char *what, json_t **ret_array,
                    struct err *err) MUST_CHECK;
int json_need_object(const json_t *obj, const char *key, const char *what, json_t **ret_object,
                     struct err *err) MUST_CHECK;
/* The field or the default; a wrong type counts as absent. */
const char *json_get_str(const json_t *obj, const char *key, const char *fallback);
uint64_t json_get_u64(const json_t *obj, const char *key, uint64_t fallback);
bool json_get_bool(const json_t *obj, const char *key, bool fallback);
/* Is the text in that array? False for what is no array. */
bool json_lists(const json_t *array, const char *text);
