-- fine

local addresses = {
  web1 = { lyon = "10.20.0.11/24", paris = "10.10.0.11/24" },
  web2 = { lyon = "10.20.0.12/24", paris = "10.10.0.12/24" },
}

local up, named = {}, {}
for machine, address in pairs(addresses) do
  up[#up + 1] = step("Bring up " .. machine) { failover(machine) }
  named[#named + 1] = step("Give " .. machine .. " its address") {
    assign_ip { machine, address = address },
  }
end

return plan "case" {
  stage "Web" { parallel(up), table.unpack(named) },
}
