// SPDX-License-Identifier: Apache-2.0
#include "sync/receiver.h"

#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/frame.h"
#include "support/expect.h"
#include "support/tmpdir.h"
#include "sync/remote.h"

struct fixture {
    struct store *store;
    struct receiver_host host;
    struct receiver *receiver;
    struct link *ours;
    struct link *theirs;
    unsigned gets;
    bool failed;
};

static int store_get(void *ctx, const char *peer, const char *group, struct store **ret_store,
                     struct err *err_out)
{
    struct fixture *f = ctx;

    f->gets++;
    if (!str_eq(peer, "paris"))
        return err_set(err_out, ERR_DENIED, 0, "the replica of %s is not for %s", group, peer);
    if (!str_eq(group, "shop"))
        return err_set(err_out, ERR_NOT_FOUND, 0, "no replica of %s", group);
    *ret_store = f->store;
    return 0;
}

static void store_put(void *ctx, const char *group, struct store *store, bool failed)
{
    struct fixture *f = ctx;

    (void)group;
    assert_ptr_equal(store, f->store);
    f->failed = failed;
}

static void begin(struct fixture *f, const char *dir)
{
    struct transport *a;
    struct transport *b;
    CLEANUP(mem_freep) char *path = path_join(dir, "replica");
    struct store_dir_config config = {
        .fs = fs_real(), .clock = clock_real(), .dir = path, .group = "shop"};

    memset(f, 0, sizeof(*f));
    EXPECT_OK(store_dir_open(&config, &f->store, &err));
    f->host = (struct receiver_host){f, store_get, store_put, NULL};
    transport_pair(16 << 20, &a, &b);
    f->receiver = receiver_new(&f->host);
    f->ours = link_new(a, "lyon");
    f->theirs = link_new(b, "paris");
}

static void fixture_done(struct fixture *f)
{
    receiver_free(f->receiver);
    link_close(f->ours);
    link_close(f->theirs);
    store_close(f->store);
}

/* Sends a request as JSON text and lets the receiver answer it. */
static int ask(struct fixture *f, const char *text, const void *payload, size_t len)
{
    CLEANUP(json_freep) json_t *head = NULL;
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    struct err failed = ERR_EMPTY;
    struct store_info info;

    EXPECT_OK(json_parse(text, strlen(text), &head, &failed));
    EXPECT_OK(f->store->ops->info(f->store, &info, &failed));
    if (!json_object_get(head, "generation"))
        (void)json_object_set_new(head, "generation", json_integer((json_int_t)info.generation));
    EXPECT_OK(link_send(f->ours, head, payload, len, NULL, &failed));
    EXPECT_OK(link_recv(f->theirs, &msg, NULL, &failed));
    EXPECT_OK(receiver_serve(f->receiver, f->theirs, &msg, NULL, &failed));
    err_clear(&err);
    return link_reply(f->ours, NULL, NULL, &err);
}

#define UUID "00112233445566778899aabbccddeeff"

static void a_new_replica_is_empty(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    EXPECT_OK(ask(&f, "{\"op\":\"store.info\",\"group\":\"shop\"}", NULL, 0));
    assert_true(receiver_knows("store.info"));
    assert_false(receiver_knows("store.promote"));
}

static void what_is_not_in_the_protocol_is_refused(void **state)
{
    static const struct {
        enum err_code code;
        const char *text;
    } wrong[] = {
        {ERR_UNSUPPORTED, "{\"op\":\"store.promote\",\"group\":\"shop\"}"},
        {ERR_UNSUPPORTED, "{\"group\":\"shop\"}"},
        {ERR_INVALID, "{\"op\":\"store.info\"}"},
        {ERR_INVALID, "{\"op\":\"store.info\",\"group\":\"../shop\"}"},
        {ERR_INVALID, "{\"op\":\"store.info\",\"group\":7}"},
        {ERR_NOT_FOUND, "{\"op\":\"store.info\",\"group\":\"other\"}"},
        {ERR_INVALID, "{\"op\":\"store.base-sync\",\"group\":\"shop\",\"disk\":\"../x\"}"},
        {ERR_INVALID, "{\"op\":\"store.segment-open\",\"group\":\"shop\",\"disk\":\"a\"}"},
        {ERR_INVALID,
         "{\"op\":\"store.segment-open\",\"group\":\"shop\",\"disk\":\"a\",\"uuid\":\"00\"}"},
        {ERR_INVALID, "{\"op\":\"store.segment-open\",\"group\":\"shop\",\"disk\":\"a/b\","
                      "\"uuid\":\"" UUID "\"}"},
        {ERR_INVALID, "{\"op\":\"store.segment-write\",\"group\":\"shop\",\"disk\":\"a\","
                      "\"uuid\":\"" UUID "\",\"off\":-1}"},
        {ERR_UNSUPPORTED, "{\"op\":\"store.base-frame\",\"group\":\"shop\",\"disk\":\"a\","
                          "\"uuid\":\"" UUID "\",\"compression\":9,\"number\":0}"},
        {ERR_LIMIT, "{\"op\":\"store.digests\",\"group\":\"shop\",\"disk\":\"a\",\"point\":0,"
                    "\"first\":0,\"count\":99999999999}"},
        {ERR_LIMIT, "{\"op\":\"store.block-digests\",\"group\":\"shop\",\"disk\":\"a\","
                    "\"point\":0}"},
        {ERR_INVALID, "{\"op\":\"store.block-digests\",\"group\":\"shop\",\"disk\":\"a\"}"},
        {ERR_INVALID, "{\"op\":\"store.base-begin\",\"group\":\"shop\",\"need\":0,"
                      "\"generation\":1,\"disks\":[{\"name\":\"/etc\",\"size\":1}]}"},
    };
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int rc = ask(&f, wrong[i].text, "x", 1);
        if (rc == 0 || err.code != wrong[i].code)
            fail_msg("%s: [%s] %s", wrong[i].text, err_code_name(err.code), err.text);
        assert_false(link_is_broken(f.ours));
    }
}

static void another_peers_replica_is_denied(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct transport *a;
    struct transport *b;

    begin(&f, *state);
    link_close(f.ours);
    link_close(f.theirs);
    transport_pair(1 << 20, &a, &b);
    f.ours = link_new(a, "lyon");
    f.theirs = link_new(b, "nice");
    EXPECT_ERR(ERR_DENIED, ask(&f, "{\"op\":\"store.info\",\"group\":\"shop\"}", NULL, 0));
}

static void a_frame_that_was_not_sealed_by_us_is_refused(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    EXPECT_OK(ask(&f,
                  "{\"op\":\"store.base-begin\",\"group\":\"shop\",\"need\":0,\"generation\":1,"
                  "\"disks\":[{\"name\":\"a\",\"size\":65536}]}",
                  NULL, 0));
    static const char frame[] = "{\"op\":\"store.base-frame\",\"group\":\"shop\",\"disk\":\"a\","
                                "\"uuid\":\"" UUID "\",\"compression\":0,\"number\":0}";
    static const char sync[] = "{\"op\":\"store.base-sync\",\"group\":\"shop\",\"disk\":\"a\"}";
    /* That one was taken is said at once, what became of it when it is asked for. */
    EXPECT_OK(ask(&f, frame, "not a frame", 11));
    EXPECT_ERR(ERR_CORRUPT, ask(&f, sync, NULL, 0));
    EXPECT_OK(ask(&f, sync, NULL, 0));
}

/* Whatever is asked in between, of the group or of another one. */
static void a_frame_that_failed_is_told_to_the_sync_that_asks_for_it(void **state)
{
    static const char begin_copy[] =
        "{\"op\":\"store.base-begin\",\"group\":\"shop\",\"need\":0,\"generation\":1,"
        "\"disks\":[{\"name\":\"a\",\"size\":65536}]}";
    static const char frame[] = "{\"op\":\"store.base-frame\",\"group\":\"shop\",\"disk\":\"a\","
                                "\"uuid\":\"" UUID "\",\"compression\":0,\"number\":0}";
    static const char sync[] = "{\"op\":\"store.base-sync\",\"group\":\"shop\",\"disk\":\"a\"}";
    static const char end[] = "{\"op\":\"store.base-end\",\"group\":\"shop\"}";
    static const char info[] = "{\"op\":\"store.info\",\"group\":\"shop\"}";
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    EXPECT_OK(ask(&f, begin_copy, NULL, 0));
    EXPECT_OK(ask(&f, frame, "not a frame", 11));
    EXPECT_OK(ask(&f, info, NULL, 0));
    EXPECT_ERR(ERR_NOT_FOUND,
               ask(&f, "{\"op\":\"store.base-sync\",\"group\":\"other\",\"disk\":\"a\"}", NULL, 0));
    EXPECT_ERR(ERR_CORRUPT, ask(&f, sync, NULL, 0));
    EXPECT_TEXT("copy of disk a");

    EXPECT_OK(ask(&f, frame, "not a frame", 11));
    EXPECT_OK(ask(&f, info, NULL, 0));
    EXPECT_ERR(ERR_CORRUPT, ask(&f, frame, "not a frame", 11));
    EXPECT_ERR(ERR_CORRUPT, ask(&f, end, NULL, 0));
    /* A copy that begins again sends all of it again. */
    EXPECT_OK(ask(&f, frame, "not a frame", 11));
    EXPECT_OK(ask(&f, begin_copy, NULL, 0));
    EXPECT_OK(ask(&f, sync, NULL, 0));
}

static void what_comes_after_a_bad_frame_is_not_written_until_a_new_beginning(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *sealed = mem_alloc(FRAME_SEALED_MAX, 1);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(CHUNK_BYTES, 1);
    const struct extent extent = {.len = CHUNK_BYTES};
    const struct key key = {{0}};
    struct uuid uuid;
    struct digest digest;
    size_t len;
    static const char frame[] = "{\"op\":\"store.base-frame\",\"group\":\"shop\",\"disk\":\"a\","
                                "\"uuid\":\"" UUID "\",\"compression\":0,\"number\":1}";
    static const char sync[] = "{\"op\":\"store.base-sync\",\"group\":\"shop\",\"disk\":\"a\"}";
    static const char end[] = "{\"op\":\"store.base-end\",\"group\":\"shop\"}";
    static const struct digest zero;

    begin(&f, *state);
    EXPECT_OK(ask(&f,
                  "{\"op\":\"store.base-begin\",\"group\":\"shop\",\"need\":0,\"generation\":1,"
                  "\"disks\":[{\"name\":\"a\",\"size\":65536}]}",
                  NULL, 0));
    memset(bytes, 7, CHUNK_BYTES);
    assert_true(str_unhex(UUID, uuid.bytes, sizeof(uuid.bytes)));
    struct frame_coder *coder = frame_coder_new(&key, &uuid, COMPRESSION_ZSTD);
    frame_seal(coder, 1, &extent, 1, bytes, CHUNK_BYTES, sealed, &len);
    frame_coder_free(coder);

    EXPECT_OK(ask(&f, frame, "not a frame", 11));
    (void)(ask(&f, frame, sealed, len) < 0); /* taken or refused: the first may be known by now */
    EXPECT_ERR(ERR_CORRUPT, ask(&f, sync, NULL, 0));
    CLEANUP(mem_freep) char *path = mem_printf("%s/replica/a/head.raw", (const char *)*state);
    CLEANUP(str_free) struct str head = STR_EMPTY;
    EXPECT_OK(fs_read_file(fs_real(), path, CHUNK_BYTES, &head, &err));
    assert_int_equal(head.len, CHUNK_BYTES);
    assert_true(bytes_are_zero((const uint8_t *)str_text(&head), CHUNK_BYTES));

    EXPECT_OK(ask(&f, frame, sealed, len));
    EXPECT_OK(ask(&f, sync, NULL, 0));
    EXPECT_OK(ask(&f, end, NULL, 0));
    EXPECT_OK(f.store->ops->digests(f.store, "a", 0, 0, 1, &digest, &err));
    assert_memory_not_equal(&digest, &zero, sizeof(digest));
}

static void the_end_of_an_earlier_copy_does_not_end_the_one_that_was_begun_anew(void **state)
{
    static const char end[] = "{\"op\":\"store.base-end\",\"group\":\"shop\",\"copy\":2}";
    CLEANUP(fixture_done) struct fixture f;
    struct store_info info;

    begin(&f, *state);
    for (int copy = 2; copy < 4; copy++) {
        CLEANUP(mem_freep)
        char *text = mem_printf("{\"op\":\"store.base-begin\",\"group\":\"shop\",\"need\":0,"
                                "\"generation\":1,\"copy\":%d,"
                                "\"disks\":[{\"name\":\"a\",\"size\":65536}]}",
                                copy);
        EXPECT_OK(ask(&f, text, NULL, 0));
    }
    EXPECT_ERR(ERR_STATE, ask(&f, end, NULL, 0));
    EXPECT_TEXT("copy 2 cannot be ended, copy 3 was begun since");
    EXPECT_OK(f.store->ops->info(f.store, &info, &err));
    assert_int_equal(info.state, STORE_COPYING);
}

/* What was under way when somebody else was promoted. */
static void what_is_sent_under_another_generation_is_refused(void **state)
{
    static const char *const writing[] = {
        "\"op\":\"store.prune\",\"keep\":1",
        "\"op\":\"store.apply\"",
        "\"op\":\"store.base-frame\"",
        "\"op\":\"store.base-sync\",\"disk\":\"a\"",
        "\"op\":\"store.base-end\"",
        "\"op\":\"store.segment-open\",\"disk\":\"a\",\"uuid\":\"" UUID "\"",
        "\"op\":\"store.segment-write\"",
        "\"op\":\"store.segment-close\"",
        "\"op\":\"store.commit\"",
    };
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    EXPECT_OK(ask(&f,
                  "{\"op\":\"store.base-begin\",\"group\":\"shop\",\"need\":0,\"generation\":2,"
                  "\"disks\":[{\"name\":\"a\",\"size\":65536}]}",
                  NULL, 0));
    for (size_t i = 0; i < ARRAY_LEN(writing); i++) {
        CLEANUP(mem_freep)
        char *text = mem_printf("{%s,\"group\":\"shop\",\"generation\":1}", writing[i]);
        EXPECT_ERR(ERR_FENCED, ask(&f, text, NULL, 0));
        EXPECT_TEXT("at generation 2, this was sent under generation 1");
    }
}

static void a_broken_link_ends_the_service(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(json_freep) json_t *head = json_pack("{s:s, s:s}", "op", "store.info", "group", "shop");
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    begin(&f, *state);
    EXPECT_OK(link_send(f.ours, head, NULL, 0, NULL, &err));
    EXPECT_OK(link_recv(f.theirs, &msg, NULL, &err));
    link_closep(&f.ours);
    EXPECT_ERR(ERR_NET, receiver_serve(f.receiver, f.theirs, &msg, NULL, &err));
    assert_int_equal(f.gets, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_new_replica_is_empty),
        TMPDIR_TEST(what_is_not_in_the_protocol_is_refused),
        TMPDIR_TEST(another_peers_replica_is_denied),
        TMPDIR_TEST(a_frame_that_was_not_sealed_by_us_is_refused),
        TMPDIR_TEST(a_frame_that_failed_is_told_to_the_sync_that_asks_for_it),
        TMPDIR_TEST(what_comes_after_a_bad_frame_is_not_written_until_a_new_beginning),
        TMPDIR_TEST(the_end_of_an_earlier_copy_does_not_end_the_one_that_was_begun_anew),
        TMPDIR_TEST(what_is_sent_under_another_generation_is_refused),
        TMPDIR_TEST(a_broken_link_ends_the_service),
    };
    return cmocka_run_group_tests_name("receiver", tests, NULL, NULL);
}
