// SPDX-License-Identifier: Apache-2.0
#include "link/link.h"

#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"

#include <pthread.h>

struct ends {
    struct link *a;
    struct link *b;
    struct transport *raw; /* what `a` would be, when a test writes the bytes itself */
};

static struct ends ends_new(void)
{
    struct transport *a;
    struct transport *b;

    transport_pair(1 << 20, &a, &b);
    return (struct ends){.a = link_new(a, "lyon"), .b = link_new(b, "paris")};
}

static struct ends raw_new(void)
{
    struct transport *a;
    struct transport *b;

    transport_pair(1 << 20, &a, &b);
    return (struct ends){.raw = a, .b = link_new(b, "paris")};
}

static void ends_free(struct ends *ends)
{
    fault_clear();
    link_close(ends->a);
    link_close(ends->b);
    if (ends->raw)
        ends->raw->close(ends->raw);
}

static void send_raw(struct ends *ends, const void *bytes, size_t len)
{
    EXPECT_OK(ends->raw->write(ends->raw, bytes, len, NULL, &err));
}

static void a_message_arrives_as_it_was_sent(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    CLEANUP(json_freep) json_t *head = json_pack("{s:s, s:i}", "op", "test", "n", 7);

    (void)state;
    EXPECT_OK(link_send(ends.a, head, "payload", 7, NULL, &err));
    EXPECT_OK(link_recv(ends.b, &msg, NULL, &err));
    assert_true(json_equal(msg.head, head));
    assert_int_equal(msg.payload_len, 7);
    assert_memory_equal(msg.payload, "payload", 7);
}

static void *send_large(void *arg)
{
    struct link *link = arg;
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "large");
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(LINK_PAYLOAD_MAX, 1);
    struct err failed = ERR_EMPTY;

    for (size_t i = 0; i < LINK_PAYLOAD_MAX; i++)
        bytes[i] = (uint8_t)(i * 7 >> 3);
    (void)(link_send(link, head, bytes, LINK_PAYLOAD_MAX, NULL, &failed) < 0);
    return NULL;
}

static void the_largest_payload_passes_a_smaller_window(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, send_large, ends.a), 0);
    EXPECT_OK(link_recv(ends.b, &msg, NULL, &err));
    (void)pthread_join(thread, NULL);
    assert_int_equal(msg.payload_len, LINK_PAYLOAD_MAX);
    for (size_t i = 0; i < LINK_PAYLOAD_MAX; i += 4093)
        assert_int_equal(msg.payload[i], (uint8_t)(i * 7 >> 3));
}

static void answers_come_in_order_and_errors_keep_their_code(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "test");
    CLEANUP(json_freep) json_t *result = json_pack("{s:i}", "n", 1);
    struct err failure = ERR_EMPTY;

    (void)state;
    EXPECT_OK(link_send(ends.a, head, NULL, 0, NULL, &err));
    EXPECT_OK(link_send(ends.a, head, NULL, 0, NULL, &err));
    EXPECT_OK(link_answer(ends.b, result, "x", 1, NULL, &err));
    (void)err_set(&failure, ERR_FENCED, 0, "generation 3 is\nnot 4");
    EXPECT_OK(link_answer_err(ends.b, &failure, NULL, &err));

    CLEANUP(link_msg_done) struct link_msg reply = {0};
    EXPECT_OK(link_reply(ends.a, &reply, NULL, &err));
    assert_int_equal(json_get_u64(reply.head, "n", 0), 1);
    EXPECT_ERR(ERR_FENCED, link_reply(ends.a, NULL, NULL, &err));
    EXPECT_TEXT("lyon: generation 3 is?not 4");
    assert_false(link_is_broken(ends.a));
}

static void an_answer_without_a_result_is_refused(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    CLEANUP(json_freep) json_t *odd = json_pack("{s:s}", "op", "what");

    (void)state;
    EXPECT_OK(link_send(ends.b, odd, NULL, 0, NULL, &err));
    EXPECT_ERR(ERR_PROTOCOL, link_reply(ends.a, NULL, NULL, &err));
    EXPECT_ERR(ERR_NET, link_reply(ends.a, NULL, NULL, &err));
}

static void foreign_bytes_are_refused_before_anything_is_allocated(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
    } wrong[] = {
        {"GET / HTTP/1", "not a message"},
        {"mst1\xff\xff\xff\xff\0\0\0\0", "head of 4294967295"},
        {"mst1\0\0\0\1\0\0\0\0", "head of 1 bytes"},
        {"mst1\0\0\0\2\0\x40\0\1", "payload of 4194305"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        CLEANUP(ends_free) struct ends ends = raw_new();
        struct link_msg msg = {0};
        send_raw(&ends, wrong[i].bytes, 12);
        EXPECT_ERR(ERR_PROTOCOL, link_recv(ends.b, &msg, NULL, &err));
        EXPECT_TEXT(wrong[i].text);
        assert_true(link_is_broken(ends.b));
    }
}

static void a_head_that_is_no_object_is_refused(void **state)
{
    static const char *const wrong[] = {"[]", "{]", "\"\"", "{\"op\":\"\\u0000\"}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        CLEANUP(ends_free) struct ends ends = raw_new();
        struct link_msg msg = {0};
        uint8_t prefix[12] = {'m', 's', 't', '1'};
        prefix[7] = (uint8_t)strlen(wrong[i]);
        send_raw(&ends, prefix, sizeof(prefix));
        send_raw(&ends, wrong[i], strlen(wrong[i]));
        EXPECT_ERR(ERR_PROTOCOL, link_recv(ends.b, &msg, NULL, &err));
    }
}

static void deeply_nested_heads_are_refused(void **state)
{
    CLEANUP(ends_free) struct ends ends = raw_new();
    struct link_msg msg = {0};
    uint8_t prefix[12] = {'m', 's', 't', '1', 0, 0, 0x80, 0};
    CLEANUP(mem_freep) char *deep = mem_alloc(32768, 1);

    (void)state;
    memset(deep, '[', 32768);
    send_raw(&ends, prefix, sizeof(prefix));
    send_raw(&ends, deep, 32768);
    EXPECT_ERR(ERR_PROTOCOL, link_recv(ends.b, &msg, NULL, &err));
}

static void an_early_peer_gets_less_room(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "0123456789");
    struct link_msg msg = {0};

    (void)state;
    link_set_limits(ends.b, 16, 0);
    EXPECT_OK(link_send(ends.a, head, NULL, 0, NULL, &err));
    EXPECT_ERR(ERR_PROTOCOL, link_recv(ends.b, &msg, NULL, &err));
}

static void a_connection_cut_in_mid_message_breaks_the_link_at_both_ends(void **state)
{
    struct transport *a;
    struct transport *b;
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "test");
    struct link_msg msg = {0};
    uint8_t payload[1000] = {0};

    (void)state;
    transport_pair(1 << 20, &a, &b);
    struct link *from = link_new(transport_cut(a, 500), "lyon");
    struct link *to = link_new(b, "paris");
    EXPECT_ERR(ERR_NET, link_send(from, head, payload, sizeof(payload), NULL, &err));
    EXPECT_TEXT("lyon: ");
    EXPECT_ERR(ERR_NET, link_recv(to, &msg, NULL, &err));
    EXPECT_TEXT("paris: closed by the peer");
    EXPECT_ERR(ERR_NET, link_send(from, head, NULL, 0, NULL, &err));
    EXPECT_ERR(ERR_NET, link_reply(from, NULL, NULL, &err));
    link_close(from);
    link_close(to);
}

static void a_wait_ends_with_its_deadline(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    struct clock_fake fake;
    struct link_msg msg = {0};

    (void)state;
    clock_fake_init(&fake, 0);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(&fake.clock, NULL, 0);
    EXPECT_ERR(ERR_TIMEOUT, link_recv(ends.b, &msg, cancel, &err));
    assert_true(link_is_broken(ends.b));
}

static void a_fault_on_the_line_is_a_broken_link(void **state)
{
    CLEANUP(ends_free) struct ends ends = ends_new();
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "test");

    (void)state;
    fault_arm("link.send", 1, 0);
    EXPECT_OK(link_send(ends.a, head, NULL, 0, NULL, &err));
    EXPECT_ERR(ERR_NET, link_send(ends.a, head, NULL, 0, NULL, &err));
    assert_true(link_is_broken(ends.a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_arrives_as_it_was_sent),
        cmocka_unit_test(the_largest_payload_passes_a_smaller_window),
        cmocka_unit_test(answers_come_in_order_and_errors_keep_their_code),
        cmocka_unit_test(an_answer_without_a_result_is_refused),
        cmocka_unit_test(foreign_bytes_are_refused_before_anything_is_allocated),
        cmocka_unit_test(a_head_that_is_no_object_is_refused),
        cmocka_unit_test(deeply_nested_heads_are_refused),
        cmocka_unit_test(an_early_peer_gets_less_room),
        cmocka_unit_test(a_connection_cut_in_mid_message_breaks_the_link_at_both_ends),
        cmocka_unit_test(a_wait_ends_with_its_deadline),
        cmocka_unit_test(a_fault_on_the_line_is_a_broken_link),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
