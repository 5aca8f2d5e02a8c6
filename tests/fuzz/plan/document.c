// SPDX-License-Identifier: Apache-2.0
/* Documents that somebody damaged: a plan is made of them or an error is told, nothing else. The
 * damage is made from one seed; MUSTER_SEED=N tries another, MUSTER_ROUNDS=N more of it. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/plan/plan_world.h"

#include <stdlib.h>

static const char document[] =
    "{\"name\":\"shop\",\"line\":1,\"rto\":\"15m\",\"stages\":[{\"title\":\"A\",\"line\":2,\"only\":"
    "[\"test\",\"planned\"],\"items\":[{\"step\":{\"title\":\"Up\",\"line\":3,\"within\":\"5m\","
    "\"retry\":{\"times\":2,\"wait\":\"1s\"},\"on_failure\":\"pause\",\"actions\":[{\"verb\":"
    "\"failover\",\"args\":{\"machine\":\"db1\"},\"line\":3}]}},{\"line\":4,\"parallel\":[{\"title\":"
    "\"W\",\"line\":5,\"actions\":[{\"verb\":\"wait_until\",\"args\":{\"tcp\":\"db1:5432\"},\"line\":5"
    "},{\"verb\":\"set_address\",\"args\":{\"machine\":\"db1\",\"address\":{\"lyon\":\"a\",\"paris\":"
    "\"b\"}},\"line\":5}]}]}]}]}";

static uint64_t number_from(const char *name, uint64_t fallback)
{
    uint64_t value;

    return str_to_u64(getenv(name), &value) ? value : fallback;
}

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static json_t *anything(uint64_t *dice)
{
    switch (next(dice) % 10) {
    case 0: return json_null();
    case 1: return json_integer((json_int_t)next(dice));
    case 2: return json_real(1.5);
    case 3: return json_true();
    case 4: return json_array();
    case 5: return json_object();
    case 6: return json_string("");
    case 7: return json_string("%s%n \"quoted\" ; hint: x");
    case 8: return json_pack("[{s:i}]", "x", 1);
    default: return json_string("failover");
    }
}

/* Replaces, drops or copies something somewhere below `json`. */
static void damage(json_t *json, uint64_t *dice)
{
    size_t size = json_is_array(json) ? json_array_size(json) : json_object_size(json);
    size_t at = size ? next(dice) % size : 0;
    const char *key = NULL;
    json_t *item = NULL;
    size_t i = 0;

    if (size == 0)
        return;
    bool here = next(dice) % 4 == 0;
    if (json_is_array(json)) {
        item = json_array_get(json, at);
        if (!here && (json_is_array(item) || json_is_object(item)))
            damage(item, dice);
        else if (next(dice) % 3 == 0)
            (void)json_array_append(json, item);
        else
            (void)json_array_set_new(json, at, anything(dice));
        return;
    }
    json_object_foreach(json, key, item) {
        if (i++ == at)
            break;
    }
    if (!here && (json_is_array(item) || json_is_object(item)))
        damage(item, dice);
    else if (next(dice) % 3 == 0)
        (void)json_object_del(json, key);
    else
        (void)json_object_set_new(json, key, anything(dice));
}

static void try(const json_t *json)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    CLEANUP(plan_freep) struct plan *plan = NULL;
    struct err why = ERR_EMPTY;

    if (plan_from_document(plan_world_for_test(), "kept", json, &plan, &problems, &why) < 0) {
        assert_int_equal(why.code, ERR_INVALID);
        assert_true(why.text[0] != '\0');
        return;
    }
    for (int kind = 0; kind < RUN_KIND_COUNT; kind++) {
        CLEANUP(mem_freep) char *text = NULL;
        CLEANUP(json_freep) json_t *shown = NULL;
        if (plan_show_text(plan, plan_world_for_test(), (enum run_kind)kind, &text, &why) == 0)
            assert_int_equal(
                plan_show_json(plan, plan_world_for_test(), (enum run_kind)kind, &shown, &why), 0);
    }
}

static void a_damaged_document_is_a_plan_or_an_error(void **state)
{
    uint64_t dice = number_from("MUSTER_SEED", 1);
    uint64_t rounds = number_from("MUSTER_ROUNDS", 3000);

    (void)state;
    for (uint64_t round = 0; round < rounds; round++) {
        CLEANUP(json_freep) json_t *json = json_loads(document, 0, NULL);
        assert_non_null(json);
        for (uint64_t hits = 1 + next(&dice) % 3; hits > 0; hits--)
            damage(json, &dice);
        try(json);
    }
}

static void the_document_itself_is_a_plan(void **state)
{
    CLEANUP(json_freep) json_t *json = json_loads(document, 0, NULL);
    CLEANUP(plan_freep) struct plan *plan = NULL;

    (void)state;
    EXPECT_OK(plan_from_document(plan_world_for_test(), "kept", json, &plan, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document_itself_is_a_plan),
        cmocka_unit_test(a_damaged_document_is_a_plan_or_an_error),
    };
    return cmocka_run_group_tests_name("document", tests, NULL, NULL);
}
