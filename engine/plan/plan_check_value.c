// SPDX-License-Identifier: Apache-2.0
/* Values with a form of their own: paths, lists, tables, sites. */
#include "base/ip.h"
#include "base/str.h"
#include "plan/plan_check.h"

#include <stdio.h>
#include <string.h>

#define LIST_MAX 256

static void must_be(const struct value_check *c, const char *what)
{
    plan_error(c->b, &c->at, "%s: %s must be %s", c->action->verb->name, c->name, what);
}

static void check_path(const struct value_check *c, const json_t *value)
{
    const char *path = json_string_value(value);

    if (!path)
        must_be(c, "a path");
    else if (path[0] != '/')
        plan_error(c->b, &c->at, "%s: %s: \"%s\" is no absolute path; hint: \"/usr/local/bin/%s\"",
                   c->action->verb->name, c->name, path, path);
}

/* A text, or a list of them (an empty one as well). */
static void check_list(const struct value_check *c, const json_t *value, const char *what,
                       void (*check)(const struct value_check *c, const char *text))
{
    const json_t *item;
    size_t i;

    if (!json_is_string(value) && !json_is_array(value)) {
        must_be(c, what);
        return;
    }
    if (json_is_string(value) && check)
        check(c, json_string_value(value));
    if (json_array_size(value) > LIST_MAX)
        plan_error(c->b, &c->at, "%s: %s has %zu items, the most is %d", c->action->verb->name,
                   c->name, json_array_size(value), LIST_MAX);
    json_array_foreach(value, i, item) {
        if (!json_is_string(item))
            must_be(c, what);
        else if (check)
            check(c, json_string_value(item));
    }
}

/* An empty table of Lua's is an empty list. */
static void check_table(const struct value_check *c, const json_t *value)
{
    const char *key;
    json_t *item;

    if (json_is_array(value) && json_array_size(value) == 0)
        return;
    if (!json_is_object(value)) {
        must_be(c, "a table like { NAME = \"text\" }");
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        if (!json_is_string(item))
            plan_error(c->b, &c->at, "%s: %s.%s must be a text", c->action->verb->name, c->name,
                       key);
        else if (!*key || strchr(key, '='))
            plan_error(c->b, &c->at, "%s: %s: \"%s\" is no name", c->action->verb->name, c->name,
                       key);
    }
}

static void check_site(const struct value_check *c, const json_t *value)
{
    const char *const *sites = c->b->world->sites;
    const char *site = json_string_value(value);

    if (!site || !str_is_name(site)) {
        must_be(c, "a site's name");
        return;
    }
    if (!sites || plan_is_among(site, sites))
        return;
    const char *nearest = str_nearest(site, sites);
    plan_error(c->b, &c->at, "%s: %s: unknown site '%s'%s%s%s", c->action->verb->name, c->name,
               site, nearest ? " (did you mean '" : "", nearest ? nearest : "",
               nearest ? "'?)" : "");
}

static void check_word(const struct value_check *c, const json_t *value)
{
    CLEANUP(str_free) struct str words = STR_EMPTY;
    const char *word = json_string_value(value);

    if (word && plan_is_among(word, c->arg->words))
        return;
    for (size_t i = 0; c->arg->words[i]; i++)
        str_addf(&words, "%s\"%s\"", i ? ", " : "", c->arg->words[i]);
    const char *nearest = word ? str_nearest(word, c->arg->words) : NULL;
    plan_error(c->b, &c->at, "%s: %s is one of %s%s%s%s", c->action->verb->name, c->name,
               str_text(&words), nearest ? " (did you mean '" : "", nearest ? nearest : "",
               nearest ? "'?)" : "");
}

/* As useradd(8) and groupadd(8) have them, and a bit more. */
static void check_person(const struct value_check *c, const json_t *value)
{
    const char *name = json_string_value(value);
    const char *rest = name && *name == '@' ? name + 1 : name;

    if (!rest || !*rest || strlen(rest) > 64 || *rest == '-'
        || rest[strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-$")])
        must_be(c, "a user's name or \"@GROUP\"");
}

static void check_cidr(const struct value_check *c, const char *text)
{
    struct ip ip;

    if (!ip_parse_cidr(text, &ip))
        plan_error(c->b, &c->at,
                   "%s: %s: \"%s\" is no address with a prefix; hint: \"10.0.0.5/24\","
                   " \"2001:db8::5/64\"",
                   c->action->verb->name, c->name, text);
    else if (!ip_is_host(&ip))
        plan_error(c->b, &c->at,
                   "%s: %s: %s cannot be a machine's: it stands for a network, all in it, or"
                   " nobody",
                   c->action->verb->name, c->name, text);
}

static void check_ip(const struct value_check *c, const char *text)
{
    struct ip ip;

    if (!ip_parse(text, &ip) || !ip_is_host(&ip))
        plan_error(c->b, &c->at,
                   "%s: %s: \"%s\" is no address of a machine; hint: \"10.0.0.1\", without a"
                   " prefix",
                   c->action->verb->name, c->name, text);
}

static void check_nic(const struct value_check *c, const json_t *value)
{
    const char *mac = json_string_value(value);
    json_int_t number = json_integer_value(value);
    unsigned b[6];
    int len = 0;

    if (json_is_integer(value) && number >= 1 && number <= 64)
        return;
    if (!mac || strlen(mac) != 17
        || sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &len)
               != 6
        || len != 17)
        must_be(c, "the card's number in the machine's definition, from 1, or its MAC");
}

bool plan_check_value(const struct value_check *c, const json_t *value)
{
    switch (c->arg->type) {
    case ARG_PATH: check_path(c, value); return true;
    case ARG_TEXTS: check_list(c, value, "a text or a list of texts", NULL); return true;
    case ARG_TABLE: check_table(c, value); return true;
    case ARG_SITE: check_site(c, value); return true;
    case ARG_NIC: check_nic(c, value); return true;
    case ARG_CIDRS:
        check_list(c, value, "an address like \"10.0.0.5/24\" or a list", check_cidr);
        return true;
    case ARG_IPS:
        check_list(c, value, "an address like \"10.0.0.5\" or a list", check_ip);
        return true;
    case ARG_WORD: check_word(c, value); return true;
    case ARG_PERSON: check_person(c, value); return true;
    case ARG_TEXT:
    case ARG_MACHINE:
    case ARG_ADDRESS:
    case ARG_DURATION:
    case ARG_NUMBER:
    case ARG_BOOL: return false;
    }
    return false;
}
