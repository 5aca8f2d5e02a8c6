-- SPDX-License-Identifier: Apache-2.0
-- Recovery plan for a machine (app1) that has another address at each site, and whose move people
-- watch over: a drill tells nobody and turns no name; a real move ends with a question.
--
-- When to use it: as shop.lua says; and to bring it back: muster run guided --kind failback
--
-- Before it can run, at both sites:
--   config.lua            commands = { "/usr/local/sbin/point-dns" }
--   secrets/chat          the token of the web hook, mode 0600
--   in the guest          the guest agent, which may start programs (guest-exec)
--
-- By hand, if Muster itself is down: bring the machine up, give it its address, turn the name to
-- that address, look whether it answers, tell everybody.

local machine = "app1"
local hook = "https://chat.example.com/hooks/recovery"
local moves = { "planned", "unplanned", "failback" }

-- By site: the one that runs the plan takes its own.
local address = { paris = "10.10.0.21/24", lyon = "10.20.0.21/24" }
local gateway = { paris = "10.10.0.1", lyon = "10.20.0.1" }
local answers = { paris = "10.10.0.21:443", lyon = "10.20.0.21:443" }

return plan "guided" {
  rto = "30m",
  rpo = "1m",

  stage "Machine" {
    step "Bring up the machine" { failover(machine), retry = { times = 2, wait = "10s" } },
    step "Wait until its system is up" { wait_until { agent = machine, within = "5m" } },
    step "Give it the address of this site" {
      assign_ip { machine, address = address, gateway = gateway },
    },
  },

  stage "Users" {
    only = moves,
    step "Turn the name to this site" {
      run_command {
        "/usr/local/sbin/point-dns",
        args = { paris = { "app1", "10.10.0.21" }, lyon = { "app1", "10.20.0.21" } },
        within = "1m",
      },
    },
    step "Wait until users are served" { wait_until { tcp = answers, within = "5m" } },
    -- Kept with the run, and told below.
    step "Look at all of it" {
      function(act)
        return {
          system = act(check { agent = machine }).answer,
          users = act(check { tcp = answers }).answer,
        }
      end,
    },
  },

  -- Yes makes the move final, and the site it left becomes the replica. No, or silence, leaves it
  -- as it is: then `muster commit guided` or `muster rollback guided` ends it.
  stage "Make it final" {
    only = moves,
    step "Ask whether it is to stay here" {
      approve { "Does everything work, may app1 stay here for good?", within = "12h" },
    },
    step "Make it final" { commit(machine) },
    step "Tell everybody" {
      function(act)
        local found = result "Look at all of it"
        local how = found.system and found.users and "" or "; look at it, not all of it answers"
        act(notify { hook, text = "app1 has moved, and stays" .. how, token_file = "chat" })
      end,
      on_failure = "continue",
    },
  },
}
