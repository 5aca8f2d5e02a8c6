// SPDX-License-Identifier: Apache-2.0
/* Keeping a recovered machine as an ordinary one: its files first, on a pool thread; then its rows, at once.
 * Cut anywhere, it is asked for again. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "providers/machine.h"
#include "sites/estate.h"
#include "state/state.h"

#define KEEP_MS 60000

static int keep_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    json_t *args = json_deep_copy(in);

    return api_ask_here(world, "instance.keep", args, ret_out, cancel, err);
}

static int find(const struct api_world *world, const char *name, json_t **ret_in, struct err *err)
{
    CLEANUP(state_instance_done) struct state_instance recovered = {0};
    CLEANUP(json_freep) json_t *definition = NULL;

    if (state_instance_recovered(world->state, name, &recovered, err) < 0
        || json_parse(recovered.definition, strlen(recovered.definition), &definition, err) < 0)
        return -1;
    *ret_in = json_pack("{s:s, s:O}", "run", recovered.run, "definition", definition);
    return 0;
}

static int check_unprotected(const struct api_world *world, const char *name, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_of(world->state, name, &row, err) == 0)
        return err_set(err, ERR_STATE, 0,
                       "%s is shared with %s (%s): it can go back there; hint: is that site gone "
                       "for good, `muster unprotect %s --force` ends that first",
                       name, row.peer, row.state, name);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

/* `ret_in`: what the work below takes. */
static int check(const struct api_world *world, const char *name, json_t **ret_in, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine own = {0};

    if (state_machine_get(world->state, name, &own, err) == 0)
        return err_set(err, ERR_EXISTS, 0, "%s is an ordinary machine of this site already", name);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return find(world, name, ret_in, err) < 0 ? -1 : check_unprotected(world, name, err);
}

int api_may_keep(const struct api_world *world, const char *name, struct err *err)
{
    CLEANUP(json_freep) json_t *in = NULL;

    return check(world, name, &in, err);
}

static int keep_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                       struct err *err)
{
    const struct api_world *world = api_world_of(req);
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(json_freep) json_t *again = NULL;
    CLEANUP(mem_freep) char *text = json_text(json_object_get(out, "definition"));
    char host[] = "";

    machine_init(&machine);
    if (machine_from_json(json_object_get(out, "definition"), &machine, err) < 0)
        return -1;
    const struct state_machine row = {
        .name = machine.name,
        .host = host,
        .definition = text,
        .added_ms = world->clock->wall_ms(world->clock),
    };
    /* Asked again: two may have asked for it at once. */
    if (check(world, machine.name, &again, err) < 0
        || state_instance_remove(world->state, json_get_str(in, "run", ""), machine.name, err) < 0
        || state_machine_put(world->state, &row, err) < 0
        || api_audit(req, "machine.keep", machine.name, text, err) < 0)
        return -1;
    estate_machine_put(world->estate, &machine);
    *ret_reply = json_pack("{s:s, s:O}", "name", machine.name, "definition",
                           json_object_get(out, "definition"));
    return 0;
}

int api_keep_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(json_freep) json_t *in = NULL;

    (void)ret_reply;
    if (check(api_world_of(req), api_param(req, "name"), &in, err) < 0)
        return -1;
    return api_defer(req, TAKE(in), KEEP_MS, keep_work, keep_finish);
}
