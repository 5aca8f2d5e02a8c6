// SPDX-License-Identifier: Apache-2.0
/* Arguments against the verb's table. */
#include "plan/plan_check.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_BYTES 256

/* Host and port of "host:port" or "[::1]:port". `ret_host` of HOST_BYTES. */
static bool split_address(const char *text, char *ret_host)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;

    if (!colon || colon == text || !str_to_u64(colon + 1, &port) || port == 0 || port > 65535
        || colon - text >= HOST_BYTES)
        return false;
    bool bracket = text[0] == '[' && colon[-1] == ']' && colon - text > 2;
    (void)snprintf(ret_host, HOST_BYTES, "%.*s", (int)(colon - text) - (bracket ? 2 : 0),
                   text + (bracket ? 1 : 0));
    return bracket || !strchr(ret_host, ':');
}

bool plan_machine_of(const struct verb_arg *arg, const char *value, char *ret_name)
{
    unsigned char ip[16];

    if (arg->type == ARG_MACHINE) {
        (void)snprintf(ret_name, HOST_BYTES, "%s", value);
        return true;
    }
    /* Nothing is looked up: what is no numeric address is a machine, or a mistake. */
    return arg->type == ARG_ADDRESS && split_address(value, ret_name)
           && inet_pton(AF_INET, ret_name, ip) != 1 && inet_pton(AF_INET6, ret_name, ip) != 1;
}

bool plan_is_among(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(word, *words))
            return true;
    return false;
}

static void check_machine(const struct value_check *c, const char *machine)
{
    const char *const *machines = c->b->world->machines;
    const char *outside =
        c->arg->type == ARG_ADDRESS
            ? "; hint: other hosts are written by address, names are not looked up: \"10.0.0.5:5432\""
            : "";

    if (c->arg->type == ARG_MACHINE && !str_is_name(machine)) {
        plan_error(c->b, &c->at, "%s: %s: \"%s\" is not a machine's name", c->action->verb->name,
                   c->name, machine);
        return;
    }
    if (!machines || plan_is_among(machine, machines))
        return;
    if (plan_is_group(c->b->world, machine)) {
        CLEANUP(mem_freep) char *title = plan_group_title(c->b->world, machine);
        plan_error(c->b, &c->at, "%s: %s is a group; hint: name its machines: %s",
                   c->action->verb->name, machine, title);
        return;
    }
    const char *nearest = str_nearest(machine, machines);
    if (nearest)
        plan_error(c->b, &c->at, "%s: unknown machine '%s' (did you mean '%s'?)%s",
                   c->action->verb->name, machine, nearest, outside);
    else
        plan_error(c->b, &c->at, "%s: unknown machine '%s'%s", c->action->verb->name, machine,
                   *outside ? outside : "; hint: muster machine list shows those there are");
}

static void check_text(const struct value_check *c, const char *text)
{
    const char *verb = c->action->verb->name;
    char host[HOST_BYTES];
    int64_t ms;

    if (c->arg->type == ARG_TEXT && !*text)
        plan_error(c->b, &c->at, "%s: %s is empty", verb, c->name);
    if (c->arg->type == ARG_DURATION && (!str_to_ms(text, &ms) || ms <= 0))
        plan_error(c->b, &c->at, "%s: %s: \"%s\" is no duration; hint: \"90s\", \"15m\"", verb,
                   c->name, text);
    if (c->arg->type == ARG_ADDRESS && !split_address(text, host))
        plan_error(c->b, &c->at,
                   "%s: %s: \"%s\" is not host:port; hint: \"db1:5432\", \"[2001:db8::1]:5432\"",
                   verb, c->name, text);
    else if (plan_machine_of(c->arg, text, host))
        check_machine(c, host);
}

static void check_value(const struct value_check *c, const json_t *value)
{
    if (plan_check_value(c, value))
        return;
    static const char *const wanted[] = {
        [ARG_TEXT] = "a text",           [ARG_MACHINE] = "a machine's name",
        [ARG_ADDRESS] = "\"host:port\"", [ARG_DURATION] = "a duration like \"90s\"",
        [ARG_NUMBER] = "a number",       [ARG_BOOL] = "true or false",
    };
    bool fits = c->arg->type == ARG_NUMBER ? json_is_number(value)
                : c->arg->type == ARG_BOOL ? json_is_boolean(value)
                                           : json_is_string(value);

    if (!fits)
        plan_error(c->b, &c->at, "%s: %s must be %s", c->action->verb->name, c->name,
                   wanted[c->arg->type]);
    else if (json_is_string(value))
        check_text(c, json_string_value(value));
}

/* { lyon = ..., paris = ... }: a value for each site, and for no other. */
static void check_per_site(struct value_check *c, const json_t *value)
{
    const char *const *sites = c->b->world->sites;
    const char *verb = c->action->verb->name;
    char path[HOST_BYTES];
    const char *site;
    json_t *item;

    for (; sites && *sites; sites++)
        if (!json_object_get(value, *sites))
            plan_error(c->b, &c->at, "%s: %s has no value for site '%s'", verb, c->name, *sites);
    sites = c->b->world->sites;
    json_object_foreach((json_t *)(uintptr_t)value, site, item) {
        (void)snprintf(path, sizeof(path), "%.100s.%.100s", c->name, site);
        struct value_check of_site = *c;
        of_site.name = of_site.at.field = path;
        if (sites && !plan_is_among(site, sites)) {
            const char *nearest = str_nearest(site, sites);
            plan_error(c->b, &of_site.at, "%s: %s: unknown site '%s'%s%s%s", verb, c->name, site,
                       nearest ? " (did you mean '" : "", nearest ? nearest : "",
                       nearest ? "'?)" : "");
        } else {
            check_value(&of_site, item);
        }
    }
}

static void check_arg(struct plan_builder *b, const struct plan_action *action,
                      const struct verb_arg *arg)
{
    const json_t *value = json_object_get(action->args, verb_arg_key(arg));
    struct value_check c = {
        .b = b,
        .action = action,
        .arg = arg,
        .at = {action->line, action->verb->name, verb_arg_key(arg)},
        .name = verb_arg_key(arg),
    };

    if (!value && arg->required)
        plan_error(b, &c.at, "%s lacks %s%s%s; hint: %s", action->verb->name,
                   arg->name ? "'" : "its ", c.name, arg->name ? "'" : "", arg->help);
    else if (value && json_is_object(value) && arg->per_site)
        check_per_site(&c, value);
    else if (value && json_is_object(value) && json_object_size(value) > 0 && arg->type != ARG_TABLE
             && arg->type != ARG_DATA)
        plan_error(b, &c.at, "%s: %s cannot differ by site", action->verb->name, c.name);
    else if (value)
        check_value(&c, value);
    if (arg->with && value && !json_object_get(action->args, arg->with))
        plan_error(b, &c.at, "%s: '%s' goes with '%s', which is missing", action->verb->name,
                   c.name, arg->with);
}

static void check_unknown(struct plan_builder *b, const struct plan_action *action)
{
    const struct verb *verb = action->verb;
    const char **names = mem_new_array(const char *, verb->arg_count + 1);
    const char *key;
    json_t *value;

    for (size_t i = 0; i < verb->arg_count; i++)
        names[i] = verb_arg_key(&verb->args[i]);
    json_object_foreach((json_t *)(uintptr_t)action->args, key, value) {
        struct plan_at at = {action->line, verb->name, key};
        if (plan_is_among(key, names))
            continue;
        const char *nearest = str_nearest(key, names);
        plan_error(b, &at, "%s: unknown field '%s'%s%s%s", verb->name, key,
                   nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
    }
    free(names);
}

static void check_choice(struct plan_builder *b, const struct plan_action *action)
{
    struct plan_at at = {action->line, NULL, NULL};
    CLEANUP(str_free) struct str choices = STR_EMPTY;
    const struct verb *verb = action->verb;
    size_t given = 0;

    for (size_t i = 0; i < verb->arg_count; i++) {
        if (!verb->args[i].choice)
            continue;
        const char *key = verb_arg_key(&verb->args[i]);
        given += json_object_get(action->args, key) != NULL;
        str_addf(&choices, "%s%s", choices.len ? ", " : "", key);
    }
    if (given != 1)
        plan_error(b, &at, "%s needs exactly one of %s; it has %zu", verb->name, str_text(&choices),
                   given);
}

/* The arguments as they are at `site`. */
static json_t *args_of_site(const struct plan_action *action, const char *site)
{
    json_t *args = json_copy((json_t *)(uintptr_t)action->args);

    for (size_t i = 0; site && i < action->verb->arg_count; i++) {
        const char *key = verb_arg_key(&action->verb->args[i]);
        const json_t *value = json_object_get(args, key);
        if (!action->verb->args[i].per_site || !json_is_object(value))
            continue;
        if (json_object_get(value, site))
            (void)json_object_set(args, key, json_object_get(value, site));
        else
            (void)json_object_del(args, key);
    }
    return args;
}

static bool check_together(struct plan_builder *b, const struct plan_action *action,
                           const char *site)
{
    CLEANUP(json_freep) json_t *args = args_of_site(action, site);
    struct plan_at at = {action->line, action->verb->name, NULL};
    struct err why = ERR_EMPTY;

    if (action->verb->check(args, &at.field, &why) == 0)
        return true;
    plan_error(b, &at, "%s: %s%s%s", action->verb->name, site ? site : "", site ? ": " : "",
               why.text);
    return false;
}

/* For each site that some argument has a value for; once when none differs. */
static void check_sites(struct plan_builder *b, const struct plan_action *action)
{
    const char *site;
    json_t *value;
    bool differs = false;

    for (size_t i = 0; i < action->verb->arg_count; i++) {
        const struct verb_arg *arg = &action->verb->args[i];
        json_t *values = json_object_get(action->args, verb_arg_key(arg));
        if (!arg->per_site || !json_is_object(values))
            continue;
        differs = true;
        json_object_foreach(values, site, value) {
            if (!check_together(b, action, site))
                return;
        }
    }
    if (!differs)
        (void)check_together(b, action, NULL);
}

void plan_check_action(struct plan_builder *b, const struct plan_action *action)
{
    size_t before = b->problems->len;

    check_unknown(b, action);
    for (size_t i = 0; i < action->verb->arg_count; i++)
        check_arg(b, action, &action->verb->args[i]);
    if (action->verb->any_of_named)
        check_choice(b, action);
    if (action->verb->check && b->problems->len == before)
        check_sites(b, action);
}
