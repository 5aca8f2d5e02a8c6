-- SPDX-License-Identifier: Apache-2.0
-- Recovery plan for a pool of web servers (web1, web2) over one database (db1): users are served as
-- soon as enough of the pool answers, not only when all of it does.
--
-- When to use it: as shop.lua says. It differs in the stage "Web", where a step is a function:
-- what is enough cannot be said by verbs alone.
--
-- By hand, if Muster itself is down: bring all up, then look whether one web server answers.

local servers = { "web1", "web2" }
local needed = 1

return plan "pool" {
  rto = "15m",
  rpo = "30s",

  stage "Database" {
    step "Bring up the database" { failover "db1" },
    step "Wait until the database is up" { wait_until { agent = "db1", within = "5m" } },
  },

  -- One that does not come up holds up nobody.
  stage "Web" {
    parallel {
      step "Bring up web1" { failover "web1", on_failure = "continue" },
      step "Bring up web2" { failover "web2", on_failure = "continue" },
    },
    step "See that enough web servers answer" {
      function(act)
        local up = {}
        for _, server in ipairs(servers) do
          -- Of one that could not even be started nothing can be asked: that is caught.
          local asked, found = pcall(act, check { agent = server })
          if asked and found.answer then
            up[#up + 1] = server
          end
        end
        if #up < needed then
          error(("%d of %d web servers answer, %d must"):format(#up, #servers, needed))
        end
        return { up = up }
      end,
      within = "1m",
      retry = { times = 20, wait = "15s" },
    },
  },
}
