// SPDX-License-Identifier: Apache-2.0
#include "support/verbs/scene.h"

#include "base/mem.h"
#include "support/expect.h"

#define WALL_MS 1700000000000
/* A look at a clock that moves. */
#define TICK_MS 200

static int64_t tick_now(struct clock *clock)
{
    struct clock_fake *fake = (struct clock_fake *)clock;

    clock_fake_advance(fake, TICK_MS);
    return fake->now;
}

int scene_setup(void **state)
{
    struct scene *scene = mem_new(struct scene);

    clock_fake_init(&scene->clock, WALL_MS);
    scene->clock.clock.now_ms = tick_now;
    sim_machine_add(&scene->world, "db1", 5, WALL_MS - 2000);
    scene->sim = sim_new(&scene->world, &scene->clock.clock);
    scene->here = sim_site_recovery(scene->sim, "lyon");
    scene->there = sim_site_source(scene->sim, "paris");
    scene->machines = json_pack("{s:{s:s, s:s, s:s, s:i, s:i}}", "db1", "group", "db1", "peer",
                                "paris", "run", "lyon-1", "point", 5, "generation", 1);
    scene->action_id = "3.1.0";
    *state = scene;
    return 0;
}

int scene_teardown(void **state)
{
    struct scene *scene = *state;

    site_close(scene->here);
    site_close(scene->there);
    sim_free(scene->sim);
    json_decref(scene->machines);
    json_decref(scene->result);
    free(scene);
    return 0;
}

static struct verb_call call_of(struct scene *scene, enum run_kind kind, const json_t *args)
{
    return (struct verb_call){
        .kind = kind,
        .run = "lyon-1",
        .run_name = "lyon-1",
        .action_id = scene->action_id,
        .args = args,
        .machines = scene->machines,
        .here = scene->here,
        .there = scene->there,
        .clock = &scene->clock.clock,
    };
}

static void keep_result(struct scene *scene, json_t *result)
{
    json_decref(scene->result);
    scene->result = result;
}

int scene_act_within(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
                     int64_t within_ms, struct err *error)
{
    CLEANUP(json_freep) json_t *owned = args;
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(&scene->clock.clock, NULL, within_ms);
    struct verb_call call = call_of(scene, kind, owned);
    json_t *result = NULL;
    int rc = verb_find(verb)->run(&call, &result, cancel, error);
    const json_t *facts = json_object_get(json_object_get(result, "facts"), "db1");

    if (facts)
        (void)json_object_update(json_object_get(scene->machines, "db1"),
                                 (json_t *)(uintptr_t)facts);
    keep_result(scene, result);
    return rc;
}

int scene_act(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
              struct err *error)
{
    return scene_act_within(scene, verb, kind, args, CANCEL_NEVER, error);
}

int scene_probe(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
                enum verb_answer *ret_answer, struct err *error)
{
    CLEANUP(json_freep) json_t *owned = args;
    struct verb_call call = call_of(scene, kind, owned);
    json_t *result = NULL;
    int rc = verb_find(verb)->probe(&call, ret_answer, &result, NULL, error);

    keep_result(scene, result);
    return rc;
}

int scene_undo(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
               struct err *error)
{
    CLEANUP(json_freep) json_t *owned = args;
    struct verb_call call = call_of(scene, kind, owned);

    return verb_find(verb)->undo(&call, NULL, error);
}

void scene_start(struct scene *scene, enum run_kind kind)
{
    EXPECT_OK(scene_act(scene, kind == RUN_TEST ? "core_pin" : "core_hold", kind,
                        json_pack("{s:s}", "group", "db1"), &err));
    if (kind == RUN_TEST)
        EXPECT_OK(scene_act(scene, "core_network", kind, json_object(), &err));
    else
        EXPECT_OK(scene_act(scene, "core_promote", kind, json_pack("{s:s}", "group", "db1"), &err));
    EXPECT_OK(scene_act(scene, "failover", kind, json_pack("{s:s}", "machine", "db1"), &err));
}
