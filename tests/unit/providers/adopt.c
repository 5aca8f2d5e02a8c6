// SPDX-License-Identifier: Apache-2.0
/* Machines that somebody else started, against a monitor that says what the test wants. */
#include "base/fs.h"
#include "base/mem.h"
#include "providers/provider_qemu.h"
#include "support/expect.h"
#include "support/qemu/fake_qmp.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define DISK_BYTES 65536

static struct {
    const char *dir;
    char socket[256];
    char disk[256];
    json_t *answers; /* by command, or "qom-get PATH PROPERTY" */
    json_t *said;    /* commands that came, with their arguments */
    pthread_mutex_t lock;
    struct fake_qmp *fake;
    struct provider *provider;
    struct cancel *cancel;
    struct machine machine;
} w = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- A QEMU ---------------------------------------------------------------------------------- */

static char *key_of(const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");
    const json_t *args = json_object_get(command, "arguments");

    if (str_eq(name, "qom-get"))
        return mem_printf("qom-get %s %s", json_get_str(args, "path", ""),
                          json_get_str(args, "property", ""));
    if (str_eq(name, "qom-list"))
        return mem_printf("qom-list %s", json_get_str(args, "path", ""));
    return mem_strdup(name);
}

static char *answer(void *ctx, const json_t *command)
{
    CLEANUP(mem_freep) char *key = key_of(command);
    CLEANUP(mem_freep) char *text = NULL;

    (void)ctx;
    (void)pthread_mutex_lock(&w.lock);
    (void)json_array_append_new(w.said, json_deep_copy(command));
    const json_t *value = json_object_get(w.answers, key);
    if (value)
        text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    (void)pthread_mutex_unlock(&w.lock);
    if (str_eq(key, "quit")) { /* as a process that ends takes its socket along */
        (void)unlink(w.socket);
        return NULL;
    }
    if (text) {
        char *line = mem_printf("{\"return\": %s, \"id\": @ID}\n", text);
        return line;
    }
    if (str_starts(key, "qom-get"))
        return fake_qmp_say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such\"}, "
                            "\"id\": @ID}");
    return fake_qmp_ok();
}

static void say(const char *key, const char *json)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);

    assert_non_null(value);
    (void)pthread_mutex_lock(&w.lock);
    (void)json_object_set_new(w.answers, key, value);
    (void)pthread_mutex_unlock(&w.lock);
}

static bool was_said(const char *command, const char *in_arguments)
{
    bool found = false;
    json_t *entry;
    size_t i;

    (void)pthread_mutex_lock(&w.lock);
    json_array_foreach(w.said, i, entry) {
        char *args =
            json_text(json_object_get(entry, "arguments") ? json_object_get(entry, "arguments")
                                                          : json_null());
        found |= str_eq(json_get_str(entry, "execute", ""), command) && strstr(args, in_arguments);
        free(args);
    }
    (void)pthread_mutex_unlock(&w.lock);
    return found;
}

/* One drive on a device, in query-block's words. */
static void say_drive(const char *inserted, const char *device)
{
    CLEANUP(mem_freep)
    char *text =
        mem_printf("[{\"device\":\"disk\",\"qdev\":\"/machine/peripheral/d/virtio-backend\","
                   "\"inserted\":%s}]",
                   inserted);
    CLEANUP(mem_freep) char *type = mem_printf("\"%s\"", device);

    say("query-block", text);
    say("qom-get /machine/peripheral/d type", type);
}

static char *raw_drive(const char *more)
{
    return mem_printf("{\"drv\":\"raw\",\"node-name\":\"#block118\",\"ro\":false,\"file\":\"%s\","
                      "\"image\":{\"virtual-size\":%d,\"format\":\"raw\"}%s}",
                      w.disk, DISK_BYTES, more);
}

static void say_all(void)
{
    CLEANUP(mem_freep) char *drive = raw_drive("");
    CLEANUP(mem_freep)
    char *nodes =
        mem_printf("[{\"drv\":\"file\",\"node-name\":\"#block016\",\"file\":\"%s\",\"image\":"
                   "{\"virtual-size\":%d},\"dirty-bitmaps\":[]},{\"drv\":\"raw\","
                   "\"node-name\":\"#block118\",\"file\":\"%s\",\"image\":{\"virtual-size\":%d},"
                   "\"dirty-bitmaps\":[{\"name\":\"muster-db1-1-7\"},{\"name\":\"muster-"
                   "db2-1-7\"},{\"name\":\"theirs\"}]}]",
                   w.disk, DISK_BYTES, w.disk, DISK_BYTES);
    CLEANUP(mem_freep)
    char *chardevs = mem_printf(
        "[{\"label\":\"ga\",\"filename\":\"disconnected:unix:%s/ga,server=on\"}]", w.dir);

    say("query-version", "{\"qemu\":{\"major\":7,\"minor\":2,\"micro\":22}}");
    say("query-status", "{\"status\":\"running\"}");
    say("query-cpus-fast", "[{\"thread-id\":0},{\"thread-id\":0}]");
    say("query-memory-size-summary", "{\"base-memory\":536870912,\"plugged-memory\":0}");
    say("query-chardev", chardevs);
    say("query-named-block-nodes", nodes);
    say_drive(drive, "virtio-blk-pci");
    say("qom-get /machine type", "\"pc-q35-7.2-machine\"");
    say("qom-get /machine kernel", "\"/boot/vmlinuz\"");
    say("qom-get /machine append", "\"quiet\"");
    say("qom-get /machine firmware", "\"bios-256k.bin\"");
    say("qom-list /machine/peripheral",
        "[{\"name\":\"d\",\"type\":\"child<virtio-blk-pci>\"},{\"name\":\"p\",\"type\":\"child<"
        "virtserialport>\"}]");
    say("qom-list /machine/peripheral-anon", "[{\"name\":\"type\",\"type\":\"string\"}]");
    say("qom-get /machine/peripheral/d iothread", "\"/objects/io\"");
    say("qom-get /machine/peripheral/p name", "\"org.qemu.guest_agent.0\"");
    say("qom-get /machine/peripheral/p chardev", "\"ga\"");
    say("human-monitor-command",
        "\"virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:00:00:01\\r\\n"
        " \\\\ lan: index=0,type=user,net=10.0.2.0,restrict=off\\r\\n\"");
}

/* --- Fixture --------------------------------------------------------------------------------- */

static int start(void **state)
{
    const struct provider_qemu_config config = {0};

    if (tmpdir_setup(state) < 0)
        return -1;
    w.dir = *state;
    (void)snprintf(w.socket, sizeof(w.socket), "%s/m.qmp", w.dir);
    (void)snprintf(w.disk, sizeof(w.disk), "%s/a.raw", w.dir);
    int fd = open(w.disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    (void)close(fd);
    w.answers = json_object();
    w.said = json_array();
    w.cancel = cancel_new(NULL, NULL, 20000);
    w.provider = provider_qemu_new(&config);
    machine_init(&w.machine);
    (void)snprintf(w.machine.name, sizeof(w.machine.name), "db1");
    (void)snprintf(w.machine.qmp, sizeof(w.machine.qmp), "%s", w.socket);
    struct machine_disk *disk = machine_disks_push(&w.machine.disks);
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    (void)snprintf(disk->path, sizeof(disk->path), "%s", w.disk);
    (void)snprintf(disk->format, sizeof(disk->format), "raw");
    say_all();
    w.fake = fake_qmp_new(&(struct fake_qmp_config){.path = w.socket, .answer = answer});
    return 0;
}

static void end_fake(void)
{
    if (w.fake)
        fake_qmp_free(TAKE(w.fake));
}

static int stop(void **state)
{
    end_fake();
    machine_done(&w.machine);
    provider_free(w.provider);
    cancel_freep(&w.cancel);
    json_decref(w.answers);
    json_decref(w.said);
    return tmpdir_teardown(state);
}

static int adopt_given(const struct machine *given, struct provider_adopted *ret_adopted)
{
    const struct provider_adoption what = {
        .name = "db1", .qmp = w.socket, .agent = "", .given = given};

    return w.provider->adopt(w.provider, &what, ret_adopted, w.cancel, &err);
}

static void has_line(const struct str *lines, const char *text)
{
    if (!strstr(str_text(lines), text))
        fail_msg("no '%s' in: %s", text, str_text(lines));
}

static void expect_problem(const char *text)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};

    EXPECT_OK(adopt_given(NULL, &adopted));
    has_line(&adopted.problems, text);
}

static void expect_note(const char *text)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};

    EXPECT_OK(adopt_given(NULL, &adopted));
    assert_string_equal(str_text(&adopted.problems), "");
    has_line(&adopted.notes, text);
    assert_false(adopted.machine.complete);
}

/* --- Learning -------------------------------------------------------------------------------- */

static void a_running_machine_tells_its_whole_definition(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    const struct machine *machine = &adopted.machine;
    char agent[300];

    (void)unused;
    (void)snprintf(agent, sizeof(agent), "%s/ga", w.dir);
    EXPECT_OK(adopt_given(NULL, &adopted));
    assert_string_equal(str_text(&adopted.problems), "");
    assert_string_equal(machine->name, "db1");
    assert_int_equal(machine->memory_bytes, 512 << 20);
    assert_int_equal(machine->cpus, 2);
    assert_string_equal(machine->kernel, "/boot/vmlinuz");
    assert_string_equal(machine->cmdline, "quiet");
    assert_string_equal(machine->firmware, "");
    assert_int_equal(machine->disks.len, 1);
    assert_string_equal(machine->disks.at[0].name, "vda");
    assert_string_equal(machine->disks.at[0].path, w.disk);
    assert_true(machine->disks.at[0].iothread);
    assert_int_equal(machine->nics.len, 1);
    assert_string_equal(machine->nics.at[0].mac, "52:54:00:00:00:01");
    assert_string_equal(machine->nics.at[0].network, "user");
    assert_true(machine->agent);
    assert_string_equal(machine->agent_socket, agent);
    assert_string_equal(machine->qmp, w.socket);
    assert_true(machine->complete);
}

static void adopting_changes_nothing(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    const char *name;
    json_t *entry;
    size_t i;

    (void)unused;
    EXPECT_OK(adopt_given(NULL, &adopted));
    json_array_foreach(w.said, i, entry) {
        name = json_get_str(entry, "execute", "");
        if (!str_starts(name, "query-") && !str_starts(name, "qom-") && !str_starts(name, "qmp_")
            && !str_eq(name, "human-monitor-command"))
            fail_msg("%s was said", name);
    }
}

static void an_old_qemu_is_refused(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};

    (void)unused;
    say("query-version", "{\"qemu\":{\"major\":6,\"minor\":1,\"micro\":0}}");
    EXPECT_ERR(ERR_UNSUPPORTED, adopt_given(NULL, &adopted));
    EXPECT_TEXT("QEMU 6.1");
    EXPECT_TEXT("6.2 or newer");
}

static void one_that_migrates_is_not_taken(void **unused)
{
    (void)unused;
    say("query-status", "{\"status\":\"inmigrate\"}");
    expect_problem("its state is inmigrate");
}

static void each_drive_that_cannot_be_replicated_is_named_with_its_reason(void **unused)
{
    static const struct {
        const char *inserted; /* @: the disk's path */
        const char *device;
        const char *problem;
    } cases[] = {
        {"{\"drv\":\"raw\",\"file\":\"@\",\"image\":{\"virtual-size\":65536}}", "ide-hd",
         "it is on ide-hd; only disks on virtio-blk"},
        {"{\"drv\":\"vmdk\",\"file\":\"@\",\"image\":{\"virtual-size\":65536}}", "virtio-blk-pci",
         "driver vmdk; only raw and qcow2"},
        {"{\"drv\":\"throttle\",\"file\":\"@\",\"image\":{\"virtual-size\":65536}}",
         "virtio-blk-pci", "driver throttle"},
        {"{\"drv\":\"raw\",\"file\":\"nbd://10.0.0.1/x\",\"image\":{\"virtual-size\":65536}}",
         "virtio-blk-pci", "neither a file nor a block device, but nbd://10.0.0.1/x"},
        {"{\"drv\":\"raw\",\"file\":\"@\",\"image\":{\"virtual-size\":32768}}", "virtio-blk-pci",
         "it shows 32768 of the 65536 bytes of its file"},
        {"{\"drv\":\"qcow2\",\"file\":\"@\",\"image\":{\"virtual-size\":65536,\"backing-image\":"
         "{\"filename\":\"/b.vmdk\",\"format\":\"vmdk\"}}}",
         "virtio-blk-pci", "its backing file /b.vmdk is of format vmdk"},
        {"{\"drv\":\"qcow2\",\"file\":\"@\",\"image\":{\"virtual-size\":65536,\"format-specific\":"
         "{\"data\":{\"data-file\":\"/d.raw\"}}}}",
         "virtio-blk-pci", "keeps its data in another file"},
        {"{\"drv\":\"qcow2\",\"encrypted\":true,\"file\":\"@\",\"image\":{\"virtual-size\":65536}}",
         "virtio-blk-pci", "its image is encrypted"},
        {"{\"drv\":\"raw\",\"file\":\"a.raw\",\"image\":{\"virtual-size\":65536}}",
         "virtio-blk-pci", "neither a file nor a block device"},
    };

    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str text = STR_EMPTY;

        for (const char *p = cases[i].inserted; *p; p++)
            if (*p == '@')
                str_add(&text, w.disk);
            else
                str_add_bytes(&text, p, 1);
        say_drive(str_text(&text), cases[i].device);
        expect_problem(cases[i].problem);
        expect_problem("it has no disk that could be replicated");
        str_free(&text);
    }
}

static void a_relative_path_is_told_by_the_way_the_monitor_s_was_written(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};

    (void)unused;
    say("query-named-block-nodes",
        "[{\"drv\":\"file\",\"file\":\"a.raw\",\"image\":{\"virtual-size\":"
        "65536}}]");
    say_drive("{\"drv\":\"raw\",\"file\":\"a.raw\",\"image\":{\"virtual-size\":65536}}",
              "virtio-blk-pci");
    expect_problem("nobody here can tell which folder its path a.raw begins in");
    say("query-chardev", "[{\"label\":\"compat_monitor0\",\"filename\":\"unix:m.qmp,server=on\"}]");
    EXPECT_OK(adopt_given(NULL, &adopted));
    assert_string_equal(str_text(&adopted.problems), "");
    assert_string_equal(adopted.machine.disks.at[0].path, w.disk);
}

static void a_file_that_was_replaced_under_the_machine_is_noticed(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    CLEANUP(mem_freep) char *cpus = mem_printf("[{\"thread-id\":%ld}]", (long)syscall(SYS_gettid));

    (void)unused;
    say("query-cpus-fast", cpus); /* so that this process is the machine's */
    expect_problem("is not the one that QEMU has open");
    int fd = open(w.disk, O_RDWR | O_CLOEXEC);
    EXPECT_OK(adopt_given(NULL, &adopted));
    assert_string_equal(str_text(&adopted.problems), "");
    (void)close(fd);
}

static void what_a_recovered_one_will_not_have_is_said(void **unused)
{
    (void)unused;
    say("qom-get /machine type", "\"pc-i440fx-7.2-machine\"");
    expect_note("it is a pc-i440fx-7.2-machine; a recovered one is a q35");
    say_all();
    say("qom-list /machine/peripheral-anon",
        "[{\"name\":\"device[0]\",\"type\":\"child<virtio-rng-pci>\"}]");
    expect_note("a recovered one has no virtio-rng-pci");
    say_all();
    say("human-monitor-command",
        "\"e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:00:00:01\\r\\n"
        " \\\\ lan: index=0,type=user,net=10.0.2.0\\r\\n\"");
    expect_note("nic 52:54:00:00:00:01 is a e1000");
}

static void a_cdrom_is_left_out_and_that_is_said(void **unused)
{
    CLEANUP(mem_freep) char *drive = raw_drive("");
    CLEANUP(mem_freep)
    char *both =
        mem_printf("[{\"device\":\"disk\",\"qdev\":\"/machine/peripheral/d\",\"inserted\":%s},"
                   "{\"device\":\"ide1-cd0\",\"qdev\":\"/machine/unattached/device[24]\","
                   "\"inserted\":{\"ro\":true,\"drv\":\"raw\",\"file\":\"/x.iso\"}},"
                   "{\"device\":\"floppy0\",\"qdev\":\"/machine/unattached/device[17]\"}]",
                   drive);

    (void)unused;
    say("query-block", both);
    expect_note("ide1-cd0 (/x.iso) is read-only and left out");
}

static void what_qmp_does_not_tell_must_be_given(void **unused)
{
    (void)unused;
    say("query-block", "[{\"device\":\"\",\"qdev\":\"/machine/system.flash0\",\"inserted\":{\"ro\":"
                       "true,\"drv\":\"raw\",\"file\":\"/usr/share/OVMF.fd\"}}]");
    say("qom-get /machine/system.flash0 type", "\"cfi.pflash01\"");
    expect_problem("its firmware is on the flash drive /usr/share/OVMF.fd (UEFI); hint: give its");
    say_all();
    say("qom-get /machine kernel", "\"vmlinuz\"");
    expect_problem("its kernel vmlinuz cannot be told from here; hint: give its definition");
    say_all();
    say("qom-get /machine firmware", "\"OVMF.fd\"");
    expect_problem("its firmware OVMF.fd is not QEMU's usual one; hint: give its definition");
    say_all();
    say("human-monitor-command",
        "\"net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:00:00:01\\r\\n"
        " \\\\ lan: index=0,type=tap,fd=23\\r\\n\"");
    expect_problem("nic 52:54:00:00:00:01: its network cannot be told");
}

static void each_difference_from_a_given_definition_is_named(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    CLEANUP(machine_done) struct machine given;
    CLEANUP(json_freep)
    json_t *json = json_loads(
        "{\"name\":\"db1\",\"memory\":\"256MiB\",\"cpus\":4,\"kernel\":\"/k\",\"cmdline\":\"loud\","
        "\"disks\":[{\"path\":\"/x.raw\",\"format\":\"raw\"}],\"nics\":[{\"mac\":"
        "\"52:54:00:00:00:02\",\"network\":\"user\"}]}",
        0, NULL);

    (void)unused;
    machine_init(&given);
    EXPECT_OK(machine_from_json(json, &given, &err));
    EXPECT_OK(adopt_given(&given, &adopted));
    has_line(&adopted.problems,
             "memory: \"256MiB\" in the definition, but it runs with \"512MiB\"");
    has_line(&adopted.problems, "cpus: \"4\" in the definition, but it runs with \"2\"");
    has_line(&adopted.problems, "kernel: \"/k\" in the definition");
    has_line(&adopted.problems, "cmdline: \"loud\" in the definition");
    has_line(&adopted.problems, "disk vda: /x.raw is in the definition, but not among its disks");
    has_line(&adopted.problems, "a.raw, which is not in the definition");
    has_line(&adopted.problems, "nic 52:54:00:00:00:02 is in the definition, but it has none");
    has_line(&adopted.problems, "it has the nic 52:54:00:00:00:01, which is not in the definition");
}

/* --- What is no monitor ---------------------------------------------------------------------- */

static int listen_at(const char *path, int backlog)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(strlen(path) < sizeof(at.sun_path));
    memcpy(at.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static int observe(enum instance_state *ret_state)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};

    return w.provider->observe(w.provider, &instance, ret_state, w.cancel, &err);
}

static void a_socket_that_nobody_serves_is_a_machine_that_is_off(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    enum instance_state state = INSTANCE_RUNNING;

    (void)unused;
    end_fake();
    (void)unlink(w.socket);
    EXPECT_OK(observe(&state));
    assert_int_equal(state, INSTANCE_OFF);
    EXPECT_ERR(ERR_NOT_FOUND, adopt_given(NULL, &adopted));
    int fd = listen_at(w.socket, -1);
    state = INSTANCE_RUNNING;
    EXPECT_OK(observe(&state));
    assert_int_equal(state, INSTANCE_OFF);
    EXPECT_ERR(ERR_NOT_FOUND, adopt_given(NULL, &adopted));
    EXPECT_TEXT("nobody listens at");
    (void)close(fd);
}

static void a_file_in_its_place_is_no_socket(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};

    (void)unused;
    end_fake();
    (void)unlink(w.socket);
    (void)close(open(w.socket, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_ERR(ERR_INVALID, adopt_given(NULL, &adopted));
    EXPECT_TEXT("is no socket");
}

static void a_socket_that_says_what_is_no_qmp_is_not_taken_for_a_machine(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    enum instance_state state;

    (void)unused;
    end_fake();
    w.fake = fake_qmp_new(&(struct fake_qmp_config){
        .path = w.socket, .answer = answer, .greeting = "SSH-2.0-OpenSSH_9.2\r\n"});
    EXPECT_ERR(ERR_PROTOCOL, adopt_given(NULL, &adopted));
    EXPECT_TEXT("what is no QMP: SSH-2.0");
    EXPECT_ERR(ERR_PROTOCOL, observe(&state));
    end_fake();
    w.fake = fake_qmp_new(&(struct fake_qmp_config){
        .path = w.socket, .answer = answer, .greeting = "{\"hello\": 1}\n"});
    EXPECT_ERR(ERR_PROTOCOL, adopt_given(NULL, &adopted));
    EXPECT_TEXT("no QMP greeting");
}

static void a_socket_that_says_nothing_is_given_up_in_time(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    enum instance_state state;

    (void)unused;
    end_fake();
    (void)unlink(w.socket);
    int fd = listen_at(w.socket, 4);
    cancel_freep(&w.cancel);
    w.cancel = cancel_new(NULL, NULL, 300);
    EXPECT_ERR(ERR_TIMEOUT, adopt_given(NULL, &adopted));
    EXPECT_TEXT("another client may hold it");
    cancel_freep(&w.cancel);
    w.cancel = cancel_new(NULL, NULL, 300);
    EXPECT_ERR(ERR_TIMEOUT, observe(&state));
    EXPECT_TEXT("machine db1");
    (void)close(fd);
}

static void a_socket_that_we_may_not_use_is_not_a_machine_that_is_off(void **unused)
{
    CLEANUP(provider_adopted_done) struct provider_adopted adopted = {.problems = STR_EMPTY};
    enum instance_state state;

    (void)unused;
    assert_int_equal(chmod(w.socket, 0), 0);
    (void)setfsuid(65534); /* the superuser may use all */
    int adopting = adopt_given(NULL, &adopted);
    struct err why = err;
    int observing = observe(&state);
    (void)setfsuid(geteuid());
    assert_int_equal(adopting, -1);
    assert_int_equal(why.code, ERR_DENIED);
    assert_int_equal(observing, -1);
    assert_int_equal(err.code, ERR_DENIED);
    EXPECT_TEXT("let the user that Muster runs as use it");
}

/* --- From then on ---------------------------------------------------------------------------- */

static void each_look_takes_care_that_the_process_outlives_its_guest(void **unused)
{
    enum instance_state state;

    (void)unused;
    EXPECT_OK(observe(&state));
    assert_int_equal(state, INSTANCE_RUNNING);
    assert_true(was_said("set-action", "\"shutdown\":\"pause\""));
    EXPECT_OK(observe(&state));
    assert_int_equal(fake_qmp_count(w.fake, "set-action"), 2);
    say("query-status", "{\"status\":\"shutdown\"}");
    EXPECT_OK(observe(&state));
    assert_int_equal(state, INSTANCE_SHUTDOWN);
}

static void one_that_is_off_is_left_to_whoever_started_it(void **unused)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};

    (void)unused;
    end_fake();
    (void)unlink(w.socket);
    EXPECT_ERR(ERR_STATE, w.provider->start(w.provider, &instance, false, w.cancel, &err));
    EXPECT_TEXT("it was adopted");
    EXPECT_TEXT(w.socket);
    assert_false(fs_exists(w.socket));
}

/* A peer's definition must not reach a monitor of this host, whatever it says. */
static void a_recovered_machine_has_nothing_to_do_with_the_monitor_it_was_adopted_by(void **unused)
{
    const struct provider_served_disks none = VEC_EMPTY;
    struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = "", .served = &none};
    enum instance_state state = INSTANCE_RUNNING;

    (void)unused;
    EXPECT_OK(w.provider->observe(w.provider, &instance, &state, w.cancel, &err));
    assert_int_equal(state, INSTANCE_OFF);
    EXPECT_OK(w.provider->stop(w.provider, &instance, w.cancel, &err));
    EXPECT_ERR(ERR_STATE, w.provider->release(w.provider, &instance, w.cancel, &err));
    assert_int_equal(json_array_size(w.said), 0);
}

static void stopping_it_ends_its_process(void **unused)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};
    enum instance_state state;

    (void)unused;
    EXPECT_OK(w.provider->stop(w.provider, &instance, w.cancel, &err));
    assert_int_equal(fake_qmp_count(w.fake, "quit"), 1);
    EXPECT_OK(observe(&state));
    assert_int_equal(state, INSTANCE_OFF);
    EXPECT_OK(w.provider->stop(w.provider, &instance, w.cancel, &err));
}

static void another_machine_at_the_same_monitor_is_left_alone(void **unused)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};
    enum instance_state state;

    (void)unused;
    say("query-block", "[]");
    EXPECT_ERR(ERR_STATE, observe(&state));
    EXPECT_TEXT("another machine is at its monitor");
    EXPECT_ERR(ERR_STATE, w.provider->stop(w.provider, &instance, w.cancel, &err));
    EXPECT_ERR(ERR_STATE, w.provider->shutdown(w.provider, &instance, w.cancel, &err));
    EXPECT_OK(w.provider->release(w.provider, &instance, w.cancel, &err)); /* ours is not there */
    assert_int_equal(fake_qmp_count(w.fake, "transaction"), 0);
    assert_int_equal(fake_qmp_count(w.fake, "quit"), 0);
    assert_int_equal(fake_qmp_count(w.fake, "set-action"), 0);
    assert_int_equal(fake_qmp_count(w.fake, "system_powerdown"), 0);
}

static void giving_it_back_takes_our_maps_and_our_care_away_and_nothing_else(void **unused)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};

    (void)unused;
    EXPECT_OK(w.provider->release(w.provider, &instance, w.cancel, &err));
    assert_true(was_said("transaction", "muster-db1-1-7"));
    assert_false(was_said("transaction", "muster-db2"));
    assert_false(was_said("transaction", "theirs"));
    assert_true(was_said("set-action", "\"shutdown\":\"poweroff\""));
    assert_int_equal(fake_qmp_count(w.fake, "quit"), 0);
    end_fake();
    (void)unlink(w.socket);
    EXPECT_OK(w.provider->release(w.provider, &instance, w.cancel, &err)); /* off: nothing to do */
}

static void a_process_that_lives_without_its_monitor_is_not_off(void **unused)
{
    CLEANUP(mem_freep) char *cpus = mem_printf("[{\"thread-id\":%ld}]", (long)syscall(SYS_gettid));
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};
    enum instance_state state;

    (void)unused;
    say("query-cpus-fast", cpus); /* so that this process is the machine's */
    EXPECT_OK(observe(&state));
    end_fake();
    (void)unlink(w.socket);
    EXPECT_ERR(ERR_STATE, observe(&state));
    EXPECT_TEXT("but its process");
    EXPECT_ERR(ERR_STATE, w.provider->start(w.provider, &instance, false, w.cancel, &err));
}

static void disks_of_one_that_is_off_are_not_read_while_somebody_writes_them(void **unused)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = w.dir, .netns = ""};
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    CLEANUP(source_closep) struct source *source = NULL;

    (void)unused;
    end_fake();
    (void)unlink(w.socket);
    int fd = open(w.disk, O_RDWR | O_CLOEXEC); /* as QEMU does: block/file-posix.c there */
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    EXPECT_ERR(ERR_BUSY, w.provider->open_source(w.provider, &instance, "db1", 1, w.dir, &source,
                                                 w.cancel, &err));
    EXPECT_TEXT("is in use");
    (void)close(fd);
    EXPECT_OK(
        w.provider->open_source(w.provider, &instance, "db1", 1, w.dir, &source, w.cancel, &err));
}

#define ADOPT_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

/* --- What tracking takes ----------------------------------------------------------------------- */

static void a_qemu_that_lacks_a_command_of_tracking_is_named_with_it(void **state)
{
    const struct provider_instance instance = {
        .machine = &w.machine, .run_dir = *state, .netns = ""};
    bool running = false;

    say("query-commands", "[{\"name\":\"transaction\"},{\"name\":\"blockdev-add\"},{\"name\":"
                          "\"block-dirty-bitmap-add\"},{\"name\":\"block-dirty-bitmap-remove\"},"
                          "{\"name\":\"blockdev-backup\"}]");
    EXPECT_ERR(ERR_UNSUPPORTED,
               w.provider->can_track(w.provider, &instance, &running, w.cancel, &err));
    assert_non_null(strstr(err.text, "it has no block-dirty-bitmap-merge; hint: 6.2 or newer"));
    say("query-commands",
        "[{\"name\":\"transaction\"},{\"name\":\"blockdev-add\"},{\"name\":"
        "\"block-dirty-bitmap-add\"},{\"name\":\"block-dirty-bitmap-remove\"},"
        "{\"name\":\"blockdev-backup\"},{\"name\":\"block-dirty-bitmap-merge\"}]");
    EXPECT_OK(w.provider->can_track(w.provider, &instance, &running, w.cancel, &err));
    assert_true(running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ADOPT_TEST(a_running_machine_tells_its_whole_definition),
        ADOPT_TEST(adopting_changes_nothing),
        ADOPT_TEST(an_old_qemu_is_refused),
        ADOPT_TEST(a_qemu_that_lacks_a_command_of_tracking_is_named_with_it),
        ADOPT_TEST(one_that_migrates_is_not_taken),
        ADOPT_TEST(each_drive_that_cannot_be_replicated_is_named_with_its_reason),
        ADOPT_TEST(a_relative_path_is_told_by_the_way_the_monitor_s_was_written),
        ADOPT_TEST(a_file_that_was_replaced_under_the_machine_is_noticed),
        ADOPT_TEST(what_a_recovered_one_will_not_have_is_said),
        ADOPT_TEST(a_cdrom_is_left_out_and_that_is_said),
        ADOPT_TEST(what_qmp_does_not_tell_must_be_given),
        ADOPT_TEST(each_difference_from_a_given_definition_is_named),
        ADOPT_TEST(a_socket_that_nobody_serves_is_a_machine_that_is_off),
        ADOPT_TEST(a_file_in_its_place_is_no_socket),
        ADOPT_TEST(a_socket_that_says_what_is_no_qmp_is_not_taken_for_a_machine),
        ADOPT_TEST(a_socket_that_says_nothing_is_given_up_in_time),
        ADOPT_TEST(a_socket_that_we_may_not_use_is_not_a_machine_that_is_off),
        ADOPT_TEST(each_look_takes_care_that_the_process_outlives_its_guest),
        ADOPT_TEST(one_that_is_off_is_left_to_whoever_started_it),
        ADOPT_TEST(a_recovered_machine_has_nothing_to_do_with_the_monitor_it_was_adopted_by),
        ADOPT_TEST(stopping_it_ends_its_process),
        ADOPT_TEST(another_machine_at_the_same_monitor_is_left_alone),
        ADOPT_TEST(giving_it_back_takes_our_maps_and_our_care_away_and_nothing_else),
        ADOPT_TEST(a_process_that_lives_without_its_monitor_is_not_off),
        ADOPT_TEST(disks_of_one_that_is_off_are_not_read_while_somebody_writes_them),
    };
    return cmocka_run_group_tests_name("adopt", tests, NULL, NULL);
}
