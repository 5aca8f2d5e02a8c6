// SPDX-License-Identifier: Apache-2.0
/* What a run would do and lose, named before it is asked for. The bound is never optimistic: the
 * age of the newest durable point, for an older point that was chosen the age of that one. */
#include "base/mem.h"
#include "run/run_start.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEER_MS 5000

struct runner_preview {
    enum run_kind kind;
    char plan[PLAN_NAME_BYTES];
    json_t *points; /* of each machine; 0: the newest */
    json_t *machines;
    json_t *steps;
    struct clock *clock;
    struct site *here;
    struct site **there; /* one per machine, in the order of `machines` */
};

static bool is_planned(enum run_kind kind)
{
    return kind == RUN_PLANNED || kind == RUN_FAILBACK;
}

int runner_preview_begin(struct runner *runner, const struct runner_spec *spec,
                         struct runner_preview **ret_preview, struct err *err)
{
    CLEANUP(run_request_done) struct run_request request = {0};
    const struct runner_world *world = &runner->world;
    const char *machine;
    json_t *known;
    size_t count = 0;

    if (run_request_make(runner, spec, &request, err) < 0)
        return -1;
    struct runner_preview *preview = mem_new(struct runner_preview);
    preview->kind = spec->kind;
    preview->clock = runner->clock;
    preview->here = world->here;
    (void)snprintf(preview->plan, sizeof(preview->plan), "%s", request.plan_name);
    preview->machines = json_deep_copy(request.machines);
    preview->points = json_object();
    json_object_foreach(preview->machines, machine, known)
        (void)json_object_set_new(
            preview->points, machine,
            json_integer((json_int_t)run_point_of(spec, preview->machines, machine)));
    preview->there = mem_new_array(struct site *, json_object_size(preview->machines) + 1);
    json_object_foreach(preview->machines, machine, known) {
        struct site *there = world->peer(world->ctx, json_get_str(known, "peer", ""));
        preview->there[count++] = there ? there : &runner->nobody;
    }
    preview->steps = json_array();
    VEC_FOREACH(task, &request.tasks)
        (void)json_array_append_new(preview->steps, json_string(task->title));
    *ret_preview = preview;
    return 0;
}

static void warn(json_t *warnings, char *text)
{
    (void)json_array_append_new(warnings, json_string(text));
    free(text);
}

static bool peer_answers(const struct runner_preview *preview, struct site *there,
                         const json_t *known, json_t **ret_seen, struct err *why,
                         struct cancel *cancel)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(preview->clock, cancel, PEER_MS);

    return site_ask(there, "group.observe",
                    json_pack("{s:s, s:s}", "group", json_get_str(known, "group", ""), "run", ""),
                    ret_seen, limit, why)
           == 0;
}

static uint64_t point_for(const struct runner_preview *preview, const char *name)
{
    return json_get_u64(preview->points, name, 0);
}

/* What was written after the point that would be used. -1: cannot be told. */
static int64_t loss_bound(const struct runner_preview *preview, const char *name,
                          const json_t *seen)
{
    if (is_planned(preview->kind))
        return 0;
    const char *age = point_for(preview, name)    ? "asked_age_ms"
                      : preview->kind == RUN_TEST ? "applied_age_ms"
                                                  : "durable_age_ms";
    return json_object_get(seen, age) ? (int64_t)json_get_u64(seen, age, 0) : -1;
}

static json_t *ask_machine(const struct runner_preview *preview, const char *name,
                           const json_t *known, struct site *there, json_t *warnings,
                           struct cancel *cancel)
{
    static const char *const copied[] = {"durable_point", "durable_cut_ms", "durable_age_ms",
                                         "applied_point", "applied_cut_ms", "applied_age_ms",
                                         "asked_age_ms",  "generation"};
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err why = ERR_EMPTY;
    uint64_t asked = point_for(preview, name);
    json_t *machine = json_pack("{s:s, s:s, s:s}", "machine", name, "group",
                                json_get_str(known, "group", name), "peer", there->name);

    if (site_ask(preview->here, "group.observe",
                 json_pack("{s:s, s:s, s:I}", "group", json_get_str(known, "group", name), "run",
                           "", "point", (json_int_t)asked),
                 &seen, cancel, &why)
        < 0)
        warn(warnings, mem_printf("%s: %s", name, why.text));
    for (size_t i = 0; seen && i < ARRAY_LEN(copied); i++)
        if (json_object_get(seen, copied[i]))
            (void)json_object_set(machine, copied[i], json_object_get(seen, copied[i]));
    bool applied = preview->kind == RUN_TEST;
    uint64_t point =
        asked ? asked : json_get_u64(seen, applied ? "applied_point" : "durable_point", 0);
    uint64_t damaged = json_get_u64(seen,
                                    asked     ? "asked_damaged"
                                    : applied ? "applied_damaged"
                                              : "durable_damaged",
                                    0);
    (void)json_object_set_new(machine, "point", json_integer((json_int_t)point));
    (void)json_object_set_new(machine, "damaged_chunks", json_integer((json_int_t)damaged));
    (void)json_object_set_new(machine, "loss_bound_ms",
                              json_integer(loss_bound(preview, name, seen)));
    return machine;
}

/* A planned failover brings a new point first. */
static int check_whole(const struct runner_preview *preview, const char *name,
                       const json_t *machine, struct err *err)
{
    uint64_t damaged = json_get_u64(machine, "damaged_chunks", 0);
    const char *group = run_group_name(preview->machines, name);

    if (damaged == 0 || (is_planned(preview->kind) && point_for(preview, name) == 0))
        return 0;
    return err_set(err, ERR_CORRUPT, 0,
                   "point %" PRIu64 " of %s needs %" PRIu64
                   " damaged chunks of 64 KiB; hint: `muster points %s` shows which are whole: "
                   "choose one by --point; while the source lives, the newest is made whole again",
                   json_get_u64(machine, "point", 0), group, damaged, group);
}

/* A replica that could not be asked is warned of already. */
static int check_point(const struct runner_preview *preview, const char *name,
                       const json_t *machine, struct err *err)
{
    const char *group = run_group_name(preview->machines, name);

    if (!json_object_get(machine, "durable_point"))
        return 0;
    if (json_get_u64(machine, "durable_point", 0) == 0)
        return err_set(err, ERR_STATE, 0,
                       "%s has no point yet: its initial copy has not ended; hint: `muster status` "
                       "shows how far it is",
                       group);
    if (point_for(preview, name) == 0 || json_object_get(machine, "asked_age_ms"))
        return check_whole(preview, name, machine, err);
    return err_set(err, ERR_NOT_FOUND, 0,
                   "%s has no point %" PRIu64 "; hint: `muster points %s` lists what is kept",
                   group, point_for(preview, name), group);
}

static int refuse_planned(const char *name, const struct site *there, struct err *why,
                          struct err *err)
{
    char *hint = strstr(why->text, "; hint: ");

    if (hint)
        *hint = '\0';
    return err_set(err, err_is_retryable(why->code) ? ERR_NET : why->code, 0,
                   "a planned failover of %s needs both sites, and %s does not answer: %s; hint: "
                   "bring %s back, or use what is here: `muster failover NAME --unplanned`, "
                   "`muster run PLAN --kind unplanned`",
                   name, there->name, why->text, there->name);
}

/* What Muster cannot know, cannot do, and will do: said before anybody says yes. */
static void warn_of_partition(const struct runner_preview *preview, const char *name,
                              const struct site *there, const struct err *why, json_t *warnings)
{
    warn(warnings, mem_printf("%s does not answer (%s): %s may still run there, and Muster cannot "
                              "stop it; only its power or its network can",
                              there->name, why->text, name));
    warn(warnings,
         mem_printf("one history is accepted from here on, %s's; that only one %s runs is "
                    "not guaranteed: make sure that nobody reaches the old one",
                    preview->here->name, name));
    warn(warnings, mem_printf("when %s is reached again, the old %s is stopped there for good, and "
                              "what it wrote after the newest point here is kept there as a branch "
                              "(`muster branches %s`), not brought over",
                              there->name, name, name));
}

/* Nobody is asked whether to start what cannot work. A failover that was cut after the promotion
 * goes on without its peer. */
static int ask_peer(const struct runner_preview *preview, const char *name, const json_t *known,
                    struct site *there, json_t *machine, json_t *warnings, struct cancel *cancel,
                    struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err why = ERR_EMPTY;
    bool answers = peer_answers(preview, there, known, &seen, &why, cancel);

    (void)json_object_set_new(machine, "peer_answers", json_boolean(answers));
    if (cancel_check(cancel, err) < 0)
        return -1;
    if (!answers && is_planned(preview->kind) && !json_object_get(known, "promoted"))
        return refuse_planned(name, there, &why, err);
    if (is_planned(preview->kind) && str_eq(json_get_str(seen, "state", ""), "critical"))
        return err_set(
            err, ERR_STATE, 0,
            "a planned failover of %s could not bring its last changes over: replication "
            "at %s stands still (%.600s); hint: mend that and `muster resume %s` there, "
            "or use what is here: `muster failover NAME --unplanned`",
            name, there->name, json_get_str(seen, "error", "?"), name);
    if (!answers && preview->kind == RUN_UNPLANNED)
        warn_of_partition(preview, name, there, &why, warnings);
    else if (answers && preview->kind == RUN_UNPLANNED)
        warn(warnings, mem_printf("%s answers: a planned failover of %s would lose nothing",
                                  there->name, name));
    return 0;
}

/* On its own disks again: they hold what it wrote since, and no other point. */
static int check_not_own(const struct runner_preview *preview, const char *name,
                         const json_t *known, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(preview->here, "instance.observe",
                 json_pack("{s:s, s:s, s:s, s:b}", "machine", name, "group",
                           json_get_str(known, "group", name), "run",
                           json_get_str(known, "run", ""), "test", 0),
                 &seen, cancel, err)
        < 0)
        return -1;
    if (!json_get_bool(seen, "own", false))
        return 0;
    return run_refuse_own(preview->kind, name, preview->plan, err);
}

/* A rollback that begins without the other side leaves its failover rolling back until that answers:
 * it is not begun. No more than what is needed is asked: the recovered machine is at work. */
static int ask_after(const struct runner_preview *preview, const char *name, const json_t *known,
                     struct site *there, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    CLEANUP(json_freep) json_t *warnings = json_array();
    struct err why = ERR_EMPTY;

    if (preview->kind != RUN_COMMIT && check_not_own(preview, name, known, cancel, err) < 0)
        return -1;
    if (preview->kind == RUN_CHANGE_POINT) {
        CLEANUP(json_freep)
        json_t *machine = ask_machine(preview, name, known, there, warnings, cancel);
        return check_point(preview, name, machine, err);
    }
    if (preview->kind != RUN_ROLLBACK || !run_is_first_of_group(preview->machines, name)
        || peer_answers(preview, there, known, &seen, &why, cancel))
        return 0;
    char *hint = strstr(why.text, "; hint: ");
    if (hint)
        *hint = '\0';
    return err_set(err, err_is_retryable(why.code) ? ERR_NET : why.code, 0,
                   "a rollback of %s needs both sites, and %s does not answer: %s; hint: bring %s "
                   "back, or keep what is here: `muster commit %s`",
                   name, there->name, why.text, there->name, preview->plan);
}

/* A group is asked about once: what holds of its first machine holds of all. */
static bool add_like_first(const struct runner_preview *preview, const char *name, json_t *machines)
{
    const char *group = run_group_name(preview->machines, name);
    const json_t *seen;
    size_t i;

    if (run_is_first_of_group(preview->machines, name))
        return false;
    json_array_foreach(machines, i, seen) {
        if (!str_eq(json_get_str(seen, "group", ""), group))
            continue;
        json_t *same = json_copy((json_t *)(uintptr_t)seen);
        (void)json_object_set_new(same, "machine", json_string(name));
        (void)json_array_append_new(machines, same);
        return true;
    }
    return false;
}

int runner_preview_ask(struct runner_preview *preview, json_t **ret_json, struct cancel *cancel,
                       struct err *err)
{
    CLEANUP(json_freep) json_t *warnings = json_array();
    CLEANUP(json_freep) json_t *machines = json_array();
    int64_t worst = 0;
    size_t count = 0;
    const char *name;
    json_t *known;

    json_object_foreach(preview->machines, name, known) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        if (preview->kind == RUN_CLEANUP)
            continue;
        struct site *there = preview->there[count++];
        if (run_is_after(preview->kind)) {
            if (ask_after(preview, name, known, there, cancel, err) < 0)
                return -1;
            continue;
        }
        if (add_like_first(preview, name, machines))
            continue;
        json_t *machine = ask_machine(preview, name, known, there, warnings, cancel);
        (void)json_array_append_new(machines, machine);
        const char *group = run_group_name(preview->machines, name);
        if (check_point(preview, name, machine, err) < 0
            || ask_peer(preview, group, known, there, machine, warnings, cancel, err) < 0)
            return -1;
        int64_t bound = json_integer_value(json_object_get(machine, "loss_bound_ms"));
        worst = bound < 0 || worst < 0 ? -1 : bound > worst ? bound : worst;
    }
    *ret_json = json_pack("{s:s, s:s, s:O, s:I, s:O, s:O}", "plan", preview->plan, "kind",
                          run_kind_name(preview->kind), "machines", machines, "loss_bound_ms",
                          (json_int_t)worst, "steps", preview->steps, "warnings", warnings);
    return 0;
}

void runner_preview_free(struct runner_preview *preview)
{
    if (!preview)
        return;
    json_decref(preview->points);
    json_decref(preview->machines);
    json_decref(preview->steps);
    free(preview->there);
    free(preview);
}
