// SPDX-License-Identifier: Apache-2.0
/* Adopting a machine: the provider looks at it on a pool thread and changes nothing; when nothing
 * stands in the way it is kept like any other, and wanted running, so that the daemon looks at it
 * each second and takes care that its process outlives its guest. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "providers/provider.h"
#include "sites/estate.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>

#define ADOPT_MS 30000
#define CARE_MS  10000

const struct api_field api_adopt_fields[] = {
    {"qmp", API_TEXT, true, "the socket of its QMP monitor, as QEMU was given it by -qmp unix:"},
    {"agent", API_TEXT, false, "the socket of its guest agent's port; found out"},
    {"definition", API_OBJECT, false,
     "the machine as a Lua file describes it, to be checked against what runs; learned"},
    {0},
};

json_t *api_lines(const char *text)
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

/* --- Who has what already ------------------------------------------------------------------- */

int api_machine_check_new(const struct api_world *world, const char *name, struct err *err)
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
    if (state_protection_of(world->state, name, &protection, err) == 0)
        return err_set(err, ERR_EXISTS, 0,
                       "this site has a protection called %s, with %s%s%s; hint: give the machine "
                       "another name",
                       name, protection.peer,
                       str_eq(protection.group, name) ? "" : ", in the group ",
                       str_eq(protection.group, name) ? "" : protection.group);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

/* The definitions of all machines of this site. */
static int known_machines(const struct api_world *world, json_t **ret_known, struct err *err)
{
    CLEANUP(state_machines_done) struct state_machines rows = VEC_EMPTY;
    json_t *known = json_array();

    if (state_machine_list(world->state, &rows, err) < 0) {
        json_decref(known);
        return -1;
    }
    VEC_FOREACH(row, &rows) {
        json_t *json = NULL;
        struct err ignored = ERR_EMPTY;

        if (json_parse(row->definition, strlen(row->definition), &json, &ignored) == 0)
            (void)json_array_append_new(known, json);
    }
    *ret_known = known;
    return 0;
}

static int check_monitor(const char *qmp, const json_t *known, struct err *err)
{
    for (size_t i = 0; i < json_array_size(known); i++) {
        const json_t *machine = json_array_get(known, i);

        if (str_eq(json_get_str(machine, "qmp", NULL), qmp))
            return err_set(err, ERR_EXISTS, 0, "the machine at %s was adopted already, as %s", qmp,
                           json_get_str(machine, "name", "?"));
    }
    return 0;
}

/* A disk that two machines have would be replicated, and brought up, twice. */
static void check_disks(const struct machine *machine, const json_t *known, struct str *problems)
{
    for (size_t i = 0; i < json_array_size(known); i++) {
        const json_t *other = json_array_get(known, i);
        const json_t *disk;
        size_t k;

        json_array_foreach(json_object_get(other, "disks"), k, disk)
            VEC_FOREACH(own, &machine->disks)
                if (str_eq(own->path, json_get_str(disk, "path", "")))
                    str_addf(problems, "disk %s belongs to the machine %s, which is known here\n",
                             own->path, json_get_str(other, "name", "?"));
    }
}

/* --- Looking -------------------------------------------------------------------------------- */

/* The one name of a socket, whatever links lead there. */
static int real_path(const char *what, const char *path, char **ret_path, struct err *err)
{
    if (path[0] != '/')
        return err_set(err, ERR_INVALID, 0, "%s: '%s' must be an absolute path", what, path);
    *ret_path = realpath(path, NULL);
    if (*ret_path)
        return 0;
    return err_set(err,
                   errno == ENOENT   ? ERR_NOT_FOUND
                   : errno == EACCES ? ERR_DENIED
                                     : ERR_IO,
                   errno, "%s %s", what, path);
}

/* Monitors of machines that Muster itself runs lie in its own folder. */
static int check_not_ours(struct estate *estate, const char *qmp, struct err *err)
{
    CLEANUP(mem_freep) char *machines = estate_machine_dir(estate, "");
    CLEANUP(mem_freep)
    char *instances = mem_printf("%.*s", (int)(strlen(machines) - strlen("machines/")), machines);
    CLEANUP(mem_freep) char *real = realpath(instances, NULL);

    if (real && str_starts(qmp, real) && qmp[strlen(real)] == '/')
        return err_set(err, ERR_STATE, 0,
                       "%s is the monitor of a machine that Muster runs; hint: `muster machine "
                       "list` shows them",
                       qmp);
    return 0;
}

static int look(struct provider *provider, const struct provider_adoption *what,
                const json_t *known, json_t **ret_out, struct cancel *cancel, struct err *err)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};

    if (!provider->adopt)
        return err_set(err, ERR_UNSUPPORTED, 0, "provider %s adopts no machines", provider->name);
    machine_init(&adopted.machine);
    if (provider->adopt(provider, what, &adopted, cancel, err) < 0)
        return -1;
    check_disks(&adopted.machine, known, &adopted.problems);
    *ret_out = json_pack(
        "{s:s, s:b, s:o, s:o, s:o}", "name", what->name, "adopted", adopted.problems.len == 0,
        "problems", api_lines(str_text(&adopted.problems)), "notes",
        api_lines(str_text(&adopted.notes)), "definition", machine_to_json(&adopted.machine));
    return 0;
}

static int adopt_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    const char *agent_given = json_get_str(in, "agent", "");
    const json_t *definition = json_object_get(in, "definition");
    CLEANUP(machine_done) struct machine given;
    CLEANUP(mem_freep) char *qmp = NULL;
    CLEANUP(mem_freep) char *agent = NULL;

    machine_init(&given);
    if (definition && machine_from_json(definition, &given, err) < 0)
        return -1;
    if (real_path("monitor", json_get_str(in, "qmp", ""), &qmp, err) < 0
        || (agent_given[0] && real_path("agent", agent_given, &agent, err) < 0)
        || check_monitor(qmp, json_object_get(in, "known"), err) < 0
        || check_not_ours(world->estate, qmp, err) < 0)
        return -1;
    const struct provider_adoption what = {.name = json_get_str(in, "name", ""),
                                           .qmp = qmp,
                                           .agent = agent ? agent : "",
                                           .given = definition ? &given : NULL};
    return look(estate_provider(world->estate), &what, json_object_get(in, "known"), ret_out,
                cancel, err);
}

/* --- Taking care ---------------------------------------------------------------------------- */

/* The first look makes sure that its process outlives its guest: from when we say that it is adopted. */
static int care_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *out = json_deep_copy(in);
    struct err why = ERR_EMPTY;

    (void)err;
    if (api_ask_here(world, "machine.observe",
                     json_pack("{s:s}", "machine", json_get_str(in, "name", "")), NULL, cancel,
                     &why)
        < 0)
        (void)json_array_append_new(json_object_get(out, "notes"), json_string(why.text));
    *ret_out = TAKE(out);
    return 0;
}

/* --- Keeping -------------------------------------------------------------------------------- */

static int adopt_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                        struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const json_t *definition = json_object_get(out, "definition");
    CLEANUP(json_freep) json_t *known = NULL;
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(mem_freep) char *text = json_text(definition);
    char host[] = "";

    (void)in;
    machine_init(&machine);
    if (!json_get_bool(out, "adopted", false)) {
        *ret_reply = json_incref(out);
        return 0;
    }
    /* Asked again: two may have been adopted at once. */
    if (machine_from_json(definition, &machine, err) < 0
        || api_machine_check_new(world, machine.name, err) < 0
        || known_machines(world, &known, err) < 0 || check_monitor(machine.qmp, known, err) < 0)
        return -1;
    const struct state_machine row = {
        .name = machine.name,
        .host = host,
        .definition = text,
        .wanted_running = true,
        .added_ms = world->clock->wall_ms(world->clock),
    };
    if (state_machine_put(world->state, &row, err) < 0
        || api_audit(req, "machine.adopt", machine.name, text, err) < 0)
        return -1;
    estate_machine_put(world->estate, &machine);
    return api_defer(req, json_incref(out), CARE_MS, care_work, NULL);
}

int api_adopt_machine(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    const json_t *definition = json_object_get(api_in(req), "definition");
    CLEANUP(json_freep) json_t *in = NULL;
    json_t *known;

    (void)ret_reply;
    if (api_machine_check_new(api_world_of(req), name, err) < 0)
        return -1;
    if (definition && !str_eq(json_get_str(definition, "name", name), name))
        return err_set(err, ERR_INVALID, 0, "the definition is of %s, not of %s",
                       json_get_str(definition, "name", name), name);
    if (definition && json_object_get(definition, "qmp"))
        return err_set(err, ERR_INVALID, 0,
                       "%s: 'qmp' does not stand in the definition; it is given beside it", name);
    if (known_machines(api_world_of(req), &known, err) < 0)
        return -1;
    in = json_deep_copy(api_in(req));
    (void)json_object_set_new(in, "name", json_string(name));
    (void)json_object_set_new(in, "known", known);
    return api_defer(req, TAKE(in), ADOPT_MS, adopt_work, adopt_finish);
}
