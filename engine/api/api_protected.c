// SPDX-License-Identifier: Apache-2.0
/* Protections and their points, as they are shown. */
#include "api/api_protected.h"

#include "api/api_status.h"
#include "base/mem.h"
#include "run/policies.h"
#include "sites/estate.h"

#define OBSERVE_MS 10000

/* --- Listing ------------------------------------------------------------------------------- */

static int row_entry(const struct state_protection *row, json_t **ret_entry, struct err *err)
{
    struct job_settings settings;
    struct machine_names machines;

    if (job_settings_parse(row->settings, &settings, err) < 0
        || job_machines(row, &machines, err) < 0)
        return err_wrap(err, "protection %s", row->group);
    *ret_entry = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "name", row->group, "role",
                           row->role, "peer", row->peer, "state", row->state, "since_ms",
                           (json_int_t)row->since_ms, "generation", (json_int_t)row->generation,
                           "recreated_ms", (json_int_t)settings.recreated_ms);
    job_settings_put(&settings, *ret_entry);
    (void)json_object_set_new(*ret_entry, "machines", machine_names_json(&machines));
    (void)json_object_set_new(*ret_entry, "networks", job_networks_get(row->settings));
    (void)json_object_set_new(*ret_entry, "rpo_target_ms",
                              json_integer((json_int_t)policy_rpo_ms(&settings.policy)));
    return 0;
}

/* When the run of that name ("lyon-7") was declared; 0: its row is not here. */
static int64_t run_since(const struct api_world *world, const char *run)
{
    CLEANUP(state_run_done) struct state_run row = {0};
    const char *dash = strrchr(run, '-');
    struct err none = ERR_EMPTY;
    uint64_t id = 0;

    if (!dash || !str_to_u64(dash + 1, &id)
        || state_run_get(world->state, (int64_t)id, &row, &none) < 0)
        return 0;
    return row.declared_ms;
}

/* A run has several machines of a group of several: it is one test. */
static bool is_listed(const json_t *tests, const char *run)
{
    const json_t *test;
    size_t i;

    json_array_foreach(tests, i, test) {
        if (str_eq(json_get_str(test, "run", ""), run))
            return true;
    }
    return false;
}

/* The test runs that have machines of these groups up here. */
static int add_tests(const struct api_world *world, json_t *list, struct err *err)
{
    CLEANUP(state_instances_done) struct state_instances instances = VEC_EMPTY;
    json_t *entry;
    size_t i;

    if (state_instance_list(world->state, &instances, err) < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        json_t *tests = json_array();

        VEC_FOREACH(instance, &instances)
            if (instance->test && str_eq(instance->group, json_get_str(entry, "name", ""))
                && !is_listed(tests, instance->run))
                (void)json_array_append_new(
                    tests, json_pack("{s:s, s:I}", "run", instance->run, "since_ms",
                                     (json_int_t)run_since(world, instance->run)));
        (void)json_object_set_new(entry, "tests", tests);
    }
    return 0;
}

static int entries(const struct api_world *world, const char *name, json_t **ret_in,
                   struct err *err)
{
    struct state_protections rows = VEC_EMPTY;
    json_t *list;
    int rc = 0;

    if (state_protection_list(world->state, &rows, err) < 0)
        return -1;
    list = json_array();
    VEC_FOREACH(row, &rows) {
        json_t *entry = NULL;

        if (rc < 0 || (name && !str_eq(name, row->group)))
            continue;
        rc = row_entry(row, &entry, err);
        if (rc == 0)
            (void)json_array_append_new(list, entry);
    }
    state_protections_done(&rows);
    if (rc < 0 || add_tests(world, list, err) < 0) {
        json_decref(list);
        return -1;
    }
    *ret_in = json_pack("{s:o}", "protections", list);
    return 0;
}

int api_list_protections(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *in;

    (void)ret_reply;
    if (entries(api_world_of(req), NULL, &in, err) < 0)
        return -1;
    return api_defer(req, in, OBSERVE_MS, api_status_work, api_status_finish);
}

VEC_DEFINE(name_list, char *)

static void name_list_done(struct name_list *names)
{
    VEC_FOREACH(name, names)
        free(*name);
    name_list_free(names);
}

/* Groups, and their machines. */
static void list_names(const struct state_protection *row, struct name_list *names)
{
    struct machine_names machines;
    struct err none = ERR_EMPTY;

    *name_list_push(names) = mem_strdup(row->group);
    if (job_machines(row, &machines, &none) < 0)
        return;
    for (size_t i = 0; i < machines.count; i++)
        *name_list_push(names) = mem_strdup(machines.at[i]);
}

int api_need_protection(const struct api_world *world, const char *name,
                        struct state_protection *ret_row, struct err *err)
{
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;
    CLEANUP(name_list_done) struct name_list words = VEC_EMPTY;

    if (state_protection_of(world->state, name, ret_row, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND || state_protection_list(world->state, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows)
        list_names(row, &words);
    *name_list_push(&words) = NULL;
    const char *near = str_nearest(name, (const char *const *)words.at);
    if (near)
        return err_set(err, ERR_NOT_FOUND, 0, "%s is not protected; hint: did you mean \"%s\"?",
                       name, near);
    return err_set(err, ERR_NOT_FOUND, 0,
                   "%s is not protected; hint: `muster status` lists what is", name);
}

int api_show_protection(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    json_t *in;

    (void)ret_reply;
    if (api_need_protection(world, api_param(req, "name"), &row, err) < 0
        || entries(world, row.group, &in, err) < 0)
        return -1;
    return api_defer(req, in, OBSERVE_MS, api_status_work, api_status_finish_one);
}

/* --- Points -------------------------------------------------------------------------------- */

/* The peer's answer, with what it is about; a hint that is there already is a better one. */
static int not_answered(const char *name, const char *peer, struct err *err)
{
    const struct err cause = *err;

    if (strstr(cause.text, "; hint: "))
        return err_wrap(err, "the points of %s are kept at %s", name, peer);
    return err_set(err, cause.code, 0,
                   "the points of %s are kept at %s: %.700s; hint: try again when %s answers, or "
                   "ask there: `muster points %s`",
                   name, peer, cause.text, peer, name);
}

/* All pages, as one list. */
static int all_points(struct site *site, const char *name, json_t *ret_points,
                      struct cancel *cancel, struct err *err)
{
    uint64_t before = 0;
    bool more = true;

    while (more) {
        CLEANUP(json_freep) json_t *page = NULL;

        if (site_ask(site, "group.points",
                     json_pack("{s:s, s:I}", "group", name, "before", (json_int_t)before), &page,
                     cancel, err)
            < 0)
            return -1;
        const json_t *points = json_object_get(page, "points");
        (void)json_array_extend(ret_points, json_object_get(page, "points"));
        before = json_get_u64(json_array_get(points, json_array_size(points) - 1), "point", 0);
        more = json_get_bool(page, "more", false) && before > 0;
    }
    return 0;
}

/* Where the replica is: here, or at the peer, which says the same in the same words. */
static int points_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                       struct cancel *cancel, struct err *err)
{
    const char *name = json_get_str(in, "name", "");
    const char *peer = json_get_str(in, "peer", "");
    CLEANUP(json_freep) json_t *points = json_array();
    CLEANUP(site_closep)
    struct site *site =
        *peer ? site_remote_new(world->estate, peer) : site_local_new(world->estate);

    if (all_points(site, name, points, cancel, err) < 0)
        return *peer ? not_answered(name, peer, err) : -1;
    *ret_out = json_pack("{s:s, s:O}", "name", name, "points", points);
    return 0;
}

int api_list_points(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    (void)ret_reply;
    if (api_need_protection(api_world_of(req), api_param(req, "name"), &row, err) < 0)
        return -1;
    bool here = str_eq(row.role, "replica");
    return api_defer(req, json_pack("{s:s, s:s}", "name", row.group, "peer", here ? "" : row.peer),
                     OBSERVE_MS, points_work, NULL);
}
