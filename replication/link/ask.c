// SPDX-License-Identifier: Apache-2.0
#include "link/ask.h"

struct ask {
    link_open_fn *open;
    void *ctx;
    const char *peer;
    const json_t *head;
};

/* `ret_lost`: it was asked, and the answer did not arrive whole. A daemon that is told to stop
 * answers ERR_CANCELLED, which was not our cancel. */
static int ask_once(const struct ask *ask, json_t **ret_reply, bool *ret_lost,
                    struct cancel *cancel, struct err *err)
{
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(link_msg_done) struct link_msg reply = {0};

    *ret_lost = false;
    if (ask->open(ask->ctx, ask->peer, &link, cancel, err) < 0)
        return -1;
    if (link_call(link, ask->head, NULL, 0, &reply, cancel, err) < 0) {
        *ret_lost = err->code == ERR_CANCELLED || (err->code == ERR_NET && link_is_broken(link));
        return -1;
    }
    if (ret_reply)
        *ret_reply = json_incref(reply.head);
    return 0;
}

int link_ask(link_open_fn *open, void *ctx, const char *peer, const json_t *head,
             json_t **ret_reply, struct clock *clock, struct cancel *cancel, struct err *err)
{
    const struct ask ask = {open, ctx, peer, head};
    struct err spare = ERR_EMPTY;
    int64_t until = 0;
    int losses = 0;

    err = err ? err : &spare; /* the code is looked at */
    for (;;) {
        struct err over = ERR_EMPTY;
        bool lost;

        if (ask_once(&ask, ret_reply, &lost, cancel, err) == 0)
            return 0;
        if (lost && ++losses <= LINK_LOST_MAX)
            until = clock->now_ms(clock) + LINK_AWAY_MS;
        else if (lost || losses == 0 || !err_is_retryable(err->code))
            return -1;
        if (clock->now_ms(clock) >= until)
            return -1;
        if (cancel_sleep(cancel, LINK_REASK_MS, &over) < 0) {
            if (over.code == ERR_CANCELLED)
                *err = over;
            return -1;
        }
        err_clear(err);
    }
}
