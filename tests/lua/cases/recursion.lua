-- limit: recursion.lua

local function forever(n)
  return 1 + forever(n + 1)
end

return forever(1)
