-- SPDX-License-Identifier: Apache-2.0
-- Recovery plan for the web shop: a database (db1) and the web server in front of it (web1).
--
-- When to use it
--   test       every week, and after each change to a machine: muster run shop --kind test
--   planned    before work on the site that runs them now; nothing is lost
--   unplanned  when that site is gone. What was written after the newest point is lost; its age
--              is named before you confirm. Be sure that the old machines are off.
--
-- If Muster itself is down, the runbook (muster plan show shop --kind planned) can be followed by
-- hand: the titles are the instructions.

-- A machine counts as up when its guest agent answers: that needs no network, so it holds in the
-- isolated network of a test, too. Without an agent, name what shows that the service works:
--   wait_until { tcp = "db1:5432", within = "5m" }
--   wait_until { console = "db1", line = "login:", within = "5m" }
local function up(machine)
  return wait_until { agent = machine, within = "5m" }
end

return plan "shop" {
  rto = "15m",
  rpo = "30s",

  -- The web server refuses to start without its database, so that comes first.
  stage "Database" {
    step "Bring up the database" { failover "db1" },
    step "Wait until the database is up" { up "db1" },
  },

  stage "Web" {
    step "Bring up the web server" { failover "web1" },
    step "Wait until the web server is up" { up "web1" },
  },

  -- One more look at all of it together. A failure here is reported and stops nothing: users are
  -- better served by half a shop than by none.
  stage "Look at the whole" {
    step "Check the database once more" { check { agent = "db1" }, on_failure = "continue" },
    step "Check the web server once more" { check { agent = "web1" }, on_failure = "continue" },
  },
}
