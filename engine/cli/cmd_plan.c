// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/show.h"
#include "host/host.h"
#include "plan/plan.h"

#include <inttypes.h>
#include <string.h>

/* --- Checking ---------------------------------------------------------------------------------- */

/* "FILE:LINE: error: what", and its hint below. */
static void print_problem(const struct cli *cli, const char *file, const json_t *problem)
{
    static const char mark[] = "; hint: ";
    const char *text = json_get_str(problem, "text", "");
    const char *hint = strstr(text, mark);
    uint64_t line = json_get_u64(problem, "line", 0);

    (void)fprintf(cli->out, "%s:", file);
    if (line)
        (void)fprintf(cli->out, "%" PRIu64 ":", line);
    (void)fprintf(cli->out, " %s: %.*s\n",
                  json_get_bool(problem, "warning", false) ? "warning" : "error",
                  hint ? (int)(hint - text) : (int)strlen(text), text);
    if (hint)
        (void)fprintf(cli->out, "  hint: %s\n", hint + sizeof(mark) - 1);
}

static void print_problems(const struct cli *cli, const char *file, const json_t *problems)
{
    const json_t *problem;
    size_t i;

    json_array_foreach(problems, i, problem)
        print_problem(cli, file, problem);
}

/* Without a daemon: the words are checked, the names of machines and sites cannot be. */
static int check_alone(const char *file, const struct str *text, json_t **ret_reply,
                       struct err *err)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    CLEANUP(plan_freep) struct plan *plan = NULL;
    struct plan_world world = {0};
    struct host host;
    json_t *list;

    client_host(&host);
    world.verbs = verb_all(&world.verb_count);
    if (plan_load(&host, &world, file, str_text(text), text->len, &plan, &problems, NULL, err) < 0
        && problems.len == 0)
        return -1;
    list = json_array();
    VEC_FOREACH(problem, &problems)
        (void)json_array_append_new(list, json_pack("{s:b, s:I, s:s}", "warning", problem->warning,
                                                    "line", (json_int_t)problem->line, "text",
                                                    problem->text));
    *ret_reply =
        json_pack("{s:b, s:s, s:s, s:o}", "sound", plan != NULL, "name", plan ? plan->name : "",
                  "hash", plan ? plan->hash : "", "problems", list);
    return 0;
}

static json_t *source_body(const char *file, const struct str *text)
{
    return json_pack("{s:s, s:s}", "file", file, "source", str_text(text));
}

/* As the daemon sees it, or alone when there is none. Prints the problems. */
static int check(struct cli *cli, const char *file, const struct str *text, json_t **ret_reply,
                 struct err *err)
{
    json_t *body = source_body(file, text);
    json_t *reply = NULL;

    if (!body)
        return err_set(err, ERR_INVALID, 0, "%s is not UTF-8 text", file);
    if (client_call(cli, "POST", "/v1/plans/check", body, &reply, err) < 0) {
        if (err->code != ERR_NET && err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        if (check_alone(file, text, &reply, err) < 0)
            return -1;
        if (!cli->json)
            (void)fprintf(stderr,
                          "note: no daemon answers, so names of machines and sites were not "
                          "checked\n");
    }
    if (!cli->json)
        print_problems(cli, file, json_object_get(reply, "problems"));
    *ret_reply = reply;
    return 0;
}

static int unsound(const char *file, const json_t *reply, struct err *err)
{
    const json_t *problem;
    size_t i, errors = 0;

    json_array_foreach(json_object_get(reply, "problems"), i, problem)
        errors += !json_get_bool(problem, "warning", false);
    return err_set(err, ERR_INVALID, 0, "%s: %zu error%s", file, errors, errors == 1 ? "" : "s");
}

static int run_check(struct cli *cli, struct err *err)
{
    const char *file = cli_arg(cli, "FILE");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *reply = NULL;

    if (cli_read_file(file, &text, err) < 0 || check(cli, file, &text, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    if (!json_get_bool(reply, "sound", false))
        return unsound(file, reply, err);
    if (!cli->json)
        (void)fprintf(cli->out, "%s: plan %s is sound (%.12s)\n", file,
                      json_get_str(reply, "name", ""), json_get_str(reply, "hash", ""));
    return 0;
}

/* --- Adding ------------------------------------------------------------------------------------ */

static int run_add(struct cli *cli, struct err *err)
{
    const char *file = cli_arg(cli, "FILE");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *checked = NULL;
    CLEANUP(json_freep) json_t *reply = NULL;
    const json_t *copy;
    size_t i;

    if (cli_read_file(file, &text, err) < 0
        || client_call(cli, "POST", "/v1/plans/check", source_body(file, &text), &checked, err) < 0)
        return -1;
    if (!cli->json)
        print_problems(cli, file, json_object_get(checked, "problems"));
    if (!json_get_bool(checked, "sound", false))
        return unsound(file, checked, err);
    if (client_call(cli, "POST", "/v1/plans", source_body(file, &text), &reply, err) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    (void)fprintf(cli->out, "Plan %s added (%.12s)", json_get_str(reply, "name", ""),
                  json_get_str(reply, "hash", ""));
    json_array_foreach(json_object_get(reply, "copies"), i, copy)
        (void)fprintf(cli->out, "%s%s", i ? ", " : "; being copied to ",
                      json_get_str(copy, "peer", ""));
    (void)fprintf(cli->out, "\n");
    return 0;
}

/* --- Showing ----------------------------------------------------------------------------------- */

static int run_list(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (client_get(cli, &reply, err, "/v1/plans") < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "plans"));
        return 0;
    }
    show_plans(json_object_get(reply, "plans"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

/* {text, runbook} of a file, without a daemon. */
static int runbook_of_file(const char *file, enum run_kind kind, json_t **ret_reply,
                           struct err *err)
{
    CLEANUP(plan_freep) struct plan *plan = NULL;
    CLEANUP(mem_freep) char *text = NULL;
    struct plan_world world = {0};
    struct host host;
    json_t *runbook;

    client_host(&host);
    world.verbs = verb_all(&world.verb_count);
    if (plan_load_file(&host, &world, file, &plan, NULL, NULL, err) < 0
        || plan_show_text(plan, &world, kind, &text, err) < 0
        || plan_show_json(plan, &world, kind, &runbook, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:s, s:o}", "text", text, "runbook", runbook);
    return 0;
}

static bool is_file(const char *text)
{
    return strchr(text, '/') || strchr(text, '.') || !str_is_name(text);
}

static int run_show(struct cli *cli, struct err *err)
{
    const char *plan = cli_arg(cli, "PLAN");
    const char *kind_name = cli_option(cli, "kind");
    int kind = kind_name ? run_kind_parse(kind_name) : RUN_PLANNED;
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str markdown = STR_EMPTY;

    if (kind < 0)
        return cli_usage(cli, err,
                         "--kind: \"%.32s\" is no kind of run; hint: test, planned, unplanned, "
                         "failback or cleanup",
                         kind_name);
    if (is_file(plan) && runbook_of_file(plan, (enum run_kind)kind, &reply, err) < 0)
        return -1;
    if (!reply
        && client_get(cli, &reply, err, "/v1/plans/%s/runbook?kind=%s", plan,
                      run_kind_name((enum run_kind)kind))
               < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "runbook"));
        return 0;
    }
    if (cli_flag(cli, "markdown"))
        show_runbook_markdown(json_object_get(reply, "runbook"), &markdown);
    (void)fputs(markdown.len ? str_text(&markdown) : json_get_str(reply, "text", ""), cli->out);
    return 0;
}

static int run_remove(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *name;

    if (cli_name_arg(cli, "PLAN", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/plans/%s", name);
    if (client_call(cli, "DELETE", path, NULL, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Plan %s removed at this site\n", name);
    return 0;
}

const struct cmd *cmds_plan(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "plan check",
            .help = "Loads and checks a plan, and says all that is wrong with it.",
            .args = {{"FILE", false, "the plan's Lua file"}},
            .examples = {"plan check shop.lua"},
            .run = run_check,
        },
        {
            .words = "plan add",
            .help = "Stores a plan here and at every paired site.",
            .about =
                "It is checked first. A plan of the same name is replaced; runs have their own "
                "copy of theirs.",
            .args = {{"FILE", false, "the plan's Lua file"}},
            .run = run_add,
        },
        {
            .words = "plan list",
            .help = "Lists plans.",
            .run = run_list,
        },
        {
            .words = "plan show",
            .help = "Shows the runbook: what a run does, step by step.",
            .args = {{"PLAN", false, "a stored plan's name, or a file (with a dot or a slash)"}},
            .options = {{"kind", "KIND", "test, planned, unplanned, failback or cleanup; planned"},
                        {"markdown", NULL, "as Markdown"}},
            .examples = {"plan show shop --kind unplanned", "plan show ./shop.lua --markdown"},
            .run = run_show,
        },
        {
            .words = "plan remove",
            .help = "Removes a plan at this site; what runs has its own copy.",
            .args = {{"PLAN", false, "the plan's name"}},
            .run = run_remove,
        },
        {0},
    };

    return cmds;
}
