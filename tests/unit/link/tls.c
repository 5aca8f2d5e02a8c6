// SPDX-License-Identifier: Apache-2.0
#include "link/tls.h"

#include "base/fs.h"
#include "base/mem.h"
#include "link/identity.h"
#include "link/link_internal.h"
#include "link/tls_internal.h"
#include "support/expect.h"
#include "support/link/sites.h"
#include "support/tmpdir.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct sites {
    char *paris;
    char *lyon;
    struct tls *tls; /* of paris */
    struct acceptor at_lyon;
};

static void sites_free(struct sites *s)
{
    tls_free(s->tls);
    free(s->paris);
    free(s->lyon);
}

static void sites_make(struct sites *s, const char *dir)
{
    memset(s, 0, sizeof(*s));
    s->paris = site_make(dir, "paris");
    s->lyon = site_make(dir, "lyon");
}

static void listen_paired(struct sites *s, const char *dir)
{
    sites_make(s, dir);
    site_pair(s->paris, "paris", s->lyon, "lyon");
    EXPECT_OK(tls_load(s->paris, &s->tls, &err));
    acceptor_listen(&s->at_lyon, s->lyon);
}

static void echo_once(struct acceptor *a, struct link *link)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    a->result = link_recv(link, &msg, a->cancel, &a->err);
    if (a->result == 0)
        a->result = link_answer(link, msg.head, msg.payload, msg.payload_len, a->cancel, &a->err);
}

static void read_once(struct acceptor *a, struct link *link)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    a->result = link_recv(link, &msg, a->cancel, &a->err);
}

static void paired_sites_talk_and_each_knows_the_other_by_name(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(link_msg_done) struct link_msg reply = {0};
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "echo");
    CLEANUP(mem_freep) uint8_t *large = mem_alloc(LINK_PAYLOAD_MAX, 1);

    listen_paired(&s, *state);
    s.at_lyon.serve = echo_once;
    acceptor_start(&s.at_lyon);
    memset(large, 0x5a, LINK_PAYLOAD_MAX);
    EXPECT_OK(tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    EXPECT_OK(link_call(link, head, large, LINK_PAYLOAD_MAX, &reply, NULL, &err));
    assert_string_equal(link_peer(link), "lyon");
    assert_int_equal(reply.payload_len, LINK_PAYLOAD_MAX);
    assert_memory_equal(reply.payload, large, LINK_PAYLOAD_MAX);
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.result, 0);
    assert_int_equal(s.at_lyon.kind, TLS_SITE);
    assert_string_equal(s.at_lyon.peer, "paris");
}

static void echo_all(struct acceptor *a, struct link *link)
{
    int rc = 0;

    while (rc == 0) {
        CLEANUP(link_msg_done) struct link_msg msg = {0};
        rc = link_recv(link, &msg, NULL, &a->err);
        if (rc == 0)
            rc = link_answer(link, NULL, msg.payload, msg.payload_len, NULL, &a->err);
    }
}

static void messages_of_any_number_of_records_arrive_as_they_were(void **state)
{
    static const size_t lens[] = {16383, 16384, 16385, 131072, 135168, 135169, 300001, 1048576, 5};
    CLEANUP(sites_free) struct sites s;
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "echo");
    CLEANUP(mem_freep) uint8_t *large = mem_alloc(LINK_PAYLOAD_MAX, 1);
    struct link *link = NULL;

    listen_paired(&s, *state);
    s.at_lyon.serve = echo_all;
    acceptor_start(&s.at_lyon);
    for (size_t i = 0; i < LINK_PAYLOAD_MAX; i++)
        large[i] = (uint8_t)(i * 2654435761u >> 11);
    EXPECT_OK(tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        CLEANUP(link_msg_done) struct link_msg reply = {0};
        EXPECT_OK(link_call(link, head, large + i, lens[i], &reply, NULL, &err));
        assert_int_equal(reply.payload_len, lens[i]);
        assert_memory_equal(reply.payload, large + i, lens[i]);
    }
    link_close(link);
    acceptor_join(&s.at_lyon);
}

static void a_server_with_another_authority_is_not_believed(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(mem_freep) char *elsewhere = path_join(*state, "elsewhere");
    struct link *link = NULL;

    sites_make(&s, *state);
    site_pair(s.paris, "paris", s.lyon, "lyon");
    CLEANUP(mem_freep) char *impostor = site_make(elsewhere, "lyon");
    EXPECT_OK(tls_load(s.paris, &s.tls, &err));
    acceptor_listen(&s.at_lyon, impostor);
    acceptor_start(&s.at_lyon);
    EXPECT_ERR(ERR_AUTH, tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    EXPECT_TEXT("the certificate of \"lyon\", by \"lyon authority\"");
    EXPECT_TEXT("site \"paris\" pinned");
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_AUTH);
}

static void a_client_with_another_authority_is_refused_and_told(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(mem_freep) char *elsewhere = path_join(*state, "elsewhere");
    struct link *link = NULL;

    sites_make(&s, *state);
    site_pair(s.paris, "paris", s.lyon, "lyon");
    CLEANUP(mem_freep) char *impostor = site_make(elsewhere, "paris");
    site_keep(impostor, s.lyon, "lyon");

    EXPECT_OK(tls_load(impostor, &s.tls, &err));
    acceptor_listen(&s.at_lyon, s.lyon);
    acceptor_start(&s.at_lyon);
    EXPECT_ERR(ERR_AUTH, tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    EXPECT_TEXT("does not accept our certificate");
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_AUTH);
    assert_non_null(strstr(s.at_lyon.err.text, "\"paris\""));
    assert_non_null(strstr(s.at_lyon.err.text, "\"lyon\""));
}

static void a_site_that_answers_under_another_name_is_not_believed(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(mem_freep) char *nice = NULL;
    struct link *link = NULL;

    sites_make(&s, *state);
    nice = site_make(*state, "nice");
    site_pair(s.paris, "paris", s.lyon, "lyon");
    site_pair(s.paris, "paris", nice, "nice");
    EXPECT_OK(tls_load(s.paris, &s.tls, &err));
    acceptor_listen(&s.at_lyon, nice);
    acceptor_start(&s.at_lyon);
    EXPECT_ERR(ERR_AUTH, tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    EXPECT_TEXT("this is site \"nice\", not \"lyon\"");
    acceptor_join(&s.at_lyon);
}

static void a_peer_that_was_never_paired_is_an_error_at_once(void **state)
{
    CLEANUP(sites_free) struct sites s;
    struct link *link = NULL;

    sites_make(&s, *state);
    EXPECT_OK(tls_load(s.paris, &s.tls, &err));
    EXPECT_ERR(ERR_AUTH, tls_connect(s.tls, "lyon", "127.0.0.1:1", NULL, &link, &err));
    EXPECT_TEXT("\"paris\" is not paired with a site \"lyon\"");
}

static void nobody_listening_is_named_with_address_and_cause(void **state)
{
    CLEANUP(sites_free) struct sites s;
    struct link *link = NULL;

    listen_paired(&s, *state);
    acceptor_start(&s.at_lyon);
    cancel_fire(s.at_lyon.cancel);
    acceptor_join(&s.at_lyon);
    EXPECT_ERR(ERR_NET, tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    EXPECT_TEXT(s.at_lyon.address);
    EXPECT_TEXT("Connection refused");
}

/* A client made by hand from OpenSSL, to be wrong in one way. */
static void connect_by_hand(struct sites *s, bool with_cert, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    CLEANUP(mem_freep) char *crt = path_join(s->paris, IDENTITY_SITE_CRT);
    CLEANUP(mem_freep) char *key = path_join(s->paris, IDENTITY_SITE_KEY);
    int fd = -1;
    char byte;

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
    if (with_cert) {
        assert_int_equal(SSL_CTX_use_certificate_file(ctx, crt, SSL_FILETYPE_PEM), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), 1);
    }
    SSL *ssl = SSL_new(ctx);
    assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)ALPN_SITE, 9), 0);
    SSL_set_connect_state(ssl);
    EXPECT_OK(tcp_connect(s->at_lyon.address, NULL, &fd, &err));
    struct tls_stream *stream = tls_stream_new(ssl, fd);
    struct transport *t = tls_stream_transport(stream);
    /* Refused now or, without a certificate, when the server looked for it. */
    if (tls_stream_handshake(stream, NULL, NULL, &err) == 0)
        EXPECT_ERR(ERR_AUTH, t->read(t, &byte, 1, NULL, &err));
    t->close(t);
    SSL_CTX_free(ctx);
}

static void a_client_without_a_certificate_is_refused(void **state)
{
    CLEANUP(sites_free) struct sites s;

    listen_paired(&s, *state);
    acceptor_start(&s.at_lyon);
    connect_by_hand(&s, false, TLS1_3_VERSION);
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_AUTH);
    assert_non_null(strstr(s.at_lyon.err.text, "showed no certificate"));
}

static void a_client_of_tls_1_2_is_refused(void **state)
{
    CLEANUP(sites_free) struct sites s;

    listen_paired(&s, *state);
    acceptor_start(&s.at_lyon);
    connect_by_hand(&s, true, TLS1_2_VERSION);
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_PROTOCOL);
    assert_non_null(strstr(s.at_lyon.err.text, "unsupported protocol"));
}

static void garbage_instead_of_tls_is_refused(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(fd_close) int fd = -1;
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: lyon\r\n\r\n";

    listen_paired(&s, *state);
    acceptor_start(&s.at_lyon);
    EXPECT_OK(tcp_connect(s.at_lyon.address, NULL, &fd, &err));
    assert_int_equal(send(fd, garbage, sizeof(garbage), MSG_NOSIGNAL), sizeof(garbage));
    (void)shutdown(fd, SHUT_WR);
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_PROTOCOL);
}

static void a_client_that_says_nothing_is_dropped_by_the_cancel(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(fd_close) int fd = -1;

    listen_paired(&s, *state);
    cancel_free(s.at_lyon.cancel);
    s.at_lyon.cancel = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    acceptor_start(&s.at_lyon);
    EXPECT_OK(tcp_connect(s.at_lyon.address, NULL, &fd, &err));
    cancel_fire(s.at_lyon.cancel);
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_CANCELLED);
}

static void a_peer_that_reads_nothing_is_left_by_the_cancel(void **state)
{
    CLEANUP(sites_free) struct sites s;
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "echo");
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(clock_real(), NULL, 100);
    CLEANUP(mem_freep) uint8_t *large = mem_alloc(LINK_PAYLOAD_MAX, 1);
    int rc = 0;

    listen_paired(&s, *state);
    /* The handshake by a thread that then reads one message only. */
    s.at_lyon.serve = read_once;
    acceptor_start(&s.at_lyon);
    EXPECT_OK(tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    while (rc == 0)
        rc = link_send(link, head, large, LINK_PAYLOAD_MAX, cancel, &err);
    assert_true(err.code == ERR_TIMEOUT || err.code == ERR_NET);
    assert_true(link_is_broken(link));
    acceptor_join(&s.at_lyon);
}

static void a_peer_that_dies_in_mid_message_is_a_broken_link(void **state)
{
    CLEANUP(sites_free) struct sites s;
    struct link *link = NULL;
    uint8_t prefix[12] = {'m', 's', 't', '1', 0, 0, 1, 0};

    listen_paired(&s, *state);
    s.at_lyon.serve = read_once;
    acceptor_start(&s.at_lyon);
    EXPECT_OK(tls_connect(s.tls, "lyon", s.at_lyon.address, NULL, &link, &err));
    struct transport *t = tls_stream_transport(tls_stream_of(link_transport(link)));
    EXPECT_OK(t->write(t, prefix, sizeof(prefix), NULL, &err));
    link_close(link);
    acceptor_join(&s.at_lyon);
    assert_int_equal(s.at_lyon.err.code, ERR_NET);
    assert_non_null(strstr(s.at_lyon.err.text, "paris: closed by the peer"));
}

static void an_identity_is_made_once(void **state)
{
    CLEANUP(mem_freep) char *dir = site_make(*state, "paris");
    CLEANUP(mem_freep) char *key = path_join(dir, "authority.key");
    struct stat st;

    EXPECT_ERR(ERR_EXISTS, authority_create(dir, "paris", &err));
    EXPECT_TEXT("authority.key is there already");
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    EXPECT_ERR(ERR_INVALID, authority_create(*state, "Not a name", &err));
}

static void a_missing_identity_says_how_to_make_one(void **state)
{
    struct tls *tls = NULL;

    EXPECT_ERR(ERR_NOT_FOUND, tls_load(*state, &tls, &err));
    EXPECT_TEXT("muster site init");
}

static void an_address_without_a_port_is_explained(void **state)
{
    int fd = -1;

    (void)state;
    EXPECT_ERR(ERR_INVALID, tls_listen("127.0.0.1", &fd, &err));
    EXPECT_TEXT("HOST:PORT");
    EXPECT_ERR(ERR_INVALID, tls_listen("127.0.0.1:70000", &fd, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(paired_sites_talk_and_each_knows_the_other_by_name),
        TMPDIR_TEST(messages_of_any_number_of_records_arrive_as_they_were),
        TMPDIR_TEST(a_server_with_another_authority_is_not_believed),
        TMPDIR_TEST(a_client_with_another_authority_is_refused_and_told),
        TMPDIR_TEST(a_site_that_answers_under_another_name_is_not_believed),
        TMPDIR_TEST(a_peer_that_was_never_paired_is_an_error_at_once),
        TMPDIR_TEST(nobody_listening_is_named_with_address_and_cause),
        TMPDIR_TEST(a_client_without_a_certificate_is_refused),
        TMPDIR_TEST(a_client_of_tls_1_2_is_refused),
        TMPDIR_TEST(garbage_instead_of_tls_is_refused),
        TMPDIR_TEST(a_client_that_says_nothing_is_dropped_by_the_cancel),
        TMPDIR_TEST(a_peer_that_reads_nothing_is_left_by_the_cancel),
        TMPDIR_TEST(a_peer_that_dies_in_mid_message_is_a_broken_link),
        TMPDIR_TEST(an_identity_is_made_once),
        TMPDIR_TEST(a_missing_identity_says_how_to_make_one),
        cmocka_unit_test(an_address_without_a_port_is_explained),
    };
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
