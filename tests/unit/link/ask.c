// SPDX-License-Identifier: Apache-2.0
#include "link/ask.h"

#include "base/mem.h"
#include "support/expect.h"

/* A peer that goes through a list of what happens to it, one entry for each time it is asked. */
enum event { ANSWERS, REFUSES, STOPS, DIES, IS_AWAY };

struct peer {
    struct clock clock;
    int64_t now_ms; /* a second later at each look: nobody waits for real */
    const enum event *events;
    size_t asked;
    struct link *end;                /* its end of the link of the last question, unless it died */
    struct cancel *cancel_when_away; /* fired when it was away */
};

static int64_t tick(struct clock *clock)
{
    struct peer *peer = (struct peer *)((char *)clock - offsetof(struct peer, clock));

    return peer->now_ms += 1000;
}

static void peer_init(struct peer *peer, const enum event *events)
{
    *peer = (struct peer){.clock = {tick, tick}, .events = events};
}

static void peer_done(struct peer *peer)
{
    link_close(peer->end);
}

/* The answer lies in the pipe before the question is asked. */
static int open_link(void *ctx, const char *name, struct link **ret_link, struct cancel *cancel,
                     struct err *e)
{
    struct peer *peer = ctx;
    enum event event = peer->events[peer->asked++];
    CLEANUP(json_freep) json_t *result = json_pack("{s:i}", "asked", (int)peer->asked);
    const struct err refusal = {.code = ERR_DENIED, .text = "not here"};
    const struct err stopping = {.code = ERR_CANCELLED, .text = "cancelled"};
    struct transport *ours;
    struct transport *theirs;

    (void)cancel;
    if (event == IS_AWAY) {
        if (peer->cancel_when_away)
            cancel_fire(peer->cancel_when_away);
        return err_set(e, ERR_NET, 0, "%s cannot be reached", name);
    }
    transport_pair(1U << 20, &ours, &theirs);
    link_close(peer->end);
    peer->end = link_new(theirs, "paris");
    if (event == ANSWERS)
        EXPECT_OK(link_answer(peer->end, result, NULL, 0, NULL, &err));
    else if (event != DIES)
        EXPECT_OK(link_answer_err(peer->end, event == REFUSES ? &refusal : &stopping, NULL, &err));
    if (event == DIES) {
        link_close(peer->end);
        peer->end = NULL;
    }
    *ret_link = link_new(ours, name);
    return 0;
}

static int ask(struct peer *peer, struct cancel *cancel, json_t **ret_reply)
{
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "test");

    return link_ask(open_link, peer, "lyon", head, ret_reply, &peer->clock, cancel, &err);
}

static struct cancel *ticking(struct peer *peer)
{
    return cancel_new(&peer->clock, NULL, CANCEL_NEVER);
}

static void an_answer_that_got_lost_is_asked_for_again(void **state)
{
    static const enum event events[] = {DIES, IS_AWAY, IS_AWAY, ANSWERS};
    CLEANUP(cancel_freep) struct cancel *cancel = NULL;
    CLEANUP(peer_done) struct peer peer = {0};
    CLEANUP(json_freep) json_t *reply = NULL;

    (void)state;
    peer_init(&peer, events);
    cancel = ticking(&peer);
    EXPECT_OK(ask(&peer, cancel, &reply));
    assert_int_equal(json_get_u64(reply, "asked", 0), 4);
}

static void a_daemon_that_is_stopped_in_mid_answer_is_asked_again(void **state)
{
    static const enum event events[] = {STOPS, IS_AWAY, ANSWERS};
    CLEANUP(cancel_freep) struct cancel *cancel = NULL;
    CLEANUP(peer_done) struct peer peer = {0};

    (void)state;
    peer_init(&peer, events);
    cancel = ticking(&peer);
    EXPECT_OK(ask(&peer, cancel, NULL));
    assert_int_equal(peer.asked, 3);
}

static void a_peer_that_is_away_from_the_start_is_not_waited_for(void **state)
{
    static const enum event events[] = {IS_AWAY};
    CLEANUP(peer_done) struct peer peer = {0};

    (void)state;
    peer_init(&peer, events);
    EXPECT_ERR(ERR_NET, ask(&peer, NULL, NULL));
    assert_int_equal(peer.asked, 1);
}

static void a_refusal_is_an_answer(void **state)
{
    static const enum event events[] = {DIES, REFUSES};
    CLEANUP(cancel_freep) struct cancel *cancel = NULL;
    CLEANUP(peer_done) struct peer peer = {0};

    (void)state;
    peer_init(&peer, events);
    cancel = ticking(&peer);
    EXPECT_ERR(ERR_DENIED, ask(&peer, cancel, NULL));
    assert_int_equal(peer.asked, 2);
}

static void a_peer_that_the_question_kills_each_time_is_given_up(void **state)
{
    static const enum event events[] = {DIES, DIES, DIES, DIES, DIES, DIES};
    CLEANUP(cancel_freep) struct cancel *cancel = NULL;
    CLEANUP(peer_done) struct peer peer = {0};

    (void)state;
    peer_init(&peer, events);
    cancel = ticking(&peer);
    EXPECT_ERR(ERR_NET, ask(&peer, cancel, NULL));
    assert_int_equal(peer.asked, LINK_LOST_MAX + 1);
}

static void a_peer_that_does_not_come_back_is_given_up(void **state)
{
    static const enum event events[64] = {
        DIES,    IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY,
        IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY,
        IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY, IS_AWAY};
    CLEANUP(cancel_freep) struct cancel *cancel = NULL;
    CLEANUP(peer_done) struct peer peer = {0};

    (void)state;
    peer_init(&peer, events);
    cancel = ticking(&peer);
    EXPECT_ERR(ERR_NET, ask(&peer, cancel, NULL));
    EXPECT_TEXT("lyon cannot be reached");
    assert_true(peer.asked <= LINK_AWAY_MS / 1000);
}

static void a_cancel_ends_the_wait_for_a_peer(void **state)
{
    static const enum event events[] = {DIES, IS_AWAY, ANSWERS};
    CLEANUP(cancel_freep) struct cancel *cancel = NULL;
    CLEANUP(peer_done) struct peer peer = {0};

    (void)state;
    peer_init(&peer, events);
    cancel = ticking(&peer);
    peer.cancel_when_away = cancel;
    EXPECT_ERR(ERR_CANCELLED, ask(&peer, cancel, NULL));
    assert_int_equal(peer.asked, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_that_got_lost_is_asked_for_again),
        cmocka_unit_test(a_daemon_that_is_stopped_in_mid_answer_is_asked_again),
        cmocka_unit_test(a_peer_that_is_away_from_the_start_is_not_waited_for),
        cmocka_unit_test(a_refusal_is_an_answer),
        cmocka_unit_test(a_peer_that_the_question_kills_each_time_is_given_up),
        cmocka_unit_test(a_peer_that_does_not_come_back_is_given_up),
        cmocka_unit_test(a_cancel_ends_the_wait_for_a_peer),
    };
    return cmocka_run_group_tests_name("ask", tests, NULL, NULL);
}
