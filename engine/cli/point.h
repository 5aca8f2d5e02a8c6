// SPDX-License-Identifier: Apache-2.0
/* A point as people name it: its number, or `application`: the newest application-consistent one. */
#pragma once

#include "cli/cmd.h"

struct cli_point {
    uint64_t number; /* 0: not said, or `application` */
    bool application;
};
/* --point; `ret_point` stays as it is without it. */
int cli_point_option(struct cli *cli, struct cli_point *ret_point, struct err *err) MUST_CHECK;
/* The newest application-consistent point of that machine that is kept and ready to use.
 * ERR_NOT_FOUND: there is none. */
int cli_point_find(struct cli *cli, const char *machine, uint64_t *ret_point, struct err *err)
    MUST_CHECK;
