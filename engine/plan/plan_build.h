// SPDX-License-Identifier: Apache-2.0
/* Inside the room: from a document to a plan, collecting what is wrong on the way. */
#pragma once

#include "plan/plan.h"

/* All kinds that have stages. */
#define PLAN_KINDS_ALL                                                                   \
    (PLAN_KIND_BIT(RUN_TEST) | PLAN_KIND_BIT(RUN_PLANNED) | PLAN_KIND_BIT(RUN_UNPLANNED) \
     | PLAN_KIND_BIT(RUN_FAILBACK) | PLAN_KIND_BIT(RUN_DRY))

struct plan_builder {
    const struct plan_world *world;
    struct plan *plan;
    struct plan_problems *problems;
};

/* Where a problem is: on `line`, or where the field of that word's table is written, if the text
 * is at hand (host_line_of_field). */
struct plan_at {
    unsigned line;
    const char *word;
    const char *field; /* NULL: the word itself */
};

void plan_error(struct plan_builder *b, const struct plan_at *at, const char *format, ...)
    PRINTF_LIKE(3, 4);
void plan_warn(struct plan_builder *b, const struct plan_at *at, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Sorts by line and, when there is an error among them, sets it: "FILE:LINE: text (1 of N errors)". */
int plan_problems_judge(struct plan_problems *problems, const char *file, struct err *err)
    MUST_CHECK;

/* Stands for a title that was refused; known by its address, any title may say the same. */
extern const char plan_no_title[];

/* Fills the plan from its document; what is malformed is told and left out. */
void plan_build(struct plan_builder *b);
/* Arguments of one action, by its verb's table. */
void plan_check_action(struct plan_builder *b, const struct plan_action *action);
/* The arguments with the value of the world's site where they differ by site (new reference). */
json_t *plan_args_here(const struct plan_world *world, const struct verb *verb, const json_t *args);
/* What only shows when steps are seen together. */
void plan_check_whole(struct plan_builder *b);

/* One machine brought up by one step. */
struct plan_bring_up {
    const char *machine; /* borrowed from the plan */
    size_t step;         /* index in plan->steps */
    unsigned line;
};
VEC_DEFINE(plan_bring_ups, struct plan_bring_up)
/* All of them, in order of the text. */
void plan_collect(const struct plan *plan, struct plan_bring_ups *ret_all);

/* The group that a machine is in. Borrowed from the world, or `machine` itself. */
const char *plan_group_of(const struct plan_world *world, const char *machine);
/* A group of several machines has that name. */
bool plan_is_group(const struct plan_world *world, const char *name);
/* "shop (db1, web1)", or a machine's name when it is a group by itself. Free with free(). */
char *plan_group_title(const struct plan_world *world, const char *group);
/* Each kind brings up all machines of a group, or none. */
void plan_check_groups(struct plan_builder *b, const struct plan_bring_ups *all);

/* A verb that plans can use, or NULL. */
const struct verb *plan_find_verb(const struct plan_world *world, const char *name);
/* A plan's verb that brings a machine up: it stands in the safe core. */
bool plan_brings_up(const struct verb *verb);
/* The machine an argument names: itself, or the host of an address when it is no address proper.
 * `ret_name` of 256 bytes. False: none. */
bool plan_machine_of(const struct verb_arg *arg, const char *value, char *ret_name);
