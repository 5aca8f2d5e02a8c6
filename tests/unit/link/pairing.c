// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "link/throttle_plan.h"
#include "link/tls.h"
#include "support/expect.h"
#include "support/link/sites.h"
#include "support/tmpdir.h"

#define HOUR_MS (60 * 60 * 1000)

struct pairing {
    char *paris;
    char *lyon;
    struct clock_fake clock;
    struct acceptor at_paris;
    char token[PAIR_TOKEN_MAX];
};

static void pairing_free(struct pairing *p)
{
    free(p->paris);
    free(p->lyon);
}

static void serve_pairing(struct acceptor *a, struct link *link)
{
    a->result = pair_serve(a->dir, link, a->clock, a->cancel, &a->joined, &a->err);
}

static void listen_again(struct pairing *p)
{
    memset(&p->at_paris, 0, sizeof(p->at_paris));
    acceptor_listen(&p->at_paris, p->paris);
    p->at_paris.clock = &p->clock.clock;
    p->at_paris.serve = serve_pairing;
}

static void issue(struct pairing *p, const char *dir)
{
    memset(p, 0, sizeof(*p));
    clock_fake_init(&p->clock, 1000000);
    p->paris = site_make(dir, "paris");
    p->lyon = site_make(dir, "lyon");
    listen_again(p);
    EXPECT_OK(pair_issue(p->paris, p->at_paris.address, &p->clock.clock, p->token, &err));
}

static int join(struct pairing *p, const char *token, struct tls_peer *ret_peer)
{
    acceptor_start(&p->at_paris);
    int rc = pair_join(p->lyon, token, "127.0.0.1:7701", &p->clock.clock, NULL, ret_peer, &err);
    if (rc < 0)
        cancel_fire(p->at_paris.cancel);
    acceptor_join(&p->at_paris);
    return rc;
}

static void both_sites_know_each_other_afterwards(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    CLEANUP(mem_freep) struct tls_peer *known = NULL;
    CLEANUP(tls_freep) struct tls *tls = NULL;
    struct tls_peer peer;
    struct link *link = NULL;
    size_t count;
    uint8_t private_key[32];
    uint8_t public_key[32];

    issue(&p, *state);
    EXPECT_OK(join(&p, p.token, &peer));
    assert_int_equal(p.at_paris.result, 0);
    assert_string_equal(peer.name, "paris");
    assert_string_equal(p.at_paris.joined.name, "lyon");
    assert_string_equal(p.at_paris.joined.address, "127.0.0.1:7701");
    EXPECT_OK(pair_sign_key(p.paris, private_key, public_key, &err));
    assert_memory_equal(peer.sign_key, public_key, 32);
    EXPECT_OK(pair_list(p.paris, &known, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(known[0].name, "lyon");

    listen_again(&p);
    p.at_paris.serve = NULL;
    acceptor_start(&p.at_paris);
    EXPECT_OK(tls_load(p.lyon, &tls, &err));
    EXPECT_OK(tls_connect(tls, "paris", p.at_paris.address, NULL, &link, &err));
    link_close(link);
    acceptor_join(&p.at_paris);
    assert_string_equal(p.at_paris.peer, "lyon");
}

static void a_token_works_once(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    struct tls_peer peer;

    issue(&p, *state);
    EXPECT_OK(join(&p, p.token, &peer));
    listen_again(&p);
    char *colon = strrchr(p.token, ':');
    CLEANUP(mem_freep)
    char *again = mem_printf("muster1:%s%s", p.at_paris.address, colon - 65);
    EXPECT_ERR(ERR_AUTH, join(&p, again, &peer));
    EXPECT_TEXT("it was used");
}

static void a_token_is_good_for_an_hour(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    CLEANUP(mem_freep) struct tls_peer *known = NULL;
    struct tls_peer peer;
    size_t count;

    issue(&p, *state);
    clock_fake_advance(&p.clock, HOUR_MS);
    EXPECT_ERR(ERR_AUTH, join(&p, p.token, &peer));
    EXPECT_TEXT("older than an hour");
    EXPECT_OK(pair_list(p.paris, &known, &count, &err));
    assert_int_equal(count, 0);
}

static void a_token_with_another_secret_is_refused(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    struct tls_peer peer;

    issue(&p, *state);
    char *last = p.token + strlen(p.token) - 1;
    *last = *last == '0' ? '1' : '0';
    EXPECT_ERR(ERR_AUTH, join(&p, p.token, &peer));
    assert_int_equal(p.at_paris.err.code, ERR_AUTH);
}

static void a_site_without_the_tokens_key_is_not_talked_to(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    struct tls_peer peer;

    issue(&p, *state);
    char *digit = strrchr(p.token, ':') - 1;
    *digit = *digit == '0' ? '1' : '0';
    EXPECT_ERR(ERR_AUTH, join(&p, p.token, &peer));
    EXPECT_TEXT("does not have the key named in the token");
}

static void what_is_no_token_is_said_so(void **state)
{
    CLEANUP(mem_freep) char *lyon = site_make(*state, "lyon");
    static const char *const wrong[] = {"", "muster1:", "muster1:127.0.0.1:7700", "hello"};
    struct tls_peer peer;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        EXPECT_ERR(ERR_INVALID,
                   pair_join(lyon, wrong[i], "127.0.0.1:1", clock_real(), NULL, &peer, &err));
}

static void a_name_taken_by_another_authority_is_kept(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    CLEANUP(mem_freep) char *elsewhere = path_join(*state, "elsewhere");
    struct tls_peer peer;

    issue(&p, *state);
    EXPECT_OK(join(&p, p.token, &peer));
    free(p.lyon);
    p.lyon = site_make(elsewhere, "lyon");
    listen_again(&p);
    EXPECT_OK(pair_issue(p.paris, p.at_paris.address, &p.clock.clock, p.token, &err));
    EXPECT_ERR(ERR_EXISTS, join(&p, p.token, &peer));
    EXPECT_TEXT("already paired with a site named \"lyon\"");
}

static void two_sites_of_one_name_are_not_paired(void **state)
{
    CLEANUP(pairing_free) struct pairing p;
    CLEANUP(mem_freep) char *elsewhere = path_join(*state, "elsewhere");
    struct tls_peer peer;

    issue(&p, *state);
    free(p.lyon);
    p.lyon = site_make(elsewhere, "paris");
    EXPECT_ERR(ERR_INVALID, join(&p, p.token, &peer));
    EXPECT_TEXT("both sites are named \"paris\"");
}

static void a_throttle_is_kept_with_the_pairing_and_goes_with_it(void **state)
{
    CLEANUP(mem_freep) char *paris = site_make(*state, "paris");
    CLEANUP(mem_freep) char *lyon = site_make(*state, "lyon");
    struct throttle_plan plan = {.bytes_per_s = 1};
    struct throttle_plan read;

    EXPECT_ERR(ERR_NOT_FOUND, pair_set_throttle(paris, "lyon", &plan, &err));
    EXPECT_ERR(ERR_INVALID, pair_throttle(paris, "../lyon", &read, &err));
    site_pair(paris, "paris", lyon, "lyon");
    EXPECT_OK(pair_throttle(paris, "lyon", &plan, &err));
    assert_int_equal(plan.bytes_per_s, 0);
    EXPECT_OK(throttle_plan_parse("50MiB; mon-fri 08:00-18:00 10MiB", &plan, &err));
    EXPECT_OK(pair_set_throttle(paris, "lyon", &plan, &err));
    EXPECT_OK(pair_throttle(paris, "lyon", &read, &err));
    assert_true(throttle_plan_equal(&plan, &read));

    EXPECT_OK(pair_remove(paris, "lyon", &err));
    site_keep(paris, lyon, "lyon");
    EXPECT_OK(pair_throttle(paris, "lyon", &read, &err));
    assert_int_equal(read.bytes_per_s, 0);
    assert_int_equal(read.window_count, 0);
}

static void a_removed_peer_is_gone(void **state)
{
    CLEANUP(mem_freep) char *paris = site_make(*state, "paris");
    CLEANUP(mem_freep) char *lyon = site_make(*state, "lyon");
    CLEANUP(mem_freep) struct tls_peer *known = NULL;
    size_t count;

    site_pair(paris, "paris", lyon, "lyon");
    EXPECT_OK(pair_remove(paris, "lyon", &err));
    EXPECT_OK(pair_list(paris, &known, &count, &err));
    assert_int_equal(count, 0);
    EXPECT_ERR(ERR_NOT_FOUND, pair_remove(paris, "lyon", &err));
    EXPECT_ERR(ERR_INVALID, pair_remove(paris, "../x", &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(both_sites_know_each_other_afterwards),
        TMPDIR_TEST(a_token_works_once),
        TMPDIR_TEST(a_token_is_good_for_an_hour),
        TMPDIR_TEST(a_token_with_another_secret_is_refused),
        TMPDIR_TEST(a_site_without_the_tokens_key_is_not_talked_to),
        TMPDIR_TEST(what_is_no_token_is_said_so),
        TMPDIR_TEST(a_name_taken_by_another_authority_is_kept),
        TMPDIR_TEST(two_sites_of_one_name_are_not_paired),
        TMPDIR_TEST(a_throttle_is_kept_with_the_pairing_and_goes_with_it),
        TMPDIR_TEST(a_removed_peer_is_gone),
    };
    return cmocka_run_group_tests_name("pairing", tests, NULL, NULL);
}
