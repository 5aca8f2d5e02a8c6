// SPDX-License-Identifier: Apache-2.0
/* cmocka plus EXPECT_OK / EXPECT_ERR. `err` is a fresh-per-test global of the test program. */
#pragma once

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct err err __attribute__((unused));

#define EXPECT_OK(call)                                                        \
    do {                                                                       \
        err_clear(&err);                                                       \
        if ((call) < 0)                                                        \
            fail_msg("%s: [%s] %s", #call, err_code_name(err.code), err.text); \
    } while (0)

#define EXPECT_ERR(want, call)                                                                 \
    do {                                                                                       \
        err_clear(&err);                                                                       \
        if ((call) >= 0)                                                                       \
            fail_msg("%s: succeeded, wanted %s", #call, err_code_name(want));                  \
        if (err.code != (want))                                                                \
            fail_msg("%s: got [%s] %s, wanted [%s]", #call, err_code_name(err.code), err.text, \
                     err_code_name(want));                                                     \
    } while (0)

#define EXPECT_TEXT(part)                                                 \
    do {                                                                  \
        if (!strstr(err.text, (part)))                                    \
            fail_msg("error text \"%s\" lacks \"%s\"", err.text, (part)); \
    } while (0)
