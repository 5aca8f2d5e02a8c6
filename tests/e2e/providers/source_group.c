// SPDX-License-Identifier: Apache-2.0
/* Two real guests and somebody who writes to both in turn: number n+1 goes to one only after the other
 * has n on its disk. So what two disks hold is one instant exactly when their numbers differ by one. The
 * second machine's monitor is reached by a relay that holds every transaction up, so that two cuts that
 * are not one instant are far apart. This program is the guardians', too. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/source.h"
#include "qemu/guardian.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BOOT_MS     120000
#define DELAY_MS    500
#define NUMBER_LEN  512
#define CUTS        5
#define RELAY_BYTES 65536

/* PID 1: writes each number it is told to the start of its disk, and says it back when it is there. */
static const char init_script[] =
    "#!/bin/busybox sh\n"
    "/bin/busybox mkdir -p /proc /sys /dev /bin /sbin\n"
    "/bin/busybox --install -s\n"
    "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\n"
    "mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev\n"
    "while read -r m; do insmod /lib/modules/$m.ko; done </lib/modules/order\n"
    "exec 3<>/dev/ttyS1\n"
    "stty -F /dev/ttyS1 raw -echo\n"
    "echo 0 >&3\n"
    "while read -r n <&3; do\n"
    "  printf '%-511s\\n' \"$n\" | dd of=/dev/vda bs=512 conv=notrunc,fsync 2>/dev/null\n"
    "  echo \"$n\" >&3\n"
    "done\n";

struct guest {
    const char *name;
    struct proc_id id;
    char *disk, *qmp, *spare, *serial;
    int fd; /* the serial line */
};

struct relay {
    const char *path, *to;
    int listener;
    pthread_t thread;
    _Atomic bool stop;
};

static struct guest guests[2] = {{.name = "db1"}, {.name = "web1"}};
static struct relay relay;
static char *relay_path, *initrd;
static const char *dir;
static struct cancel *cancel;
static pthread_t writer;
static _Atomic bool writer_stops;
static _Atomic unsigned written;

/* --- Sockets ------------------------------------------------------------------------------- */

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    assert_true(strlen(path) < sizeof(at.sun_path));
    memcpy(at.sun_path, path, strlen(path));
    return at;
}

/* Until somebody listens there. */
static int connect_to(const char *path)
{
    const struct sockaddr_un at = address(path);

    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
            return fd;
        (void)close(fd);
        EXPECT_OK(cancel_sleep(cancel, 20, &err));
    }
}

static bool pass_on(int from, int to, bool delay)
{
    static char bytes[RELAY_BYTES + 1];
    ssize_t len = recv(from, bytes, RELAY_BYTES, 0);

    if (len <= 0)
        return false;
    bytes[len] = '\0';
    if (delay && strstr(bytes, "\"transaction\""))
        EXPECT_OK(cancel_sleep(NULL, DELAY_MS, &err));
    return send(to, bytes, (size_t)len, MSG_NOSIGNAL) == len;
}

static void relay_client(int client)
{
    int server = connect_to(relay.to);

    while (!relay.stop) {
        struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};

        if (poll(fds, 2, 50) < 0)
            continue;
        if ((fds[0].revents && !pass_on(client, server, true))
            || (fds[1].revents && !pass_on(server, client, false)))
            break;
    }
    (void)close(server);
}

static void *relay_run(void *unused)
{
    (void)unused;
    while (!relay.stop) {
        struct pollfd fd = {.fd = relay.listener, .events = POLLIN};

        if (poll(&fd, 1, 50) != 1)
            continue;
        int client = accept(relay.listener, NULL, NULL);
        relay_client(client);
        (void)close(client);
    }
    return NULL;
}

static void start_relay(const char *to)
{
    const struct sockaddr_un at = address(relay_path);

    relay = (struct relay){.path = relay_path, .to = to};
    relay.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(relay.listener, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(relay.listener, 4), 0);
    assert_int_equal(pthread_create(&relay.thread, NULL, relay_run, NULL), 0);
}

static void stop_relay(void)
{
    relay.stop = true;
    (void)pthread_join(relay.thread, NULL);
    (void)close(relay.listener);
}

/* --- The guests and who writes to them ------------------------------------------------------ */

static void make_initrd(void)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "init");
    CLEANUP(mem_freep)
    char *script = mem_printf("cd '%s' && chmod 755 init && echo init | cpio -o -H newc --quiet | "
                              "gzip > init.gz && cat '%s' init.gz > '%s'",
                              dir, guest_initrd(), initrd);
    const char *const argv[] = {"sh", "-c", script, NULL};

    EXPECT_OK(fs_replace_file(fs_real(), path, init_script, sizeof(init_script) - 1, 0700, &err));
    EXPECT_OK(proc_must(argv, cancel, &err));
}

static void start_guest(struct guest *guest)
{
    CLEANUP(mem_freep) char *log = mem_printf("%s/%s.log", dir, guest->name);
    CLEANUP(mem_freep)
    char *disk =
        mem_printf("driver=raw,node-name=d0,file.driver=file,file.filename=%s", guest->disk);
    CLEANUP(mem_freep) char *qmp = mem_printf("unix:%s,server=on,wait=off", guest->qmp);
    CLEANUP(mem_freep) char *spare = mem_printf("unix:%s,server=on,wait=off", guest->spare);
    CLEANUP(mem_freep) char *serial = mem_printf("unix:%s,server=on,wait=off", guest->serial);
    CLEANUP(mem_freep) char *console = mem_printf("file:%s/%s.console", dir, guest->name);
    const char *const truncate[] = {"truncate", "-s", "16M", guest->disk, NULL};
    const char *const argv[] = {"qemu-system-x86_64",
                                "-nodefaults",
                                "-display",
                                "none",
                                "-accel",
                                "tcg",
                                "-m",
                                "128",
                                "-kernel",
                                guest_kernel(),
                                "-initrd",
                                initrd,
                                "-append",
                                "console=ttyS0 quiet",
                                "-serial",
                                console,
                                "-serial",
                                serial,
                                "-qmp",
                                qmp,
                                "-qmp",
                                spare,
                                "-blockdev",
                                disk,
                                "-device",
                                "virtio-blk-pci,drive=d0",
                                NULL};
    const struct proc_spec spec = {.argv = argv, .log_path = log};

    EXPECT_OK(proc_must(truncate, cancel, &err));
    EXPECT_OK(proc_spawn_child(&spec, &guest->id, &err));
    guest->fd = connect_to(guest->serial);
}

static unsigned read_number(const struct guest *guest)
{
    char line[32];
    size_t len = 0;

    while (len < sizeof(line) - 1) {
        struct pollfd fd = {.fd = guest->fd, .events = POLLIN};

        if (poll(&fd, 1, BOOT_MS) != 1 || recv(guest->fd, line + len, 1, 0) != 1)
            abort(); /* no test is left that could fail */
        if (line[len] == '\n')
            break;
        len += line[len] != '\r';
    }
    line[len] = '\0';
    return (unsigned)strtoul(line, NULL, 10);
}

static void write_number(const struct guest *guest, unsigned number)
{
    char line[32];
    int len = snprintf(line, sizeof(line), "%u\n", number);

    if (send(guest->fd, line, (size_t)len, MSG_NOSIGNAL) != len || read_number(guest) != number)
        abort();
}

static void *write_in_turn(void *unused)
{
    (void)unused;
    for (unsigned n = 1; !writer_stops; n++) {
        write_number(&guests[n % 2], n);
        written = n;
    }
    return NULL;
}

static void wait_written(unsigned more)
{
    unsigned from = written;

    while (written < from + more)
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    GUEST_BUILD();
    dir = *state;
    cancel = cancel_new(NULL, NULL, 4 * BOOT_MS);
    initrd = path_join(dir, "initrd");
    relay_path = mem_printf("%s/%s/relay", dir, guests[1].name);
    make_initrd();
    for (size_t i = 0; i < 2; i++) {
        /* A folder each: the lock of a machine's jobs is beside its monitor. */
        CLEANUP(mem_freep) char *folder = path_join(dir, guests[i].name);

        EXPECT_OK(fs_make_dirs(fs_real(), folder, 0700, &err));
        guests[i].disk = mem_printf("%s/%s/disk", dir, guests[i].name);
        guests[i].qmp = mem_printf("%s/%s/qmp", dir, guests[i].name);
        guests[i].spare = mem_printf("%s/%s/spare", dir, guests[i].name);
        guests[i].serial = mem_printf("%s/%s/serial", dir, guests[i].name);
        start_guest(&guests[i]);
    }
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(read_number(&guests[i]), 0);
    start_relay(guests[1].qmp);
    writer_stops = false;
    written = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_in_turn, NULL), 0);
    return 0;
}

static int stop(void **state)
{
    writer_stops = true;
    (void)pthread_join(writer, NULL);
    stop_relay();
    for (size_t i = 0; i < 2; i++) {
        (void)close(guests[i].fd);
        proc_reap(&guests[i].id, NULL);
        free(guests[i].disk);
        free(guests[i].qmp);
        free(guests[i].spare);
        free(guests[i].serial);
    }
    free(relay_path);
    free(initrd);
    cancel_freep(&cancel);
    return tmpdir_teardown(state);
}

/* --- Cuts ---------------------------------------------------------------------------------- */

static struct source *open_machine(size_t i)
{
    CLEANUP(mem_freep) char *work = mem_printf("%s/work-%s", dir, guests[i].name);
    const struct source_qemu_disk disks[] = {{"vda", "d0", guests[i].disk, "raw"}};
    const struct source_qemu_config config = {
        .group = "shop",
        .generation = 1,
        .qmp_path = i == 1 ? relay_path : guests[i].qmp,
        .disks = disks,
        .disk_count = 1,
        .work_dir = work,
        .machine = guests[i].name,
    };
    struct source *source = NULL;

    EXPECT_OK(source_qemu_open(&config, &source, cancel, &err));
    return source;
}

static unsigned number_in(struct source *source, const char *disk)
{
    char text[NUMBER_LEN + 1] = "";

    EXPECT_OK(source->ops->read(source, disk, 0, text, NUMBER_LEN, cancel, &err));
    return (unsigned)strtoul(text, NULL, 10);
}

static unsigned apart(unsigned a, unsigned b)
{
    return a > b ? a - b : b - a;
}

static void a_group_is_cut_at_one_instant(void **state)
{
    CLEANUP(source_closep) struct source *source = NULL;
    CLEANUP(mem_freep) char *work = path_join(dir, "work");
    const struct source_group_machine machines[] = {
        {guests[0].name, open_machine(0), guests[0].spare},
        {guests[1].name, open_machine(1), guests[1].spare},
    };
    const struct source_group_config config = {
        .group = "shop", .machines = machines, .count = 2, .work_dir = work};
    struct source_cut made;

    (void)state;
    EXPECT_OK(source_group_open(&config, &source, cancel, &err));
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    for (uint64_t serial = 2; serial < 2 + CUTS; serial++) {
        wait_written(10);
        EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
        unsigned a = number_in(source, "db1.vda");
        unsigned b = number_in(source, "web1.vda");
        print_message("cut %u: %u and %u, held for %lld ms, %d of them on purpose\n",
                      (unsigned)serial, a, b, (long long)(made.stall_us / 1000), DELAY_MS);
        assert_int_equal(apart(a, b), 1);
        assert_true(made.stall_us >= DELAY_MS * 1000);
        EXPECT_OK(source->ops->end(source, true, cancel, &err));
    }
    wait_written(10);
}

/* Else the test above would prove nothing. */
static void cuts_one_after_the_other_are_not(void **state)
{
    CLEANUP(source_closep) struct source *first = open_machine(0);
    CLEANUP(source_closep) struct source *second = open_machine(1);
    struct source_cut made;

    (void)state;
    EXPECT_OK(first->ops->track(first, 1, cancel, &err));
    EXPECT_OK(second->ops->track(second, 1, cancel, &err));
    wait_written(10);
    EXPECT_OK(first->ops->cut(first, 2, &made, cancel, &err));
    EXPECT_OK(second->ops->cut(second, 2, &made, cancel, &err));
    assert_true(apart(number_in(first, "vda"), number_in(second, "vda")) > 1);
}

#define GROUP_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        GROUP_TEST(a_group_is_cut_at_one_instant),
        GROUP_TEST(cuts_one_after_the_other_are_not),
    };

    if (argc > 1 && str_eq(argv[1], GUARDIAN_WORD))
        return guardian_main(argc, argv);
    return cmocka_run_group_tests_name("source_group", tests, NULL, NULL);
}
