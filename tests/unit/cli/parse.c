// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/cmd.h"
#include "support/expect.h"

#define ARGS_MAX 16

struct parsed {
    struct cli cli;
    char *line;
    char *argv[ARGS_MAX];
};

static int parse(struct parsed *parsed, const char *line)
{
    char *rest;
    char *word;

    memset(parsed, 0, sizeof(*parsed));
    rest = parsed->line = mem_printf("muster %s", line);
    parsed->cli.argv = parsed->argv;
    while ((word = strsep(&rest, " ")))
        parsed->argv[parsed->cli.argc++] = word;
    err_clear(&err);
    return cli_parse(&parsed->cli, &err);
}

static void parsed_done(struct parsed *parsed)
{
    free(parsed->line);
}

static void expect_usage(const char *line, const char *message)
{
    CLEANUP(parsed_done) struct parsed parsed;

    if (parse(&parsed, line) >= 0)
        fail_msg("\"%s\" was taken", line);
    assert_true(parsed.cli.usage_error);
    assert_string_equal(err.text, message);
}

static void the_longest_command_is_meant(void **state)
{
    CLEANUP(parsed_done) struct parsed one;
    CLEANUP(parsed_done) struct parsed two;

    (void)state;
    assert_int_equal(parse(&one, "run shop --kind test"), 0);
    assert_string_equal(one.cli.cmd->words, "run");
    assert_string_equal(cli_arg(&one.cli, "PLAN"), "shop");
    assert_int_equal(parse(&two, "run list"), 0);
    assert_string_equal(two.cli.cmd->words, "run list");
}

static void options_may_stand_anywhere(void **state)
{
    static const char *const lines[] = {
        "--dir /x --json protect db1 --to lyon --keep 5",
        "protect --to lyon db1 --keep=5 --json --dir /x",
        "protect db1 --keep 5 --dir=/x --to=lyon --json",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        CLEANUP(parsed_done) struct parsed parsed;

        assert_int_equal(parse(&parsed, lines[i]), 0);
        assert_string_equal(parsed.cli.cmd->words, "protect");
        assert_string_equal(parsed.cli.dir, "/x");
        assert_true(parsed.cli.json);
        assert_string_equal(cli_arg(&parsed.cli, "NAME"), "db1");
        assert_string_equal(cli_option(&parsed.cli, "to"), "lyon");
        assert_string_equal(cli_option(&parsed.cli, "keep"), "5");
        assert_null(cli_option(&parsed.cli, "interval"));
        assert_false(cli_flag(&parsed.cli, "no-wait"));
    }
}

static void after_two_dashes_everything_is_an_argument(void **state)
{
    CLEANUP(parsed_done) struct parsed parsed;

    (void)state;
    assert_int_equal(parse(&parsed, "plan check -- --json"), 0);
    assert_string_equal(cli_arg(&parsed.cli, "FILE"), "--json");
    assert_false(parsed.cli.json);
}

static void a_misspelt_option_is_answered_with_the_nearest(void **state)
{
    (void)state;
    expect_usage("protect db1 --intervall 5s",
                 "unknown option --intervall; hint: did you mean --interval?");
    expect_usage("protect db1 --tp=lyon", "unknown option --tp; hint: did you mean --to?");
    expect_usage("status --wacth", "unknown option --wacth; hint: did you mean --watch?");
    expect_usage("--jsn status", "unknown option --jsn; hint: did you mean --json?");
    expect_usage("status -w", "unknown option -w; hint: `muster status --help` lists them");
}

static void a_misspelt_command_is_answered_with_the_nearest(void **state)
{
    (void)state;
    expect_usage("protct db1 --to lyon",
                 "unknown command \"protct db1\"; hint: did you mean \"protect\"?");
    expect_usage("machine lst", "unknown command \"machine lst\"; hint: did you mean \"machine "
                                "list\"?");
    expect_usage("stauts", "unknown command \"stauts\"; hint: did you mean \"status\"?");
    expect_usage("brew-coffee-for-me",
                 "unknown command \"brew-coffee-for-me\"; hint: `muster help` lists all");
}

static void half_a_command_is_said_to_be_half(void **state)
{
    (void)state;
    expect_usage("machine",
                 "\"machine\" is not a whole command; hint: `muster machine --help` lists what "
                 "there is");
}

static void what_is_missing_is_named_with_the_whole_form(void **state)
{
    (void)state;
    expect_usage("points", "NAME is missing; hint: muster points NAME");
    expect_usage("machine stop --force",
                 "NAME is missing; hint: muster machine stop NAME [OPTIONS]");
    expect_usage("protect db1 --to", "--to needs a SITE");
    expect_usage("status --watch=yes", "--watch takes no value");
    expect_usage("points db1 web1",
                 "\"web1\" is one argument too many; hint: `muster points --help`");
}

static void several_machines_may_be_named_before_and_after_options(void **state)
{
    CLEANUP(parsed_done) struct parsed parsed;
    CLEANUP(json_freep) json_t *names = NULL;

    (void)state;
    assert_int_equal(parse(&parsed, "protect db1 web1 --to lyon app1 --group shop"), 0);
    EXPECT_OK(cli_names_arg(&parsed.cli, "NAME", &names, &err));
    CLEANUP(mem_freep) char *text = json_text(names);
    assert_string_equal(text, "[\"db1\",\"web1\",\"app1\"]");
    assert_string_equal(cli_option(&parsed.cli, "group"), "shop");
}

static void help_is_given_for_half_a_line(void **state)
{
    CLEANUP(parsed_done) struct parsed parsed;

    (void)state;
    assert_int_equal(parse(&parsed, "protect --help"), 0);
    assert_true(parsed.cli.help);
}

static void numbers_and_durations_say_what_they_should_be(void **state)
{
    CLEANUP(parsed_done) struct parsed parsed;
    int64_t ms = 77;
    uint64_t number = 77;
    const char *name;

    (void)state;
    assert_int_equal(parse(&parsed, "protect Db1 --interval 5 --keep few --to lyon"), 0);
    EXPECT_ERR(ERR_INVALID,
               cli_duration_option(&parsed.cli, "interval", 1000, 86400000, &ms, &err));
    EXPECT_TEXT("--interval: \"5\" is no duration; hint: 1s to 24h, a number with its unit");
    EXPECT_ERR(ERR_INVALID, cli_number_option(&parsed.cli, "keep", 1, 10000, &number, &err));
    EXPECT_TEXT("--keep: \"few\" is no number; hint: 1 to 10000");
    EXPECT_ERR(ERR_INVALID, cli_name_arg(&parsed.cli, "NAME", &name, &err));
    EXPECT_TEXT("\"Db1\" is no name");
    assert_true(parsed.cli.usage_error);
    assert_int_equal(ms, 77);
}

static void exit_codes_are_by_kind_of_error(void **state)
{
    (void)state;
    assert_int_equal(cli_exit_of(ERR_NOT_FOUND), 3);
    assert_int_equal(cli_exit_of(ERR_STATE), 4);
    assert_int_equal(cli_exit_of(ERR_FENCED), 4);
    assert_int_equal(cli_exit_of(ERR_NET), 5);
    assert_int_equal(cli_exit_of(ERR_TIMEOUT), 6);
    assert_int_equal(cli_exit_of(ERR_CORRUPT), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_command_is_meant),
        cmocka_unit_test(options_may_stand_anywhere),
        cmocka_unit_test(after_two_dashes_everything_is_an_argument),
        cmocka_unit_test(a_misspelt_option_is_answered_with_the_nearest),
        cmocka_unit_test(a_misspelt_command_is_answered_with_the_nearest),
        cmocka_unit_test(half_a_command_is_said_to_be_half),
        cmocka_unit_test(what_is_missing_is_named_with_the_whole_form),
        cmocka_unit_test(several_machines_may_be_named_before_and_after_options),
        cmocka_unit_test(help_is_given_for_half_a_line),
        cmocka_unit_test(numbers_and_durations_say_what_they_should_be),
        cmocka_unit_test(exit_codes_are_by_kind_of_error),
    };
    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
