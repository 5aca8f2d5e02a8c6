// SPDX-License-Identifier: Apache-2.0
/* Pins by whom they are, and what a person may do about them. Runs pin under their own name, views and
 * branches under one that says so; a person's pins have a prefix that nothing else has, which is not
 * shown. Values; any thread. */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "replica/store.h"

#define PERSON_PIN "by-hand." /* a label and this together are a name */

/* "person", "view", "branch" or "run", and the label as people see it. */
const char *pin_by(const char *label);
const char *pin_shown(const char *label);
/* A point's pins, as pin_holder tells them. */
json_t *pins_json(const struct store_pins *pins, uint64_t point);
/* "run lyon-4", "person upgrade": whose, and the label as people see it. */
const char *pin_holder(const char *label, char *buf, size_t len);
