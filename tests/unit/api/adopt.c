// SPDX-License-Identifier: Apache-2.0
/* Adopting machines over the API; what runs is decided by a provider in memory. */
#include "base/fs.h"
#include "base/mem.h"
#include "support/api/world.h"
#include "support/expect.h"

#include <fcntl.h>
#include <unistd.h>

/* The path of a monitor that is there: beside the site's folder, or ("/...") in it. */
static const char *monitor_of(const struct api_site *site, const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    (void)snprintf(path, sizeof(paths[0]), "%s%s", site->dir, name);
    (void)close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    return path;
}

static void adopt(struct api_site *site, const char *name, const char *qmp, int status,
                  const char *part)
{
    CLEANUP(mem_freep) char *path = mem_printf("/v1/machines/%s/adopt", name);
    CLEANUP(mem_freep) char *body = mem_printf("{\"qmp\":\"%s\"}", qmp);

    api_expect(site, "POST", path, body, status, part);
}

static void an_adopted_machine_is_known_and_looked_after(void **state)
{
    struct api_site *site = *state;
    const char *qmp = "/nowhere/m.qmp";

    adopt(site, "db1", qmp, 404, "No such file");
    qmp = monitor_of(site, "-m1.qmp");
    assert_int_equal(site->observed, 0);
    adopt(site, "db1", qmp, 200, "\"adopted\":true");
    assert_int_equal(site->observed, 1); /* taken care of from now on, not from the next look on */
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"wanted_running\":true");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "m1.qmp\"");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"running\"");
    api_expect(site, "GET", "/v1/audit", NULL, 200, "machine.adopt");
    (void)unlink(qmp);
}

static void what_stands_in_the_way_is_said_and_nothing_is_kept(void **state)
{
    struct api_site *site = *state;
    const char *qmp = monitor_of(site, "-m2.qmp");

    site->adopt_problem = "drive vda: it is on ide-hd";
    adopt(site, "db1", qmp, 200, "\"adopted\":false");
    adopt(site, "db1", qmp, 200, "\"problems\":[\"drive vda: it is on ide-hd\"]");
    api_expect(site, "GET", "/v1/machines", NULL, 200, "{\"machines\":[]}");
    (void)unlink(qmp);
}

static void a_monitor_or_a_name_is_not_adopted_twice(void **state)
{
    struct api_site *site = *state;
    const char *qmp = monitor_of(site, "-m3.qmp");
    CLEANUP(mem_freep) char *link = mem_printf("%s.link", qmp);

    adopt(site, "db1", qmp, 200, "\"adopted\":true");
    adopt(site, "db2", qmp, 409, "was adopted already, as db1");
    assert_int_equal(symlink(qmp, link), 0);
    adopt(site, "db2", link, 409, "was adopted already, as db1");
    adopt(site, "db1", monitor_of(site, "-m4.qmp"), 409, "machine db1 is there already");
    api_site_protect(site, "db3", "replica", "protected");
    adopt(site, "db3", monitor_of(site, "-m4.qmp"), 409, "a protection called db3");
    (void)unlink(link);
    (void)unlink(qmp);
    (void)unlink(monitor_of(site, "-m4.qmp"));
}

static void a_machine_that_muster_runs_is_not_adopted(void **state)
{
    struct api_site *site = *state;

    adopt(site, "db1", monitor_of(site, "/qmp"), 409,
          "is the monitor of a machine that Muster runs");
}

static void a_disk_has_one_machine(void **state)
{
    struct api_site *site = *state;
    const char *qmp = monitor_of(site, "-m5.qmp");
    CLEANUP(mem_freep)
    char *own = mem_printf("{\"definition\":{\"name\":\"web1\",\"memory\":\"64MiB\",\"disks\":[{"
                           "\"path\":\"%s.raw\",\"format\":\"raw\"}]}}",
                           qmp);

    api_expect(site, "POST", "/v1/machines", own, 200, "web1");
    adopt(site, "db1", qmp, 200, "belongs to the machine web1");
    (void)unlink(qmp);
}

static void a_definition_of_another_name_is_refused(void **state)
{
    api_expect(*state, "POST", "/v1/machines/db1/adopt",
               "{\"qmp\":\"/m.qmp\",\"definition\":{\"name\":\"db2\"}}", 400,
               "the definition is of db2, not of db1");
    api_expect(*state, "POST", "/v1/machines/db1/adopt",
               "{\"qmp\":\"/m.qmp\",\"definition\":{\"name\":\"db1\",\"qmp\":\"/x\"}}", 400,
               "does not stand in the definition");
    api_expect(*state, "POST", "/v1/machines/db1/adopt", "{}", 400, "qmp");
}

static void a_monitor_in_a_definition_that_is_added_is_refused(void **state)
{
    api_expect(
        *state, "POST", "/v1/machines",
        "{\"definition\":{\"name\":\"db1\",\"memory\":\"64MiB\",\"qmp\":\"/m.qmp\",\"disks\":"
        "[{\"path\":\"/a\",\"format\":\"raw\"}]}}",
        400, "muster machine adopt db1 --qmp /m.qmp");
}

static void a_running_one_is_given_back_when_it_is_removed(void **state)
{
    struct api_site *site = *state;
    const char *qmp = monitor_of(site, "-m6.qmp");

    adopt(site, "db1", qmp, 200, "\"adopted\":true");
    api_site_protect(site, "db1", "source", "protected");
    api_expect(site, "DELETE", "/v1/machines/db1", NULL, 409, "muster unprotect db1");
    assert_int_equal(site->released, 0);
    adopt(site, "db2", monitor_of(site, "-m7.qmp"), 200, "\"adopted\":true");
    api_expect(site, "DELETE", "/v1/machines/db2", NULL, 200, "{}");
    assert_int_equal(site->released, 1);
    api_expect(site, "GET", "/v1/machines/db2", NULL, 404, "db2");
    (void)unlink(qmp);
    (void)unlink(monitor_of(site, "-m7.qmp"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(an_adopted_machine_is_known_and_looked_after),
        API_TEST(what_stands_in_the_way_is_said_and_nothing_is_kept),
        API_TEST(a_monitor_or_a_name_is_not_adopted_twice),
        API_TEST(a_machine_that_muster_runs_is_not_adopted),
        API_TEST(a_disk_has_one_machine),
        API_TEST(a_definition_of_another_name_is_refused),
        API_TEST(a_monitor_in_a_definition_that_is_added_is_refused),
        API_TEST(a_running_one_is_given_back_when_it_is_removed),
    };
    return cmocka_run_group_tests_name("adopt", tests, NULL, NULL);
}
