// SPDX-License-Identifier: Apache-2.0
/* The settings of policies and protections on the command line and on the screen, from the rows of
 * sync/policy_fields.h. */
#pragma once

#include "cli/cmd.h"
#include "sync/policy_fields.h"

/* Rows as options of a command: with what stands there when nobody says, or without. */
#define SETTING_OPTION(option, key, value, form, help, fallback) {option, value, help},
#define SETTING_OPTION_WITH_DEFAULT(option, key, value, form, help, fallback) \
    {option, value, help " (default: " fallback ")"},

/* Sets the fields whose options were given. A usage error names the option, its value and what may
 * be. `ret_count` of them. */
int cli_settings(struct cli *cli, json_t *into, size_t *ret_count, struct err *err) MUST_CHECK;

/* --seed [DISK=]FILE, any number of times and several with commas, as "seeds". */
int cli_seeds(struct cli *cli, json_t *into, struct err *err) MUST_CHECK;
/* --networks "bridge lan=bridge recovery, ...": {there: here}; nothing when it was not given. */
int cli_networks(struct cli *cli, json_t *into, struct err *err) MUST_CHECK;
#define NETWORKS_OPTION(help)                                           \
    {                                                                   \
        "networks", "MAP", help ", like \"bridge lan=bridge recovery\"" \
    }

/* A line per field of `json`: name and value; `overrides` (may be NULL): [key] those that are a
 * machine's own, and `policy`, what the others come from. */
void show_settings(const json_t *json, const json_t *overrides, const char *policy,
                   struct str *out);
void show_policies(const json_t *policies, struct str *out);
void show_policy(const json_t *policy, struct str *out);
/* "gold", "gold; its own: interval 5s, rpo 1m". */
void show_policy_of(const json_t *protection, struct str *out);
