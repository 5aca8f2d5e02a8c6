// SPDX-License-Identifier: Apache-2.0
#include "support/plan/plan_world.h"

#include "base/mem.h"

#include <assert.h>

static const struct verb_arg address_args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "The machine."},
    {.name = "address",
     .type = ARG_TEXT,
     .required = true,
     .per_site = true,
     .help = "Its address."},
    {.name = "gateway", .type = ARG_ADDRESS, .per_site = true, .help = "Its way out."},
    {.name = "mtu", .type = ARG_NUMBER, .help = "The largest packet."},
    {.name = "announce", .type = ARG_BOOL, .help = "Tell the neighbours."},
};
static const struct verb set_address = {
    .name = "set_address",
    .help = "Gives a machine an address.",
    .args = address_args,
    .arg_count = ARRAY_LEN(address_args),
    .effect = EFFECT_REVERSIBLE,
};

static const struct verb_arg wipe_args[] = {
    {.type = ARG_TEXT, .required = true, .help = "What to wipe."},
};
static const struct verb wipe = {
    .name = "wipe",
    .help = "Destroys something.",
    .args = wipe_args,
    .arg_count = ARRAY_LEN(wipe_args),
    .effect = EFFECT_DESTRUCTIVE,
};

const struct plan_world *plan_world_for_test(void)
{
    static const char *const machines[] = {"db1", "web1", "web2", NULL};
    static const char *const sites[] = {"lyon", "paris", NULL};
    static const struct verb *verbs[64];
    static struct plan_world world;
    size_t count;
    const struct verb *const *real = verb_all(&count);

    assert(count + 2 <= ARRAY_LEN(verbs));
    for (size_t i = 0; i < count; i++)
        verbs[i] = real[i];
    verbs[count++] = &set_address;
    verbs[count++] = &wipe;
    world = (struct plan_world){verbs, count, machines, sites, "lyon", RUN_TEST, NULL};
    return &world;
}
