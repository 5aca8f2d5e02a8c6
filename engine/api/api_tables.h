// SPDX-License-Identifier: Apache-2.0
/* The API's tables, one per noun, and what their handlers share. */
#pragma once

#include "api/api_server.h"
#include "sites/site.h"

const struct api_route *api_routes_site(void);
const struct api_route *api_routes_peers(void);
const struct api_route *api_routes_machines(void);
const struct api_route *api_routes_allowed(void);
const struct api_route *api_routes_protections(void);
const struct api_route *api_routes_policies(void);
const struct api_route *api_routes_points(void);
const struct api_route *api_routes_branches(void);
const struct api_route *api_routes_replicas(void);
const struct api_route *api_routes_plans(void);
const struct api_route *api_routes_runs(void);
const struct api_route *api_routes_jobs(void);
const struct api_route *api_routes_audit(void);

/* A row of sync/policy_fields.h as an api_field. */
#define API_POLICY_FIELD(option, key, value, form, help, fallback) \
    {key, (form) == POLICY_TEXT ? API_TEXT : API_NUMBER, false, help},

/* All of them, in the order of docs/api.md; ends with routes NULL. `out` of API_TABLES_MAX. */
void api_tables_fill(struct api_table out[API_TABLES_MAX]);

/* Nobody else has that name here: neither a machine nor what is kept for a peer (ERR_EXISTS). */
int api_machine_check_new(const struct api_world *world, const char *name, struct err *err)
    MUST_CHECK;
/* The lines of a text as a list of texts. */
json_t *api_lines(const char *text);
/* api_adopt.c */
api_handler api_adopt_machine;
extern const struct api_field api_adopt_fields[];
/* api_keep.c */
api_handler api_keep_machine;
/* Would it be kept? The same errors. */
int api_may_keep(const struct api_world *world, const char *name, struct err *err) MUST_CHECK;

/* Writes who did what to the audit log, in this turn's transaction. `detail` may be NULL. */
int api_audit(const struct api_request *req, const char *act, const char *object,
              const char *detail, struct err *err) MUST_CHECK;

/* Asks this site itself, on a pool thread. `args` is stolen. */
int api_ask_here(const struct api_world *world, const char *what, json_t *args, json_t **ret_result,
                 struct cancel *cancel, struct err *err) MUST_CHECK;
