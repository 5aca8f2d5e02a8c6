// SPDX-License-Identifier: Apache-2.0
/* The document: {name, line, rto?, rpo?, stages: [{title, line, only?, items: [{step: STEP} |
 * {parallel: [STEP], line}]}], source?}, STEP: {title, line, only?, within?, on_failure?, retry?,
 * actions: [{verb, args, line}] or body: {first, last}}: a function's lines; `source` is the SHA-256
 * of the text then. It comes from the words of lua/muster, or from where a run kept it; an
 * author can spoil the tables the words gave him, so its form is not taken for granted. */
#include "plan/plan_build.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define RETRY_TIMES_MAX 100
#define RETRY_WAIT_MS   10000

static const char *const on_failure_names[] = {
    [PLAN_FAIL_DEFAULT] = "default",
    [PLAN_FAIL_STOP] = "stop",
    [PLAN_FAIL_CONTINUE] = "continue",
    [PLAN_FAIL_PAUSE] = "pause",
};

const char *plan_on_failure_name(enum plan_on_failure on_failure)
{
    return on_failure_names[on_failure];
}

static struct plan_at at_of(const json_t *node, const char *word, const char *field)
{
    uint64_t line = json_get_u64(node, "line", 0);

    return (struct plan_at){line <= UINT32_MAX ? (unsigned)line : 0, word, field};
}

/* " (did you mean 'x'?)" or nothing. `buf` of 128 bytes. */
static const char *meant(const char *word, const char *const *words, char *buf)
{
    const char *nearest = str_nearest(word, words);

    buf[0] = '\0';
    if (nearest)
        (void)snprintf(buf, 128, " (did you mean '%.90s'?)", nearest);
    return buf;
}

/* A duration field that may be missing: leaves `ret_ms` then. */
static void take_ms(struct plan_builder *b, const json_t *node, const char *word, const char *key,
                    int64_t *ret_ms)
{
    const json_t *value = json_object_get(node, key);
    struct plan_at at = at_of(node, word, key);
    int64_t ms = 0;

    if (!value)
        return;
    if (!json_is_string(value))
        plan_error(b, &at, "'%s' is no duration; hint: write it as \"90s\" or \"15m\"", key);
    else if (!str_to_ms(json_string_value(value), &ms) || ms <= 0)
        plan_error(b, &at, "'%s': \"%s\" is no duration; hint: \"500ms\", \"90s\", \"15m\", \"2h\"",
                   key, json_string_value(value));
    else
        *ret_ms = ms;
}

static unsigned kind_bit(struct plan_builder *b, const struct plan_at *at, const json_t *value)
{
    static const char *const names[] = {"test", "planned", "unplanned", "failback", NULL};
    const char *name = json_string_value(value);
    char hint[128];

    for (size_t i = 0; name && names[i]; i++)
        if (str_eq(name, names[i]))
            return PLAN_KIND_BIT(run_kind_parse(name));
    if (name)
        plan_error(b, at, "'only': unknown kind '%s'%s; hint: test, planned, unplanned, failback",
                   name, meant(name, names, hint));
    else
        plan_error(b, at,
                   "'only' lists kinds of runs; hint: only = { \"planned\", \"unplanned\" }");
    return 0;
}

/* `only`: a kind or a list of kinds; missing: all. A step for planned runs is in a dry one. */
static unsigned take_kinds(struct plan_builder *b, const json_t *node, const char *word)
{
    const json_t *value = json_object_get(node, "only");
    struct plan_at at = at_of(node, word, "only");
    const json_t *item;
    unsigned kinds = 0;
    size_t i;

    if (!value)
        return PLAN_KINDS_ALL;
    if (!json_is_array(value))
        kinds = kind_bit(b, &at, value);
    else if (json_array_size(value) == 0)
        plan_error(b, &at, "'only' is empty: that would never run");
    json_array_foreach(value, i, item) {
        kinds |= kind_bit(b, &at, item);
    }
    return kinds & PLAN_KIND_BIT(RUN_PLANNED) ? kinds | PLAN_KIND_BIT(RUN_DRY) : kinds;
}

static enum plan_on_failure take_on_failure(struct plan_builder *b, const json_t *node)
{
    static const char *const words[] = {"stop", "continue", "pause", NULL};
    const json_t *value = json_object_get(node, "on_failure");
    struct plan_at at = at_of(node, "step", "on_failure");
    const char *name = json_string_value(value);
    char hint[128];

    for (int i = PLAN_FAIL_STOP; name && i <= (int)PLAN_FAIL_PAUSE; i++)
        if (str_eq(name, on_failure_names[i]))
            return (enum plan_on_failure)i;
    if (value)
        plan_error(b, &at, "'on_failure' is \"stop\", \"continue\" or \"pause\", not %s%s",
                   name ? name : "that", name ? meant(name, words, hint) : "");
    return PLAN_FAIL_DEFAULT;
}

static void take_retry(struct plan_builder *b, const json_t *node, struct plan_step *step)
{
    static const char *const fields[] = {"times", "wait", NULL};
    json_t *retry = json_object_get(node, "retry");
    struct plan_at at = at_of(node, "step", "retry");
    const char *key;
    json_t *value;
    char path[128];
    char hint[128];

    if (!retry)
        return;
    if (!json_is_object(retry)) {
        plan_error(b, &at, "'retry' is a table; hint: retry = { times = 3, wait = \"10s\" }");
        return;
    }
    at.field = path;
    json_object_foreach(retry, key, value) {
        if (str_eq(key, "times") || str_eq(key, "wait"))
            continue;
        (void)snprintf(path, sizeof(path), "retry.%.100s", key);
        plan_error(b, &at, "'retry': unknown field '%s'%s", key, meant(key, fields, hint));
    }
    (void)snprintf(path, sizeof(path), "retry.times");
    const json_t *times = json_object_get(retry, "times");
    json_int_t count = json_integer_value(times);
    if (json_is_integer(times) && count >= 1 && count <= RETRY_TIMES_MAX)
        step->retry_times = (unsigned)count;
    else
        plan_error(b, &at, "'retry': 'times' is a number from 1 to %d", RETRY_TIMES_MAX);
    (void)snprintf(path, sizeof(path), "retry.wait");
    const char *wait = json_string_value(json_object_get(retry, "wait"));
    step->retry_wait_ms = RETRY_WAIT_MS;
    if (json_object_get(retry, "wait") && !str_to_ms(wait, &step->retry_wait_ms))
        plan_error(b, &at, "'retry': 'wait' is a duration; hint: wait = \"10s\"");
}

const struct verb *plan_find_verb(const struct plan_world *world, const char *name)
{
    for (size_t i = 0; i < world->verb_count; i++)
        if (!world->verbs[i]->core && str_eq(world->verbs[i]->name, name))
            return world->verbs[i];
    return NULL;
}

static void build_action(struct plan_builder *b, const json_t *node, struct plan_step *step)
{
    struct plan_at at = at_of(node, NULL, NULL);
    const char *name = json_get_str(node, "verb", NULL);
    const struct verb *verb = name ? plan_find_verb(b->world, name) : NULL;
    json_t *args = json_object_get(node, "args");

    if (!verb) {
        plan_error(b, &at, "step \"%s\": unknown verb '%s'", step->title, name ? name : "?");
        return;
    }
    if (json_is_array(args) && json_array_size(args) == 0) { /* an empty table of Lua's */
        (void)json_object_set_new((json_t *)(uintptr_t)node, "args", json_object());
        args = json_object_get(node, "args");
    }
    if (!json_is_object(args)) {
        plan_error(b, &at, "%s: malformed arguments", name);
        return;
    }
    struct plan_action *action = plan_actions_push(&step->actions);
    action->verb = verb;
    action->args = args;
    action->line = at.line;
    plan_check_action(b, action);
}

const char plan_no_title[] = "?";

/* Runbooks and progress are lines on a terminal: a title that moves the cursor could say anything. */
static bool is_one_line(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at < 0x20 || *at == 0x7f || (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0))
            return false;
    return true;
}

static const char *take_title(struct plan_builder *b, const json_t *node, const char *word)
{
    const char *title = json_get_str(node, "title", plan_no_title);
    struct plan_at at = at_of(node, word, NULL);

    if (is_one_line(title))
        return title;
    plan_error(b, &at,
               "the title of this %s has control characters; hint: a title is one line of text",
               word);
    return plan_no_title;
}

/* Some verbs have a part in some kinds only: a test commits nothing. Their step is left out of the
 * others as a whole, so nothing else may stand in it. */
static void narrow(struct plan_builder *b, struct plan_step *step, const struct plan_at *at)
{
    const struct verb *narrow = NULL;
    const struct verb *wide = NULL;

    VEC_FOREACH(action, &step->actions) {
        unsigned only = action->verb->only;
        if (!only || (step->kinds & ~only & ~PLAN_KIND_BIT(RUN_DRY)) == 0) {
            wide = only ? wide : action->verb;
            continue;
        }
        narrow = action->verb;
        step->kinds &= only | PLAN_KIND_BIT(RUN_DRY);
    }
    if (narrow && wide)
        plan_error(
            b, at,
            "step \"%s\": %s is left out of tests, and %s would be with it; hint: give each a "
            "step of its own",
            step->title, narrow->name, wide->name);
    else if (narrow && (step->kinds & ~PLAN_KIND_BIT(RUN_DRY)) == 0)
        plan_error(b, at, "step \"%s\" would never run: %s is no part of the kinds it is for",
                   step->title, narrow->name);
}

static void build_body(struct plan_builder *b, const json_t *node, struct plan_step *step)
{
    const json_t *body = json_object_get(node, "body");
    struct plan_at at = at_of(node, "step", NULL);
    uint64_t first = json_get_u64(body, "first", 0);
    uint64_t last = json_get_u64(body, "last", 0);

    if (first == 0 || last < first || last > INT32_MAX || json_object_get(node, "actions")) {
        plan_error(b, &at, "step \"%s\": its function is malformed", step->title);
        return;
    }
    step->body_first = (unsigned)first;
    step->body_last = (unsigned)last;
}

static void build_step(struct plan_builder *b, const json_t *node, unsigned group)
{
    struct plan *plan = b->plan;
    struct plan_step *step = plan_steps_push(&plan->steps);
    const json_t *actions = json_object_get(node, "actions");
    struct plan_at at = at_of(node, "step", NULL);
    const json_t *action;
    size_t i;

    (void)snprintf(step->id, sizeof(step->id), "s%zu", plan->steps.len);
    step->title = take_title(b, node, "step");
    step->line = at.line;
    step->stage = plan->stages.len - 1;
    step->group = group;
    step->kinds = take_kinds(b, node, "step") & plan->stages.at[step->stage].kinds;
    if (step->kinds == 0)
        plan_error(b, &at,
                   "step \"%s\" would never run: its 'only' and its stage's exclude each other",
                   step->title);
    take_ms(b, node, "step", "within", &step->within_ms);
    step->on_failure = take_on_failure(b, node);
    take_retry(b, node, step);
    json_array_foreach(actions, i, action) {
        build_action(b, action, step);
    }
    if (json_object_get(node, "body"))
        build_body(b, node, step);
    else if (json_array_size(actions) == 0)
        plan_error(b, &at, "step \"%s\" does nothing", step->title);
    narrow(b, step, &at);
}

static void build_stage(struct plan_builder *b, const json_t *node, unsigned *group)
{
    struct plan_stage *stage = plan_stages_push(&b->plan->stages);
    struct plan_at at = at_of(node, "stage", NULL);
    const json_t *item;
    const json_t *step;
    size_t i;
    size_t k;

    stage->title = take_title(b, node, "stage");
    stage->line = at.line;
    stage->kinds = take_kinds(b, node, "stage");
    json_array_foreach(json_object_get(node, "items"), i, item) {
        const json_t *steps = json_object_get(item, "parallel");
        if (json_object_get(item, "step"))
            build_step(b, json_object_get(item, "step"), 0);
        else if (json_array_size(steps) > 0)
            ++*group;
        else
            plan_error(b, &at, "stage \"%s\": item %zu is malformed", stage->title, i + 1);
        json_array_foreach(steps, k, step) {
            build_step(b, step, *group);
        }
    }
}

void plan_build(struct plan_builder *b)
{
    struct plan *plan = b->plan;
    const json_t *document = plan->document;
    struct plan_at at = at_of(document, "plan", NULL);
    const char *name = json_get_str(document, "name", "");
    unsigned group = 0;
    const json_t *stage;
    size_t i;

    if (str_is_name(name))
        (void)snprintf(plan->name, sizeof(plan->name), "%.63s", name);
    else
        plan_error(
            b, &at,
            "plan \"%s\": not a name; hint: small letters, digits, '-', '_' and '.', 63 at most",
            name);
    take_ms(b, document, "plan", "rto", &plan->rto_ms);
    take_ms(b, document, "plan", "rpo", &plan->rpo_ms);
    json_array_foreach(json_object_get(document, "stages"), i, stage) {
        build_stage(b, stage, &group);
    }
    plan_check_whole(b);
}
