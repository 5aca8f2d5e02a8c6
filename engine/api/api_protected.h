// SPDX-License-Identifier: Apache-2.0
/* Protections and their points, as they are shown: handlers of api_protections.c's routes, and what they
 * share. The loop's thread. */
#pragma once

#include "api/api_tables.h"
#include "state/state.h"

/* Of a group, or of a machine's group. ERR_NOT_FOUND names the nearest one. */
int api_need_protection(const struct api_world *world, const char *name,
                        struct state_protection *ret_row, struct err *err) MUST_CHECK;

int api_list_protections(struct api_request *req, json_t **ret_reply, struct err *err);
int api_show_protection(struct api_request *req, json_t **ret_reply, struct err *err);
int api_list_points(struct api_request *req, json_t **ret_reply, struct err *err);
