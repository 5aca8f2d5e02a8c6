// SPDX-License-Identifier: Apache-2.0
#include "support/run/reverse.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "sync/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

/* --- The other site ---------------------------------------------------------------------------- */

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *e)
{
    struct reverse *r = ctx;

    (void)cancel;
    if (r->away)
        return err_set(e, ERR_NET, 0, "%s cannot be reached", peer);
    CLEANUP(json_freep) json_t *answer = json_incref(json_array_get(r->answers, 0));
    if (json_array_size(r->answers) > 1)
        (void)json_array_remove(r->answers, 0);
    *ret_link = jobs_desk_link(&r->desk, peer, answer, r->refusal.code ? &r->refusal : NULL);
    return 0;
}

void reverse_answers(struct reverse *r, json_t *answer)
{
    (void)json_array_append_new(r->answers, answer);
}

json_t *reverse_clean_side(void)
{
    return json_pack("{s:s, s:i, s:i}", "role", "source", "generation", 1, "final_point", 3);
}

json_t *reverse_branched_side(void)
{
    return json_pack("{s:s, s:i, s:i, s:i}", "role", "source", "generation", 1, "final_point", 0,
                     "durable_point", 3);
}

json_t *reverse_taken_over(void)
{
    return json_pack("{s:b}", "done", 1);
}

/* --- This site ----------------------------------------------------------------------------------- */

void reverse_begin(struct reverse *r)
{
    struct jobs_world world = {.site = "lyon",
                               .estate = r->e->lyon,
                               .here = r->e->at_lyon,
                               .dir = r->dir,
                               .ctx = r,
                               .open_link = open_link};

    memset(world.writer_key, 0xab, sizeof(world.writer_key));
    jobs_desk_start(&r->desk, &world);
}

void reverse_restart(struct reverse *r)
{
    jobs_desk_stop(&r->desk);
    estates_restart_lyon(r->e);
    reverse_begin(r);
    EXPECT_OK(jobs_take_up(r->desk.jobs, &err));
}

void reverse_settle(struct reverse *r)
{
    jobs_desk_settle(&r->desk);
}

void reverse_later(struct reverse *r)
{
    clock_fake_advance(&r->desk.clock, 5000);
    reverse_settle(r);
}

void reverse_put_row(struct reverse *r, const char *role, const char *state, uint64_t generation,
                     const char *more)
{
    CLEANUP(mem_freep)
    char *settings =
        mem_printf("{\"interval_ms\":1000,\"keep\":5,\"compression\":\"zstd\"%s}", more);
    CLEANUP(state_protection_done)
    struct state_protection row = {.group = mem_strdup("db1"),
                                   .peer = mem_strdup("paris"),
                                   .role = mem_strdup(role),
                                   .state = mem_strdup(state),
                                   .settings = mem_strdup(settings),
                                   .generation = generation};

    EXPECT_OK(state_protection_put(r->desk.state, &row, &err));
    EXPECT_OK(state_turn_end(r->desk.state, &err));
}

void reverse_expect_row(struct reverse *r, const char *role, const char *state)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    EXPECT_OK(state_protection_get(r->desk.state, "db1", &row, &err));
    assert_string_equal(row.role, role);
    assert_string_equal(row.state, state);
}

/* "" when it is not there. Of the row. */
static char *setting(struct reverse *r, const char *name)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(state_protection_get(r->desk.state, "db1", &row, &err));
    EXPECT_OK(json_parse(row.settings, strlen(row.settings), &json, &err));
    return mem_strdup(json_get_str(json, name, ""));
}

void reverse_expect_setting(struct reverse *r, const char *name, const char *want)
{
    CLEANUP(mem_freep) char *have = setting(r, name);

    assert_string_equal(have, want);
}

void reverse_expect_job(struct reverse *r, int64_t id, const char *state, const char *error_part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(r->desk.jobs, id, &json, &err));
    if (strcmp(json_get_str(json, "state", ""), state) != 0
        || !strstr(json_get_str(json, "error", ""), error_part))
        fail_msg("%s \"%s\", wanted %s \"%s\"", json_get_str(json, "state", ""),
                 json_get_str(json, "error", ""), state, error_part);
}

void reverse_expect_note(struct reverse *r, int64_t id, size_t task, const char *part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(r->desk.jobs, id, &json, &err));
    const char *note =
        json_get_str(json_array_get(json_object_get(json, "tasks"), task), "note", "");
    if (!strstr(note, part))
        fail_msg("task %zu: \"%s\" lacks \"%s\"", task, note, part);
}

void reverse_recover(struct reverse *r)
{
    CLEANUP(state_instance_done)
    struct state_instance row = {.run = mem_strdup("lyon-4"),
                                 .machine = mem_strdup("db1"),
                                 .definition = mem_strdup("{}"),
                                 .group = mem_strdup("db1"),
                                 .point = 3,
                                 .run_dir = mem_strdup(""),
                                 .netns = mem_strdup("")};

    estates_tell(r->e->at_lyon, "instance.start",
                 json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                           "lyon-4", "test", 0, "point", 3));
    EXPECT_OK(state_instance_put(r->desk.state, &row, &err));
    EXPECT_OK(state_turn_end(r->desk.state, &err));
}

size_t reverse_instances(struct reverse *r)
{
    CLEANUP(state_instances_done) struct state_instances rows = VEC_EMPTY;

    EXPECT_OK(state_instance_list(r->desk.state, &rows, &err));
    return rows.len;
}

void reverse_promote(struct reverse *r)
{
    estates_tell(r->e->at_lyon, "group.promote",
                 json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", "lyon-4", "point", 0,
                           "expected", 1));
}

void reverse_deliver(struct reverse *r, uint64_t durable, uint64_t applied)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/sessions/db1", r->e->root);
    const struct checkpoint ck = {.phase = PHASE_DELTA,
                                  .serial = 3,
                                  .base = 2,
                                  .durable_point = durable,
                                  .applied_point = applied};

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(checkpoint_save(dir, &ck, &err));
}

int reverse_setup(void **state)
{
    void *e;

    if (estates_setup(&e) < 0)
        return -1;
    struct reverse *r = mem_new(struct reverse);
    r->e = e;
    r->answers = json_array();
    r->dir = mem_printf("%s/lyon", r->e->root);
    jobs_desk_init(&r->desk, r->e->root);
    reverse_begin(r);
    *state = r;
    return 0;
}

int reverse_teardown(void **state)
{
    struct reverse *r = *state;
    void *e = r->e;

    jobs_desk_stop(&r->desk);
    json_decref(r->answers);
    free(r->dir);
    free(r);
    return estates_teardown(&e);
}
