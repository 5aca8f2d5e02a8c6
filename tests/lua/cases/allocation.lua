-- limit: of memory

local all = {}
while all do
  all[#all + 1] = { #all }
end
