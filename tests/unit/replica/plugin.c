// SPDX-License-Identifier: Apache-2.0
/* The plugin in a real nbdkit, read and written by libnbd's own tools. */
#include "base/mem.h"
#include "base/proc.h"
#include "base/sink.h"
#include "support/expect.h"
#include "support/replica/fixture.h"
#include "support/replica/own.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PLUGIN   MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so"
#define ARGS_MAX 16

/* nbdkit ARGS... --run SCRIPT; its exit status, and what it said. */
static int nbdkit(const char *const *args, const char *script, struct str *ret_said)
{
    const char *argv[ARGS_MAX] = {"nbdkit", "--exit-with-parent", "-U", "-", PLUGIN};
    struct proc_spec spec = {.argv = argv};
    int status = -1;
    size_t n = 5;

    for (; *args; args++)
        argv[n++] = *args;
    argv[n++] = "--run";
    argv[n++] = script;
    assert_true(n < ARGS_MAX);
    EXPECT_OK(proc_run(&spec, 65536, ret_said, &status, NULL, &err));
    return status;
}

struct settings {
    char *dir;
    char *keyfile;
    char *disk;
    char *point;
};

static void settings_done(struct settings *s)
{
    free(s->dir);
    free(s->keyfile);
    free(s->disk);
    free(s->point);
}

static struct settings settings_of(struct fixture *f, const char *disk, uint64_t point)
{
    CLEANUP(mem_freep) char *keyfile = path_join(f->root, "key");

    EXPECT_OK(fs_replace_file(fs_real(), keyfile, f->kit.key.bytes, KEY_BYTES, 0600, &err));
    return (struct settings){mem_printf("dir=%s", f->kit.dir), mem_printf("keyfile=%s", keyfile),
                             mem_printf("disk=%s", disk), mem_printf("point=%" PRIu64, point)};
}

static void a_kept_point_is_served_bit_by_bit(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *out = path_join(f->root, "out.raw");
    CLEANUP(mem_freep) char *script = mem_printf("nbdcopy --no-extents \"$uri\" %s", out);
    CLEANUP(str_free) struct str said = STR_EMPTY;
    CLEANUP(str_free) struct str have = STR_EMPTY;

    fixture_copy(f);
    fixture_points(f, 4);
    CLEANUP(settings_done) struct settings s = settings_of(f, "web.vdb", 2);
    const char *const args[] = {s.dir, s.keyfile, s.disk, s.point, NULL};
    if (nbdkit(args, script, &said) != 0)
        fail_msg("%s", str_text(&said));
    EXPECT_OK(fs_read_file(fs_real(), out, SIZE_MAX / 2, &have, &err));
    assert_int_equal(have.len, f->kit.disks[1].size);
    assert_memory_equal(have.ptr, kit_image(&f->kit, 2)->bytes[1], have.len);
}

/* Its head is a qcow2 file: the plugin reads it through the private server, with no setting of its
 * own. */
static void a_point_over_a_machines_own_qcow2_disk_is_served(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *out = path_join(f->root, "out.raw");
    CLEANUP(mem_freep) char *script = mem_printf("nbdcopy --no-extents \"$uri\" %s", out);
    CLEANUP(own_done) struct own own;
    char *first;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(f->store->ops->point_manifest(f->store, 2, &first, &err));
    store_closep(&f->store);
    EXPECT_OK(store_dir_remove(fs_real(), f->kit.dir, &err));
    EXPECT_OK(
        own_init(&own, &f->kit, f->root, OWN_QCOW2, first, kit_taken_over(&f->kit, 6, 2), &err));
    EXPECT_OK(kit_open(&f->kit, fs_real(), &f->store, &err));
    EXPECT_OK(own_adopt(&own, f->store, &err));
    fixture_points(f, 2);
    for (size_t i = 0; i < 2; i++) { /* with the store open, and closed */
        CLEANUP(str_free) struct str said = STR_EMPTY;
        CLEANUP(str_free) struct str have = STR_EMPTY;
        CLEANUP(settings_done) struct settings s = settings_of(f, "web.vdb", 2);
        const char *const args[] = {s.dir, s.keyfile, s.disk, s.point, NULL};
        if (nbdkit(args, script, &said) != 0)
            fail_msg("%s", str_text(&said));
        EXPECT_OK(fs_read_file(fs_real(), out, SIZE_MAX / 2, &have, &err));
        assert_int_equal(have.len, f->kit.disks[1].size);
        assert_memory_equal(have.ptr, kit_image(&f->kit, 2)->bytes[1], have.len);
        store_closep(&f->store);
    }
}

static void a_served_point_is_read_only_and_can_be_read_by_many(void **state)
{
    struct fixture *f = *state;
    CLEANUP(str_free) struct str said = STR_EMPTY;

    fixture_copy(f);
    fixture_points(f, 1);
    CLEANUP(settings_done) struct settings s = settings_of(f, "web.vda", 1);
    const char *const args[] = {s.dir, s.keyfile, s.disk, s.point, NULL};
    if (nbdkit(args, "nbdinfo \"$uri\"", &said) != 0)
        fail_msg("%s", str_text(&said));
    assert_non_null(strstr(said.ptr, "is_read_only: true"));
    assert_non_null(strstr(said.ptr, "can_multi_conn: true"));
    assert_non_null(strstr(said.ptr, "1048576"));
}

static void a_wrong_setting_is_said_before_anything_is_served(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *short_key = path_join(f->root, "short");
    CLEANUP(mem_freep) char *key_arg = mem_printf("keyfile=%s", short_key);

    fixture_copy(f);
    fixture_points(f, 1);
    EXPECT_OK(fs_replace_file(fs_real(), short_key, "abc", 3, 0600, &err));
    CLEANUP(settings_done) struct settings s = settings_of(f, "web.vda", 1);
    const struct {
        const char *args[6];
        const char *said;
    } wrong[] = {
        {{s.dir, s.keyfile, s.disk, "point=8", NULL}, "there are: 1"},
        {{s.dir, s.keyfile, "disk=web.vdx", s.point, NULL}, "web.vda web.vdb"},
        {{s.dir, key_arg, s.disk, s.point, NULL}, "a key has 32 bytes"},
        {{s.dir, s.keyfile, s.disk, NULL}, "mode=view needs"},
        {{s.dir, s.keyfile, s.disk, s.point, "colour=red", NULL}, "unknown parameter"},
        {{"mode=sideways", NULL}, "neither view nor sink"},
        {{"mode=sink", "size=1M", NULL}, "mode=sink needs"},
        {{"mode=sink", "size=1M", "socket=/nonexistent/sock", NULL}, "connect"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        CLEANUP(str_free) struct str said = STR_EMPTY;
        assert_int_not_equal(nbdkit(wrong[i].args, "true", &said), 0);
        if (!strstr(str_text(&said), wrong[i].said))
            fail_msg("\"%s\" lacks \"%s\"", str_text(&said), wrong[i].said);
    }
}

/* --- The sink ---------------------------------------------------------------------------- */

struct receiver {
    int listener;
    uint8_t *disk;
    uint64_t size;
    uint64_t refuse_at; /* an offset whose record is refused; UINT64_MAX: none */
    size_t data;
    size_t zeros;
    size_t flushes;
    size_t ends;
    const char *ended; /* a file that is made at the first end; NULL: none */
    bool strange;
};

static bool read_all(int fd, void *buf, size_t len)
{
    return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

static bool receive(struct receiver *r, int fd, const struct sink_record *record)
{
    if (record->off > r->size || record->len > r->size - record->off)
        return false;
    switch (record->kind) {
    case SINK_DATA: r->data++; return read_all(fd, r->disk + record->off, (size_t)record->len);
    case SINK_ZERO:
        r->zeros++;
        memset(r->disk + record->off, 0, (size_t)record->len);
        return true;
    case SINK_FLUSH: r->flushes++; return true;
    case SINK_END:
        r->ends++;
        return !r->ended || fs_replace_file(fs_real(), r->ended, "", 0, 0600, NULL) == 0;
    }
    return false;
}

static void *receive_all(void *arg)
{
    struct receiver *r = arg;
    CLEANUP(fd_close) int fd = accept(r->listener, NULL, NULL);
    uint8_t head[SINK_RECORD_BYTES];

    while (read_all(fd, head, sizeof(head))) {
        struct sink_record record;
        if (!sink_get(head, &record) || !receive(r, fd, &record)) {
            r->strange = true;
            break;
        }
        uint32_t status = record.kind == SINK_DATA && record.off == r->refuse_at ? htole32(28) : 0;
        if (send(fd, &status, sizeof(status), MSG_NOSIGNAL) != (ssize_t)sizeof(status))
            break;
    }
    return NULL;
}

static int run_sink(struct fixture *f, struct receiver *r, const char *script, struct str *ret_said)
{
    CLEANUP(mem_freep) char *path = path_join(f->root, "sink");
    CLEANUP(mem_freep) char *sock = mem_printf("socket=%s", path);
    CLEANUP(mem_freep) char *size = mem_printf("size=%" PRIu64, r->size);
    const char *const args[] = {"mode=sink", sock, size, NULL};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    pthread_t thread;

    memcpy(at.sun_path, path, strlen(path));
    r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    r->disk = mem_alloc((size_t)r->size, 1);
    memset(r->disk, 0xee, (size_t)r->size);
    assert_int_equal(bind(r->listener, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(r->listener, 1), 0);
    assert_int_equal(pthread_create(&thread, NULL, receive_all, r), 0);
    int status = nbdkit(args, script, ret_said);
    (void)shutdown(r->listener, SHUT_RDWR); /* in case nobody ever came */
    (void)pthread_join(thread, NULL);
    fd_close(&r->listener);
    return status;
}

static void a_sink_passes_on_every_write(void **state)
{
    struct fixture *f = *state;
    struct receiver r = {.size = f->kit.disks[1].size, .refuse_at = UINT64_MAX};
    CLEANUP(mem_freep) char *in = path_join(f->root, "in.raw");
    CLEANUP(mem_freep) char *ended = path_join(f->root, "ended");
    /* The server ends with its script, maybe before it saw that its client left: that is waited for. */
    CLEANUP(mem_freep)
    char *script =
        mem_printf("nbdcopy --flush %s \"$uri\" || exit; i=0; while [ ! -e %s ] && [ $i -lt"
                   " 1000 ]; do sleep 0.01; i=$((i + 1)); done",
                   in, ended);
    CLEANUP(str_free) struct str said = STR_EMPTY;

    r.ended = ended;
    memset(f->kit.disks[1].bytes + 262144, 0, 131072);
    EXPECT_OK(fs_replace_file(fs_real(), in, f->kit.disks[1].bytes, (size_t)r.size, 0600, &err));
    if (run_sink(f, &r, script, &said) != 0)
        fail_msg("%s", str_text(&said));
    assert_false(r.strange);
    assert_memory_equal(r.disk, f->kit.disks[1].bytes, (size_t)r.size);
    assert_true(r.data > 0);
    assert_true(r.zeros > 0);
    assert_true(r.flushes > 0);
    assert_true(r.ends > 0);
    free(r.disk);
}

static void what_the_receiver_refuses_the_writer_hears(void **state)
{
    struct fixture *f = *state;
    struct receiver r = {.size = 1048576, .refuse_at = 0};
    CLEANUP(mem_freep) char *in = path_join(f->root, "in.raw");
    CLEANUP(mem_freep) char *script = mem_printf("nbdcopy %s \"$uri\"", in);
    CLEANUP(str_free) struct str said = STR_EMPTY;

    memset(f->kit.disks[0].bytes, 7, 1048576);
    EXPECT_OK(fs_replace_file(fs_real(), in, f->kit.disks[0].bytes, 1048576, 0600, &err));
    assert_int_not_equal(run_sink(f, &r, script, &said), 0);
    assert_non_null(strstr(str_text(&said), "No space left on device"));
    free(r.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_kept_point_is_served_bit_by_bit),
        STORE_TEST(a_point_over_a_machines_own_qcow2_disk_is_served),
        STORE_TEST(a_served_point_is_read_only_and_can_be_read_by_many),
        STORE_TEST(a_wrong_setting_is_said_before_anything_is_served),
        STORE_TEST(a_sink_passes_on_every_write),
        STORE_TEST(what_the_receiver_refuses_the_writer_hears),
    };
    if (!fs_exists(PLUGIN)) {
        (void)fprintf(stderr, "%s is missing; build the target nbdkit-muster-plugin\n", PLUGIN);
        return 1;
    }
    return cmocka_run_group_tests_name("plugin", tests, NULL, NULL);
}
