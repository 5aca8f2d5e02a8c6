-- SPDX-License-Identifier: Apache-2.0
-- The words a plan is written in. They build a plain document and do nothing else; what a value
-- means (is "90s" a duration, is there a machine db1?) is checked in C, where all problems are
-- listed together. Nothing here stops at the first mistake if it can go on.
--
-- Called with what C gives: host.line() is the line of the author's text that is running,
-- host.lines(f) the first and last one of a function of his, host.nearest(word, words) the word
-- that was probably meant; verbs maps each verb to the key of its value without a name, or false.
-- Gives the table of words, the function that turns what the author's file returns into
-- { plan = document, problems = { ... } }, and the one that begins the function of a step; for that
-- host has ask, raise, mistake, error and assert as well (lua/host/sandbox_body.h).
local host, verbs = ...
local error, type, pairs, ipairs, select = error, type, pairs, ipairs, select

local fields = {
  plan = { "rto", "rpo" },
  stage = { "only" },
  parallel = {},
  step = { "only", "within", "on_failure", "retry" },
}
local later = {
  when = true, after = true, undo = true, each = true, approve = true, input = true,
}

local words = { error = host.error, assert = host.assert }
local problems = {}
-- The functions of steps: node -> function. The document has only their lines.
local bodies = {}
-- The step whose function runs, how much had been made when it began, what it has done.
local running, made_before, acts = nil, 0, 0
-- What the words made, by identity: authors cannot forge it. node -> { word, line, placed }.
local made = {}
local order = {}

local function problem(line, text, word, field)
  if running then
    host.mistake(text, line)
  end
  problems[#problems + 1] = { line = line, text = text, word = word, field = field }
end

local function make(word, line, node)
  local name = node.title or node.verb or node.name
  local entry = { word = word, line = line, placed = false, name = name }
  made[node] = entry
  order[#order + 1] = entry
  return node
end

local function word_of(value)
  local entry = made[value]
  return entry and entry.word
end

-- 'step "Bring it up"', 'failover', a number: how a value is called in messages.
local function name_of(value)
  local entry = made[value]
  if not entry then
    return type(value) == "string" and ("the text %q"):format(value) or "a " .. type(value)
  end
  if entry.word == "verb" then
    return entry.name
  end
  return entry.name and ("%s %q"):format(entry.word, entry.name) or entry.word
end

-- Nil when `value` is plain data, else why it is not.
local function not_data(value, depth)
  if made[value] then
    return name_of(value) .. " cannot stand here"
  elseif type(value) == "function" then
    return "a function cannot stand here; hint: write the value itself"
  elseif type(value) == "table" then
    if depth > 8 then
      return "tables are nested too deep"
    end
    for _, item in pairs(value) do
      local why = not_data(item, depth + 1)
      if why then
        return why
      end
    end
  end
  return nil
end

local function check_field(word, name, line, key, value)
  if later[key] then
    problem(line, ("%s: '%s' comes in a later version"):format(name, key), word, key)
    return false
  end
  local known = false
  for _, field in ipairs(fields[word]) do
    known = known or field == key
  end
  if not known then
    local near = host.nearest(key, fields[word])
    local meant = near and (" (did you mean '%s'?)"):format(near)
      or #fields[word] > 0 and "; hint: there are " .. table.concat(fields[word], ", ")
      or "; hint: a " .. word .. " has no fields"
    problem(line, ("%s: unknown field '%s'%s"):format(name, key, meant), word, key)
    return false
  end
  local why = not_data(value, 1)
  if why then
    problem(line, ("%s: '%s': %s"):format(name, key, why), word, key)
    return false
  end
  return true
end

-- Splits what stands in { ... } into fields, which go into `node`, and a list of the rest.
local function read_body(word, node, name, body)
  local items = {}
  local last = 0
  for key, value in pairs(body) do
    if math.type(key) == "integer" and key > 0 then
      if key ~= last + 1 then
        problem(node.line, ("%s: value %d of it is nil"):format(name, last + 1), word)
      end
      last = key
      items[#items + 1] = value
    elseif type(key) ~= "string" then
      problem(node.line, ("%s: a key is a %s"):format(name, type(key)), word)
    elseif check_field(word, name, node.line, key, value) then
      node[key] = value
    end
  end
  return items
end

-- Takes `value` as a part of `name` when it is one of `wanted`.
local function place(value, wanted, word, name, line)
  local entry = made[value]
  local hint = ""
  if entry and wanted[entry.word] then
    entry.placed = true
    return true
  end
  if entry and entry.word == "open" then
    entry.placed = true -- told at the end: its { ... } is missing
    return false
  end
  if entry then
    entry.placed = true
    if entry.word == "verb" then
      hint = ("; hint: step \"Do this\" { %s ... }"):format(entry.name)
    elseif entry.word == "step" and word == "plan" then
      hint = "; hint: put it into stage \"Do this\" { ... }"
    end
    line = entry.line
  elseif type(value) == "function" then
    for known, make_it in pairs(words) do
      if make_it == value then
        problem(line, ("%s: '%s' lacks its value"):format(name, known), word)
        return false
      end
    end
    hint = "; hint: step \"Do this\" { function(act) ... end }"
  end
  problem(line, ("%s: %s cannot stand here%s"):format(name, name_of(value), hint), word)
  return false
end

-- word "Title" { ... }: the line is taken where the title stands.
local function titled(word, build)
  words[word] = function(title, ...)
    local line = host.line()
    if type(title) ~= "string" or not title:find("%S") or select("#", ...) > 0 then
      error(("%s needs a title: %s \"Do this\" { ... }"):format(word, word), 0)
    elseif running then
      host.mistake(("a %s cannot be made inside of a step's function"):format(word), line)
    end
    local name = ("%s %q"):format(word, title)
    local entry = { word = "open", line = line, name = name, closed = false }
    local function close(body)
      entry.closed = true
      if type(body) ~= "table" or made[body] then
        error(("%s is given %s; hint: %s { ... }"):format(name, name_of(body), name), 0)
      end
      return build({ title = title, line = line }, name, body)
    end
    made[close] = entry
    order[#order + 1] = entry
    return close
  end
end

-- A step that is a function: it, and nothing beside it.
local function take_function(node, name, items)
  local first, last = host.lines(items[1])
  if #items > 1 then
    problem(node.line, name .. " holds a function and more; hint: verbs, or one function", "step")
  end
  bodies[node] = items[1]
  node.body = { first = first, last = last }
  return make("step", node.line, node)
end

local function is_body(item)
  return type(item) == "function" and not made[item] and host.lines(item)
end

titled("step", function(node, name, body)
  local items = read_body("step", node, name, body)
  if is_body(items[1]) then
    return take_function(node, name, items)
  end
  node.actions = {}
  for _, item in ipairs(items) do
    if is_body(item) then
      problem(node.line, name .. " holds a function and more; hint: verbs, or one function", "step")
    elseif place(item, { verb = true }, "step", name, node.line) then
      node.actions[#node.actions + 1] = item
    end
  end
  if #node.actions == 0 then
    problem(node.line, name .. " does nothing; hint: give it a verb, or a function", "step")
  end
  return make("step", node.line, node)
end)

titled("stage", function(node, name, body)
  node.items = {}
  for _, item in ipairs(read_body("stage", node, name, body)) do
    if place(item, { step = true, parallel = true }, "stage", name, node.line) then
      node.items[#node.items + 1] = word_of(item) == "step" and { step = item } or item
    end
  end
  if #node.items == 0 then
    problem(node.line, name .. " is empty; hint: give it a step", "stage")
  end
  return make("stage", node.line, node)
end)

titled("plan", function(node, name, body)
  node.name, node.title = node.title, nil
  node.stages = {}
  for _, item in ipairs(read_body("plan", node, name, body)) do
    if place(item, { stage = true }, "plan", name, node.line) then
      node.stages[#node.stages + 1] = item
    end
  end
  if #node.stages == 0 then
    problem(node.line, name .. " is empty; hint: give it a stage with a step", "plan")
  end
  return make("plan", node.line, node)
end)

function words.parallel(body, ...)
  local node = { line = host.line(), parallel = {} }
  if running then
    host.mistake("a parallel cannot be made inside of a step's function", node.line)
  end
  if type(body) ~= "table" or made[body] or select("#", ...) > 0 then
    error("parallel is given steps: parallel { step ..., step ... }", 0)
  end
  for _, item in ipairs(read_body("parallel", node, "parallel", body)) do
    if place(item, { step = true }, "parallel", "parallel", node.line) then
      node.parallel[#node.parallel + 1] = item
    end
  end
  if #node.parallel == 0 then
    problem(node.line, "parallel is empty; hint: give it steps", "parallel")
  end
  return make("parallel", node.line, node)
end

local function take_value(node, key, value)
  local why = not_data(value, 1)
  if why then
    problem(node.line, ("%s: '%s': %s"):format(node.verb, key, why), node.verb, key)
  else
    node.args[key] = value
  end
end

for verb, unnamed in pairs(verbs) do
  words[verb] = function(value, ...)
    local node = { verb = verb, args = {}, line = host.line() }
    local values = type(value) == "table" and not made[value] and value or { value }
    if value == nil or select("#", ...) > 0 then
      error(("%s is given one value, or named ones in { ... }"):format(verb), 0)
    end
    for key, item in pairs(values) do
      if type(key) == "string" then
        take_value(node, key, item)
      elseif not unnamed then
        local text = "%s takes named values only: %s { name = value }"
        problem(node.line, text:format(verb, verb), verb)
      elseif key ~= 1 then
        problem(node.line, ("%s takes one value without a name"):format(verb), verb)
      else
        take_value(node, unnamed, item)
      end
    end
    return make("verb", node.line, node)
  end
end

-- What stands nowhere would silently not run: worse than any other mistake.
local function check_all_placed()
  for _, entry in ipairs(order) do
    if entry.word == "open" then
      if not entry.closed then
        problem(entry.line, ("%s lacks its { ... }"):format(entry.name), nil)
      end
    elseif not entry.placed then
      local name = entry.word == "verb" and entry.name
        or entry.name and ("%s %q"):format(entry.word, entry.name) or entry.word
      problem(entry.line, name .. " is not part of the plan that is returned: it would never run")
    end
  end
end

local function finish(value)
  if word_of(value) ~= "plan" then
    local hint = "; hint: the file ends with return plan \"name\" { ... }"
    if value == nil then
      error("returns nothing" .. hint, 0)
    elseif word_of(value) == "open" then
      error(made[value].name .. " lacks its { ... }", 0)
    end
    error("returns " .. name_of(value) .. hint, 0)
  end
  made[value].placed = true
  check_all_placed()
  return { plan = value, problems = problems }
end

-- What a step's function is given. A mistake ends it for good: no pcall shall hide it.
local function act(value, ...)
  local entry = made[value]
  local line = host.line()
  if not entry or entry.word ~= "verb" or select("#", ...) > 0 then
    local got = select("#", ...) > 0 and "more than one value" or name_of(value)
    host.mistake(("act is given %s; hint: act(check { ... })"):format(got), line)
  end
  entry.placed = true
  acts = acts + 1
  local answer = host.ask({ act = { verb = value.verb, args = value.args }, line = value.line })
  if answer.error then
    -- In return act(...) the function that called us is gone.
    line = line > 0 and line or value.line
    host.raise(answer.error.code, answer.error.message, answer.error.verb, line)
  end
  return answer.result
end

function words.result(title, ...)
  if not running then
    error("result is read inside of a step's function only", 0)
  elseif type(title) ~= "string" or select("#", ...) > 0 then
    host.mistake("result is given the title of an earlier step: result \"Do this\"", host.line())
  end
  local line = host.line()
  line = line > 0 and line or running.body.first -- of return result ...
  return host.ask({ result_of = title, line = line }).result
end

-- After the function: what it made and did not do would be missed by nobody else.
local function over(returned)
  for i = made_before + 1, #order do
    local entry = order[i]
    if entry.word == "verb" and not entry.placed then
      local text = "%s is made here and not done; hint: act(%s ...)"
      host.mistake(text:format(entry.name, entry.name), entry.line)
    end
  end
  if acts == 0 and not returned then
    host.mistake("the function does nothing: it neither acts nor returns a value; "
      .. "hint: act(check { ... }), or return a table that says why", running.body.first)
  end
end

local function start(value, id)
  local count = 0
  finish(value)
  for _, stage in ipairs(value.stages) do
    for _, item in ipairs(stage.items) do
      for _, step in ipairs(item.parallel or { item.step }) do
        count = count + 1
        if "s" .. count == id and bodies[step] then
          running, made_before = step, #order
          return bodies[step], act, over
        end
      end
    end
  end
  error(("step %s of the plan has no function"):format(id), 0)
end

return words, finish, start
