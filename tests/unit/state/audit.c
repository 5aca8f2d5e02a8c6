// SPDX-License-Identifier: Apache-2.0
#include "base/db.h"
#include "state/state.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdio.h>

static char path[256];

static struct state *with_entries(const char *dir)
{
    struct state *state = NULL;

    (void)snprintf(path, sizeof(path), "%s/state.db", dir);
    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_audit(state, 1000, "ann", "protection.add", "db1", "to lyon", &err));
    EXPECT_OK(state_audit(state, 2000, "bob", "run", "shop", "", &err));
    EXPECT_OK(state_turn_end(state, &err));
    EXPECT_OK(state_audit(state, 3000, "ann", "unprotect", "db1", NULL, &err));
    EXPECT_OK(state_turn_end(state, &err));
    return state;
}

static void tamper(struct state *state, const char *sql)
{
    struct db *db;

    state_close(state);
    EXPECT_OK(db_open(path, &db, &err));
    EXPECT_OK(db_exec(db, sql, &err));
    db_close(db);
}

static void expect_found(const char *part)
{
    struct state *state;
    int64_t count;

    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_ERR(ERR_CORRUPT, state_audit_verify(state, &count, &err));
    EXPECT_TEXT(part);
    state_close(state);
}

static void an_untouched_chain_verifies_and_lists_newest_first(void **dir)
{
    struct state *state = with_entries(*dir);
    CLEANUP(json_freep) json_t *entries = NULL;
    int64_t count;

    EXPECT_OK(state_audit_verify(state, &count, &err));
    assert_int_equal(count, 3);
    EXPECT_OK(state_audit_list(state, 2, &entries, &err));
    assert_int_equal(json_array_size(entries), 2);
    assert_string_equal(json_get_str(json_array_get(entries, 0), "act", ""), "unprotect");
    assert_string_equal(json_get_str(json_array_get(entries, 1), "who", ""), "bob");
    state_close(state);
}

static void an_altered_entry_is_named(void **dir)
{
    tamper(with_entries(*dir), "UPDATE audit SET who = 'eve' WHERE seq = 2");
    expect_found("entry 2 ");
}

static void a_removed_entry_is_named(void **dir)
{
    tamper(with_entries(*dir), "DELETE FROM audit WHERE seq = 2");
    expect_found("entry 2 is gone");
}

static void a_removed_tail_is_found(void **dir)
{
    tamper(with_entries(*dir), "DELETE FROM audit WHERE seq = 3");
    expect_found("ends at entry 2, its head says 3");
}

static void an_entry_slipped_in_is_found(void **dir)
{
    tamper(with_entries(*dir), "INSERT INTO audit VALUES (4, 1, 'eve', 'x', 'y', '', 'zz')");
    expect_found("entry 4 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(an_untouched_chain_verifies_and_lists_newest_first),
        TMPDIR_TEST(an_altered_entry_is_named),
        TMPDIR_TEST(a_removed_entry_is_named),
        TMPDIR_TEST(a_removed_tail_is_found),
        TMPDIR_TEST(an_entry_slipped_in_is_found),
    };
    return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
