// SPDX-License-Identifier: Apache-2.0
/* Programs in the simulated world: each takes as long and ends as the world says. */
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "sites/site_sim_internal.h"

static struct sim_command *find(struct sim_ask *ask, bool free_place)
{
    const char *id = json_get_str(ask->args, "id", "");

    for (size_t i = 0; i < SIM_COMMANDS_MAX; i++) {
        struct sim_command *command = &ask->world->commands[i];
        if (free_place ? !command->run[0]
                       : str_eq(command->run, ask->run) && str_eq(command->id, id))
            return command;
    }
    return NULL;
}

int sim_command_start(struct sim_ask *ask, struct err *err)
{
    struct sim_command *command = find(ask, false);
    bool changed = !command;

    if (sim_begin(ask, err) < 0)
        return -1;
    if (!command) {
        command = find(ask, true);
        if (!command)
            return err_set(err, ERR_LIMIT, 0, "too many commands");
        *command = (struct sim_command){
            .started_ms = ask->sim->clock->now_ms(ask->sim->clock),
            .within_ms = (int64_t)json_get_u64(ask->args, "within_ms", 0),
        };
        sim_copy_name(command->run, ask->run);
        sim_copy_name(command->id, json_get_str(ask->args, "id", ""));
    }
    return sim_end(ask, changed, err);
}

int sim_command_observe(struct sim_ask *ask, struct err *err)
{
    const struct sim_command *command = find(ask, false);
    const struct sim_world *world = ask->world;
    const char *state = "none";
    bool late = false;

    if (sim_look(ask, err) < 0)
        return -1;
    if (command) {
        int64_t took = ask->sim->clock->now_ms(ask->sim->clock) - command->started_ms;
        late = world->command_ms > command->within_ms && took >= command->within_ms;
        state = world->command_lost                                     ? "lost"
                : late || command->stopped || took >= world->command_ms ? "ended"
                                                                        : "running";
    }
    *ask->ret_result =
        json_pack("{s:s, s:i, s:i, s:b, s:b, s:s, s:s}", "state", state, "exit_status",
                  late ? -1 : world->command_exit, "signal", late ? 15 : 0, "timed_out", late,
                  "stopped", command && command->stopped, "why",
                  world->command_lost ? "the simulated host was started anew" : "", "output",
                  "first line\nlast line\n");
    return 0;
}

int sim_command_stop(struct sim_ask *ask, struct err *err)
{
    struct sim_command *command = find(ask, false);

    if (sim_begin(ask, err) < 0)
        return -1;
    bool changed = command && !command->stopped;
    if (command)
        command->stopped = true;
    return sim_end(ask, changed, err);
}
