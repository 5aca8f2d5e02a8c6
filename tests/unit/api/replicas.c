// SPDX-License-Identifier: Apache-2.0
/* A replica's folder over the API: of group "web", sent by a site called "paris" as this one is, so that
 * another name must be given. */
#include "base/fs.h"
#include "base/mem.h"
#include "replica/inspect.h"
#include "run/job.h"
#include "state/state.h"
#include "support/api/world.h"
#include "support/expect.h"
#include "support/replica/kit.h"

#include <stdio.h>
#include <stdlib.h>

struct folder {
    struct kit kit;
    char *root;
    char *key;
};

static void make_folder(struct folder *f, const struct api_site *site)
{
    struct store *store;

    memset(f, 0, sizeof(*f));
    f->root = path_join(site->dir, "rescued");
    f->key = path_join(f->root, "web.key");
    EXPECT_OK(fs_make_dirs(fs_real(), f->root, 0700, &err));
    kit_init(&f->kit, f->root, 256U * 1024U, 7);
    kit_scribble(&f->kit, 10);
    EXPECT_OK(kit_open(&f->kit, fs_real(), &store, &err));
    EXPECT_OK(kit_copy(&f->kit, store, &err));
    EXPECT_OK(kit_point_applied(&f->kit, store, &err));
    store_close(store);
    EXPECT_OK(fs_replace_file(fs_real(), f->key, f->kit.key.bytes, KEY_BYTES, 0600, &err));
}

static void folder_done(struct folder *f)
{
    kit_done(&f->kit);
    free(f->root);
    free(f->key);
}

static void adopt(struct api_site *site, const struct folder *f, const char *peer, int status,
                  const char *part)
{
    CLEANUP(mem_freep)
    char *body = mem_printf("{\"dir\":\"%s\",\"key\":\"%s\",\"move\":true%s%s%s}", f->kit.dir,
                            f->key, peer ? ",\"peer\":\"" : "", peer ? peer : "", peer ? "\"" : "");

    api_expect(site, "POST", "/v1/replicas", body, status, part);
}

static void one_that_was_never_described_gets_what_its_points_tell_and_the_defaults(void **state)
{
    struct api_site *site = *state;
    CLEANUP(folder_done) struct folder f;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct job_settings settings;
    struct policy defaults;

    make_folder(&f, site);
    adopt(site, &f, NULL, 400, "the replica comes from paris, which is this site");
    adopt(site, &f, "lyon", 200, "\"described\":false");
    EXPECT_OK(state_protection_get(site->state, "web", &row, &err));
    assert_string_equal(row.role, "replica");
    assert_string_equal(row.peer, "lyon");
    assert_string_equal(row.state, "protected");
    assert_int_equal(row.generation, 1);
    EXPECT_OK(job_settings_parse(row.settings, &settings, &err));
    policy_init(&defaults);
    assert_true(policy_equal(&settings.policy, &defaults));
    assert_true(settings.recreated_ms > 0);
    api_expect(site, "GET", "/v1/protections/web/points", NULL, 200, "\"point\":1");
    api_expect(site, "GET", "/v1/audit", NULL, 200, "replica.adopt");
}

static void what_it_says_of_its_protection_is_what_it_gets(void **state)
{
    struct api_site *site = *state;
    CLEANUP(folder_done) struct folder f;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *described = NULL;
    struct job_settings settings;
    char hex[2 * SIGN_KEY_BYTES + 1];

    make_folder(&f, site);
    str_hex(f.kit.public_key, SIGN_KEY_BYTES, hex);
    described = json_pack("{s:s, s:s, s:i, s:{s:s, s:i, s:[s]}}", "peer", "lyon", "state",
                          "protected", "generation", 1, "settings", "writer_key", hex,
                          "interval_ms", 7000, "machines", "web");
    EXPECT_OK(replica_describe(fs_real(), f.kit.dir, described, &err));
    adopt(site, &f, NULL, 200, "\"described\":true");
    EXPECT_OK(state_protection_get(site->state, "web", &row, &err));
    EXPECT_OK(job_settings_parse(row.settings, &settings, &err));
    assert_int_equal(settings.policy.interval_ms, 7000);
    assert_string_equal(row.peer, "lyon");
}

static void a_name_that_is_taken_is_refused_and_the_folder_stays(void **state)
{
    struct api_site *site = *state;
    CLEANUP(folder_done) struct folder f;

    make_folder(&f, site);
    api_site_protect(site, "web", "replica", "protected");
    adopt(site, &f, "lyon", 409, "this site has a protection called web");
    assert_true(fs_exists(f.kit.dir));
}

static void a_folder_that_is_none_is_refused(void **state)
{
    struct api_site *site = *state;
    CLEANUP(mem_freep) char *body = mem_printf("{\"dir\":\"%s\"}", site->dir);

    api_expect(site, "POST", "/v1/replicas", body, 404, "there is no replica in it");
    api_expect(site, "POST", "/v1/replicas", "{\"dir\":\"web\"}", 400, "not an absolute path");
    api_expect(site, "POST", "/v1/replicas", "{}", 400, "dir");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(one_that_was_never_described_gets_what_its_points_tell_and_the_defaults),
        API_TEST(what_it_says_of_its_protection_is_what_it_gets),
        API_TEST(a_name_that_is_taken_is_refused_and_the_folder_stays),
        API_TEST(a_folder_that_is_none_is_refused),
    };
    return cmocka_run_group_tests_name("replicas", tests, NULL, NULL);
}
