// SPDX-License-Identifier: Apache-2.0
/* The real endpoints over a real state, estate, jobs and runner, with machines in memory. */
#include "base/fs.h"
#include "base/mem.h"
#include "host/host.h"
#include "state/state.h"
#include "support/api/world.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#define DB1                                                                                   \
    "{\"definition\":{\"name\":\"db1\",\"memory\":\"64MiB\",\"cpus\":1,\"disks\":[{\"path\":" \
    "\"/nowhere/db1.raw\",\"format\":\"raw\"}]}}"

static void add_db1(struct api_site *site)
{
    api_expect(site, "POST", "/v1/machines", DB1, 200, "\"name\":\"db1\"");
}

/* --- Site and peers -------------------------------------------------------------------------- */

static void the_site_says_who_it_is(void **state)
{
    api_expect(*state, "GET", "/v1/site", NULL, 200, "\"site\":\"paris\"");
    api_expect(*state, "GET", "/v1", NULL, 200, "\"path\":\"/v1/machines/{name}/start\"");
}

static void no_token_is_issued_for_an_address_nobody_can_connect_to(void **state)
{
    api_expect(*state, "POST", "/v1/peers/token", NULL, 409, "set `advertise` in config.lua");
}

static void a_token_that_is_none_is_refused(void **state)
{
    struct api_site *site = *state;

    (void)snprintf(site->config.advertise, sizeof(site->config.advertise), "127.0.0.1:7700");
    api_expect(site, "POST", "/v1/peers", "{\"token\":\"hello\"}", 400, "token");
    assert_int_equal(site->peers_changed, 0);
}

static void a_pairing_that_protects_machines_is_not_ended(void **state)
{
    api_site_protect(*state, "db1", "source", "protected");
    api_expect(*state, "DELETE", "/v1/peers/lyon", NULL, 409, "muster unprotect db1");
}

static void a_throttle_without_a_rate_or_a_peer_is_refused(void **state)
{
    api_expect(*state, "PUT", "/v1/peers/lyon/throttle", "{\"throttle\":\"fast\"}", 400, "fast");
    api_expect(*state, "PUT", "/v1/peers/nice/throttle", "{\"throttle\":\"1MiB\"}", 404, "nice");
}

static void a_change_number_of_an_earlier_daemon_is_answered_at_once(void **state)
{
    api_expect(*state, "GET", "/v1/events?since=999&wait_ms=60000", NULL, 200, "{\"change\":0}");
}

/* --- Machines -------------------------------------------------------------------------------- */

static void a_machine_is_added_with_what_would_stop_its_start(void **state)
{
    api_expect(*state, "POST", "/v1/machines", DB1, 200, "disk vda: /nowhere/db1.raw is missing");
    api_expect(*state, "GET", "/v1/machines", NULL, 200, "\"state\":\"off\"");
    api_expect(*state, "GET", "/v1/machines/db1", NULL, 200, "\"wanted_running\":false");
}

static void a_machine_s_wrong_field_is_named(void **state)
{
    api_expect(*state, "POST", "/v1/machines", "{\"definition\":{\"name\":\"db1\",\"memroy\":1}}",
               400, "did you mean 'memory'?");
    api_expect(*state, "POST", "/v1/machines", "{\"definition\":[]}", 400, "must be an object");
}

static void a_machine_is_not_added_twice(void **state)
{
    add_db1(*state);
    api_expect(*state, "POST", "/v1/machines", DB1, 409, "\"code\":\"exists\"");
}

static void a_machine_does_not_take_the_name_of_a_replica(void **state)
{
    api_site_protect(*state, "db1", "replica", "protected");
    api_expect(*state, "POST", "/v1/machines", DB1, 409, "this site has a protection called db1");
}

static void a_misspelt_machine_is_answered_with_the_nearest(void **state)
{
    add_db1(*state);
    api_expect(*state, "GET", "/v1/machines/db2", NULL, 404, "did you mean \\\"db1\\\"?");
    api_expect(*state, "POST", "/v1/machines/db2/start", NULL, 404, "db1");
    api_expect(*state, "DELETE", "/v1/machines/db2", NULL, 404, "db1");
}

static void start_and_stop_do_what_they_say_and_are_remembered(void **state)
{
    add_db1(*state);
    api_expect(*state, "POST", "/v1/machines/db1/start", NULL, 200, "{}");
    api_expect(*state, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"running\"");
    api_expect(*state, "GET", "/v1/machines/db1", NULL, 200, "\"wanted_running\":true");
    api_expect(*state, "DELETE", "/v1/machines/db1", NULL, 409, "machine db1 is running");
    api_expect(*state, "POST", "/v1/machines/db1/stop", "{}", 200, "{}");
    api_expect(*state, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"off\"");
    api_expect(*state, "DELETE", "/v1/machines/db1", NULL, 200, "{}");
    api_expect(*state, "GET", "/v1/machines", NULL, 200, "{\"machines\":[]}");
}

static void a_deaf_guest_is_ended_only_by_force(void **state)
{
    struct api_site *site = *state;

    add_db1(site);
    api_expect(site, "POST", "/v1/machines/db1/start", NULL, 200, "{}");
    site->guest_is_deaf = true;
    api_expect(site, "POST", "/v1/machines/db1/stop", "{\"within_ms\":1000}", 504, "--force");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"running\"");
    api_expect(site, "POST", "/v1/machines/db1/stop", "{\"force\":true}", 200, "{}");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"off\"");
}

/* db1 as a run would have recovered it here. */
static void recover_db1(struct api_site *site, const char *run, bool test)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/instances/%s-db1", site->dir, run);
    CLEANUP(mem_freep) char *path = path_join(dir, "instance.json");
    CLEANUP(mem_freep) char *mark = path_join(dir, "armed.json");
    static const char armed[] =
        "{\"generation\": 2, \"serial\": 1, \"base\": true, \"armed\": true}";
    CLEANUP(mem_freep)
    char *text = mem_printf("{\"run\":\"%s\",\"machine\":\"db1\",\"group\":\"db1\",\"test\":%s,"
                            "\"point\":3,\"netns\":\"\",%s",
                            run, test ? "true" : "false", &DB1[1]);
    char run_text[64], machine[] = "db1", definition[] = "{}", netns[] = "";
    struct state_instance row = {.run = run_text,
                                 .machine = machine,
                                 .test = test,
                                 .definition = definition,
                                 .group = machine,
                                 .point = 3,
                                 .run_dir = dir,
                                 .netns = netns};

    (void)snprintf(run_text, sizeof(run_text), "%s", run);
    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
    EXPECT_OK(fs_replace_file(fs_real(), mark, armed, strlen(armed), 0600, &err));
    EXPECT_OK(state_instance_put(site->state, &row, &err));
}

static void whether_a_machine_could_be_kept_is_told(void **state)
{
    struct api_site *site = *state;

    recover_db1(site, "paris-4", false);
    api_expect(site, "GET", "/v1/machines/db1/operations", NULL, 200,
               "{\"allowed\":true,\"operation\":\"machine keep\"}");
    api_site_protect(site, "db1", "source", "protected");
    api_expect(site, "GET", "/v1/machines/db1/operations", NULL, 200,
               "\"machine keep\",\"why\":\"db1 is shared with lyon");
}

static void a_machine_that_was_failed_over_to_here_is_stopped_and_started(void **state)
{
    struct api_site *site = *state;

    recover_db1(site, "paris-4", false);
    recover_db1(site, "paris-3", true);
    api_expect(site, "POST", "/v1/machines/db1/start", NULL, 200, "{}");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"run\":\"paris-4\"");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"running\"");
    site->guest_is_deaf = true;
    api_expect(site, "POST", "/v1/machines/db1/stop", "{\"within_ms\":1000}", 504, "--force");
    api_expect(site, "POST", "/v1/machines/db1/stop", "{\"force\":true}", 200, "{}");
    api_expect(site, "GET", "/v1/machines/db1", NULL, 200, "\"state\":\"off\"");
    api_expect(site, "GET", "/v1/audit", NULL, 200, "\"act\":\"machine.stop\"");
}

static void a_test_s_machine_is_neither_started_nor_stopped_by_hand(void **state)
{
    recover_db1(*state, "paris-3", true);
    api_expect(*state, "POST", "/v1/machines/db1/start", NULL, 409, "`muster cleanup` ends");
    api_expect(*state, "POST", "/v1/machines/db1/stop", "{}", 409, "only as the test paris-3");
}

static void a_protected_machine_is_not_forgotten(void **state)
{
    add_db1(*state);
    api_site_protect(*state, "db1", "source", "protected");
    api_expect(*state, "DELETE", "/v1/machines/db1", NULL, 409, "muster unprotect db1");
}

/* --- Protections ----------------------------------------------------------------------------- */

static void protect_shop(struct api_site *site)
{
    const struct state_protection row = {
        .group = (char[]){"shop"},
        .peer = (char[]){"lyon"},
        .role = (char[]){"source"},
        .state = (char[]){"protected"},
        .settings = (char[]){"{\"machines\":[\"db1\",\"web1\"]}"},
        .generation = 1,
    };

    EXPECT_OK(state_protection_put(site->state, &row, &err));
    EXPECT_OK(state_turn_end(site->state, &err));
}

static void a_group_is_found_by_its_machines_and_keeps_them(void **state)
{
    add_db1(*state);
    protect_shop(*state);
    api_expect(*state, "GET", "/v1/protections/shop", NULL, 200, "\"machines\":[\"db1\",\"web1\"]");
    api_expect(*state, "GET", "/v1/protections/web1", NULL, 200, "\"name\":\"shop\"");
    api_expect(*state, "POST", "/v1/protections/db1/pause", NULL, 409, "shop is not being sent");
    api_expect(*state, "GET", "/v1/machines/db1/operations", NULL, 200, "\"group\":\"shop\"");
    api_expect(*state, "GET", "/v1/protections/web2", NULL, 404, "did you mean \\\"web1\\\"?");
    api_expect(*state, "DELETE", "/v1/machines/db1", NULL, 409,
               "with the others of the group shop");
}

static void machines_to_be_protected_are_named_in_one_of_two_ways(void **state)
{
    api_expect(*state, "POST", "/v1/protections", "{\"peer\":\"lyon\"}", 400,
               "name either a machine, or machines and their group");
    api_expect(*state, "POST", "/v1/protections",
               "{\"peer\":\"lyon\",\"machine\":\"db1\",\"machines\":[\"web1\"]}", 400,
               "name either a machine");
    api_expect(*state, "POST", "/v1/protections", "{\"peer\":\"lyon\",\"machines\":[\"../x\"]}",
               400, "a list of names");
    api_expect(*state, "POST", "/v1/protections",
               "{\"peer\":\"lyon\",\"machines\":[\"db1\",\"web1\"]}", 400, "which needs a name");
}

static void a_protection_without_a_session_has_no_point_and_says_so(void **state)
{
    api_site_protect(*state, "db1", "source", "protected");
    api_expect(*state, "GET", "/v1/protections", NULL, 200, "\"durable_age_ms\":-1");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "\"health\":\"critical\"");
}

static void a_replica_that_cannot_be_read_is_critical(void **state)
{
    api_site_protect(*state, "db1", "replica", "protected");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "\"health\":\"critical\"");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "the replica cannot be read");
}

static void points_kept_at_the_peer_are_told_as_the_peer_tells_them(void **state)
{
    struct api_site *site = *state;
    CLEANUP(json_freep) json_t *answer = NULL;
    void *fixture;

    assert_int_equal(estates_setup(&fixture), 0);
    struct estates *sites = fixture;
    CLEANUP(json_freep)
    json_t *there = estates_ask(sites->at_lyon, "group.points", json_pack("{s:s}", "group", "db1"));
    site->peer = sites->lyon;
    api_site_protect(site, "db1", "source", "protected");
    assert_int_equal(api_ask(site, "GET", "/v1/protections/db1/points", NULL, &answer), 200);
    const json_t *points = json_object_get(answer, "points");
    assert_int_equal(json_array_size(points), 3);
    assert_true(json_equal(points, json_object_get(there, "points")));
    api_site_peer_done(site);
    assert_int_equal(estates_teardown(&fixture), 0);
}

static void a_point_kept_at_the_peer_is_pinned_and_pruned_from_here_and_it_is_audited(void **state)
{
    struct api_site *site = *state;
    void *fixture;

    assert_int_equal(estates_setup(&fixture), 0);
    struct estates *sites = fixture;
    site->peer = sites->lyon;
    api_site_protect(site, "db1", "source", "protected");
    api_expect(site, "POST", "/v1/protections/db1/pins", "{\"point\":1}", 400, "label");
    api_expect(site, "POST", "/v1/protections/db1/pins", "{\"point\":1,\"label\":\"up\"}", 200,
               "{\"label\":\"up\",\"point\":1}");
    api_expect(site, "POST", "/v1/protections/db1/prune", "{\"keep\":1,\"dry_run\":true}", 200,
               "\"removed\":0}");
    api_expect(site, "POST", "/v1/protections/db1/prune", "{\"keep\":0}", 400,
               "keep must be 1 to 10000");
    api_expect(site, "POST", "/v1/protections/db1/prune", "{\"keep\":1}", 200, "\"removed\":1");
    api_expect(site, "DELETE", "/v1/protections/db1/pins/other", NULL, 404,
               "lyon: db1: no point is pinned as");
    api_expect(site, "DELETE", "/v1/protections/db1/pins/up", NULL, 200, "\"label\":\"up\"");
    api_expect(site, "GET", "/v1/audit", NULL, 200, "point 1 as up");
    api_expect(site, "GET", "/v1/audit", NULL, 200, "keep 1, removed 1");
    api_expect(site, "GET", "/v1/audit", NULL, 200, "point.unpin");
    api_expect(site, "POST", "/v1/protections/db9/pins", "{\"label\":\"x\"}", 404,
               "db9 is not protected");
    api_site_peer_done(site);
    assert_int_equal(estates_teardown(&fixture), 0);
}

static void points_that_cannot_be_asked_for_are_said_to_be_where_they_are(void **state)
{
    struct api_site *site = *state;

    api_site_protect(site, "db1", "source", "protected");
    api_expect(site, "GET", "/v1/protections/db1/points", NULL, 404,
               "the points of db1 are kept at lyon: not paired with lyon");
    site->peer_is_away = true;
    api_expect(site, "GET", "/v1/protections/db1/points", NULL, 502,
               "the points of db1 are kept at lyon: lyon cannot be reached");
    api_expect(site, "GET", "/v1/protections/db1/points", NULL, 502,
               "try again when lyon answers, or ask there: `muster points db1`");
    api_expect(site, "GET", "/v1/protections/db2/points", NULL, 404, "did you mean \\\"db1\\\"?");
}

static void a_replica_is_not_paused_here(void **state)
{
    api_site_protect(*state, "db1", "replica", "protected");
    api_expect(*state, "POST", "/v1/protections/db1/pause", NULL, 409, "is sent from lyon");
    api_expect(*state, "POST", "/v1/protections/db1/retry", NULL, 409, "is sent from lyon");
    api_expect(*state, "POST", "/v1/protections/db1/resync", NULL, 409, "is sent from lyon");
    api_expect(*state, "POST", "/v1/protections/db1/resync", "{\"now\":1}", 400, "now");
    api_expect(*state, "PUT", "/v1/protections/db1/settings", "{\"keep\":3}", 409,
               "is sent from lyon");
}

static void settings_out_of_range_are_refused_with_the_range(void **state)
{
    api_site_protect(*state, "db1", "source", "protected");
    api_expect(*state, "PUT", "/v1/protections/db1/settings", "{\"interval_ms\":999}", 400,
               "1000 (1.0 s)");
    api_expect(*state, "PUT", "/v1/protections/db1/settings", "{\"encryption\":\"luks\"}", 400,
               "encryption");
    api_expect(*state, "PUT", "/v1/protections/db1/settings", "{\"keep\":0}", 400, "1 to 10000");
    api_expect(*state, "POST", "/v1/protections",
               "{\"machine\":\"db1\",\"peer\":\"lyon\",\"compression\":\"lzma\"}", 400,
               "zstd, lz4, none or adaptive");
}

static void an_unknown_machine_is_not_protected(void **state)
{
    api_expect(*state, "POST", "/v1/protections", "{\"machine\":\"db1\",\"peer\":\"lyon\"}", 404,
               "db1");
    api_expect(*state, "DELETE", "/v1/protections/db1", NULL, 404, "db1");
}

static void protecting_is_a_job_that_can_be_looked_at(void **state)
{
    add_db1(*state);
    api_expect(*state, "POST", "/v1/protections", "{\"machine\":\"db1\",\"peer\":\"lyon\"}", 200,
               "{\"job\":1}");
    api_expect(*state, "GET", "/v1/jobs/1", NULL, 200, "\"kind\":\"protect\"");
    api_expect(*state, "GET", "/v1/jobs", NULL, 200, "\"object\":\"db1\"");
    api_expect(*state, "GET", "/v1/jobs/2", NULL, 404, "not-found");
    api_expect(*state, "POST", "/v1/jobs/2/cancel", NULL, 404, "not-found");
}

/* --- Plans ----------------------------------------------------------------------------------- */

#define PLAN(verb, machine)                                                                      \
    "{\"file\":\"p.lua\",\"source\":\"return plan \\\"shop\\\" {\\n  stage \\\"One\\\" {\\n    " \
    "step \\\"Bring it up\\\" { " verb " \\\"" machine "\\\" },\\n  },\\n}\\n\"}"

static void a_plan_is_loaded_checked_and_kept(void **state)
{
    add_db1(*state);
    api_expect(*state, "POST", "/v1/plans", PLAN("failover", "db1"), 200, "\"name\":\"shop\"");
    api_expect(*state, "GET", "/v1/plans", NULL, 200, "\"origin\":\"paris\"");
    api_expect(*state, "GET", "/v1/plans/shop", NULL, 200, "Bring it up");
    api_expect(*state, "GET", "/v1/plans/shop/runbook?kind=planned", NULL, 200, "Promote db1 here");
    api_expect(*state, "GET", "/v1/plans/shop/runbook?kind=plannd", NULL, 400, "unknown kind");
    api_expect(*state, "GET", "/v1/plans/shpo", NULL, 404, "did you mean \\\"shop\\\"?");
    api_expect(*state, "DELETE", "/v1/plans/shop", NULL, 200, "{}");
    api_expect(*state, "GET", "/v1/plans", NULL, 200, "{\"plans\":[]}");
}

static void an_unsound_plan_is_told_by_line_and_not_kept(void **state)
{
    add_db1(*state);
    api_expect(*state, "POST", "/v1/plans", PLAN("failover", "db2"), 400, "p.lua:3");
    api_expect(*state, "POST", "/v1/plans", PLAN("failovr", "db1"), 400, "p.lua:3");
    api_expect(*state, "POST", "/v1/plans/check", PLAN("failover", "db2"), 200, "\"sound\":false");
    api_expect(*state, "POST", "/v1/plans/check", PLAN("failover", "db2"), 200, "\"line\":3");
    api_expect(*state, "GET", "/v1/plans", NULL, 200, "{\"plans\":[]}");
}

static void a_plan_that_never_ends_is_ended(void **state)
{
    struct api_site *site = *state;

    site->host->limits.cpu_ms = 1000;
    site->host->limits.wall_ms = 2000;
    api_expect(site, "POST", "/v1/plans", "{\"source\":\"while true do end\"}", 422, "limit");
}

/* --- Runs, jobs, audit ----------------------------------------------------------------------- */

static void a_run_of_nothing_is_refused(void **state)
{
    api_expect(*state, "POST", "/v1/runs", "{\"kind\":\"planned\"}", 400,
               "name a plan or a machine");
    api_expect(*state, "POST", "/v1/runs", "{\"kind\":\"dry\",\"plan\":\"shop\"}", 400,
               "unknown kind");
    api_expect(*state, "POST", "/v1/runs",
               "{\"kind\":\"test\",\"plan\":\"shop\",\"machine\":\"db1\"}", 400, "either");
    api_expect(*state, "POST", "/v1/runs", "{\"kind\":\"test\",\"plan\":\"shop\"}", 404, "shop");
    api_expect(*state, "POST", "/v1/runs", "{\"kind\":\"test\",\"machine\":\"db1\"}", 404, "db1");
    api_expect(*state, "POST", "/v1/runs", "{\"kind\":\"cleanup\",\"of_run\":9}", 404, "9");
    api_expect(*state, "POST", "/v1/runs/preview", "{\"kind\":\"test\",\"machine\":\"db1\"}", 404,
               "db1");
}

static void a_run_is_started_where_the_replica_is(void **state)
{
    api_site_protect(*state, "db1", "source", "protected");
    api_expect(*state, "POST", "/v1/runs", "{\"kind\":\"planned\",\"machine\":\"db1\"}", 409,
               "lyon");
}

static void a_machine_with_an_agent_is_waited_for(void **state)
{
    CLEANUP(json_freep) json_t *preview = NULL;

    api_site_protect(*state, "web1", "replica", "protected"); /* has one, db1 has not */
    api_site_protect(*state, "db1", "replica", "protected");
    api_expect(*state, "POST", "/v1/runs/preview", "{\"kind\":\"test\",\"machine\":\"web1\"}", 200,
               "Wait until web1 is up");
    assert_int_equal(api_ask(*state, "POST", "/v1/runs/preview",
                             "{\"kind\":\"test\",\"machine\":\"db1\"}", &preview),
                     200);
    CLEANUP(mem_freep) char *text = json_text(preview);
    assert_null(strstr(text, "Wait until"));
}

static void runs_that_are_not_there_cannot_be_shown_or_decided(void **state)
{
    api_expect(*state, "GET", "/v1/runs", NULL, 200, "{\"runs\":[]}");
    api_expect(*state, "GET", "/v1/runs/7", NULL, 404, "not-found");
    api_expect(*state, "POST", "/v1/runs/7/cancel", NULL, 404, "not-found");
    api_expect(*state, "POST", "/v1/runs/7/decide", "{\"step\":0,\"decision\":\"maybe\"}", 400,
               "retry, skip or fail");
    api_expect(*state, "POST", "/v1/runs/7/decide", "{\"step\":0,\"decision\":\"skip\"}", 400,
               "with a reason");
    api_expect(*state, "POST", "/v1/runs/7/approve", "{\"note\":\"x\"}", 409,
               "run 7 does not wait for an answer");
    api_expect(*state, "POST", "/v1/runs/7/deny", "{\"step\":0}", 409, "does not wait");
    api_expect(*state, "GET", "/v1/runs?limit=100000", NULL, 400, "the most is 1000");
}

static void every_change_is_in_the_audit_log_and_reading_is_not(void **state)
{
    add_db1(*state);
    api_expect(*state, "GET", "/v1/machines", NULL, 200, "db1");
    api_expect(*state, "POST", "/v1/machines/db1/start", NULL, 200, "{}");
    api_expect(*state, "GET", "/v1/audit", NULL, 200, "\"act\":\"machine.start\"");
    api_expect(*state, "GET", "/v1/audit/verify", NULL, 200, "{\"entries\":2}");
    api_expect(*state, "POST", "/v1/machines/db2/start", NULL, 404, "");
    api_expect(*state, "GET", "/v1/audit/verify", NULL, 200, "{\"entries\":2}");
}

static void every_act_in_the_audit_log_is_a_noun_and_a_verb(void **state)
{
    struct api_site *site = *state;
    CLEANUP(json_freep) json_t *answer = NULL;
    const json_t *entry;
    size_t i;

    add_db1(site);
    api_site_protect(site, "db1", "source", "protected");
    api_expect(site, "DELETE", "/v1/protections/db1", "{\"force\":true}", 200, "\"job\":1");
    for (i = 0; i < 50; i++) /* the job's three tasks */
        (void)loop_step(site->loop, 0);
    assert_int_equal(api_ask(site, "GET", "/v1/audit", NULL, &answer), 200);
    const json_t *entries = json_object_get(answer, "entries");
    assert_int_equal(json_array_size(entries), 3);
    assert_string_equal(json_get_str(json_array_get(entries, 0), "act", ""), "protection.removed");
    json_array_foreach(entries, i, entry) {
        const char *act = json_get_str(entry, "act", "");
        size_t noun = strspn(act, "abcdefghijklmnopqrstuvwxyz");

        if (noun == 0 || act[noun] != '.'
            || act[noun + 1 + strspn(act + noun + 1, "abcdefghijklmnopqrstuvwxyz")] != '\0')
            fail_msg("\"%s\" is no act", act);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        API_TEST(the_site_says_who_it_is),
        API_TEST(no_token_is_issued_for_an_address_nobody_can_connect_to),
        API_TEST(a_token_that_is_none_is_refused),
        API_TEST(a_pairing_that_protects_machines_is_not_ended),
        API_TEST(a_throttle_without_a_rate_or_a_peer_is_refused),
        API_TEST(a_change_number_of_an_earlier_daemon_is_answered_at_once),
        API_TEST(a_machine_is_added_with_what_would_stop_its_start),
        API_TEST(a_machine_s_wrong_field_is_named),
        API_TEST(a_machine_is_not_added_twice),
        API_TEST(a_machine_does_not_take_the_name_of_a_replica),
        API_TEST(a_misspelt_machine_is_answered_with_the_nearest),
        API_TEST(start_and_stop_do_what_they_say_and_are_remembered),
        API_TEST(a_deaf_guest_is_ended_only_by_force),
        API_TEST(whether_a_machine_could_be_kept_is_told),
        API_TEST(a_machine_that_was_failed_over_to_here_is_stopped_and_started),
        API_TEST(a_test_s_machine_is_neither_started_nor_stopped_by_hand),
        API_TEST(a_protected_machine_is_not_forgotten),
        API_TEST(a_group_is_found_by_its_machines_and_keeps_them),
        API_TEST(machines_to_be_protected_are_named_in_one_of_two_ways),
        API_TEST(a_protection_without_a_session_has_no_point_and_says_so),
        API_TEST(a_replica_that_cannot_be_read_is_critical),
        API_TEST(points_kept_at_the_peer_are_told_as_the_peer_tells_them),
        API_TEST(a_point_kept_at_the_peer_is_pinned_and_pruned_from_here_and_it_is_audited),
        API_TEST(points_that_cannot_be_asked_for_are_said_to_be_where_they_are),
        API_TEST(a_replica_is_not_paused_here),
        API_TEST(settings_out_of_range_are_refused_with_the_range),
        API_TEST(an_unknown_machine_is_not_protected),
        API_TEST(protecting_is_a_job_that_can_be_looked_at),
        API_TEST(a_plan_is_loaded_checked_and_kept),
        API_TEST(an_unsound_plan_is_told_by_line_and_not_kept),
        API_TEST(a_plan_that_never_ends_is_ended),
        API_TEST(a_run_of_nothing_is_refused),
        API_TEST(a_run_is_started_where_the_replica_is),
        API_TEST(a_machine_with_an_agent_is_waited_for),
        API_TEST(runs_that_are_not_there_cannot_be_shown_or_decided),
        API_TEST(every_act_in_the_audit_log_is_a_noun_and_a_verb),
        API_TEST(every_change_is_in_the_audit_log_and_reading_is_not),
    };

    /* Plans are run in a child of this program, as in the real one. */
    if (argc > 1 && strcmp(argv[1], "lua-host") == 0)
        return host_main(argc, argv);
    return cmocka_run_group_tests_name("endpoints", tests, NULL, NULL);
}
