// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/settings.h"

#include <inttypes.h>

/* One policy, as it is now. */
static void print(struct cli *cli, const json_t *policy)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (cli->json) {
        cli_print_json(cli, policy);
        return;
    }
    show_policy(policy, &out);
    (void)fputs(str_text(&out), cli->out);
}

static int run_list(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (client_get(cli, &reply, err, "/v1/policies") < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "policies"));
        return 0;
    }
    show_policies(json_object_get(reply, "policies"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_show(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || client_get(cli, &reply, err, "/v1/policies/%s", name) < 0)
        return -1;
    print(cli, reply);
    return 0;
}

static int run_add(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    const char *name;
    size_t count;

    if (cli_name_arg(cli, "NAME", &name, err) < 0 || cli_settings(cli, body, &count, err) < 0)
        return -1;
    (void)json_object_set_new(body, "name", json_string(name));
    if (client_call(cli, "POST", "/v1/policies", TAKE(body), &reply, err) < 0)
        return -1;
    print(cli, reply);
    return 0;
}

static int run_change(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    CLEANUP(mem_freep) char *path = NULL;
    const json_t *machine;
    const char *name;
    size_t count, i;

    if (cli_name_arg(cli, "NAME", &name, err) < 0 || cli_settings(cli, body, &count, err) < 0)
        return -1;
    if (count == 0)
        return cli_usage(cli, err,
                         "nothing to change; hint: `muster policy change %s --interval 5s`", name);
    path = mem_printf("/v1/policies/%s", name);
    if (client_call(cli, "PUT", path, TAKE(body), &reply, err) < 0)
        return -1;
    print(cli, reply);
    json_array_foreach(json_object_get(reply, "changed"), i, machine) {
        if (!cli->json)
            (void)fprintf(cli->out, "%s%s",
                          i ? ", " : "\nchanged with it: ", json_string_value(machine));
    }
    if (!cli->json && json_array_size(json_object_get(reply, "changed")) > 0)
        (void)fprintf(cli->out, "\n");
    return 0;
}

static int run_remove(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/policies/%s", name);
    if (client_call(cli, "DELETE", path, NULL, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Policy %s is removed\n", name);
    return 0;
}

const struct cmd *cmds_policy(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "policy add",
            .help = "Makes a policy: settings under a name.",
            .about = "`muster protect NAME --to SITE --policy POLICY` uses it; what is said there "
                     "besides is that machine's own.",
            .args = {{"NAME", false, "of the new policy"}},
            .options = {POLICY_FIELDS(SETTING_OPTION_WITH_DEFAULT){0}},
            .examples = {"policy add gold --interval 5s --rpo 30s",
                         "policy add nightly --interval 1h --copy-start 22:00"},
            .run = run_add,
        },
        {
            .words = "policy list",
            .help = "Lists policies, and who uses them.",
            .run = run_list,
        },
        {
            .words = "policy show",
            .help = "Shows a policy in full, and who uses it.",
            .args = {{"NAME", false, "the policy"}},
            .run = run_show,
        },
        {
            .words = "policy change",
            .help = "Changes a policy, and every protection that uses it, while they run.",
            .about =
                "What was set for a machine alone stays. What cannot change while machines are "
                "protected changes nothing, and is said.\nThe other sites hear of it as soon "
                "as they answer.",
            .args = {{"NAME", false, "the policy"}},
            .options = {POLICY_FIELDS(SETTING_OPTION){0}},
            .examples = {"policy change default --interval 1m"},
            .run = run_change,
        },
        {
            .words = "policy remove",
            .help = "Removes a policy that nobody uses.",
            .args = {{"NAME", false, "the policy"}},
            .run = run_remove,
        },
        {0},
    };

    return cmds;
}
