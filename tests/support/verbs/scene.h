// SPDX-License-Identifier: Apache-2.0
/* Verbs called by themselves, over two simulated sites: lyon is to own db1, paris has it. */
#pragma once

#include "sites/site_sim.h"
#include "verbs/verb.h"

struct scene {
    struct clock_fake clock;
    struct sim_world world;
    struct sim *sim;
    struct site *here;
    struct site *there;
    json_t *machines;
    json_t *result;        /* of the last call, or NULL */
    const char *action_id; /* "3.1.0" */
};

int scene_setup(void **state);
int scene_teardown(void **state);
#define SCENE_TEST(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)

/* `args` are taken. The verb's result is in scene->result. */
int scene_act(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
              struct err *err);
int scene_act_within(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
                     int64_t within_ms, struct err *err);
int scene_probe(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
                enum verb_answer *ret_answer, struct err *err);
int scene_undo(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
               struct err *err);
/* db1 runs at lyon, in a run of that kind. */
void scene_start(struct scene *scene, enum run_kind kind);
