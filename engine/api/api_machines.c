// SPDX-License-Identifier: Apache-2.0
/* A machine is added after its provider looked at it: what would stop a start is said now, not in
 * the disaster. States are observed when asked for, never remembered. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "providers/machine.h"
#include "providers/provider.h"
#include "sites/estate.h"
#include "state/state.h"

#include <inttypes.h>

#define OBSERVE_MS   10000
#define START_MS     120000
#define SHUTDOWN_MS  120000
#define SHUTDOWN_MAX 3600000
#define STOP_MS      60000

/* --- Listing ------------------------------------------------------------------------------- */

static void observe(const struct api_world *world, const char *what, json_t *args, json_t *entry,
                    struct cancel *cancel)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    struct err err = ERR_EMPTY;
    const char *state = "unknown";

    if (api_ask_here(world, what, args, &answer, cancel, &err) < 0)
        (void)json_object_set_new(entry, "error", json_string(err.text));
    else
        state = json_get_str(answer, "state", state);
    (void)json_object_set_new(entry, "state", json_string(state));
}

/* Adds the state to every entry; `in` is the list made on the loop. */
static int observe_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                        struct cancel *cancel, struct err *err)
{
    json_t *out = json_deep_copy(in);
    json_t *entry;
    size_t i;

    (void)err;
    json_array_foreach(json_object_get(out, "machines"), i, entry) {
        const char *name = json_get_str(entry, "name", "");

        if (json_get_bool(entry, "recovered", false))
            observe(world, "instance.observe",
                    json_pack("{s:s, s:s, s:b}", "machine", name, "run",
                              json_get_str(entry, "run", ""), "test",
                              json_get_bool(entry, "test", false)),
                    entry, cancel);
        else
            observe(world, "machine.observe", json_pack("{s:s}", "machine", name), entry, cancel);
    }
    *ret_out = out;
    return 0;
}

static json_t *definition_of(const char *text)
{
    struct err ignored = ERR_EMPTY;
    json_t *json = NULL;

    if (json_parse(text, strlen(text), &json, &ignored) < 0)
        json = json_object();
    return json;
}

static json_t *own_entry(const struct state_machine *machine)
{
    return json_pack("{s:s, s:b, s:b, s:I, s:o}", "name", machine->name, "recovered", false,
                     "wanted_running", machine->wanted_running, "added_ms",
                     (json_int_t)machine->added_ms, "definition",
                     definition_of(machine->definition));
}

static json_t *recovered_entry(const struct state_instance *instance)
{
    return json_pack("{s:s, s:b, s:b, s:s, s:s, s:I, s:o}", "name", instance->machine, "recovered",
                     true, "test", instance->test, "run", instance->run, "run_dir",
                     instance->run_dir, "from_point", (json_int_t)instance->point, "definition",
                     definition_of(instance->definition));
}

/* Own machines first, then recovered ones; only `name` unless NULL. */
static int entries(const struct api_world *world, const char *name, json_t **ret_list,
                   struct err *err)
{
    struct state_machines machines = VEC_EMPTY;
    struct state_instances instances = VEC_EMPTY;
    json_t *list;

    if (state_machine_list(world->state, &machines, err) < 0)
        return -1;
    if (state_instance_list(world->state, &instances, err) < 0) {
        state_machines_done(&machines);
        return -1;
    }
    list = json_array();
    VEC_FOREACH(machine, &machines)
        if (!name || str_eq(name, machine->name))
            (void)json_array_append_new(list, own_entry(machine));
    VEC_FOREACH(instance, &instances)
        if (!name || str_eq(name, instance->machine))
            (void)json_array_append_new(list, recovered_entry(instance));
    state_machines_done(&machines);
    state_instances_done(&instances);
    *ret_list = list;
    return 0;
}

static int list_machines(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *list;

    (void)ret_reply;
    if (entries(api_world_of(req), NULL, &list, err) < 0)
        return -1;
    return api_defer(req, json_pack("{s:o}", "machines", list), OBSERVE_MS, observe_work, NULL);
}

/* ERR_NOT_FOUND, with the nearest name there is. */
static int no_machine(const struct api_request *req, const char *name, struct err *err)
{
    struct machine machine;

    machine_init(&machine);
    if (estate_machine_get(api_world_of(req)->estate, name, &machine, err) < 0)
        return -1;
    machine_done(&machine);
    return err_set(err, ERR_NOT_FOUND, 0, "machine %s is being added or removed", name);
}

static int show_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                       struct err *err)
{
    (void)req;
    (void)in;
    (void)err;
    *ret_reply = json_incref(json_array_get(json_object_get(out, "machines"), 0));
    return 0;
}

static int show_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    json_t *list;

    (void)ret_reply;
    if (entries(api_world_of(req), name, &list, err) < 0)
        return -1;
    if (json_array_size(list) == 0) {
        json_decref(list);
        return no_machine(req, name, err);
    }
    return api_defer(req, json_pack("{s:o}", "machines", list), OBSERVE_MS, observe_work,
                     show_finish);
}

/* --- Adding and removing ------------------------------------------------------------------- */

static int check_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(world->estate);
    CLEANUP(str_free) struct str problems = STR_EMPTY;
    CLEANUP(machine_done) struct machine machine;

    (void)cancel;
    machine_init(&machine);
    if (machine_from_json(json_object_get(in, "definition"), &machine, err) < 0
        || provider->check(provider, &machine, &problems, err) < 0)
        return -1;
    *ret_out = json_pack("{s:s}", "problems", str_text(&problems));
    return 0;
}

static json_t *lines_of(const char *text)
{
    json_t *list = json_array();

    while (*text) {
        size_t len = strcspn(text, "\n");

        if (len)
            (void)json_array_append_new(list, json_stringn(text, len));
        text += len + (text[len] == '\n');
    }
    return list;
}

static int add_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                      struct err *err)
{
    const struct api_world *world = api_world_of(req);
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(json_freep) json_t *definition = NULL;
    CLEANUP(mem_freep) char *text = NULL;
    char host[] = "";

    machine_init(&machine);
    if (machine_from_json(json_object_get(in, "definition"), &machine, err) < 0)
        return -1;
    definition = machine_to_json(&machine);
    text = json_text(definition);
    const struct state_machine row = {
        .name = machine.name,
        .host = host,
        .definition = text,
        .added_ms = world->clock->wall_ms(world->clock),
    };
    if (state_machine_put(world->state, &row, err) < 0
        || api_audit(req, "machine.add", machine.name, text, err) < 0)
        return -1;
    estate_machine_put(world->estate, &machine);
    *ret_reply = json_pack("{s:s, s:o}", "name", machine.name, "warnings",
                           lines_of(json_get_str(out, "problems", "")));
    return 0;
}

/* Nobody else has that name here: neither a machine nor what is kept for a peer. */
static int check_new(const struct api_world *world, const char *name, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine known = {0};
    CLEANUP(state_protection_done) struct state_protection protection = {0};

    if (state_machine_get(world->state, name, &known, err) == 0)
        return err_set(err, ERR_EXISTS, 0,
                       "machine %s is there already; hint: `muster machine remove %s` first", name,
                       name);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    if (state_protection_get(world->state, name, &protection, err) == 0)
        return err_set(err, ERR_EXISTS, 0,
                       "this site has a protection called %s, with %s; hint: give the machine "
                       "another name",
                       name, protection.peer);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

static int add_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const json_t *definition = json_object_get(api_in(req), "definition");
    CLEANUP(machine_done) struct machine machine;

    (void)ret_reply;
    machine_init(&machine);
    if (machine_from_json(definition, &machine, err) < 0
        || check_new(api_world_of(req), machine.name, err) < 0)
        return -1;
    return api_defer(req, json_deep_copy(api_in(req)), OBSERVE_MS, check_work, add_finish);
}

static int state_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    return api_ask_here(world, "machine.observe",
                        json_pack("{s:s}", "machine", json_get_str(in, "name", "")), ret_out,
                        cancel, err);
}

static int remove_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                         struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *name = json_get_str(in, "name", "");
    const char *state = json_get_str(out, "state", "unknown");

    (void)ret_reply;
    if (!str_eq(state, instance_state_name(INSTANCE_OFF)))
        return err_set(err, ERR_STATE, 0, "machine %s is %s; hint: `muster machine stop %s` first",
                       name, state, name);
    if (state_machine_remove(world->state, name, err) < 0
        || api_audit(req, "machine.remove", name, NULL, err) < 0)
        return -1;
    estate_machine_remove(world->estate, name);
    return 0;
}

static int get_own(struct api_request *req, const char *name, struct state_machine *ret_machine,
                   struct err *err)
{
    struct state_instances instances = VEC_EMPTY;

    if (state_machine_get(api_world_of(req)->state, name, ret_machine, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND
        || state_instance_list(api_world_of(req)->state, &instances, err) < 0)
        return -1;
    err_put(err, ERR_NOT_FOUND, 0, "no machine %s", name);
    (void)no_machine(req, name, err);
    VEC_FOREACH(instance, &instances)
        if (str_eq(instance->machine, name))
            err_put(err, ERR_STATE, 0, "%s runs here as a recovered machine of run %s; hint: %s",
                    name, instance->run,
                    instance->test ? "`muster cleanup` ends a test"
                                   : "its own site has its definition");
    state_instances_done(&instances);
    return -1;
}

static int remove_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    CLEANUP(state_protection_done) struct state_protection protection = {0};

    (void)ret_reply;
    if (get_own(req, name, &machine, err) < 0)
        return -1;
    if (state_protection_get(api_world_of(req)->state, name, &protection, err) == 0)
        return err_set(err, ERR_STATE, 0,
                       "machine %s is protected to %s; hint: `muster unprotect %s` first", name,
                       protection.peer, name);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    return api_defer(req, json_pack("{s:s}", "name", name), OBSERVE_MS, state_work, remove_finish);
}

/* --- Starting and stopping ----------------------------------------------------------------- */

static int start_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    const char *name = json_get_str(in, "name", "");

    (void)ret_out;
    if (estate_may_start(world->estate, name, err) < 0)
        return -1;
    return api_ask_here(world, "machine.start", json_pack("{s:s, s:s}", "machine", name, "run", ""),
                        NULL, cancel, err);
}

static int stop_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    const char *name = json_get_str(in, "name", "");
    bool force = json_get_bool(in, "force", false);
    uint64_t within_ms = json_get_u64(in, "within_ms", SHUTDOWN_MS);

    (void)ret_out;
    if (!force
        && api_ask_here(
               world, "machine.shutdown",
               json_pack("{s:s, s:I}", "machine", name, "within_ms", (json_int_t)within_ms), NULL,
               cancel, err)
               < 0) {
        if (err->code == ERR_TIMEOUT && !strstr(err->text, "; hint: "))
            return err_set(err, ERR_TIMEOUT, 0,
                           "the guest of %s did not shut down within %" PRIu64
                           " s; hint: `muster machine stop %s --force` ends it like a power cut",
                           name, within_ms / 1000, name);
        return -1;
    }
    return api_ask_here(world, "machine.stop", json_pack("{s:s}", "machine", name), NULL, cancel,
                        err);
}

/* What a person wants is kept once it is so. */
static int want(struct api_request *req, const json_t *in, bool running, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *name = json_get_str(in, "name", "");
    CLEANUP(state_machine_done) struct state_machine machine = {0};

    if (state_machine_get(world->state, name, &machine, err) < 0)
        return -1;
    machine.wanted_running = running;
    if (state_machine_put(world->state, &machine, err) < 0)
        return -1;
    return api_audit(req, running ? "machine.start" : "machine.stop", name,
                     json_get_bool(in, "force", false) ? "force" : NULL, err);
}

static int start_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                        struct err *err)
{
    (void)out;
    (void)ret_reply;
    return want(req, in, true, err);
}

static int stop_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                       struct err *err)
{
    (void)out;
    (void)ret_reply;
    return want(req, in, false, err);
}

static int start_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine machine = {0};

    (void)ret_reply;
    if (get_own(req, api_param(req, "name"), &machine, err) < 0)
        return -1;
    return api_defer(req, json_pack("{s:s}", "name", machine.name), START_MS, start_work,
                     start_finish);
}

static int stop_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    uint64_t within_ms = json_get_u64(api_in(req), "within_ms", SHUTDOWN_MS);
    json_t *in;

    (void)ret_reply;
    if (within_ms > SHUTDOWN_MAX)
        return err_set(err, ERR_INVALID, 0, "within_ms is %" PRIu64 ", the most is %d", within_ms,
                       SHUTDOWN_MAX);
    if (get_own(req, api_param(req, "name"), &machine, err) < 0)
        return -1;
    in = json_pack("{s:s, s:b, s:I}", "name", machine.name, "force",
                   json_get_bool(api_in(req), "force", false), "within_ms", (json_int_t)within_ms);
    return api_defer(req, in, (int64_t)within_ms + STOP_MS, stop_work, stop_finish);
}

const struct api_route *api_routes_machines(void)
{
    static const struct api_field add_fields[] = {
        {"definition", API_OBJECT, true, "the machine as its Lua file describes it"},
        {0},
    };
    static const struct api_field stop_fields[] = {
        {"force", API_BOOL, false, "end it like a power cut, without asking the guest"},
        {"within_ms", API_NUMBER, false, "how long the guest may take to shut down; 120000"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/machines", list_machines, "Lists machines with their observed state.",
         "`{machines: [{name, state, recovered, wanted_running, added_ms, definition}]}`; a "
         "recovered one has `test`, `run`, `run_dir` and `from_point`; state is `off`, `running`, "
         "`paused`, `shutdown`, `io-error` or `unknown` (with `error`)",
         NULL},
        {"POST", "/v1/machines", add_machine, "Adds a machine.",
         "`{name, warnings: [text]}`: what would stop a start", add_fields},
        {"GET", "/v1/machines/{name}", show_machine, "Shows a machine.", "as an entry of the list",
         NULL},
        {"DELETE", "/v1/machines/{name}", remove_machine,
         "Forgets a machine that is off and not protected; its disks stay.", "`{}`", NULL},
        {"POST", "/v1/machines/{name}/start", start_machine,
         "Starts a machine; refused when its group was failed over to another site.", "`{}`", NULL},
        {"POST", "/v1/machines/{name}/stop", stop_machine,
         "Shuts the guest down, then ends the machine.", "`{}`", stop_fields},
        {0},
    };

    return routes;
}
