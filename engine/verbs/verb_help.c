// SPDX-License-Identifier: Apache-2.0
#include "verbs/verb_help.h"

#include "base/mem.h"

const char *verb_text(const struct verb_call *call, const char *key)
{
    return json_get_str(call->args, key, "");
}

const json_t *verb_machine(const struct verb_call *call, const char *name)
{
    const json_t *own = json_object_get(call->machines, name);
    const char *machine;
    json_t *known;

    if (own)
        return own;
    json_object_foreach((json_t *)(uintptr_t)call->machines, machine, known)
        if (str_eq(json_get_str(known, "group", machine), name))
            return known;
    return NULL;
}

const char *verb_run_of(const struct verb_call *call, const char *machine)
{
    return json_get_str(verb_machine(call, machine), "run", call->run);
}

const char *verb_group_of(const struct verb_call *call, const char *name)
{
    return json_get_str(verb_machine(call, name), "group", name);
}

json_t *verb_group_machines(const struct verb_call *call, const char *name)
{
    const char *group = verb_group_of(call, name);
    json_t *names = json_array();
    const char *machine;
    json_t *known;

    json_object_foreach((json_t *)(uintptr_t)call->machines, machine, known)
        if (str_eq(json_get_str(known, "group", machine), group))
            (void)json_array_append_new(names, json_string(machine));
    if (json_array_size(names) == 0)
        (void)json_array_append_new(names, json_string(name));
    return names;
}

char *verb_group_text(const struct verb_call *call, const char *name)
{
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, name);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const json_t *machine;
    size_t i;

    if (json_array_size(machines) == 1)
        return mem_strdup(json_string_value(json_array_get(machines, 0)));
    json_array_foreach(machines, i, machine)
        str_addf(&text, "%s%s", text.len ? ", " : "", json_string_value(machine));
    return mem_printf("%s (%s)", verb_group_of(call, name), str_text(&text));
}

uint64_t verb_point_of(const struct verb_call *call, const char *machine)
{
    return json_get_u64(verb_machine(call, machine), "point", 0);
}

bool verb_is_test(const struct verb_call *call)
{
    return call->kind == RUN_TEST || call->kind == RUN_CLEANUP;
}

bool verb_not_moved(const struct verb_call *call, const char *machine, json_t **ret_result)
{
    if (verb_machine(call, machine) || (RUN_KINDS_REAL & RUN_KIND_BIT(call->kind)))
        return false;
    CLEANUP(mem_freep) char *text = mem_printf("%s did not come over: it stays as it is", machine);
    *ret_result = json_pack("{s:s}", "warning", text);
    return true;
}

int verb_site(const struct verb_call *call, const char *name, struct site **ret_site,
              struct err *err)
{
    if (!*name || str_eq(name, call->here->name))
        *ret_site = call->here;
    else if (str_eq(name, call->there->name))
        *ret_site = call->there;
    else
        return err_set(err, ERR_INVALID, 0, "there is no site \"%s\" in this run; hint: %s or %s",
                       name, call->here->name, call->there->name);
    return 0;
}

json_t *verb_facts(const char *machine, json_t *facts)
{
    return json_pack("{s:{s:o}}", "facts", machine, facts);
}

json_t *verb_group_facts(const struct verb_call *call, const char *name, json_t *facts)
{
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, name);
    json_t *all = json_object();
    const json_t *machine;
    size_t i;

    json_array_foreach(machines, i, machine)
        (void)json_object_set_new(all, json_string_value(machine), json_copy(facts));
    json_decref(facts);
    return json_pack("{s:o}", "facts", all);
}

json_t *verb_names(const json_t *machines)
{
    return json_array_size(machines) == 1 ? json_incref(json_array_get(machines, 0))
                                          : json_deep_copy(machines);
}

int verb_forgive(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                 struct err *err)
{
    struct err over = ERR_EMPTY;

    if (call->kind != RUN_UNPLANNED || (err->code != ERR_NET && err->code != ERR_TIMEOUT))
        return -1;
    if (cancel_check(cancel, &over) < 0 && over.code == ERR_CANCELLED)
        return -1;
    *ret_result = json_pack("{s:b, s:s}", "reached", 0, "warning", err->text);
    err_clear(err);
    return 0;
}
