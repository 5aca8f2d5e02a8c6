// SPDX-License-Identifier: Apache-2.0
/* Daemons as processes of their own, killed and started again; their peers are spoken to by the
 * link as another site does. This program is also the confined Lua child (host/host.h). */
#include "daemon/daemon.h"

#include "base/fs.h"
#include "base/mem.h"
#include "host/host.h"
#include "link/tls.h"
#include "state/state.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000

struct served {
    char dir[128];
    char config[160];
    char log[160];
    char address[64];
    pid_t pid;
};

static void write_text(const char *path, const char *text)
{
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
}

static void site_init(struct served *site, const char *base, const char *name)
{
    CLEANUP(mem_freep) char *identity = NULL;
    CLEANUP(mem_freep) char *text = NULL;

    (void)snprintf(site->dir, sizeof(site->dir), "%s/%s", base, name);
    (void)snprintf(site->config, sizeof(site->config), "%s/config.lua", site->dir);
    (void)snprintf(site->log, sizeof(site->log), "%s/log", site->dir);
    EXPECT_OK(fs_make_dirs(fs_real(), site->dir, 0700, &err));
    identity = path_join(site->dir, "identity");
    EXPECT_OK(authority_create(identity, name, &err));
    text = mem_printf("return { site = \"%s\", address = \"127.0.0.1:0\" }\n", name);
    write_text(site->config, text);
}

static void child_serve(const struct served *site, int ready_fd)
{
    struct err failure = ERR_EMPTY;
    int log = open(site->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    (void)dup2(log, 1);
    (void)dup2(log, 2);
    int rc = daemon_serve(site->config, ready_fd, &failure);
    if (rc < 0)
        (void)dprintf(2, "refused: [%s] %s\n", err_code_name(failure.code), failure.text);
    _exit(rc < 0 ? 1 : 0);
}

/* What the daemon says when it is ready; "" when it ended instead. */
static void serve(struct served *site, char *ret_line, size_t size)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    site->pid = fork();
    assert_true(site->pid >= 0);
    if (site->pid == 0) {
        (void)close(fds[0]);
        child_serve(site, fds[1]);
    }
    (void)close(fds[1]);
    ssize_t len = read(fds[0], ret_line, size - 1);
    ret_line[len > 0 ? len : 0] = '\0';
    (void)close(fds[0]);
}

static void serve_ready(struct served *site)
{
    CLEANUP(str_free) struct str log = STR_EMPTY;
    char line[512];

    serve(site, line, sizeof(line));
    const char *on = strstr(line, " ready on ");
    if (!on) {
        EXPECT_OK(fs_read_file(fs_real(), site->log, 1U << 20, &log, &err));
        fail_msg("not ready: %s", str_text(&log));
    }
    (void)snprintf(site->address, sizeof(site->address), "%.*s",
                   (int)strcspn(on + strlen(" ready on "), ","), on + strlen(" ready on "));
}

static int end(struct served *site, int signal_number)
{
    int status = 0;

    assert_int_equal(kill(site->pid, signal_number), 0);
    assert_int_equal(waitpid(site->pid, &status, 0), site->pid);
    return status;
}

static void expect_log(const struct served *site, const char *part)
{
    CLEANUP(str_free) struct str log = STR_EMPTY;

    EXPECT_OK(fs_read_file(fs_real(), site->log, 1U << 20, &log, &err));
    if (!strstr(str_text(&log), part))
        fail_msg("the log lacks \"%s\":\n%s", part, str_text(&log));
}

/* The other site joins with its own identity; its own daemon need not run. */
static void pair(const struct served *issuer, const struct served *joiner)
{
    CLEANUP(mem_freep) char *issuer_id = path_join(issuer->dir, "identity");
    CLEANUP(mem_freep) char *joiner_id = path_join(joiner->dir, "identity");
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(clock_real(), NULL, PATIENCE_MS);
    char token[PAIR_TOKEN_MAX];
    struct tls_peer peer;

    EXPECT_OK(pair_issue(issuer_id, issuer->address, clock_real(), token, &err));
    EXPECT_OK(pair_join(joiner_id, token, "127.0.0.1:1", clock_real(), cancel, &peer, &err));
}

static struct link *connect_as(const struct served *from, const struct served *to,
                               const char *to_name)
{
    CLEANUP(mem_freep) char *identity = path_join(from->dir, "identity");
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(clock_real(), NULL, PATIENCE_MS);
    CLEANUP(tls_freep) struct tls *tls = NULL;
    struct link *link = NULL;
    int rc = -1;

    EXPECT_OK(tls_load(identity, &tls, &err));
    /* The issuer learns of the pairing a moment after the joiner. */
    for (int i = 0; rc < 0 && i < 100; i++) {
        err_clear(&err);
        rc = tls_connect(tls, to_name, to->address, cancel, &link, &err);
        if (rc < 0)
            (void)!cancel_sleep(cancel, 20, NULL);
    }
    if (rc < 0)
        fail_msg("connect: %s", err.text);
    return link;
}

static int ask(struct link *link, json_t *question, struct link_msg *ret_answer)
{
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(clock_real(), NULL, PATIENCE_MS);
    CLEANUP(json_freep) json_t *head = question;

    err_clear(&err);
    return link_call(link, head, NULL, 0, ret_answer, cancel, &err);
}

static json_t *create_db1(const char *key)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:[{s:s, s:i}], s:{s:{s:s}}, s:i, s:i, s:i, s:s}", "op",
                     "replica.create", "group", "db1", "key", key, "writer_key", key, "disks",
                     "name", "vda", "size", 1 << 20, "machines", "db1", "name", "db1", "generation",
                     1, "interval_ms", 1000, "keep", 5, "compression", "zstd");
}

static const char key_a[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
static const char key_b[] = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

static void expect_replica(struct link *link, const char *group, const char *state)
{
    CLEANUP(link_msg_done) struct link_msg answer = {0};

    if (ask(link, json_pack("{s:s, s:s}", "op", "replica.check", "group", group), &answer) < 0)
        fail_msg("replica.check: %s", err.text);
    assert_string_equal(json_get_str(answer.head, "replica", ""), state);
}

static void two_sites(struct served *paris, struct served *lyon, const char *base)
{
    site_init(paris, base, "paris");
    site_init(lyon, base, "lyon");
    serve_ready(lyon);
    pair(lyon, paris);
}

/* --- Tests -------------------------------------------------------------------------------- */

static void a_daemon_says_when_it_is_ready_and_stops_when_told(void **base)
{
    struct served site;
    char line[512];

    site_init(&site, *base, "paris");
    serve(&site, line, sizeof(line));
    assert_non_null(strstr(line, "muster: site paris ready on 127.0.0.1:"));
    assert_non_null(strstr(line, "/paris/muster.sock\n"));
    int status = end(&site, SIGTERM);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_log(&site, "machines and served disks go on");
    CLEANUP(mem_freep) char *socket_path = path_join(site.dir, "muster.sock");
    assert_false(fs_exists(socket_path));
}

static void a_second_daemon_on_a_directory_is_refused_with_the_pid_of_the_first(void **base)
{
    struct served first;
    struct served second;
    char line[512];
    char pid[32];
    int status;

    site_init(&first, *base, "paris");
    serve_ready(&first);
    second = first;
    serve(&second, line, sizeof(line));
    assert_string_equal(line, "");
    assert_int_equal(waitpid(second.pid, &status, 0), second.pid);
    (void)snprintf(pid, sizeof(pid), "%ld", (long)first.pid);
    expect_log(&second, "refused: [busy]");
    expect_log(&second, pid);
    (void)end(&first, SIGKILL);
}

static void a_killed_daemon_starts_again_on_what_it_left(void **base)
{
    struct served site;

    site_init(&site, *base, "paris");
    for (int i = 0; i < 3; i++) {
        serve_ready(&site);
        (void)end(&site, SIGKILL);
    }
    serve_ready(&site);
    assert_int_equal(WEXITSTATUS(end(&site, SIGTERM)), 0);
}

static void a_misspelt_field_stops_the_start_with_file_and_line(void **base)
{
    struct served site;
    char line[512];
    char place[256];
    int status;

    site_init(&site, *base, "paris");
    write_text(site.config, "return {\n  site = \"paris\",\n  adress = \"127.0.0.1:0\",\n}\n");
    serve(&site, line, sizeof(line));
    assert_string_equal(line, "");
    assert_int_equal(waitpid(site.pid, &status, 0), site.pid);
    (void)snprintf(place, sizeof(place), "%s:3: adress: unknown field; hint: did you mean",
                   site.config);
    expect_log(&site, place);
}

static void a_site_of_another_name_than_its_certificate_does_not_start(void **base)
{
    struct served site;
    char line[256];
    int status;

    site_init(&site, *base, "paris");
    write_text(site.config, "return { site = \"rome\", address = \"127.0.0.1:0\" }\n");
    serve(&site, line, sizeof(line));
    assert_string_equal(line, "");
    assert_int_equal(waitpid(site.pid, &status, 0), site.pid);
    expect_log(&site, "refused: [invalid] config.lua: site: \"rome\"");
    expect_log(&site, "is of site \"paris\"; hint: write site = \"paris\"");
}

static void a_pairing_works_without_a_restart(void **base)
{
    struct served paris;
    struct served lyon;
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(link_msg_done) struct link_msg answer = {0};

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    assert_int_equal(ask(link, json_pack("{s:s}", "op", "ping"), &answer), 0);
    assert_string_equal(json_get_str(answer.head, "site", ""), "lyon");
    assert_true(json_get_u64(answer.head, "free_bytes", 0) > 0);
    assert_int_equal(WEXITSTATUS(end(&lyon, SIGTERM)), 0);
}

static void a_replica_that_was_made_is_there_after_a_kill(void **base)
{
    struct served paris;
    struct served lyon;
    struct link *link;

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    expect_replica(link, "db1", "absent");
    assert_int_equal(ask(link, create_db1(key_a), NULL), 0);
    link_close(link);
    (void)end(&lyon, SIGKILL);
    serve_ready(&lyon);
    link = connect_as(&paris, &lyon, "lyon");
    expect_replica(link, "db1", "ours");
    assert_int_equal(ask(link, create_db1(key_a), NULL), 0); /* again is fine */
    assert_int_equal(ask(link, create_db1(key_b), NULL), 0); /* nothing was copied yet */
    assert_int_equal(
        ask(link, json_pack("{s:s, s:s}", "op", "replica.remove", "group", "db1"), NULL), 0);
    expect_replica(link, "db1", "absent");
    link_close(link);
    (void)end(&lyon, SIGKILL);
}

static json_t *take_back_db1(const char *key)
{
    return json_pack("{s:s, s:s, s:s}", "op", "replica.remove", "group", "db1", "key", key);
}

/* A protect that was refused takes back what it began, and nothing that was there before. */
static void taking_back_removes_only_what_was_begun_with_that_key(void **base)
{
    struct served paris;
    struct served lyon;
    CLEANUP(link_closep) struct link *link = NULL;

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    assert_int_equal(ask(link, create_db1(key_a), NULL), 0);
    assert_int_equal(ask(link, take_back_db1(key_b), NULL), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    expect_replica(link, "db1", "ours");
    assert_int_equal(ask(link, take_back_db1("12"), NULL), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(ask(link, take_back_db1(key_a), NULL), 0);
    expect_replica(link, "db1", "absent");
    assert_int_equal(ask(link, create_db1(key_a), NULL), 0);
    assert_int_equal(
        ask(link, json_pack("{s:s, s:s, s:b}", "op", "replica.remove", "group", "db1", "keep", 1),
            NULL),
        0);
    assert_int_equal(ask(link, take_back_db1(key_a), NULL), -1);
    expect_replica(link, "db1", "other");
    (void)end(&lyon, SIGKILL);
}

static void a_kept_replica_is_in_the_way_until_it_is_removed_there(void **base)
{
    struct served paris;
    struct served lyon;
    CLEANUP(link_closep) struct link *link = NULL;

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    assert_int_equal(ask(link, create_db1(key_a), NULL), 0);
    assert_int_equal(
        ask(link, json_pack("{s:s, s:s, s:b}", "op", "replica.remove", "group", "db1", "keep", 1),
            NULL),
        0);
    assert_int_equal(ask(link, create_db1(key_a), NULL), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    EXPECT_TEXT("lyon keeps an earlier replica of db1");
    (void)end(&lyon, SIGKILL);
}

static json_t *settings_db1(int interval_ms, int keep)
{
    return json_pack("{s:s, s:s, s:i, s:i}", "op", "replica.settings", "group", "db1",
                     "interval_ms", interval_ms, "keep", keep);
}

static void a_replica_follows_its_source_s_settings_and_keeps_the_rest(void **base)
{
    struct served paris;
    struct served lyon;
    struct state *state;
    struct state_protection row = {0};
    struct link *link;

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    assert_int_equal(ask(link, settings_db1(60000, 7), NULL), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(ask(link, create_db1(key_a), NULL), 0);
    assert_int_equal(ask(link, settings_db1(10, 7), NULL), -1);
    assert_int_equal(err.code, ERR_INVALID);
    EXPECT_TEXT("1000 (1.0 s) to 86400000 (1 d)");
    assert_int_equal(ask(link, settings_db1(60000, 7), NULL), 0);
    assert_int_equal(ask(link, settings_db1(60000, 7), NULL), 0); /* again is fine */
    link_close(link);
    (void)end(&lyon, SIGKILL);
    CLEANUP(mem_freep) char *path = path_join(lyon.dir, "state.db");
    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_protection_get(state, "db1", &row, &err));
    assert_non_null(strstr(row.settings, "\"interval_ms\":60000"));
    assert_non_null(strstr(row.settings, "\"keep\":7"));
    assert_non_null(strstr(row.settings, key_a));
    state_protection_done(&row);
    state_close(state);
}

/* Rows of a machine that is protected to lyon, as a daemon left them. */
static void leave_rows(const struct served *site)
{
    CLEANUP(mem_freep) char *path = path_join(site->dir, "state.db");
    const struct state_machine machine = {
        .name = (char[]){"db1"},
        .host = (char[]){""},
        .definition = (char[]){"{\"disks\":[{\"format\":\"raw\",\"path\":\"/nowhere/db1.raw\"}],"
                               "\"memory\":\"64MiB\",\"name\":\"db1\"}"},
        .wanted_running = true,
    };
    const struct state_protection row = {
        .group = (char[]){"db1"},
        .peer = (char[]){"lyon"},
        .role = (char[]){"source"},
        .state = (char[]){"protected"},
        .settings = (char[]){"{\"interval_ms\":7000,\"keep\":3}"},
        .generation = 1,
    };
    struct state *state;

    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_machine_put(state, &machine, &err));
    EXPECT_OK(state_protection_put(state, &row, &err));
    EXPECT_OK(state_turn_end(state, &err));
    state_close(state);
}

static void lose_database(const struct served *site)
{
    static const char *const names[] = {"state.db", "state.db-wal", "state.db-shm"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *path = path_join(site->dir, names[i]);
        (void)unlink(path);
    }
}

static void expect_rows(const struct served *site)
{
    CLEANUP(mem_freep) char *path = path_join(site->dir, "state.db");
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    struct state *state;

    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_protection_get(state, "db1", &row, &err));
    EXPECT_OK(state_machine_get(state, "db1", &machine, &err));
    state_close(state);
    assert_string_equal(row.peer, "lyon");
    assert_string_equal(row.role, "source");
    assert_int_equal(row.generation, 1);
    assert_non_null(strstr(row.settings, "\"interval_ms\":7000"));
    assert_non_null(strstr(row.settings, "\"recreated_ms\":1"));
    assert_non_null(strstr(machine.definition, "/nowhere/db1.raw"));
    assert_true(machine.wanted_running);
}

static void a_group_is_known_again_without_its_database(void **base)
{
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(clock_real(), NULL, PATIENCE_MS);
    struct served paris;

    site_init(&paris, *base, "paris");
    leave_rows(&paris);
    CLEANUP(mem_freep) char *file = mem_printf("%s/sessions/db1/group.json", paris.dir);
    serve_ready(&paris);
    while (!fs_exists(file))
        EXPECT_OK(cancel_sleep(cancel, 10, &err));
    (void)end(&paris, SIGKILL);
    lose_database(&paris);
    serve_ready(&paris);
    expect_log(&paris, "rows made again from sessions/db1/group.json");
    (void)end(&paris, SIGKILL);
    expect_rows(&paris);
}

static void leave_file(const struct served *site, const char *group, const char *text)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/sessions/%s", site->dir, group);
    CLEANUP(mem_freep) char *file = path_join(dir, "group.json");

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), file, text, strlen(text), 0600, &err));
}

/* A group of several, and one that an older release wrote. */
static void the_machines_of_a_group_are_known_again_without_its_database(void **base)
{
    static const char *const names[] = {"app1", "web1", "db1"};
    struct served paris;
    struct state *state;

    site_init(&paris, *base, "paris");
    leave_file(&paris, "shop",
               "{\"version\":1,\"group\":\"shop\",\"peer\":\"lyon\",\"state\":\"protected\","
               "\"generation\":1,\"settings\":{\"machines\":[\"app1\",\"web1\"]},\"since_ms\":5,"
               "\"machines\":[{\"definition\":{\"name\":\"app1\"},\"wanted_running\":true,"
               "\"added_ms\":1},{\"definition\":{\"name\":\"web1\"},\"wanted_running\":false,"
               "\"added_ms\":1}]}");
    leave_file(&paris, "db1",
               "{\"version\":1,\"group\":\"db1\",\"peer\":\"lyon\",\"state\":\"protected\","
               "\"generation\":1,\"settings\":{},\"since_ms\":5,\"machine\":{\"name\":\"db1\"},"
               "\"wanted_running\":true,\"added_ms\":1}");
    serve_ready(&paris);
    (void)end(&paris, SIGKILL);
    CLEANUP(mem_freep) char *path = path_join(paris.dir, "state.db");
    EXPECT_OK(state_open(path, &state, &err));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(state_machine_done) struct state_machine machine = {0};
        CLEANUP(state_protection_done) struct state_protection row = {0};

        EXPECT_OK(state_machine_get(state, names[i], &machine, &err));
        assert_int_equal(machine.wanted_running, i != 1);
        EXPECT_OK(state_protection_of(state, names[i], &row, &err));
        assert_string_equal(row.group, i < 2 ? "shop" : "db1");
    }
    state_close(state);
}

static void what_a_peer_may_not_ask_is_refused_with_a_reason(void **base)
{
    struct served paris;
    struct served lyon;
    CLEANUP(link_closep) struct link *link = NULL;

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    assert_int_equal(ask(link, json_pack("{s:s}", "op", "shell"), NULL), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_int_equal(
        ask(link, json_pack("{s:s, s:s}", "op", "replica.remove", "group", "db9"), NULL), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(
        ask(link, json_pack("{s:s, s:s}", "op", "replica.create", "group", "../etc"), NULL), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(ask(link, create_db1("tooshort"), NULL), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(ask(link,
                         json_pack("{s:s, s:s, s:s, s:s, s:s}", "op", "plan.put", "name", "p",
                                   "source", "return plan (", "hash", "00", "origin", "paris"),
                         NULL),
                     -1);
    assert_int_equal(err.code, ERR_INVALID);
    (void)end(&lyon, SIGKILL);
}

static void a_stranger_gets_no_link(void **base)
{
    struct served paris;
    struct served lyon;
    struct served rome;
    CLEANUP(tls_freep) struct tls *tls = NULL;
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(clock_real(), NULL, PATIENCE_MS);
    struct link *link = NULL;

    two_sites(&paris, &lyon, *base);
    site_init(&rome, *base, "rome");
    CLEANUP(mem_freep) char *identity = path_join(rome.dir, "identity");
    EXPECT_OK(tls_load(identity, &tls, &err));
    EXPECT_ERR(ERR_AUTH, tls_connect(tls, "lyon", lyon.address, cancel, &link, &err));
    (void)end(&lyon, SIGKILL);
}

static void a_link_that_waits_does_not_hold_up_the_stop(void **base)
{
    struct served paris;
    struct served lyon;
    CLEANUP(link_closep) struct link *link = NULL;

    two_sites(&paris, &lyon, *base);
    link = connect_as(&paris, &lyon, "lyon");
    expect_replica(link, "db1", "absent");
    int status = end(&lyon, SIGTERM);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_log(&lyon, "machines and served disks go on");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_daemon_says_when_it_is_ready_and_stops_when_told),
        TMPDIR_TEST(a_second_daemon_on_a_directory_is_refused_with_the_pid_of_the_first),
        TMPDIR_TEST(a_killed_daemon_starts_again_on_what_it_left),
        TMPDIR_TEST(a_misspelt_field_stops_the_start_with_file_and_line),
        TMPDIR_TEST(a_site_of_another_name_than_its_certificate_does_not_start),
        TMPDIR_TEST(a_pairing_works_without_a_restart),
        TMPDIR_TEST(a_replica_that_was_made_is_there_after_a_kill),
        TMPDIR_TEST(taking_back_removes_only_what_was_begun_with_that_key),
        TMPDIR_TEST(a_kept_replica_is_in_the_way_until_it_is_removed_there),
        TMPDIR_TEST(a_replica_follows_its_source_s_settings_and_keeps_the_rest),
        TMPDIR_TEST(a_group_is_known_again_without_its_database),
        TMPDIR_TEST(the_machines_of_a_group_are_known_again_without_its_database),
        TMPDIR_TEST(what_a_peer_may_not_ask_is_refused_with_a_reason),
        TMPDIR_TEST(a_stranger_gets_no_link),
        TMPDIR_TEST(a_link_that_waits_does_not_hold_up_the_stop),
    };

    if (argc > 1 && str_eq(argv[1], "lua-host"))
        return host_main(argc, argv);
    return cmocka_run_group_tests_name("serve", tests, NULL, NULL);
}
