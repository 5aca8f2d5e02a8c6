// SPDX-License-Identifier: Apache-2.0
/* For plan_check*.c: one value of one argument. */
#pragma once

#include "plan/plan_build.h"

struct value_check {
    struct plan_builder *b;
    const struct plan_action *action;
    const struct verb_arg *arg;
    struct plan_at at;
    const char *name; /* "tcp", "address.lyon" */
};

bool plan_is_among(const char *word, const char *const *words); /* NULL-terminated */
/* Checks a value of the types that need more than a look at its kind; false: it is none of them. */
bool plan_check_value(const struct value_check *c, const json_t *value);
