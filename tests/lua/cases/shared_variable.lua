-- invalid: tests/lua/cases/shared_variable.lua:4: global 'machine' is not declared; hint: write "local machine"

local function pick()
  machine = "db1"
  return machine
end

return plan "case" { stage "A" { step "Up" { failover(pick()) } } }
