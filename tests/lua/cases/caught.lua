-- invalid: returns the text

-- What is caught is caught: a plan still has to be returned.
local _, why = pcall(function()
  return io
end)
return why
