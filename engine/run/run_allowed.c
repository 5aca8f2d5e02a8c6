// SPDX-License-Identifier: Apache-2.0
/* What may be done with a machine now: asked of the same checks that a start makes, so that nobody is
 * told one thing and meets another. */
#include "run/run_start.h"

#include "base/mem.h"

/* Each is refused with its reason, or would start. */
static void add(json_t *list, const char *operation, int rc, const struct err *why)
{
    json_t *entry = json_pack("{s:s, s:b}", "operation", operation, "allowed", rc == 0);

    if (rc < 0)
        (void)json_object_set_new(entry, "why", json_string(why->text));
    (void)json_array_append_new(list, entry);
}

static void try_kind(struct runner *runner, enum run_kind kind, const char *machine, json_t *list)
{
    static const char *const names[RUN_KIND_COUNT] = {
        [RUN_TEST] = "test-failover",
        [RUN_PLANNED] = "failover --planned",
        [RUN_UNPLANNED] = "failover --unplanned",
        [RUN_FAILBACK] = "failback",
        [RUN_CLEANUP] = "cleanup",
        [RUN_COMMIT] = "commit",
        [RUN_ROLLBACK] = "rollback",
        [RUN_CHANGE_POINT] = "change-point",
    };
    char group[PLAN_NAME_BYTES];
    CLEANUP(json_freep)
    json_t *document = runner_group_document(runner->world.state, machine, group);
    CLEANUP(run_request_done) struct run_request request = {0};
    bool follows = kind == RUN_CLEANUP || run_is_after(kind);
    const struct runner_spec spec = {
        .plan = group,
        .document = follows ? NULL : document,
        .kind = kind,
        .point = kind == RUN_CHANGE_POINT ? 1 : 0, /* which, is told when it is asked for */
        .who = "",
    };
    struct err why = ERR_EMPTY;

    add(list, names[kind], run_request_make(runner, &spec, &request, &why), &why);
}

json_t *runner_allowed(struct runner *runner, const char *machine)
{
    static const enum run_kind kinds[] = {RUN_TEST,   RUN_CLEANUP,      RUN_PLANNED,  RUN_UNPLANNED,
                                          RUN_COMMIT, RUN_CHANGE_POINT, RUN_ROLLBACK, RUN_FAILBACK};
    json_t *list = json_array();

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        try_kind(runner, kinds[i], machine, list);
    return list;
}
