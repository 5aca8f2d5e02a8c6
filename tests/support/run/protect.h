// SPDX-License-Identifier: Apache-2.0
/* Protecting db1 from paris to lyon, with a provider and a peer that are made up. */
#pragma once

#include "base/fs.h"
#include "base/mem.h"
#include "run/job_kind.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"

#include <stdio.h>
#include <unistd.h>

struct fixture {
    struct jobs_desk desk;
    struct estate *estate;
    struct provider provider;
    const char *dir;
    char disk[256];
    const char *provider_says;
    const char *untrackable; /* why changes cannot be tracked; NULL: they can */
    bool peer_away;
    json_t *answer;      /* of the peer, to whatever is asked */
    bool refuses_create; /* its second answer is no */
    bool leaves;         /* it is away from its second answer on */
    unsigned answers;
    unsigned questions; /* answered by each link; 0: one */
};

static inline struct fixture *fixture_of(struct provider *provider)
{
    return (struct fixture *)((char *)provider - offsetof(struct fixture, provider));
}

static inline int check(struct provider *provider, const struct machine *machine,
                        struct str *ret_problems, struct err *e)
{
    (void)machine;
    (void)e;
    str_add(ret_problems, fixture_of(provider)->provider_says);
    return 0;
}

static inline int can_track(struct provider *provider, const struct provider_instance *instance,
                            bool *ret_running, struct cancel *cancel, struct err *e)
{
    const char *why = fixture_of(provider)->untrackable;

    (void)instance;
    (void)cancel;
    if (why)
        return err_set(e, ERR_UNSUPPORTED, 0, "%s", why);
    *ret_running = true;
    return 0;
}

static inline int open_link(void *ctx, const char *peer, struct link **ret_link,
                            struct cancel *cancel, struct err *e)
{
    struct fixture *f = ctx;
    const struct err refusal = {.code = ERR_DENIED, .text = "not here"};

    (void)cancel;
    if (f->peer_away)
        return err_set(e, ERR_NET, 0, "%s cannot be reached", peer);
    f->answers++;
    if (f->leaves && f->answers > 1)
        return err_set(e, ERR_NET, 0, "%s cannot be reached", peer);
    bool refuses = f->refuses_create && f->answers == 2;
    *ret_link = jobs_desk_link(&f->desk, peer, f->answer, refuses ? &refusal : NULL);
    for (unsigned i = 1; i < f->questions; i++)
        EXPECT_OK(link_answer(f->desk.peer_end, f->answer, NULL, 0, NULL, &err));
    return 0;
}

static inline void settle(struct fixture *f)
{
    jobs_desk_settle(&f->desk);
}

static inline json_t *peer_answer(uint64_t free_bytes, int64_t wall_ms, const char *replica)
{
    return json_pack("{s:I, s:I, s:s, s:s}", "free_bytes", (json_int_t)free_bytes, "wall_ms",
                     (json_int_t)wall_ms, "replica", replica, "why", "it has one from rome");
}

static inline void set_up(struct fixture *f, char *dir)
{
    memset(f, 0, sizeof(*f));
    jobs_desk_init(&f->desk, dir);
    f->dir = dir;
    f->provider_says = "";
    f->provider.name = "made-up";
    f->provider.check = check;
    f->provider.can_track = can_track;
    f->answer = peer_answer(1ULL << 40, 1000000, "absent");
    (void)snprintf(f->disk, sizeof(f->disk), "%s/disk.raw", dir);
    EXPECT_OK(fs_replace_file(fs_real(), f->disk, "0123456789abcdef", 16, 0600, &err));
    assert_int_equal(truncate(f->disk, 1 << 20), 0);
    const struct estate_config estate = {.site = "paris",
                                         .dir = dir,
                                         .clock = &f->desk.clock.clock,
                                         .provider = &f->provider,
                                         .ctx = f,
                                         .open_link = open_link};
    f->estate = estate_new(&estate);
    const struct jobs_world world = {
        .estate = f->estate, .dir = dir, .ctx = f, .open_link = open_link};
    jobs_desk_start(&f->desk, &world);
}

static inline void tear_down(struct fixture *f)
{
    jobs_desk_stop(&f->desk);
    estate_free(f->estate);
    json_decref(f->answer);
}

static inline void put_machine(struct fixture *f, const char *path, const char *format)
{
    CLEANUP(mem_freep)
    char *definition = mem_printf("{\"name\":\"db1\",\"memory\":\"64MiB\",\"disks\":[{\"path\":"
                                  "\"%s\",\"format\":\"%s\"}]}",
                                  path, format);
    const struct state_machine row = {.name = (char[]){"db1"}, .definition = definition};

    EXPECT_OK(state_machine_put(f->desk.state, &row, &err));
}

static inline int protect(struct fixture *f, const char *peer, int64_t *ret_id)
{
    struct job_protect spec = {.machine = "db1", .peer = peer, .who = "ann"};

    policy_init(&spec.settings.policy);
    err_clear(&err);
    return jobs_protect(f->desk.jobs, &spec, ret_id, &err);
}

static inline void expect_job(struct fixture *f, int64_t id, const char *state,
                              const char *error_part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(f->desk.jobs, id, &json, &err));
    assert_string_equal(json_get_str(json, "state", ""), state);
    if (!strstr(json_get_str(json, "error", ""), error_part))
        fail_msg("\"%s\" lacks \"%s\"", json_get_str(json, "error", ""), error_part);
}

static inline void expect_state(struct fixture *f, const char *state)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    EXPECT_OK(state_protection_get(f->desk.state, "db1", &row, &err));
    assert_string_equal(row.state, state);
}
