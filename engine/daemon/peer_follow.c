// SPDX-License-Identifier: Apache-2.0
/* replica.follow: the peer was promoted and committed, and makes our side its replica. That may take as
 * long as reading all disks, so it is a job here (run/job_follow.c): the first question starts it, the
 * next ones bring its number along and get {done: true}, {job, note}, or the error it ended with. */
#include "base/mem.h"
#include "daemon/peer_ask.h"

static int look_at(struct daemon *daemon, struct ask *ask, int64_t id, struct err *err)
{
    CLEANUP(json_freep) json_t *job = NULL;

    if (jobs_get(daemon->jobs, id, &job, err) < 0)
        return -1;
    const char *state = json_get_str(job, "state", "");
    if (str_eq(state, "running")) {
        const json_t *task = json_array_get(json_object_get(job, "tasks"), 0);
        ask->answer = json_pack("{s:b, s:I, s:s}", "done", 0, "job", (json_int_t)id, "note",
                                json_get_str(task, "note", ""));
        return 0;
    }
    if (str_eq(state, "succeeded")) {
        ask->answer = json_pack("{s:b}", "done", 1);
        return 0;
    }
    enum err_code code = err_code_parse(json_get_str(job, "error_code", ""));
    return err_set(err, code == ERR_NONE || err_is_retryable(code) ? ERR_STATE : code, 0,
                   "%s cannot become the replica: %s", daemon->config.site,
                   json_get_str(job, "error", state));
}

static int follow_on_loop(struct daemon *daemon, void *ctx, struct err *err)
{
    struct ask *ask = ctx;
    CLEANUP(mem_freep) char *who = mem_printf("site %s", ask->peer);
    const json_t *head = ask->head;
    int64_t id = (int64_t)json_get_u64(head, "job", 0);
    struct job_follow spec = {
        .group = ask->group,
        .peer = ask->peer,
        .writer_key = json_get_str(head, "writer_key", ""),
        .tip = json_get_str(head, "tip", ""),
        .first = json_get_str(head, "first", ""),
        .proof = json_object_get(head, "proof"),
        .generation = json_get_u64(head, "generation", 0),
        .who = who,
    };

    if (id > 0)
        return look_at(daemon, ask, id, err);
    policy_init(&spec.settings.policy);
    if (job_settings_take(head, &spec.settings, err) < 0
        || jobs_follow(daemon->jobs, &spec, &id, err) < 0)
        return -1;
    ask->answer = id == 0
                      ? json_pack("{s:b}", "done", 1)
                      : json_pack("{s:b, s:I, s:s}", "done", 0, "job", (json_int_t)id, "note", "");
    return 0;
}

int peer_follow(struct ask *ask, struct err *err)
{
    uint8_t key[SIGN_KEY_BYTES];

    if (job_settings_check(ask->head, err) < 0)
        return err_wrap(err, "replica.follow");
    if (!str_unhex(json_get_str(ask->head, "writer_key", ""), key, sizeof(key))
        || json_get_u64(ask->head, "generation", 0) == 0)
        return err_set(err, ERR_INVALID, 0, "replica.follow: no key or no generation");
    return daemon_on_loop(ask->daemon, follow_on_loop, ask, err);
}
