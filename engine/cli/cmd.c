// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd.h"

#include "base/mem.h"

#include <assert.h>

const struct cmd_option cmd_global_options[] = {
    {"dir", "DIR", "the site's directory; else MUSTER_DIR, else /etc/muster"},
    {"json", NULL, "answer in JSON"},
    {"help", NULL, "explain the command"},
    {"version", NULL, "print the version"},
    {0},
};

void cmd_families(struct cmd_family out[CMD_FAMILIES_MAX])
{
    const struct cmd_family families[] = {
        {"Sites", cmds_site()},
        {"Machines", cmds_machine()},
        {"Protection", cmds_protect()},
        {"Policies", cmds_policy()},
        {"What is going on", cmds_status()},
        {"Points", cmds_points()},
        {"Branches and older points", cmds_branches()},
        {"Images", cmds_export()},
        {"Replicas as folders", cmds_replica()},
        {"Plans", cmds_plan()},
        {"Runs", cmds_run()},
        {"One machine, no plan", cmds_failover()},
        {"Jobs", cmds_jobs()},
        {"Audit", cmds_audit()},
        {"The program", cmds_serve()},
        {"Help", cmds_help()},
        {0},
    };

    _Static_assert(ARRAY_LEN(families) <= CMD_FAMILIES_MAX, "room for all families");
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        out[i] = families[i];
}

const struct cmd **cmd_all(void)
{
    struct cmd_family families[CMD_FAMILIES_MAX];
    const struct cmd **all;
    size_t count = 0;

    cmd_families(families);
    for (const struct cmd_family *family = families; family->title; family++)
        for (const struct cmd *cmd = family->cmds; cmd->words; cmd++)
            count++;
    all = mem_new_array(const struct cmd *, count + 1);
    count = 0;
    for (const struct cmd_family *family = families; family->title; family++)
        for (const struct cmd *cmd = family->cmds; cmd->words; cmd++)
            all[count++] = cmd;
    return all;
}
