// SPDX-License-Identifier: Apache-2.0
#include "sites/estate.h"

#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_internal.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_machine_that_is_not_there_is_named_with_the_nearest(void **state)
{
    struct estates *e = *state;
    struct machine machine;

    machine_init(&machine);
    EXPECT_ERR(ERR_NOT_FOUND, estate_machine_get(e->paris, "bd1", &machine, &err));
    EXPECT_TEXT("db1");
    machine_done(&machine);
}

static void a_machine_is_handed_out_as_a_copy(void **state)
{
    struct estates *e = *state;
    struct machine first;
    struct machine second;

    EXPECT_OK(estate_machine_get(e->paris, "db1", &first, &err));
    first.disks.at[0].path[0] = 'X';
    EXPECT_OK(estate_machine_get(e->paris, "db1", &second, &err));
    assert_string_equal(second.disks.at[0].path, "/srv/db1.raw");
    machine_done(&first);
    machine_done(&second);
}

/* One card: what it is put to at paris. */
static const char *network_of(struct estate *estate, const char *group, const char *there)
{
    static char here[MACHINE_NAME_BYTES];
    struct machine machine;

    machine_init(&machine);
    struct machine_nic *nic = machine_nics_push(&machine.nics);
    (void)snprintf(nic->network, sizeof(nic->network), "%s", there);
    estate_map_networks(estate, group, &machine);
    (void)snprintf(here, sizeof(here), "%s", machine.nics.at[0].network);
    machine_done(&machine);
    return here;
}

static void a_groups_own_networks_go_before_the_sites(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *sites = json_pack("{s:s}", "bridge lan", "bridge recovery");
    CLEANUP(json_freep) json_t *own = json_pack("{s:s}", "bridge lan", "bridge db");

    e->paris->config.networks = sites;
    estate_networks_set(e->paris, "db1", own);
    assert_string_equal(network_of(e->paris, "db1", "bridge lan"), "bridge db");
    assert_string_equal(network_of(e->paris, "db2", "bridge lan"), "bridge recovery");
    assert_string_equal(network_of(e->paris, "db1", "bridge dmz"), "bridge dmz");
    estate_networks_set(e->paris, "db1", NULL);
    assert_string_equal(network_of(e->paris, "db1", "bridge lan"), "bridge recovery");
    e->paris->config.networks = NULL;
}

static void a_key_others_can_read_is_refused(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = estate_key_path(e->paris, "db1");
    struct key key;
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(chmod(path, 0644), 0);
    EXPECT_ERR(ERR_DENIED, estate_key_read(e->paris, "db1", &key, &err));
    EXPECT_TEXT("chmod 600");
}

static void a_key_of_the_wrong_length_is_no_key(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = estate_key_path(e->paris, "db1");
    struct key key;

    EXPECT_OK(fs_replace_file(fs_real(), path, "short", 5, 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, estate_key_read(e->paris, "db1", &key, &err));
}

static void a_replica_nobody_knows_is_not_found(void **state)
{
    struct estates *e = *state;
    struct store *store;

    EXPECT_ERR(ERR_NOT_FOUND, estate_store_get(e->lyon, "web9", &store, &err));
    EXPECT_TEXT("lyon holds no replica of \"web9\"");
}

static void a_store_that_failed_is_opened_anew(void **state)
{
    struct estates *e = *state;
    struct store_info info;
    struct store *store;

    EXPECT_OK(estate_store_get(e->lyon, "db1", &store, &err));
    estate_store_put(e->lyon, "db1", store, true);
    EXPECT_OK(estate_store_get(e->lyon, "db1", &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_int_equal(info.applied_point, 3);
    estate_store_put(e->lyon, "db1", store, false);
}

static void a_replica_is_served_to_its_own_peer_alone(void **state)
{
    struct estates *e = *state;
    const struct receiver_host *host = estate_receiver_host(e->lyon);
    struct store *store;

    EXPECT_ERR(ERR_DENIED, host->store_get(host->ctx, "rome", "db1", &store, &err));
    EXPECT_OK(host->store_get(host->ctx, "paris", "db1", &store, &err));
    host->store_put(host->ctx, "db1", store, false);
}

static void a_peer_names_seeds_of_its_own_folder_alone(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *rome = mem_printf("%s/seeds/rome", e->lyon->dir);
    CLEANUP(mem_freep) char *paris = mem_printf("%s/seeds/paris", e->lyon->dir);
    CLEANUP(mem_freep) char *file = path_join(rome, "db9.raw");
    CLEANUP(seed_close) struct seed seed = {.fd = -1};

    EXPECT_OK(fs_make_dirs(fs_real(), rome, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), file, "rome's", 6, 0600, &err));
    EXPECT_ERR(ERR_NOT_FOUND, estate_seed_open(e->lyon, "paris", "db9.raw", &seed, &err));
    EXPECT_TEXT("paris/ of that site's folder of seeds is not there");
    EXPECT_OK(fs_make_dirs(fs_real(), paris, 0700, &err));
    EXPECT_ERR(ERR_NOT_FOUND, estate_seed_open(e->lyon, "paris", "db9.raw", &seed, &err));
    EXPECT_TEXT("put it into paris/");
    EXPECT_ERR(ERR_DENIED, estate_seed_open(e->lyon, "paris", "../rome/db9.raw", &seed, &err));
    EXPECT_ERR(ERR_DENIED, estate_seed_open(e->lyon, "paris", file, &seed, &err));
    EXPECT_OK(estate_seed_open(e->lyon, "rome", "db9.raw", &seed, &err));
}

static void a_replica_that_was_removed_is_gone(void **state)
{
    struct estates *e = *state;
    struct store *store;

    estate_replica_remove(e->lyon, "db1");
    EXPECT_ERR(ERR_NOT_FOUND, estate_store_get(e->lyon, "db1", &store, &err));
}

static void a_session_starts_paused_when_a_failover_holds_it(void **state)
{
    struct estates *e = *state;
    struct session_status *status = mem_new(struct session_status);

    json_decref(estates_ask(e->at_paris, "group.hold",
                            json_pack("{s:s, s:s}", "group", "db1", "run", "lyon-3")));
    estates_restart_paris(e);
    struct session *session = estate_session_get(e->paris, "db1");
    assert_non_null(session);
    session_status(session, status);
    assert_int_equal(status->state, SESSION_PAUSED);
    estate_session_put(e->paris, "db1");
    free(status);
}

static void a_mark_that_cannot_be_read_is_not_taken_for_none(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = mem_printf("%s/paris/sessions/db1.mark", e->root);
    struct estate_mark mark;

    EXPECT_OK(fs_replace_file(fs_real(), path, "{half", 5, 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, estate_mark_read(e->paris, "db1", &mark, &err));
    EXPECT_ERR(ERR_CORRUPT, estate_may_start(e->paris, "db1", &err));
}

/* The answer to a sender's first question, through a link. */
static json_t *answer_of_lyon(struct estates *e)
{
    CLEANUP(json_freep)
    json_t *ask = json_pack("{s:s, s:s}", "op", "store.info", "group", "db1");
    CLEANUP(link_msg_done) struct link_msg asked = {0};
    CLEANUP(link_msg_done) struct link_msg answer = {0};
    CLEANUP(link_closep) struct link *ours = NULL;
    CLEANUP(link_closep) struct link *theirs = NULL;
    struct transport *a;
    struct transport *b;

    transport_pair(65536, &a, &b);
    ours = link_new(a, "lyon");
    theirs = link_new(b, "paris");
    EXPECT_OK(link_send(ours, ask, NULL, 0, NULL, &err));
    EXPECT_OK(link_recv(theirs, &asked, NULL, &err));
    struct receiver *receiver = receiver_new(estate_receiver_host(e->lyon));
    EXPECT_OK(receiver_serve(receiver, theirs, &asked, NULL, &err));
    receiver_free(receiver);
    EXPECT_OK(link_recv(ours, &answer, NULL, &err));
    return json_incref(json_object_get(answer.head, "error"));
}

static void a_sender_is_told_what_is_wrong_with_the_replica_s_key(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = estate_key_path(e->lyon, "db1");
    struct store *store;

    EXPECT_OK(estate_store_get(e->lyon, "db1", &store, &err));
    estate_store_put(e->lyon, "db1", store, true); /* to be opened anew */
    assert_int_equal(chmod(path, 0644), 0);
    CLEANUP(json_freep) json_t *open_to_all = answer_of_lyon(e);
    assert_string_equal(json_get_str(open_to_all, "code", ""), "denied");
    assert_non_null(strstr(json_get_str(open_to_all, "text", ""), "chmod 600"));
    assert_int_equal(unlink(path), 0);
    CLEANUP(json_freep) json_t *gone = answer_of_lyon(e);
    assert_string_equal(json_get_str(gone, "code", ""), "corrupt");
    assert_non_null(strstr(json_get_str(gone, "text", ""), "its key keys/db1.key at lyon is gone"));
}

/* paris sends "shop" to lyon, which holds it. */
static void make_shop(struct estates *e)
{
    struct estate_group group = {.group = "shop", .peer = "lyon", .generation = 1};
    struct estate_replica replica = {.group = "shop", .peer = "paris"};
    struct key key;

    key_new(&key);
    policy_init(&group.policy);
    EXPECT_OK(machine_names_add(&group.machines, "web1", &err));
    EXPECT_OK(machine_names_add(&group.machines, "app1", &err));
    replica.machines = group.machines;
    EXPECT_OK(estate_key_write(e->paris, "shop", &key, &err));
    EXPECT_OK(estate_group_add(e->paris, &group, &err));
    EXPECT_OK(estate_replica_add(e->lyon, &replica, &err));
}

static void a_machine_is_found_in_its_group_at_both_sites(void **state)
{
    struct estates *e = *state;
    struct machine_names machines;
    char group[NAME_MAX_BYTES];

    make_shop(e);
    struct estate *const sites[] = {e->paris, e->lyon};
    for (size_t i = 0; i < ARRAY_LEN(sites); i++) {
        assert_true(estate_group_of(sites[i], "web1", group));
        assert_string_equal(group, "shop");
        assert_true(estate_group_of(sites[i], "shop", group));
        assert_string_equal(group, "shop");
        assert_true(estate_group_of(sites[i], "db1", group)); /* one of its own */
        assert_string_equal(group, "db1");
        assert_false(estate_group_of(sites[i], "web9", group));
        assert_string_equal(group, "web9");
        estate_group_machines(sites[i], "shop", &machines);
        assert_int_equal(machines.count, 2);
        assert_string_equal(machines.at[0], "app1");
        estate_group_machines(sites[i], "db1", &machines);
        assert_int_equal(machines.count, 1);
        assert_string_equal(machines.at[0], "db1");
    }
    estate_group_remove(e->paris, "shop");
    assert_false(estate_group_of(e->paris, "web1", group));
}

static void no_machine_of_a_group_starts_that_is_held_or_was_failed_over(void **state)
{
    struct estates *e = *state;
    struct estate_mark mark = {.held = "lyon-3"};

    make_shop(e);
    EXPECT_OK(estate_may_start(e->paris, "web1", &err));
    EXPECT_OK(estate_mark_write(e->paris, "shop", &mark, &err));
    EXPECT_ERR(ERR_STATE, estate_may_start(e->paris, "web1", &err));
    EXPECT_TEXT("web1 is held for the failover lyon-3");
    mark = (struct estate_mark){.retired = 2};
    EXPECT_OK(estate_mark_write(e->paris, "shop", &mark, &err));
    EXPECT_ERR(ERR_FENCED, estate_may_start(e->paris, "app1", &err));
    EXPECT_TEXT("app1 was failed over to lyon");
    EXPECT_OK(estate_may_start(e->paris, "db1", &err));
}

static void a_group_in_doubt_keeps_all_its_machines_off(void **state)
{
    struct estates *e = *state;

    make_shop(e);
    EXPECT_OK(estate_boot_begin(e->paris, "boot-1", &err));
    assert_true(estate_boot_doubts(e->paris, "web1"));
    EXPECT_ERR(ERR_STATE, estate_boot_check(e->paris, "app1", NULL, &err));
    EXPECT_TEXT("may have taken app1 over");
    EXPECT_OK(estate_boot_trust(e->paris, "web1", &err));
    assert_false(estate_boot_doubts(e->paris, "app1"));
    EXPECT_OK(estate_boot_check(e->paris, "app1", NULL, &err));
}

static void what_one_site_sends_and_holds_is_listed(void **state)
{
    struct estates *e = *state;
    size_t groups;
    size_t replicas;

    free(estate_group_list(e->paris, &groups));
    free(estate_replica_list(e->paris, &replicas));
    assert_int_equal(groups, 1);
    assert_int_equal(replicas, 0);
    estate_group_remove(e->paris, "db1");
    free(estate_group_list(e->paris, &groups));
    assert_int_equal(groups, 0);
    assert_null(estate_session_get(e->paris, "db1"));
}

static struct link *link_to(const char *peer, struct link **ret_other)
{
    struct transport *a;
    struct transport *b;

    transport_pair(4096, &a, &b);
    *ret_other = link_new(b, "paris");
    return link_new(a, peer);
}

static void idle_links_serve_the_peer_they_are_to(void **state)
{
    struct estates *e = *state;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock_real(), NULL, 10000);
    struct link *ends[3];
    struct link *first = link_to("lyon", &ends[0]);
    struct link *second = link_to("lyon", &ends[1]);
    struct link *other = link_to("tours", &ends[2]);

    assert_null(estate_links_take(e->paris, "lyon"));
    estate_links_give(e->paris, first);
    estate_links_give(e->paris, second);
    estate_links_give(e->paris, other);
    assert_ptr_equal(estate_links_take(e->paris, "lyon"), second);
    estate_links_give(e->paris, second);
    estate_links_drop(e->paris, "lyon");
    assert_null(estate_links_take(e->paris, "lyon"));
    /* Their other ends hear that they are closed. */
    struct link_msg msg = {0};
    EXPECT_ERR(ERR_NET, link_recv(ends[0], &msg, limit, &err));
    EXPECT_ERR(ERR_NET, link_recv(ends[1], &msg, limit, &err));
    assert_ptr_equal(estate_links_take(e->paris, "tours"), other);
    estate_links_give(e->paris, other);
    estate_links_drop(e->paris, NULL);
    EXPECT_ERR(ERR_NET, link_recv(ends[2], &msg, limit, &err));
    for (size_t i = 0; i < 3; i++)
        link_close(ends[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(a_machine_that_is_not_there_is_named_with_the_nearest),
        ESTATES_TEST(a_machine_is_handed_out_as_a_copy),
        ESTATES_TEST(a_groups_own_networks_go_before_the_sites),
        ESTATES_TEST(a_key_others_can_read_is_refused),
        ESTATES_TEST(a_key_of_the_wrong_length_is_no_key),
        ESTATES_TEST(a_replica_nobody_knows_is_not_found),
        ESTATES_TEST(idle_links_serve_the_peer_they_are_to),
        ESTATES_TEST(a_store_that_failed_is_opened_anew),
        ESTATES_TEST(a_replica_is_served_to_its_own_peer_alone),
        ESTATES_TEST(a_peer_names_seeds_of_its_own_folder_alone),
        ESTATES_TEST(a_replica_that_was_removed_is_gone),
        ESTATES_TEST(a_session_starts_paused_when_a_failover_holds_it),
        ESTATES_TEST(a_mark_that_cannot_be_read_is_not_taken_for_none),
        ESTATES_TEST(a_sender_is_told_what_is_wrong_with_the_replica_s_key),
        ESTATES_TEST(a_machine_is_found_in_its_group_at_both_sites),
        ESTATES_TEST(no_machine_of_a_group_starts_that_is_held_or_was_failed_over),
        ESTATES_TEST(a_group_in_doubt_keeps_all_its_machines_off),
        ESTATES_TEST(what_one_site_sends_and_holds_is_listed),
    };

    return cmocka_run_group_tests_name("estate", tests, NULL, NULL);
}
