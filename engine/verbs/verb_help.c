// SPDX-License-Identifier: Apache-2.0
#include "verbs/verb_help.h"

#include "base/mem.h"

const char *verb_text(const struct verb_call *call, const char *key)
{
    return json_get_str(call->args, key, "");
}

const json_t *verb_machine(const struct verb_call *call, const char *machine)
{
    return json_object_get(call->machines, machine);
}

const char *verb_run_of(const struct verb_call *call, const char *machine)
{
    return json_get_str(verb_machine(call, machine), "run", call->run);
}

const char *verb_group_of(const struct verb_call *call, const char *machine)
{
    return json_get_str(verb_machine(call, machine), "group", machine);
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
