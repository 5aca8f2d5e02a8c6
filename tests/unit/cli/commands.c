// SPDX-License-Identifier: Apache-2.0
/* Whole commands against a canned daemon: what is asked, what is printed, how it ends. */
#include "base/fs.h"
#include "base/mem.h"
#include "host/host.h"
#include "support/cli/canned.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <time.h>

static void expect_run(const char *dir, const struct canned *canned, const char *words,
                       const char *input, int code, const char *out, const char *errors)
{
    CLEANUP(canned_result_done) struct canned_result result;

    canned_run(dir, canned, words, input, &result);
    if (result.code != code || !strstr(str_text(&result.out), out)
        || !strstr(str_text(&result.err), errors) || result.unasked)
        fail_msg("%s: code %d, %d not asked for\n--- stdout\n%s--- stderr\n%s", words, result.code,
                 result.unasked, str_text(&result.out), str_text(&result.err));
}

static void write_file(const char *dir, const char *name, const char *text)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);

    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
}

/* --- How errors come out ------------------------------------------------------------------------ */

static const struct canned nothing[] = {{0}};

static void an_error_is_one_line_and_a_hint_another(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections/db2/points", NULL, 404,
         "{\"error\":{\"code\":\"not-found\",\"message\":\"db2 is not protected\",\"hint\":\"did you "
         "mean \\\"db1\\\"?\"}}"},
        {0},
    };

    expect_run(*state, canned, "points db2", NULL, 3, "",
               "muster: db2 is not protected\nhint: did you mean \"db1\"?\n");
}

static void with_json_an_error_is_json_too(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections/db2/points", NULL, 409,
         "{\"error\":{\"code\":\"state\",\"message\":\"kept at lyon\"}}"},
        {0},
    };

    expect_run(*state, canned, "points db2 --json", NULL, 4, "",
               "{\"error\":{\"code\":\"state\",\"message\":\"kept at lyon\"}}\n");
}

static void a_timeout_of_the_peer_has_its_own_exit_code(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/machines/db1/stop", "\"within_ms\":5000", 504,
         "{\"error\":{\"code\":\"timeout\",\"message\":\"the guest of db1 did not shut down\"}}"},
        {0},
    };

    expect_run(*state, canned, "machine stop db1 --within 5s", NULL, 6, "",
               "muster: the guest of db1 did not shut down\n");
}

static void an_answer_that_is_no_json_is_said_to_be(void **state)
{
    static const struct canned canned[] = {{"GET /v1/runs", NULL, 200, "<html>"}, {0}};

    expect_run(*state, canned, "run list", NULL, 1, "",
               "the daemon's answer is no JSON (status 200)");
}

static void without_a_daemon_it_says_how_to_start_one(void **state)
{
    CLEANUP(canned_result_done) struct canned_result result;
    CLEANUP(mem_freep) char *dir = path_join(*state, "site");

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    write_file(dir, "config.lua", "return { site = \"paris\" }\n");
    /* The canned daemon listens elsewhere: in the folder above. */
    CLEANUP(mem_freep) char *words = mem_printf("--dir %s status", dir);
    canned_run(*state, nothing, words, NULL, &result);
    assert_int_equal(result.code, 5);
    assert_non_null(strstr(str_text(&result.err), "no daemon answers on"));
    assert_non_null(strstr(str_text(&result.err), "hint: start it with `muster --dir"));
}

static void a_directory_without_a_site_is_said_to_be(void **state)
{
    CLEANUP(canned_result_done) struct canned_result result;
    CLEANUP(mem_freep) char *words = mem_printf("--dir %s/none status", (char *)*state);

    canned_run(*state, nothing, words, NULL, &result);
    assert_int_equal(result.code, 3);
    assert_non_null(strstr(str_text(&result.err), "(no config.lua)"));
}

static void a_misspelt_field_of_the_config_is_told_with_its_line(void **state)
{
    CLEANUP(canned_result_done) struct canned_result result;
    CLEANUP(mem_freep) char *dir = path_join(*state, "site");
    CLEANUP(mem_freep) char *words = mem_printf("--dir %s status", dir);

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    write_file(dir, "config.lua", "return {\n  site = \"paris\",\n  adress = \"[::]:7700\",\n}\n");
    canned_run(*state, nothing, words, NULL, &result);
    assert_int_equal(result.code, 1);
    assert_non_null(strstr(str_text(&result.err), "config.lua:3: adress: unknown field\n"
                                                  "hint: did you mean \"address\"?\n"));
}

/* --- Points ------------------------------------------------------------------------------------- */

static void a_point_is_pinned_and_unpinned_by_a_label(void **state)
{
    static const struct canned pin[] = {
        {"POST /v1/protections/db1/pins", "\"point\":17", 200,
         "{\"point\":17,\"label\":\"upgrade\"}"},
        {0},
    };
    static const struct canned unpin[] = {
        {"DELETE /v1/protections/db1/pins/upgrade", NULL, 200,
         "{\"point\":17,\"label\":\"upgrade\"}"},
        {0},
    };

    expect_run(*state, pin, "point pin db1 17 --label upgrade", NULL, 0,
               "Point 17 of db1 stays, pinned as \"upgrade\".\n", "");
    expect_run(*state, unpin, "point unpin db1 upgrade", NULL, 0,
               "Point 17 of db1 is no longer pinned as \"upgrade\".\n", "");
    expect_run(*state, nothing, "point pin db1 17", NULL, 2, "", "--label L is missing");
    expect_run(*state, nothing, "point pin db1 newest --label x", NULL, 2, "", "POINT");
}

static void a_point_is_made_and_its_number_told_with_why_it_is_not_frozen(void **state)
{
#define POINT_JOB(state_text, result)                                                         \
    "{\"id\":3,\"kind\":\"point\",\"object\":\"db1\",\"state\":\"" state_text "\",\"tasks\":" \
    "[{\"name\":\"cut, send and apply\",\"state\":\"done\",\"result\":" result "}]}"
#define RESULT \
    "{\"point\":18,\"made\":true,\"consistency\":\"crash\",\"note\":\"no agent\",\"label\":\"up\"}"
    static const struct canned made[] = {
        {"POST /v1/protections/db1/points", "\"consistency\":\"application\"", 200, "{\"job\":3}"},
        {"GET /v1/jobs/3", NULL, 0, POINT_JOB("succeeded", RESULT)},
        {"GET /v1/jobs/3", NULL, 0, POINT_JOB("succeeded", RESULT)},
        {0},
    };

    expect_run(*state, made, "point create db1 --consistency application --label up", NULL, 0,
               "Point 18 of db1, crash-consistent, stays, pinned as \"up\".\n",
               "warning: not application-consistent: no agent");
    expect_run(*state, nothing, "point create db1 --consistency perfect", NULL, 2, "",
               "application or crash");
}

static void pruning_asks_with_a_number_or_without(void **state)
{
    static const struct canned dry[] = {
        {"POST /v1/protections/db1/prune", "\"dry_run\":true", 200,
         "{\"name\":\"db1\",\"dry_run\":true,\"removed\":0,\"points\":[]}"},
        {0},
    };
    static const struct canned three[] = {
        {"POST /v1/protections/db1/prune", "\"keep\":3", 200,
         "{\"name\":\"db1\",\"dry_run\":false,\"removed\":4,\"points\":[]}"},
        {0},
    };

    expect_run(*state, dry, "prune db1 --dry-run", NULL, 0, "Nothing was removed.\n", "");
    expect_run(*state, three, "prune db1 --keep 3", NULL, 0, "Removed 4.", "");
    expect_run(*state, nothing, "prune db1 --keep 0", NULL, 2, "", "--keep");
}

/* --- Sites and machines ------------------------------------------------------------------------- */

static void a_site_is_made_once(void **state)
{
    CLEANUP(mem_freep)
    char *words =
        mem_printf("--dir %s/new site init paris --listen 127.0.0.1:7700", (char *)*state);

    expect_run(*state, nothing, words, NULL, 0, "Site paris: ", "");
    expect_run(*state, nothing, words, NULL, 4, "", "there is a site already");
}

static void a_site_s_name_and_address_are_checked_before_anything_is_made(void **state)
{
    CLEANUP(mem_freep) char *bad_name = mem_printf("--dir %s/new site init Paris!", (char *)*state);
    CLEANUP(mem_freep)
    char *bad_address = mem_printf("--dir %s/new site init paris --listen 7700", (char *)*state);
    CLEANUP(mem_freep)
    char *bad_quote = mem_printf("--dir %s/new site init paris --listen \"},os:1", (char *)*state);
    CLEANUP(mem_freep) char *dir = path_join(*state, "new");

    expect_run(*state, nothing, bad_name, NULL, 2, "", "\"Paris!\" is no name");
    expect_run(*state, nothing, bad_address, NULL, 2, "", "--listen: \"7700\" is no address");
    expect_run(*state, nothing, bad_quote, NULL, 2, "", "is no address");
    assert_false(fs_exists(dir));
}

static void serve_is_given_the_config_and_the_ready_descriptor(void **state)
{
    write_file(*state, "config.lua", "return { site = \"paris\" }\n");
    expect_run(*state, nothing, "serve", NULL, 4, "", "/config.lua to -1");
    expect_run(*state, nothing, "serve --ready-fd 2", NULL, 4, "", "/config.lua to 2");
    expect_run(*state, nothing, "serve --ready-fd 99", NULL, 2, "", "99 is no open descriptor");
}

static void a_misspelt_field_of_a_machine_is_told_with_its_line(void **state)
{
    CLEANUP(mem_freep) char *words = mem_printf("machine add %s/db1.lua", (char *)*state);

    write_file(*state, "db1.lua",
               "return {\n  name = \"db1\", memory = \"64MiB\",\n  disks = {\n    { path = \"/a\", "
               "format = \"raw\" },\n    { path = \"/b\",\n      formt = \"raw\" },\n  },\n}\n");
    expect_run(*state, nothing, words, NULL, 1, "",
               "db1.lua:6: db1: disks[2]: unknown field 'formt'");
    write_file(*state, "db1.lua", "return {\n  name = \"db1\",\n  memroy = \"64MiB\",\n}\n");
    expect_run(*state, nothing, words, NULL, 1, "",
               "db1.lua:3: db1: unknown field 'memroy'\nhint: ");
    write_file(*state, "db1.lua", "return {\n  name = \"db1\"\n  memory = \"64MiB\",\n}\n");
    expect_run(*state, nothing, words, NULL, 1, "", "db1.lua:3: ");
    write_file(*state, "db1.lua", "return io.open(\"/etc/shadow\")\n");
    expect_run(*state, nothing, words, NULL, 4, "", "db1.lua:1: 'io' is not here");
}

static void a_missing_field_of_a_machine_is_told_with_the_line_of_its_table(void **state)
{
    CLEANUP(mem_freep) char *words = mem_printf("machine add %s/db1.lua", (char *)*state);

    write_file(
        *state, "db1.lua",
        "-- db1\nreturn {\n  name = \"db1\",\n  disks = { { path = \"/a\", format = \"raw\" } },"
        "\n}\n");
    expect_run(*state, nothing, words, NULL, 1, "",
               "db1.lua:2: db1: 'memory' is missing\nhint: memory = \"2GiB\"\n");
    write_file(*state, "db1.lua",
               "return {\n  name = \"db1\", memory = \"64MiB\",\n  disks = {\n    { path = \"/a\", "
               "format = \"raw\" },\n    { path = \"/b\" },\n  },\n}\n");
    expect_run(*state, nothing, words, NULL, 1, "",
               "db1.lua:5: db1: disks[2]: 'format' is missing");
    write_file(*state, "db1.lua", "local t = { name = \"db1\" }\nreturn t\n");
    expect_run(*state, nothing, words, NULL, 1, "", "db1.lua: db1: 'memory' is missing");
}

static void a_machine_that_would_not_start_is_added_with_the_reasons(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/machines", "\"name\":\"db1\"", 0,
         "{\"name\":\"db1\",\"warnings\":[\"disk vda: /a: No such file\"]}"},
        {0},
    };
    CLEANUP(mem_freep) char *words = mem_printf("machine add %s/db1.lua", (char *)*state);

    write_file(*state, "db1.lua",
               "return { name = \"db1\", memory = \"64MiB\", disks = { { path = \"/a\", format = "
               "\"raw\" } } }\n");
    expect_run(*state, canned, words, NULL, 0,
               "Machine db1 added\n  it would not start: disk vda: /a: No such file\n", "");
}

/* --- Protecting --------------------------------------------------------------------------------- */

#define JOB_OF(state, task, code)                                                       \
    "{\"id\":3,\"kind\":\"protect\",\"object\":\"db1\",\"state\":\"" state              \
    "\",\"error\":\"lyon is full\",\"error_code\":\"" code                              \
    "\",\"tasks\":[{\"name\":\"initial copy\",\"state\":\"" task "\",\"started_ms\":1," \
    "\"ended_ms\":0,\"done\":0,\"total\":0,\"error\":\"\",\"note\":\"\"}]}"
#define JOB(state, task) JOB_OF(state, task, "")

static void protect_waits_for_its_job_and_prints_a_line_per_change(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/protections",
         "{\"interval_ms\":5000,\"keep\":7,\"machine\":\"db1\",\"peer\":"
         "\"lyon\"}",
         0, "{\"job\":3}"},
        {"GET /v1/jobs/3", NULL, 0, JOB("running", "running")},
        {"GET /v1/events?since=0&wait_ms=500", NULL, 0, "{\"change\":9}"},
        {"GET /v1/jobs/3", NULL, 0, JOB("running", "running")},
        {"GET /v1/events?since=9&wait_ms=500", NULL, 0, "{\"change\":9}"},
        {"GET /v1/jobs/3", NULL, 0, JOB("succeeded", "done")},
        {0},
    };
    CLEANUP(canned_result_done) struct canned_result result;

    canned_run(*state, canned, "protect db1 --to lyon --interval 5s --keep 7", NULL, &result);
    assert_int_equal(result.code, 0);
    assert_non_null(strstr(str_text(&result.out), "  running   initial copy\n"));
    assert_non_null(strstr(str_text(&result.out),
                           "  done      initial copy\n"
                           "db1 is protected: its points are kept at lyon\n"));
}

static void several_machines_are_protected_as_a_group(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/protections",
         "{\"group\":\"shop\",\"machines\":[\"db1\",\"web1\"],\"peer\":\"lyon\"}", 0,
         "{\"job\":3}"},
        {0},
    };
    static const struct canned none[] = {{0}};

    expect_run(*state, canned, "protect db1 web1 --to lyon --group shop --no-wait", NULL, 0,
               "Job 3 has begun", "");
    expect_run(*state, none, "protect db1 web1 --to lyon", NULL, 2, "",
               "muster: several machines are a group, which needs a name\n");
}

static void every_setting_is_sent_under_its_own_key(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/policies",
         "{\"application_ms\":3600000,\"compression\":\"lz4\",\"copy_disks\":2,\"copy_start\":"
         "\"22:00\",\"copy_workers\":3,\"encryption\":\"at-rest\",\"interval_ms\":5000,\"keep\":7,"
         "\"log_limit_percent\":40,\"name\":\"gold\",\"resync_window\":\"never\",\"retention\":"
         "\"none\",\"rpo_ms\":0,\"throttle\":\"50MiB\"}",
         0,
         "{\"name\":\"gold\",\"machines\":[],\"interval_ms\":5000,\"rpo_ms\":0,\"notes\":[\"mind "
         "it\"]}"},
        {0},
    };

    expect_run(
        *state, canned,
        "policy add gold --interval=5s --keep=7 --application-consistency=1h --"
        "compression=lz4 --copy-disks=2 --copy-start=22:00 --copy-workers=3 --encryption="
        "at-rest --log-limit=40 --resync-window=never --retention=none --rpo=none --throttle=50MiB",
        NULL, 0, "policy       gold\nused by      nobody\nnote         mind it\n\nSETTING", "");
}

static void settings_without_an_option_shows_them_and_changes_nothing(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections/db1", NULL, 0,
         "{\"policy\":\"gold\",\"overrides\":[\"interval_ms\"],\"interval_ms\":90000,\"keep\":24}"},
        {0},
    };
    CLEANUP(canned_result_done) struct canned_result result;

    canned_run(*state, canned, "settings db1", NULL, &result);
    assert_int_equal(result.code, 0);
    assert_non_null(strstr(str_text(&result.out), "interval                 90s    its own\n"));
    assert_non_null(strstr(str_text(&result.out), "keep                     24     policy gold\n"));
}

static void a_dry_run_shows_what_is_not_met_and_ends_as_refused(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/protections/check", "{\"force\":true,\"machine\":\"db1\",\"peer\":\"lyon\"}", 0,
         "{\"group\":\"db1\",\"failed\":1,\"checks\":[{\"what\":\"peer\",\"site\":\"lyon\","
         "\"state\":\"failed\",\"text\":\"it is away\"}]}"},
        {0},
    };

    expect_run(*state, canned, "protect db1 --to lyon --dry-run --force", NULL, 4,
               "failed: it is away\n", "muster: 1 prerequisite of protecting db1 is not met\n");
}

static void settings_can_be_given_back_to_the_policy(void **state)
{
    static const struct canned canned[] = {
        {"PUT /v1/protections/db1/settings",
         "{\"keep\":3,\"networks\":{\"user\":\"user\"},\"policy\":\"gold\",\"reset\":\"interval,rpo\"}",
         0, "{\"policy\":\"gold\",\"overrides\":[\"keep\"],\"keep\":3}"},
        {0},
    };

    expect_run(*state, canned,
               "settings db1 --policy gold --reset interval,rpo --keep 3 --networks user=user",
               NULL, 0, "keep                     3      its own\n", "");
}

static void a_failed_job_is_a_failed_command(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/protections", NULL, 0, "{\"job\":3}"},
        {"GET /v1/jobs/3", NULL, 0, JOB("failed", "failed")},
        {0},
    };

    expect_run(*state, canned, "protect db1 --to lyon", NULL, 1, "failed    initial copy",
               "muster: job 3 failed: lyon is full\n");
}

static void a_failed_job_ends_by_its_code_as_an_answer_would(void **state)
{
    static const struct {
        struct canned canned[2];
        int code;
    } ends[] = {
        {{{"GET /v1/jobs/3", NULL, 0, JOB_OF("failed", "failed", "state")}}, 4},
        {{{"GET /v1/jobs/3", NULL, 0, JOB_OF("failed", "failed", "net")}}, 5},
        {{{"GET /v1/jobs/3", NULL, 0, JOB_OF("failed", "failed", "timeout")}}, 6},
        {{{"GET /v1/jobs/3", NULL, 0, JOB_OF("failed", "failed", "space")}}, 1},
        {{{"GET /v1/jobs/3", NULL, 0, JOB_OF("cancelled", "cancelled", "cancelled")}}, 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        expect_run(*state, ends[i].canned, "jobs watch 3", NULL, ends[i].code, "",
                   "muster: job 3 ");
}

static void protect_needs_to_be_told_where(void **state)
{
    expect_run(*state, nothing, "protect db1", NULL, 2, "",
               "muster: --to SITE is missing\nhint: muster protect db1 --to SITE\n");
    expect_run(*state, nothing, "protect db1 --to lyon --interval 5", NULL, 2, "",
               "\"5\" is no duration");
}

static void an_option_out_of_its_range_is_a_usage_error_that_says_the_range(void **state)
{
    static const char *const wrong[][2] = {
        {"protect db1 --to lyon --interval 0s",
         "--interval: 0s is out of range\nhint: from point to point, 1s to 24h\n"},
        {"protect db1 --to lyon --interval 25h",
         "--interval: 25h is out of range\nhint: from point to point, 1s to 24h\n"},
        {"protect db1 --to lyon --keep 0",
         "--keep: 0 is out of range\nhint: how many of the newest points are kept, 1 to "
         "10000\n"},
        {"settings db1 --keep many", "--keep: \"many\" is no number\nhint: how many of"},
        {"protect db1 --to lyon --compression gzip",
         "--compression: compression: compression \"gzip\"\nhint: zstd, lz4, none or adaptive\n"},
        {"policy add gold --rpo 40d",
         "--rpo: 40d is out of range\nhint: the target by which health judges, 1s to 30d"},
        {"policy add gold --application-consistency 5s", "--application-consistency: 5s is out"},
        {"policy add gold --log-limit 101", "--log-limit: 101 is out of range\nhint: changes of"},
        {"policy add gold --copy-start 25:00", "--copy-start: "},
        {"policy add gold --throttle fast", "--throttle: "},
        {"policy add gold --retention 1h", "--retention: "},
        {"policy change gold", "nothing to change\nhint: `muster policy change gold"},
        {"protect db1 --to lyon --policy ../gold", "--policy: \"../gold\" is no name\nhint: 1 to"},
        {"protect db1 --to ../lyon", "--to: \"../lyon\" is no name\nhint: 1 to 63"},
        {"machine stop db1 --within 2h", "--within: 2h is out of range\nhint: 1s to 1h\n"},
        {"run shop --kind test --point 0", "--point: 0 is out of range\nhint: 1 or more\n"},
        {"run skip 7 --step 1", "--reason TEXT is missing"},
        {"audit --limit 10001", "--limit: 10001 is out of range\nhint: 1 to 10000\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        expect_run(*state, nothing, wrong[i][0], NULL, 2, "", wrong[i][1]);
}

/* --- Runs --------------------------------------------------------------------------------------- */

#define PREVIEW                                                                                     \
    "{\"plan\":\"db1\",\"kind\":\"unplanned\",\"loss_bound_ms\":3200,\"machines\":[{\"machine\":"   \
    "\"db1\",\"peer\":\"paris\",\"durable_point\":42,\"durable_age_ms\":3200,\"loss_bound_ms\":"    \
    "3200,\"peer_answers\":false}],\"steps\":[\"Promote db1 here\",\"Bring up db1\"],\"warnings\":" \
    "[]}"
#define RUN(state, active, step)                                                                   \
    "{\"id\":5,\"plan\":\"db1\",\"kind\":\"unplanned\",\"state\":\"" state "\",\"active\":" active \
    ",\"reason\":\"\",\"declared_ms\":1000,\"ended_ms\":0,\"steps\":[{\"stage\":\"Change sides\"," \
    "\"title\":\"Promote db1 here\",\"state\":\"" step "\",\"started_ms\":1000,\"ended_ms\":0,"    \
    "\"attempts\":1,\"error\":\"\",\"error_code\":\"net\"}],\"report\":{\"rto_ms\":-1}}"

static void an_unplanned_failover_names_the_loss_and_takes_no_for_an_answer(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/runs/preview", "{\"kind\":\"unplanned\",\"machine\":\"db1\"}", 0, PREVIEW},
        {0},
    };

    expect_run(*state, canned, "failover db1 --unplanned", "no\n", 4,
               "What was written in the last 3.2 s is LOST. Start the unplanned failover? [yes/no]",
               "muster: nothing was started");
    expect_run(*state, canned, "failover db1 --unplanned", "", 4, "[yes/no]",
               "muster: nothing was started");
    expect_run(*state, canned, "failover db1 --unplanned", "yesterday\n", 4, "[yes/no]",
               "muster: nothing was started");
}

static void a_yes_starts_it_and_shows_it_to_its_end(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/runs/preview", NULL, 0, PREVIEW},
        {"POST /v1/runs", "{\"kind\":\"unplanned\",\"machine\":\"db1\",\"point\":41}", 0,
         "{\"run\":5}"},
        {"GET /v1/runs/5", NULL, 0, RUN("running", "true", "running")},
        {"GET /v1/events?since=0&wait_ms=500", NULL, 0, "{\"change\":2}"},
        {"GET /v1/runs/5", NULL, 0, RUN("awaiting-commit", "false", "done")},
        {0},
    };

    expect_run(*state, canned, "failover db1 --unplanned --point 41", "yes\n", 0,
               "  done      Change sides: Promote db1 here", "");
}

#define POINTS                                                                                                                                                          \
    "{\"name\":\"db1\",\"points\":[{\"point\":44,\"consistency\":\"application\",\"applied\":false},"                                                                   \
    "{\"point\":43,\"consistency\":\"crash\",\"applied\":true},{\"point\":42,\"consistency\":"                                                                          \
    "\"application\",\"applied\":true,\"promotion\":true},{\"point\":42,\"consistency\":\"application\",\"applied\":true,\"damaged\":1},{\"point\":41,\"consistency\":" \
    "\"application\",\"applied\":true},{\"point\":30,\"consistency\":\"application\",\"applied\":"                                                                      \
    "true}]}"

static void the_newest_application_consistent_point_can_be_asked_for(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections/db1/points", NULL, 0, POINTS},
        {"POST /v1/runs/preview", "\"point\":41", 0, PREVIEW},
        {"POST /v1/runs", "\"point\":41", 0, "{\"run\":5}"},
        {0},
    };

    expect_run(*state, canned, "failover db1 --unplanned --point application --yes --no-wait", NULL,
               0, "db1: point 41 is its newest application-consistent one", "");
}

static void of_a_plan_s_machines_each_has_its_own(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/runs/preview", "{\"kind\":\"test\",\"plan\":\"shop\"}", 0, PREVIEW},
        {"GET /v1/protections/db1/points", NULL, 0, POINTS},
        {"POST /v1/runs/preview", "\"points\":{\"db1\":41}", 0, PREVIEW},
        {"GET /v1/plans/shop/runbook?kind=test", NULL, 0, "{\"text\":\"\"}"},
        {"POST /v1/runs", "\"points\":{\"db1\":41}", 0, "{\"run\":5}"},
        {0},
    };

    expect_run(*state, canned, "run shop --kind test --point application --no-wait", NULL, 0,
               "Run 5 has begun", "");
}

static void without_one_nothing_is_started(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections/db1/points", NULL, 0,
         "{\"points\":[{\"point\":43,\"consistency\":\"crash\",\"applied\":true}]}"},
        {0},
    };

    expect_run(*state, canned, "test-failover db1 --point application", NULL, 3, "",
               "no application-consistent point of db1 is kept");
    expect_run(*state, nothing, "test-failover db1 --point latest", NULL, 2, "",
               "\"latest\" is no number");
    expect_run(*state, nothing, "change-point 7 --point application", NULL, 2, "",
               "needs a machine's name");
}

static void json_never_asks(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/runs/preview", NULL, 0, PREVIEW},
        {0},
    };

    expect_run(*state, canned, "failover db1 --unplanned --json", "yes\n", 2, "",
               "with --json nobody can be asked");
}

static void a_run_that_failed_ends_with_the_code_of_its_step(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/runs/5", NULL, 0, RUN("failed", "false", "failed")},
        {0},
    };

    expect_run(*state, canned, "run watch 5", NULL, 5, "failed: Change sides: Promote db1 here",
               "muster: run 5 is failed\n");
}

static void a_run_that_was_told_to_stop_and_did_is_no_failure(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/runs/5/cancel", NULL, 0, "{}"},
        {"GET /v1/runs/5", NULL, 0, RUN("cancelled", "false", "undone")},
        {0},
    };
    static const struct canned too_late[] = {
        {"POST /v1/runs/5/cancel", NULL, 0, "{}"},
        {"GET /v1/runs/5", NULL, 0, RUN("failed", "false", "failed")},
        {0},
    };

    expect_run(*state, canned, "run cancel 5", NULL, 0, "cancelled", "");
    expect_run(*state, too_late, "run cancel 5", NULL, 5, "failed", "muster: run 5 is failed");
}

static void a_run_that_waits_for_a_person_does_not_hold_up_a_script(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/runs/5", NULL, 0, RUN("paused", "true", "unknown")},
        {0},
    };

    expect_run(*state, canned, "run watch 5", NULL, 4, "unknown   Change sides",
               "run 5 waits for a person");
}

static void failover_must_say_which_kind(void **state)
{
    expect_run(*state, nothing, "failover db1", NULL, 2, "", "say which: --planned");
    expect_run(*state, nothing, "failover db1 --planned --unplanned", NULL, 2, "", "say which");
    expect_run(*state, nothing, "run shop --kind plannd", NULL, 2, "", "is no kind of run");
}

static void cleanup_takes_a_name_or_a_number(void **state)
{
    static const struct canned by_name[] = {
        {"POST /v1/runs", "{\"kind\":\"cleanup\",\"plan\":\"shop\"}", 0, "{\"run\":6}"},
        {0},
    };
    static const struct canned by_number[] = {
        {"POST /v1/runs", "\"of_run\":5", 0, "{\"run\":6}"},
        {0},
    };

    expect_run(*state, by_name, "cleanup shop --no-wait", NULL, 0, "Run 6 has begun", "");
    expect_run(*state, by_number, "cleanup 5 --no-wait", NULL, 0, "Run 6 has begun", "");
}

static void steps_count_from_1(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/runs/7/decide", "\"step\":0", 409,
         "{\"error\":{\"code\":\"state\",\"message\":\"step 1 is done\"}}"},
        {0},
    };
    static const struct canned asked[] = {
        {"POST /v1/runs/7/approve", "{\"note\":\"fine\",\"step\":3}", 403,
         "{\"error\":{\"code\":\"denied\",\"message\":\"eve may not answer step 4; hint: ada"
         " may\"}}"},
        {0},
    };
    static const struct canned denied[] = {
        {"POST /v1/runs/7/deny", "{\"note\":\"\"}", 0, "{}"},
        {0},
    };

    expect_run(*state, canned, "run retry 7 --step 1", NULL, 4, "", "step 1 is done");
    expect_run(*state, asked, "run approve 7 --step 4 --note fine", NULL, 4, "",
               "eve may not answer step 4\nhint: ada may");
    expect_run(*state, denied, "run deny 7 --no-wait", NULL, 0, "", "");
    expect_run(*state, nothing, "run retry 7 --step 0", NULL, 2, "",
               "--step: 0 is out of range\nhint: 1 or more\n");
}

/* --- Plans -------------------------------------------------------------------------------------- */

static void each_problem_of_a_plan_is_told_with_its_line(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/plans/check", "\"source\":\"return plan", 0,
         "{\"sound\":false,\"problems\":[{\"line\":5,\"warning\":false,\"text\":\"unknown machine "
         "'db2'; hint: did you mean 'db1'?\"},{\"line\":0,\"warning\":true,\"text\":\"no rpo\"}]}"},
        {0},
    };
    CLEANUP(mem_freep) char *words = mem_printf("plan add %s/p.lua", (char *)*state);
    CLEANUP(mem_freep)
    char *want =
        mem_printf("%s/p.lua:5: error: unknown machine 'db2'\n  hint: did you mean 'db1'?\n"
                   "%s/p.lua: warning: no rpo\n",
                   (char *)*state, (char *)*state);

    write_file(*state, "p.lua", "return plan \"one\" {}\n");
    expect_run(*state, canned, words, NULL, 1, want, "p.lua: 1 error\n");
}

static void a_plan_s_copies_are_not_said_to_be_there_yet(void **state)
{
    static const struct canned canned[] = {
        {"POST /v1/plans/check", NULL, 0, "{\"sound\":true,\"problems\":[]}"},
        {"POST /v1/plans", NULL, 0,
         "{\"name\":\"shop\",\"hash\":\"1234\",\"copies\":[{\"peer\":\"lyon\",\"job\":4}]}"},
        {0},
    };
    CLEANUP(mem_freep) char *words = mem_printf("plan add %s/p.lua", (char *)*state);

    write_file(*state, "p.lua", "return plan \"shop\" {}\n");
    expect_run(*state, canned, words, NULL, 0, "Plan shop added (1234); being copied to lyon\n",
               "");
}

static void json_output_is_what_the_api_answered(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections", NULL, 0,
         "{\"protections\":[{\"session\":\"fenced\",\"name\":\"db1\"}]}"},
        {0},
    };

    expect_run(*state, canned, "status --json", NULL, 0,
               "[{\"name\":\"db1\",\"session\":\"fenced\"}]\n", "");
}

static void a_branch_is_shown_with_its_disks_and_what_is_not_known(void **state)
{
    static const struct canned canned[] = {
        {"GET /v1/protections/db1/branches", NULL, 0,
         "{\"name\":\"db1\",\"branches\":[{\"point\":18,\"parent\":17,\"generation\":1,\"cut_ms\":0,"
         "\"note\":\"nobody kept track\",\"site\":\"paris\",\"where\":\"/srv/b/18\",\"disks\":["
         "{\"name\":\"vda\",\"bytes\":-1},{\"name\":\"vdb\",\"bytes\":8192}]}]}"},
        {0},
    };

    expect_run(*state, canned, "branches db1", NULL, 0,
               "    18     17           1  -    vda   unknown  paris  /srv/b/18\n", "");
}

static void a_view_is_of_a_point_or_of_a_branch(void **state)
{
    expect_run(*state, nothing, "view db1", NULL, 2, "", "--point N or --branch N");
    expect_run(*state, nothing, "view db1 --point 3 --branch 4", NULL, 2, "",
               "--point N or --branch N");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(an_error_is_one_line_and_a_hint_another),
        TMPDIR_TEST(with_json_an_error_is_json_too),
        TMPDIR_TEST(a_timeout_of_the_peer_has_its_own_exit_code),
        TMPDIR_TEST(a_branch_is_shown_with_its_disks_and_what_is_not_known),
        TMPDIR_TEST(a_view_is_of_a_point_or_of_a_branch),
        TMPDIR_TEST(an_answer_that_is_no_json_is_said_to_be),
        TMPDIR_TEST(without_a_daemon_it_says_how_to_start_one),
        TMPDIR_TEST(a_directory_without_a_site_is_said_to_be),
        TMPDIR_TEST(a_misspelt_field_of_the_config_is_told_with_its_line),
        TMPDIR_TEST(a_point_is_pinned_and_unpinned_by_a_label),
        TMPDIR_TEST(a_point_is_made_and_its_number_told_with_why_it_is_not_frozen),
        TMPDIR_TEST(pruning_asks_with_a_number_or_without),
        TMPDIR_TEST(a_site_is_made_once),
        TMPDIR_TEST(a_site_s_name_and_address_are_checked_before_anything_is_made),
        TMPDIR_TEST(serve_is_given_the_config_and_the_ready_descriptor),
        TMPDIR_TEST(a_misspelt_field_of_a_machine_is_told_with_its_line),
        TMPDIR_TEST(a_missing_field_of_a_machine_is_told_with_the_line_of_its_table),
        TMPDIR_TEST(a_machine_that_would_not_start_is_added_with_the_reasons),
        TMPDIR_TEST(protect_waits_for_its_job_and_prints_a_line_per_change),
        TMPDIR_TEST(several_machines_are_protected_as_a_group),
        TMPDIR_TEST(every_setting_is_sent_under_its_own_key),
        TMPDIR_TEST(settings_without_an_option_shows_them_and_changes_nothing),
        TMPDIR_TEST(a_dry_run_shows_what_is_not_met_and_ends_as_refused),
        TMPDIR_TEST(settings_can_be_given_back_to_the_policy),
        TMPDIR_TEST(a_failed_job_is_a_failed_command),
        TMPDIR_TEST(a_failed_job_ends_by_its_code_as_an_answer_would),
        TMPDIR_TEST(protect_needs_to_be_told_where),
        TMPDIR_TEST(an_option_out_of_its_range_is_a_usage_error_that_says_the_range),
        TMPDIR_TEST(an_unplanned_failover_names_the_loss_and_takes_no_for_an_answer),
        TMPDIR_TEST(a_yes_starts_it_and_shows_it_to_its_end),
        TMPDIR_TEST(the_newest_application_consistent_point_can_be_asked_for),
        TMPDIR_TEST(of_a_plan_s_machines_each_has_its_own),
        TMPDIR_TEST(without_one_nothing_is_started),
        TMPDIR_TEST(json_never_asks),
        TMPDIR_TEST(a_run_that_failed_ends_with_the_code_of_its_step),
        TMPDIR_TEST(a_run_that_was_told_to_stop_and_did_is_no_failure),
        TMPDIR_TEST(a_run_that_waits_for_a_person_does_not_hold_up_a_script),
        TMPDIR_TEST(failover_must_say_which_kind),
        TMPDIR_TEST(cleanup_takes_a_name_or_a_number),
        TMPDIR_TEST(each_problem_of_a_plan_is_told_with_its_line),
        TMPDIR_TEST(steps_count_from_1),
        TMPDIR_TEST(a_plan_s_copies_are_not_said_to_be_there_yet),
        TMPDIR_TEST(json_output_is_what_the_api_answered),
    };

    /* The commands run Lua in a child of this program, as the real one does. */
    if (argc > 1 && strcmp(argv[1], "lua-host") == 0)
        return host_main(argc, argv);
    (void)setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests_name("commands", tests, NULL, NULL);
}
