// SPDX-License-Identifier: Apache-2.0
#include "verbs/verb.h"

#include "base/mem.h"
#include "base/str.h"
#include "verbs/verb_help.h"

static const char *const kind_names[RUN_KIND_COUNT] = {
    [RUN_TEST] = "test",         [RUN_PLANNED] = "planned",   [RUN_UNPLANNED] = "unplanned",
    [RUN_FAILBACK] = "failback", [RUN_CLEANUP] = "cleanup",   [RUN_DRY] = "dry",
    [RUN_COMMIT] = "commit",     [RUN_ROLLBACK] = "rollback", [RUN_CHANGE_POINT] = "change-point",
};

/* A new verb is a file and a line here. */
/* clang-format off */
static const struct verb *const table[] = {
    &verb_failover,
    &verb_failback,
    &verb_commit,
    &verb_rollback,
    &verb_change_point,
    &verb_reprotect,
    &verb_wait_until,
    &verb_check,
    &verb_run_command,
    &verb_approve,
    &verb_assign_ip,
    &verb_notify,
    &verb_core_shutdown,
    &verb_core_final_sync,
    &verb_core_hold,
    &verb_core_promote,
    &verb_core_retire,
    &verb_core_pin,
    &verb_core_network,
    &verb_core_cleanup,
    &verb_core_unpin,
    &verb_core_network_remove,
    &verb_core_leftovers,
};
/* clang-format on */

const char *run_kind_name(enum run_kind kind)
{
    return (unsigned)kind < RUN_KIND_COUNT ? kind_names[kind] : "?";
}

int run_kind_parse(const char *name)
{
    for (int kind = 0; kind < RUN_KIND_COUNT; kind++)
        if (str_eq(name, kind_names[kind]))
            return kind;
    return -1;
}

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(table[i]->name, name))
            return table[i];
    return NULL;
}

const struct verb *const *verb_all(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(table);
    return table;
}

json_t *verb_words(void)
{
    json_t *words = json_object();

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const char *key = NULL;
        if (table[i]->core)
            continue;
        for (size_t k = 0; k < table[i]->arg_count; k++)
            if (!table[i]->args[k].name)
                key = verb_arg_key(&table[i]->args[k]);
        (void)json_object_set_new(words, table[i]->name, key ? json_string(key) : json_null());
    }
    return words;
}
