-- limit: ran for more than

local n = 0
while true do
  n = n + 1
end
