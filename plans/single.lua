-- SPDX-License-Identifier: Apache-2.0
-- Recovery plan for one machine that stands alone. Copy it, put in your machine's name and what
-- shows that it works.
--
-- When to use it: as shop.lua says; `muster failover MACHINE` does the same without a plan, but
-- waits for nothing and checks nothing.

local machine = "app1"

return plan "single" {
  rto = "10m",
  rpo = "1m",

  stage "Machine" {
    step("Bring up " .. machine) { failover(machine), retry = { times = 2, wait = "10s" } },

    -- Use the line that fits: the guest agent answers as soon as the system is up, a port when
    -- the service is, the console when there is neither.
    step "Wait until it is up" { wait_until { agent = machine, within = "5m" } },
    -- step "Wait until it is up" { wait_until { tcp = machine .. ":443", within = "5m" } },
    -- step "Wait until it is up" { wait_until { console = machine, line = "login:" } },
  },
}
