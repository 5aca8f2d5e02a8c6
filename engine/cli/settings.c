// SPDX-License-Identifier: Apache-2.0
#include "cli/settings.h"

#include "base/mem.h"
#include "cli/table.h"

#include <string.h>

#define VALUE_BYTES 64

int cli_settings(struct cli *cli, json_t *into, size_t *ret_count, struct err *err)
{
    size_t count = 0;

    for (const struct policy_field *field = policy_fields; field->option; field++) {
        const char *text = cli_option(cli, field->option);
        struct err why = ERR_EMPTY;
        json_t *value;

        if (!text)
            continue;
        if (policy_field_parse(field, text, &value, &why) < 0)
            return cli_usage(cli, err, "--%s: %s", field->option, why.text);
        (void)json_object_set_new(into, field->key, value);
        count++;
    }
    *ret_count = count;
    return 0;
}

int cli_networks(struct cli *cli, json_t *into, struct err *err)
{
    const char *text = cli_option(cli, "networks");
    CLEANUP(mem_freep) char *copy = text ? mem_strdup(text) : NULL;
    CLEANUP(json_freep) json_t *networks = json_object();
    char *save = NULL;

    if (!text)
        return 0;
    for (char *pair = str_eq(text, "none") ? NULL : strtok_r(copy, ",", &save); pair;
         pair = strtok_r(NULL, ",", &save)) {
        char *here = strchr(pair, '=');

        if (!here)
            return cli_usage(cli, err,
                             "--networks: \"%.64s\" is no pair; hint: NETWORK=NETWORK, with commas "
                             "between pairs, or none",
                             pair);
        *here++ = '\0';
        (void)json_object_set_new(networks, pair + strspn(pair, " "), json_string(here));
    }
    (void)json_object_set(into, "networks", networks);
    return 0;
}

static int add_seed(struct cli *cli, json_t *seeds, const char *text, struct err *err)
{
    const char *file = strchr(text, '=');
    CLEANUP(mem_freep)
    char *disk = file ? mem_printf("%.*s", (int)(file - text), text) : mem_strdup("");

    file = file ? file + 1 : text;
    if (!*file)
        return cli_usage(cli, err, "--seed: \"%.80s\" names no file; hint: DISK=FILE", text);
    if (json_object_get(seeds, disk))
        return cli_usage(cli, err, "--seed: disk %s is to have two seeds",
                         *disk ? disk : "(the only one)");
    (void)json_object_set_new(seeds, disk, json_string(file));
    return 0;
}

/* A comma parts two seeds where DISK= follows: names of files may have commas, too. */
static int add_seeds(struct cli *cli, json_t *seeds, const char *text, struct err *err)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(text);
    char *at = copy;

    for (char *comma = strchr(at, ','); comma; comma = strchr(comma + 1, ',')) {
        size_t word = strcspn(comma + 1, "=,/");
        if (word == 0 || comma[1 + word] != '=')
            continue;
        *comma = '\0';
        if (add_seed(cli, seeds, at, err) < 0)
            return -1;
        at = comma + 1;
    }
    return add_seed(cli, seeds, at, err);
}

int cli_seeds(struct cli *cli, json_t *into, struct err *err)
{
    CLEANUP(json_freep) json_t *seeds = json_object();

    if (!cli_option(cli, "seed"))
        return 0;
    for (int i = 1; i < cli->argc; i++) {
        const char *text = cli->argv[i];
        if (str_eq(text, "--seed") && i + 1 < cli->argc)
            text = cli->argv[++i];
        else if (str_starts(text, "--seed="))
            text += strlen("--seed=");
        else
            continue;
        if (add_seeds(cli, seeds, text, err) < 0)
            return -1;
    }
    (void)json_object_set(into, "seeds", seeds);
    return 0;
}

static bool is_own(const json_t *overrides, const char *key)
{
    const json_t *own;
    size_t i;

    json_array_foreach(overrides, i, own) {
        if (str_eq(json_string_value(own), key))
            return true;
    }
    return false;
}

void show_settings(const json_t *json, const json_t *overrides, const char *policy, struct str *out)
{
    static const char *const plain[] = {"SETTING", "VALUE", NULL};
    static const char *const columns[] = {"SETTING", "VALUE", "FROM", NULL};
    CLEANUP(table_freep) struct table *table = table_new(overrides ? columns : plain);
    char text[VALUE_BYTES];

    for (const struct policy_field *field = policy_fields; field->option; field++) {
        table_add(table, field->option);
        table_add(table,
                  policy_field_text(field, json_object_get(json, field->key), text, sizeof(text)));
        if (overrides && is_own(overrides, field->key))
            table_add(table, "its own");
        else if (overrides)
            table_addf(table, "policy %s", policy);
    }
    table_render(table, out);
}

static void add_own(const json_t *overrides, const json_t *values, struct str *out)
{
    const char *between = "";
    char text[VALUE_BYTES];

    for (const struct policy_field *field = policy_fields; field->option; field++) {
        if (!is_own(overrides, field->key))
            continue;
        str_addf(out, "%s%s", between, field->option);
        if (values)
            str_addf(
                out, " %s",
                policy_field_text(field, json_object_get(values, field->key), text, sizeof(text)));
        between = ", ";
    }
}

void show_policy_of(const json_t *protection, struct str *out)
{
    const json_t *overrides = json_object_get(protection, "overrides");

    str_add(out, json_get_str(protection, "policy", ""));
    if (json_array_size(overrides) == 0)
        return;
    str_add(out, "; its own: ");
    add_own(overrides, protection, out);
}

void show_policies(const json_t *policies, struct str *out)
{
    static const char *const columns[] = {"NAME", ">EVERY",  ">KEEP", "RETENTION",
                                          ">RPO", "USED BY", NULL};
    static const char *const shown[] = {"interval", "keep", "retention", "rpo"};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    const json_t *policy;
    char text[VALUE_BYTES];
    size_t i;

    json_array_foreach(policies, i, policy) {
        CLEANUP(str_free) struct str names = STR_EMPTY;
        const json_t *name;
        size_t k;

        table_add(table, json_get_str(policy, "name", ""));
        for (k = 0; k < ARRAY_LEN(shown); k++) {
            const struct policy_field *field = policy_field_find(shown[k]);
            table_add(table, policy_field_text(field, json_object_get(policy, field->key), text,
                                               sizeof(text)));
        }
        json_array_foreach(json_object_get(policy, "machines"), k, name)
            str_addf(&names, "%s%s", k ? ", " : "", json_string_value(name));
        table_add(table, names.len ? str_text(&names) : "-");
    }
    table_render(table, out);
}

void show_policy(const json_t *policy, struct str *out)
{
    const json_t *own = json_object_get(policy, "own");
    const json_t *machines = json_object_get(policy, "machines");
    const json_t *item;
    char text[32];
    size_t i;

    str_addf(out, "policy       %s\n", json_get_str(policy, "name", ""));
    if (json_get_int(policy, "changed_ms", 0))
        str_addf(out, "changed      %s\n",
                 text_when(json_get_int(policy, "changed_ms", 0), text, sizeof(text)));
    if (json_array_size(machines) == 0)
        str_add(out, "used by      nobody\n");
    json_array_foreach(machines, i, item) {
        const char *name = json_string_value(item);
        const json_t *overrides = json_object_get(own, name);

        str_addf(out, "used by      %s", name);
        if (json_array_size(overrides) > 0) {
            str_add(out, ", with its own ");
            add_own(overrides, NULL, out);
        }
        str_add(out, "\n");
    }
    json_array_foreach(json_object_get(policy, "notes"), i, item)
        str_addf(out, "note         %s\n", json_string_value(item));
    str_add(out, "\n");
    show_settings(policy, NULL, NULL, out);
}
