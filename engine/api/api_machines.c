// SPDX-License-Identifier: Apache-2.0
/* A machine is added after its provider looked at it: what would stop a start is said now, not in
 * the disaster. States are observed when asked for, never remembered. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "providers/machine.h"
#include "providers/provider.h"
#include "run/job.h"
#include "sites/estate.h"
#include "state/state.h"

#include <inttypes.h>

#define OBSERVE_MS  10000
#define START_MS    120000
#define SHUTDOWN_MS 120000
#define STOP_MS     60000
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

/* It came back to its own disks: it is the machine of that name, once more. */
static bool is_own(struct estate *estate, const struct state_instance *instance)
{
    CLEANUP(mem_freep) char *dir = estate_machine_dir(estate, instance->machine);

    return str_eq(instance->run_dir, dir);
}

/* Own machines first, then recovered ones, tests last; only `name` unless NULL. */
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
    for (int test = 0; test <= 1; test++) /* of one name the real one first */
        VEC_FOREACH(instance, &instances)
            if (instance->test == (test == 1) && (!name || str_eq(name, instance->machine))
                && !is_own(world->estate, instance))
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
                           api_lines(json_get_str(out, "problems", "")));
    return 0;
}

static int add_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const json_t *definition = json_object_get(api_in(req), "definition");
    CLEANUP(machine_done) struct machine machine;

    (void)ret_reply;
    machine_init(&machine);
    if (machine_from_json(definition, &machine, err) < 0
        || api_machine_check_new(api_world_of(req), machine.name, err) < 0)
        return -1;
    if (machine.qmp[0])
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'qmp' is not for a machine that Muster starts; hint: `muster machine "
                       "adopt %s --qmp %s` takes over one that runs",
                       machine.name, machine.name, machine.qmp);
    return api_defer(req, json_deep_copy(api_in(req)), OBSERVE_MS, check_work, add_finish);
}

static int state_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    return api_ask_here(world, "machine.observe",
                        json_pack("{s:s}", "machine", json_get_str(in, "name", "")), ret_out,
                        cancel, err);
}

/* One that was adopted goes back to its owner and runs on; if Muster started it, it is off first. */
static int release_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                        struct cancel *cancel, struct err *err)
{
    if (api_ask_here(world, "machine.release",
                     json_pack("{s:s}", "machine", json_get_str(in, "name", "")), NULL, cancel, err)
        < 0)
        return -1;
    *ret_out = json_pack("{s:s}", "state", instance_state_name(INSTANCE_OFF));
    return 0;
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
        || estate_mark_clear(world->estate, name, err) < 0
        || api_audit(req, "machine.remove", name, NULL, err) < 0)
        return -1;
    estate_machine_remove(world->estate, name);
    return 0;
}

/* The failed-over machine of that name: its run's name, or "". ERR_STATE: only a test's. */
static int recovered_run(struct api_request *req, const char *name, char *ret_run, size_t len,
                         struct err *err)
{
    struct state_instances instances = VEC_EMPTY;
    char test[NAME_MAX_BYTES] = "";

    if (state_instance_list(api_world_of(req)->state, &instances, err) < 0)
        return -1;
    ret_run[0] = '\0';
    VEC_FOREACH(instance, &instances)
        if (str_eq(instance->machine, name))
            (void)snprintf(instance->test ? test : ret_run, instance->test ? sizeof(test) : len,
                           "%s", instance->run);
    state_instances_done(&instances);
    if (!ret_run[0] && test[0])
        return err_set(err, ERR_STATE, 0,
                       "%s is here only as the test %s; hint: `muster cleanup` ends the test, "
                       "a new one starts from a point again",
                       name, test);
    return 0;
}

/* The machine to start or stop, as the work below takes it: our own one, or one failed over to
 * here. */
static int find_target(struct api_request *req, json_t **ret_in, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    char run[NAME_MAX_BYTES] = "";

    if (state_machine_get(api_world_of(req)->state, name, &machine, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        if (recovered_run(req, name, run, sizeof(run), err) < 0)
            return -1;
        if (!run[0])
            return no_machine(req, name, err);
    }
    *ret_in = json_pack("{s:s, s:s}", "name", name, "run", run);
    return 0;
}

static int remove_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection protection = {0};
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(json_freep) json_t *in = NULL;

    (void)ret_reply;
    machine_init(&machine);
    if (find_target(req, &in, err) < 0)
        return -1;
    if (*json_get_str(in, "run", ""))
        return err_set(err, ERR_STATE, 0,
                       "%s was failed over to here by %s; hint: `muster machine stop %s` ends it",
                       name, json_get_str(in, "run", ""), name);
    if (state_protection_of(api_world_of(req)->state, name, &protection, err) == 0)
        return err_set(err, ERR_STATE, 0,
                       "machine %s is protected to %s%s%s; hint: `muster unprotect %s` first", name,
                       protection.peer,
                       str_eq(protection.group, name) ? "" : ", with the others of the group ",
                       str_eq(protection.group, name) ? "" : protection.group, protection.group);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    bool adopted =
        estate_machine_get(api_world_of(req)->estate, name, &machine, err) == 0 && machine.qmp[0];
    return api_defer(req, TAKE(in), OBSERVE_MS, adopted ? release_work : state_work, remove_finish);
}

/* --- Starting and stopping ----------------------------------------------------------------- */

/* What is asked of the machine: `{name, run, force, within_ms, without_peer}`, run "" for one of our own. */
static int tell_machine(const struct api_world *world, const json_t *in, const char *verb,
                        struct cancel *cancel, struct err *err)
{
    const char *run = json_get_str(in, "run", "");
    CLEANUP(mem_freep) char *what = mem_printf("%s.%s", *run ? "instance" : "machine", verb);

    return api_ask_here(world, what,
                        json_pack("{s:s, s:s, s:I, s:b}", "machine", json_get_str(in, "name", ""),
                                  "run", run, "within_ms",
                                  (json_int_t)json_get_u64(in, "within_ms", SHUTDOWN_MS),
                                  "without_peer", json_get_bool(in, "without_peer", false)),
                        NULL, cancel, err);
}

static int start_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    (void)ret_out;
    return tell_machine(world, in, "start", cancel, err);
}

static int stop_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    const char *name = json_get_str(in, "name", "");
    uint64_t within_ms = json_get_u64(in, "within_ms", SHUTDOWN_MS);

    (void)ret_out;
    if (!json_get_bool(in, "force", false)
        && tell_machine(world, in, "shutdown", cancel, err) < 0) {
        if (err->code == ERR_TIMEOUT && !strstr(err->text, "; hint: "))
            return err_set(err, ERR_TIMEOUT, 0,
                           "the guest of %s did not shut down within %" PRIu64
                           " s; hint: `muster machine stop %s --force` ends it like a power cut",
                           name, within_ms / 1000, name);
        return -1;
    }
    return tell_machine(world, in, "stop", cancel, err);
}

/* What a person wants of our own machine is kept once it is so; a recovered one is never started by
 * itself. */
static int want(struct api_request *req, const json_t *in, bool running, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *name = json_get_str(in, "name", "");
    CLEANUP(state_machine_done) struct state_machine machine = {0};

    if (!*json_get_str(in, "run", "")) {
        if (state_machine_get(world->state, name, &machine, err) < 0)
            return -1;
        machine.wanted_running = running;
        if (state_machine_put(world->state, &machine, err) < 0)
            return -1;
    }
    return api_audit(req, running ? "machine.start" : "machine.stop", name,
                     json_get_bool(in, "force", false)          ? "force"
                     : json_get_bool(in, "without_peer", false) ? "without-peer"
                                                                : NULL,
                     err);
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
    json_t *in;

    (void)ret_reply;
    if (find_target(req, &in, err) < 0)
        return -1;
    (void)json_object_update(in, (json_t *)(uintptr_t)api_in(req)); /* without_peer */
    return api_defer(req, in, START_MS, start_work, start_finish);
}

static int stop_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    uint64_t within_ms = json_get_u64(api_in(req), "within_ms", SHUTDOWN_MS);
    bool force = json_get_bool(api_in(req), "force", false);
    json_t *in;

    (void)ret_reply;
    if (within_ms > SITE_WITHIN_MAX_MS)
        return err_set(err, ERR_INVALID, 0, "within_ms is %" PRIu64 ", the most is %d", within_ms,
                       SITE_WITHIN_MAX_MS);
    if (find_target(req, &in, err) < 0)
        return -1;
    (void)json_object_set_new(in, "force", json_boolean(force));
    (void)json_object_set_new(in, "within_ms", json_integer((json_int_t)within_ms));
    return api_defer(req, in, (int64_t)within_ms + STOP_MS, stop_work, stop_finish);
}

static int stream_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    int64_t job;

    if (jobs_stream(api_world_of(req)->jobs, name, api_who(req), &job, err) < 0)
        return -1;
    if (job == 0)
        return err_set(err, ERR_STATE, 0, "%s was not recovered here: its disks are its own", name);
    if (api_audit(req, "machine.stream", name, NULL, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

const struct api_route *api_routes_machines(void)
{
    static const struct api_field add_fields[] = {
        {"definition", API_OBJECT, true, "the machine as its Lua file describes it"},
        {0},
    };
    static const struct api_field start_fields[] = {
        {"without_peer", API_BOOL, false,
         "after an unclean start of the host: do not wait until the peer answers"},
        {0},
    };
    static const struct api_field stop_fields[] = {
        {"force", API_BOOL, false, "end it like a power cut, without asking the guest"},
        {"within_ms", API_NUMBER, false,
         "how long the guest may take to shut down, at most 3600000; 120000"},
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
         "Forgets a machine that is off and not protected; its disks stay. One that was adopted need "
         "not be off: it runs on as before.",
         "`{}`", NULL},
        {"POST", "/v1/machines/{name}/adopt", api_adopt_machine,
         "Takes a running QEMU machine that somebody else started under Muster's care, by its "
         "monitor, without restarting it. Its definition is learned, or the given one checked.",
         "`{name, adopted, problems: [text], notes: [text], definition}`; with problems nothing "
         "was changed; notes say what a recovered one will not have",
         api_adopt_fields},
        {"POST", "/v1/machines/{name}/start", start_machine,
         "Starts a machine, also one that was failed over to here, as it was; refused when its group "
         "was failed over to another site, and for a test.",
         "`{}`", start_fields},
        {"POST", "/v1/machines/{name}/stop", stop_machine,
         "Shuts the guest down, then ends the machine; one that was failed over to here keeps its "
         "disks.",
         "`{}`", stop_fields},
        {"POST", "/v1/machines/{name}/keep", api_keep_machine,
         "Makes a recovered machine an ordinary one of this site: it is off, its disks are its own, and it "
         "is not protected any more.",
         "`{name, definition}`", NULL},
        {"POST", "/v1/machines/{name}/stream", stream_machine,
         "Gives a recovered machine disks of its own, while it works.", "`{job}`", NULL},
        {0},
    };

    return routes;
}
