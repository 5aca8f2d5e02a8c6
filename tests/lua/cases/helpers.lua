-- fine

-- Helpers, loops and tables of one's own are plain Lua.
local order = { "db1", "web1", "web2" }

local function bring_up(machine)
  return step(("Bring up %s"):format(machine)) { failover(machine), retry = { times = 1 } }
end

local steps = {}
for _, machine in ipairs(order) do
  steps[#steps + 1] = bring_up(machine)
end
table.sort(order)

return plan "case" {
  rto = "5m",
  stage "Database" { steps[1] },
  stage "Web" { parallel { steps[2], steps[3] } },
}
