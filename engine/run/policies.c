// SPDX-License-Identifier: Apache-2.0
#include "run/policies.h"

#include "base/mem.h"
#include "sync/policy_fields.h"

#include <stdio.h>

/* --- What there is --------------------------------------------------------------------------- */

static int parse(const struct state_policy *row, struct policy *ret_policy, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    policy_init(ret_policy);
    if (json_parse(row->settings, strlen(row->settings), &json, err) < 0
        || policy_from_json(json, ret_policy, err) < 0)
        return err_wrap(err, "policy %s", row->name);
    return 0;
}

/* Rows, and the built-in one where it has none. */
static int all(struct state *state, struct state_policies *ret_rows, struct err *err)
{
    struct policy plain;
    struct err missing = ERR_EMPTY;
    CLEANUP(state_policy_done) struct state_policy row = {0};

    if (state_policy_list(state, ret_rows, err) < 0)
        return -1;
    if (state_policy_get(state, POLICY_DEFAULT, &row, &missing) == 0)
        return 0;
    policy_init(&plain);
    CLEANUP(json_freep) json_t *json = policy_to_json(&plain);
    struct state_policy *built_in = state_policies_push(ret_rows);
    for (; built_in > ret_rows->at && strcmp(built_in[-1].name, POLICY_DEFAULT) > 0; built_in--)
        *built_in = built_in[-1];
    *built_in =
        (struct state_policy){.name = mem_strdup(POLICY_DEFAULT), .settings = json_text(json)};
    return 0;
}

/* A copy; ERR_NOT_FOUND names the nearest. */
static int find(struct state *state, const char *name, struct state_policy *ret_row,
                struct err *err)
{
    CLEANUP(state_policies_done) struct state_policies rows = VEC_EMPTY;

    if (all(state, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows)
        if (str_eq(row->name, name)) {
            *ret_row = *row;
            *row = (struct state_policy){0};
            return 0;
        }
    CLEANUP(mem_freep) const char **names = mem_new_array(const char *, rows.len + 1);
    for (size_t i = 0; i < rows.len; i++)
        names[i] = rows.at[i].name;
    const char *near = str_nearest(name, names);
    return near ? err_set(err, ERR_NOT_FOUND, 0, "no policy \"%.64s\"; hint: did you mean \"%s\"?",
                          name, near)
                : err_set(err, ERR_NOT_FOUND, 0,
                          "no policy \"%.64s\"; hint: `muster policy list` lists them, `muster "
                          "policy add` makes one",
                          name);
}

int policies_get(struct state *state, const char *name, struct policy *ret_policy, struct err *err)
{
    CLEANUP(state_policy_done) struct state_policy row = {0};

    return find(state, name, &row, err) < 0 ? -1 : parse(&row, ret_policy, err);
}

/* --- Who uses it ----------------------------------------------------------------------------- */

struct user {
    struct state_protection row;
    struct job_settings settings;
};
VEC_DEFINE(users, struct user)

static void users_done(struct users *users)
{
    VEC_FOREACH(user, users)
        state_protection_done(&user->row);
    users_free(users);
}

static int users_of(struct state *state, const char *name, struct users *ret_users, struct err *err)
{
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;

    if (state_protection_list(state, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows) {
        struct job_settings settings;

        if (!str_eq(row->role, "source"))
            continue;
        if (job_settings_parse(row->settings, &settings, err) < 0)
            return err_wrap(err, "protection %s", row->group);
        if (!str_eq(settings.policy_name, name))
            continue;
        struct user *user = users_push(ret_users);
        user->row = *row;
        user->settings = settings;
        *row = (struct state_protection){0};
    }
    return 0;
}

/* "db1, db2". */
static void add_name(struct str *names, const char *name)
{
    str_addf(names, "%s%s", names->len ? ", " : "", name);
}

/* --- Shown ----------------------------------------------------------------------------------- */

static json_t *notes_of(const struct policy *policy)
{
    CLEANUP(str_free) struct str lines = STR_EMPTY;
    json_t *notes = json_array();
    char *save = NULL;

    policy_notes(policy, &lines);
    for (char *line = lines.ptr ? strtok_r(lines.ptr, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        (void)json_array_append_new(notes, json_string(line));
    return notes;
}

static int show(struct state *state, const struct state_policy *row, json_t **ret_json,
                struct err *err)
{
    CLEANUP(users_done) struct users users = VEC_EMPTY;
    struct policy policy;

    if (parse(row, &policy, err) < 0 || users_of(state, row->name, &users, err) < 0)
        return -1;
    json_t *machines = json_array();
    json_t *own = json_object();
    VEC_FOREACH(user, &users) {
        (void)json_array_append_new(machines, json_string(user->row.group));
        (void)json_object_set_new(own, user->row.group,
                                  job_overrides_json(user->settings.overrides));
    }
    *ret_json = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "name", row->name, "added_ms",
                          (json_int_t)row->added_ms, "changed_ms", (json_int_t)row->changed_ms,
                          "machines", machines, "own", own, "notes", notes_of(&policy));
    policy_put(&policy, *ret_json);
    return 0;
}

int policies_show(struct state *state, const char *name, json_t **ret_json, struct err *err)
{
    CLEANUP(state_policy_done) struct state_policy row = {0};

    return find(state, name, &row, err) < 0 ? -1 : show(state, &row, ret_json, err);
}

int policies_list(struct state *state, json_t **ret_json, struct err *err)
{
    CLEANUP(state_policies_done) struct state_policies rows = VEC_EMPTY;
    CLEANUP(json_freep) json_t *list = json_array();

    if (all(state, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows) {
        json_t *entry = NULL;

        if (show(state, row, &entry, err) < 0)
            return -1;
        (void)json_array_append_new(list, entry);
    }
    *ret_json = TAKE(list);
    return 0;
}

/* --- Changed --------------------------------------------------------------------------------- */

static int put(struct state *state, const char *name, const struct policy *policy, int64_t added_ms,
               int64_t now_ms, struct err *err)
{
    CLEANUP(json_freep) json_t *json = policy_to_json(policy);
    CLEANUP(mem_freep) char *text = json_text(json);
    CLEANUP(mem_freep) char *owned = mem_strdup(name);
    const struct state_policy row = {owned, text, added_ms ? added_ms : now_ms, now_ms};

    return state_policy_put(state, &row, err);
}

int policies_add(struct state *state, const char *name, const json_t *fields, int64_t now_ms,
                 struct err *err)
{
    CLEANUP(state_policy_done) struct state_policy row = {0};
    struct policy policy;
    struct err missing = ERR_EMPTY;

    policy_init(&policy);
    if (!str_is_name(name))
        return err_set(err, ERR_INVALID, 0, "policy \"%.64s\": no name", name);
    if (find(state, name, &row, &missing) == 0)
        return err_set(err, ERR_EXISTS, 0,
                       "there is a policy \"%s\" already; hint: `muster policy change %s`", name,
                       name);
    if (missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    }
    if (policy_from_json(fields, &policy, err) < 0 || policy_check(&policy, err) < 0)
        return err_wrap(err, "policy %s", name);
    return put(state, name, &policy, now_ms, now_ms, err);
}

int policies_remove(struct state *state, const char *name, struct err *err)
{
    CLEANUP(state_policy_done) struct state_policy row = {0};
    CLEANUP(users_done) struct users users = VEC_EMPTY;
    CLEANUP(str_free) struct str names = STR_EMPTY;

    if (str_eq(name, POLICY_DEFAULT))
        return err_set(err, ERR_STATE, 0,
                       "\"%s\" is always there; hint: `muster policy change %s` changes it", name,
                       name);
    if (find(state, name, &row, err) < 0 || users_of(state, name, &users, err) < 0)
        return -1;
    VEC_FOREACH(user, &users)
        add_name(&names, user->row.group);
    if (names.len)
        return err_set(err, ERR_STATE, 0,
                       "policy %s is used by %.600s; hint: give %s another: `muster settings NAME "
                       "--policy OTHER`",
                       name, str_text(&names), users.len == 1 ? "it" : "each of them");
    return state_policy_remove(state, name, err);
}

/* `settings` over the policy as it is to be. */
static void rebase(const struct policy *policy, struct job_settings *settings)
{
    struct policy based = *policy;

    policy_override(&settings->policy, settings->overrides, &based);
    settings->policy = based;
}

/* A replica's head is made once. */
static int check_fixed(const struct users *users, const struct policy *policy, struct err *err)
{
    CLEANUP(str_free) struct str names = STR_EMPTY;

    VEC_FOREACH(user, users) {
        struct job_settings settings = user->settings;

        rebase(policy, &settings);
        if (settings.policy.encryption != user->settings.policy.encryption)
            add_name(&names, user->row.group);
    }
    if (!names.len)
        return 0;
    return err_set(
        err, ERR_STATE, 0,
        "the encryption of a replica is fixed when its machine is protected; nothing was "
        "changed, it is used by %.600s; hint: make another policy, unprotect, and protect "
        "with that",
        str_text(&names));
}

static int check_users(const struct users *users, const struct policy *policy, struct err *err)
{
    VEC_FOREACH(user, users) {
        struct job_settings settings = user->settings;

        rebase(policy, &settings);
        if (policy_check(&settings.policy, err) < 0)
            return err_wrap(err, "%s, which has settings of its own", user->row.group);
    }
    return check_fixed(users, policy, err);
}

int policies_change(struct state *state, const char *name, const json_t *fields, int64_t now_ms,
                    struct policies_changes *ret_changes, struct err *err)
{
    CLEANUP(state_policy_done) struct state_policy row = {0};
    CLEANUP(users_done) struct users users = VEC_EMPTY;
    struct policy policy;

    if (find(state, name, &row, err) < 0 || parse(&row, &policy, err) < 0
        || policy_from_json(fields, &policy, err) < 0 || policy_check(&policy, err) < 0
        || users_of(state, name, &users, err) < 0 || check_users(&users, &policy, err) < 0)
        return err_wrap(err, "policy %s", name);
    if (put(state, name, &policy, row.added_ms, now_ms, err) < 0)
        return -1;
    VEC_FOREACH(user, &users) {
        struct job_settings settings = user->settings;

        rebase(&policy, &settings);
        if (job_settings_equal(&settings, &user->settings))
            continue;
        if (job_settings_change(&user->row.settings, &settings, err) < 0
            || state_protection_put(state, &user->row, err) < 0)
            return -1;
        struct policies_changed *changed = policies_changes_push(ret_changes);
        (void)snprintf(changed->group, sizeof(changed->group), "%s", user->row.group);
        (void)snprintf(changed->peer, sizeof(changed->peer), "%s", user->row.peer);
        changed->policy = settings.policy;
    }
    return 0;
}

/* --- One protection's ------------------------------------------------------------------------ */

/* Fields that were said become its own. */
static int add_own(const json_t *fields, struct job_settings *settings, struct err *err)
{
    if (policy_from_json(fields, &settings->policy, err) < 0)
        return -1;
    for (size_t i = 0; policy_keys[i]; i++)
        if (json_object_get(fields, policy_keys[i]))
            settings->overrides |= UINT32_C(1) << i;
    return policy_check(&settings->policy, err);
}

int policies_settings(struct state *state, const char *name, const json_t *fields,
                      struct job_settings *ret_settings, struct err *err)
{
    struct job_settings settings = {.policy_name = ""};

    if (!*name)
        name = POLICY_DEFAULT;
    if (policies_get(state, name, &settings.policy, err) < 0)
        return -1;
    (void)snprintf(settings.policy_name, sizeof(settings.policy_name), "%s", name);
    if (add_own(fields, &settings, err) < 0)
        return -1;
    *ret_settings = settings;
    return 0;
}

static int drop_own(const json_t *reset, struct job_settings *settings, struct err *err)
{
    const json_t *word;
    size_t at;

    json_array_foreach(reset, at, word) {
        const char *name = json_string_value(word);
        const struct policy_field *field = policy_field_find(name);

        if (str_eq(name, "all")) {
            settings->overrides = 0;
            continue;
        }
        if (!field)
            return err_set(
                err, ERR_INVALID, 0,
                "\"%.64s\" is no setting; hint: one of `muster settings --help`, without "
                "the dashes, or all",
                name);
        for (size_t i = 0; policy_keys[i]; i++)
            if (str_eq(policy_keys[i], field->key))
                settings->overrides &= ~(UINT32_C(1) << i);
    }
    return 0;
}

int policies_resettle(struct state *state, const char *name, const char *policy,
                      const json_t *fields, const json_t *reset, struct job_settings *settings,
                      struct err *err)
{
    struct job_settings changed = *settings;
    struct policy base;

    if (drop_own(reset, &changed, err) < 0)
        return -1;
    if (policy)
        (void)snprintf(changed.policy_name, sizeof(changed.policy_name), "%s", policy);
    if (policy || json_array_size(reset) > 0) {
        if (policies_get(state, changed.policy_name, &base, err) < 0)
            return -1;
        rebase(&base, &changed);
    }
    if (add_own(fields, &changed, err) < 0)
        return -1;
    if (changed.policy.encryption != settings->policy.encryption)
        return err_set(err, ERR_STATE, 0,
                       "the encryption of a replica is fixed when its machine is protected; hint: "
                       "`muster unprotect %s`, then protect it with the other one",
                       name);
    *settings = changed;
    return 0;
}

int policies_renew(struct state *state, struct job_settings *settings, struct err *err)
{
    struct policy base;
    struct err missing = ERR_EMPTY;

    if (policies_get(state, settings->policy_name, &base, &missing) < 0) {
        if (missing.code == ERR_NOT_FOUND)
            return 0;
        *err = missing;
        return -1;
    }
    rebase(&base, settings);
    return 0;
}

/* The policy by which a machine came, as far as can be told. */
static void guess(const struct job_settings *settings, struct policy *ret_policy)
{
    struct err impossible = ERR_EMPTY;
    struct policy plain;

    policy_init(&plain);
    *ret_policy = settings->policy;
    policy_override(&plain, settings->overrides, ret_policy);
    if (policy_check(ret_policy, &impossible) < 0)
        *ret_policy = settings->policy;
}

int policies_arrive(struct state *state, struct job_settings *settings, int64_t now_ms,
                    struct err *err)
{
    struct err missing = ERR_EMPTY;
    struct policy base;

    if (!*settings->policy_name)
        (void)snprintf(settings->policy_name, sizeof(settings->policy_name), POLICY_DEFAULT);
    if (policies_get(state, settings->policy_name, &base, &missing) < 0) {
        if (missing.code != ERR_NOT_FOUND) {
            *err = missing;
            return -1;
        }
        guess(settings, &base);
        if (put(state, settings->policy_name, &base, now_ms, now_ms, err) < 0)
            return -1;
    }
    settings->overrides |= policy_differences(&settings->policy, &base);
    return 0;
}
