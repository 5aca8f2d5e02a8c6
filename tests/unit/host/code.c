// SPDX-License-Identifier: Apache-2.0
/* What a function uses that is not its own, from its compiled form. Whole plans are in plan/body. */
#include "host/code.h"

#include "support/expect.h"

#include <stdlib.h>

/* Lua 5.4's dump of this function, which stands on lines 2 to 12 of
 *   local n, t = 0, {}
 *   return function(act)
 *     local own = 1
 *     own = own + n
 *     n = own
 *     total = act(chek)
 *     return function()
 *       own = 2
 *       t = nil
 *       check(t)
 *     end
 *   end */
static const char dump[] =
    "\x1b\x4c\x75\x61\x54\x00\x19\x93\x0d\x0a\x1a\x0a\x04\x08\x08\x78\x56\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x28\x77\x40\x03\x01\xa9\x6c\x6f\x63\x61\x6c\x20"
    "\x6e\x2c\x20\x74\x20\x3d\x20\x30\x2c\x20\x7b\x7d\x0a\x72\x65\x74\x75\x72\x6e\x20"
    "\x66\x75\x6e\x63\x74\x69\x6f\x6e\x28\x61\x63\x74\x29\x0a\x20\x20\x6c\x6f\x63\x61"
    "\x6c\x20\x6f\x77\x6e\x20\x3d\x20\x31\x0a\x20\x20\x6f\x77\x6e\x20\x3d\x20\x6f\x77"
    "\x6e\x20\x2b\x20\x6e\x0a\x20\x20\x6e\x20\x3d\x20\x6f\x77\x6e\x0a\x20\x20\x74\x6f"
    "\x74\x61\x6c\x20\x3d\x20\x61\x63\x74\x28\x63\x68\x65\x6b\x29\x0a\x20\x20\x72\x65"
    "\x74\x75\x72\x6e\x20\x66\x75\x6e\x63\x74\x69\x6f\x6e\x28\x29\x0a\x20\x20\x20\x20"
    "\x6f\x77\x6e\x20\x3d\x20\x32\x0a\x20\x20\x20\x20\x74\x20\x3d\x20\x6e\x69\x6c\x0a"
    "\x20\x20\x20\x20\x63\x68\x65\x63\x6b\x28\x74\x29\x0a\x20\x20\x65\x6e\x64\x0a\x65"
    "\x6e\x64\x82\x8c\x01\x00\x04\x8c\x81\x00\x00\x80\x09\x01\x00\x00\xa2\x00\x01\x02"
    "\xae\x00\x02\x06\x8a\x00\x00\x00\x00\x01\x00\x00\x8b\x01\x01\x01\x44\x01\x02\x02"
    "\x8f\x00\x00\x02\x4f\x01\x00\x00\x46\x81\x02\x00\x46\x81\x01\x00\x82\x04\x86\x74"
    "\x6f\x74\x61\x6c\x04\x85\x63\x68\x65\x6b\x83\x01\x00\x00\x00\x00\x00\x01\x01\x00"
    "\x81\x80\x87\x8b\x00\x00\x02\x88\x01\x80\x00\x80\x0a\x00\x00\x00\x08\x00\x00\x00"
    "\x0a\x00\x01\x00\x0b\x00\x02\x00\x89\x00\x01\x00\x44\x00\x02\x01\x47\x00\x01\x00"
    "\x81\x04\x86\x63\x68\x65\x63\x6b\x83\x01\x01\x00\x00\x02\x00\x00\x01\x00\x80\x88"
    "\x01\x00\x01\x00\x01\x00\x00\x01\x80\x80\x83\x84\x6f\x77\x6e\x82\x74\x85\x5f\x45"
    "\x4e\x56\x8c\x01\x01\x00\x00\x01\x01\x00\x00\x00\x05\x00\x01\x80\x82\x84\x61\x63"
    "\x74\x80\x8c\x84\x6f\x77\x6e\x81\x8c\x83\x82\x6e\x85\x5f\x45\x4e\x56\x82\x74";
#define DUMP_LEN (sizeof(dump) - 1)

static void names_from_outside_are_told_with_their_lines(void **state)
{
    static const struct {
        enum code_what what;
        unsigned line;
        const char *name;
    } want[] = {
        {CODE_WRITES_SHARED, 5, "n"},     {CODE_READS_GLOBAL, 6, "chek"},
        {CODE_WRITES_GLOBAL, 6, "total"}, {CODE_WRITES_SHARED, 9, "t"},
        {CODE_READS_GLOBAL, 10, "check"},
    };
    CLEANUP(code_uses_done) struct code_uses uses = VEC_EMPTY;

    (void)state;
    assert_true(code_scan(dump, DUMP_LEN, &uses));
    assert_int_equal(uses.len, ARRAY_LEN(want));
    for (size_t i = 0; i < uses.len; i++) {
        assert_int_equal(uses.at[i].what, want[i].what);
        assert_string_equal(uses.at[i].name, want[i].name);
        assert_int_equal(uses.at[i].line, want[i].line);
    }
}

static void what_is_cut_off_is_not_trusted(void **state)
{
    (void)state;
    for (size_t len = 0; len < DUMP_LEN; len++) {
        CLEANUP(code_uses_done) struct code_uses uses = VEC_EMPTY;
        char *copy = mem_alloc(1, len ? len : 1); /* of that size: reading beyond it shows */
        memcpy(copy, dump, len);
        assert_false(code_scan(copy, len, &uses));
        assert_int_equal(uses.len, 0);
        free(copy);
    }
}

static void what_is_damaged_is_read_without_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < DUMP_LEN; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            CLEANUP(code_uses_done) struct code_uses uses = VEC_EMPTY;
            char *copy = mem_alloc(1, DUMP_LEN);
            memcpy(copy, dump, DUMP_LEN);
            copy[i] = (char)(copy[i] ^ (1 << bit));
            (void)code_scan(copy, DUMP_LEN, &uses);
            free(copy);
        }
}

static void another_lua_is_not_known(void **state)
{
    CLEANUP(code_uses_done) struct code_uses uses = VEC_EMPTY;
    char copy[sizeof(dump)];

    (void)state;
    memcpy(copy, dump, sizeof(copy));
    copy[4] = 0x55;
    assert_false(code_scan(copy, DUMP_LEN, &uses));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_from_outside_are_told_with_their_lines),
        cmocka_unit_test(what_is_cut_off_is_not_trusted),
        cmocka_unit_test(what_is_damaged_is_read_without_harm),
        cmocka_unit_test(another_lua_is_not_known),
    };
    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}
