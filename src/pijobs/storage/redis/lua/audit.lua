-- One slice of the audit: the next keys of the queue, whatever they are. Finds instances that no list leads to, and
-- entries that lead to nothing. Mends what it finds, if asked to. Answers the next cursor ('end' behind the last key), what
-- ended, and for each fault an id and words.
--
-- A cursor is that of SCAN; 'todo' when all keys were met, and some are still to be gone through; '' is where the last
-- sign of life stopped.
local cursor, count, repair = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local faults = {}
local left = 4 * count -- entries that may still be read; an instance is looked at as long as four of them
needs_no_memory()

local function fault(id, words)
  faults[#faults + 1] = id
  faults[#faults + 1] = words
  return repair
end

local PLACES = {queued = function(i) return place_of(tonumber(i.due)) end,
  scheduled = function(i) return i.seq end, running = function(i) return i.seq end}

-- The lists that people look at, and the names and groups that lead to them.
local function audit_lists(i)
  local shown = call('ZSCORE', P .. 'x:' .. i.state .. ':' .. i.name, i.id)
    and call('ZSCORE', P .. 'y:' .. i.state .. ':' .. i.group, i.id)
    and (i.subject == '' or call('ZSCORE', P .. 's:' .. i.state .. ':' .. i.subject, i.id))
    and (i.person == '' or call('ZSCORE', P .. 's:' .. i.state .. ':' .. i.person, i.id))
    and call('SISMEMBER', P .. 'names', i.name) == 1
  if not shown and fault(i.id, 'it is ' .. i.state .. ', but missing in a list') then
    local place = PLACES[i.state]
    enter(i, i.state, place and place(i) or number(call('HGET', P .. 'i:' .. i.id, 'ended')) or now)
    call('SADD', P .. 'names', i.name)
  end
  -- The group of what waits must be known, or it is never swept.
  if not ENDED[i.state] and not call('ZSCORE', P .. 'groups', i.group) then call('ZADD', P .. 'groups', 0, i.group) end
end

local function audit_waiting(i)
  local due = tonumber(i.due)
  local timed = call('ZSCORE', P .. 'later', 'i:' .. i.id)
  local led = timed or (i.state == 'queued' and call('ZSCORE', P .. 'q:' .. i.group, i.id))
  if not led and fault(i.id, 'it is ' .. i.state .. ', but nothing leads to it') then
    if i.state == 'scheduled' then schedule(i, due) else line_up(i, math.min(due, now)) end
  elseif timed and not call('ZSCORE', P .. 'later:' .. i.priority, i.id) and repair then
    schedule(i, tonumber(timed)) -- a worker of release 0.1.0 knows no lanes
  end
  if i.deadline ~= '' and not call('ZSCORE', P .. 'deadline', i.id) and fault(i.id, 'nobody watches its deadline') then
    put(P .. 'deadline', i.deadline, i.id)
  end
  if i.key ~= '' and call('HGET', P .. 'key', i.key) ~= i.id and fault(i.id, 'another instance has its key') then
    local superseded = yield(i, ended)
    if superseded then
      end_waiting(i, 'cancelled', superseded)
      tell(ended, i, superseded)
    end
  end
  touched[i.group] = true
end

local function audit_instance(id)
  local i = read(id)
  local damaged = i and damage_of(i)
  if damaged and not fault(id, 'damaged: ' .. damaged) then return end
  i = i and load(id)
  if not i then return end
  audit_lists(i)
  if waits(i) then
    audit_waiting(i)
  elseif i.state == 'running' then
    local led = call('SISMEMBER', P .. 'runs:' .. i.session, id) == 1 and call('ZSCORE', P .. 'live', i.session)
    if not led and fault(id, 'it is running, but in no session that is known') then crash(i, ended) end
    return
  end
  if i.state == 'dead' and i.deadline ~= '' and not call('ZSCORE', P .. 'deadline', id)
    and call('HEXISTS', P .. 'i:' .. id, 'body') == 1 and fault(id, 'nobody watches its deadline') then
    put(P .. 'deadline', i.deadline, id)
  end
  if ENDED[i.state] and not call('ZSCORE', P .. 'keep', id) and fault(id, 'it has ended, but is never removed') then
    put(P .. 'keep', now + (i.state == 'dead' and KEEP_DEAD or number(i.keep) or KEEP_FINISHED), id)
  end
end

-- Whether an entry of a list leads to what the list is of.
local HOLDS = {
  x = function(i, state, name) return i.state == state and i.name == name end,
  y = function(i, state, group) return i.state == state and i.group == group end,
  s = function(i, state, subject) return i.state == state and (i.subject == subject or i.person == subject) end,
  q = function(i, group) return i.state == 'queued' and i.group == group end,
  runs = function(i, session) return i.state == 'running' and i.session == session end,
}

-- A part of a list. Answers whether there is more of it.
local function audit_list(key, kind, rest)
  local scan, remove, pair = 'ZSCAN', 'ZREM', 2
  if kind == 'runs' then scan, remove, pair = 'SSCAN', 'SREM', 1 end
  local answer = call(scan, key, call('HGET', P .. 'audit', key) or '0', 'COUNT', count)
  if answer[1] == '0' then call('HDEL', P .. 'audit', key) else call('HSET', P .. 'audit', key, answer[1]) end
  left = left - #answer[2] / pair
  local one, two = rest, nil
  if kind == 'x' or kind == 'y' or kind == 's' then one, two = string.match(rest, '^(%a+):(.*)$') end
  for n = 1, #answer[2], pair do
    local id = answer[2][n]
    local i = read(id)
    local damaged = i and damage_of(i)
    if not damaged and not (i and HOLDS[kind](i, one, two)) and fault(id, 'an entry of ' .. kind .. ' leads to nothing') then
      call(remove, key, id)
    end
  end
  if kind == 'q' or kind == 'y' then touched[kind == 'q' and rest or two] = true end
  return answer[1] ~= '0'
end

local function audit_key(key)
  local kind, rest = string.match(string.sub(key, #P + 1), '^(%a+):(.*)$')
  if kind == 'i' then
    left = left - 4
    audit_instance(rest)
  elseif HOLDS[kind] then
    return audit_list(key, kind, rest)
  elseif kind == 'damaged' and cursor ~= '' then -- news for people who ask, and not each time
    fault(rest, 'something lay there that is not of pijobs; it is kept as damaged:' .. rest .. ' for a while')
  end
end

-- Go through keys as long as there is time; those that are left come first the next time.
local function audit_keys(keys)
  local todo = {}
  for _, key in ipairs(keys) do
    if left <= 0 or audit_key(key) then todo[#todo + 1] = key end
  end
  if todo[1] then call('HSET', P .. 'audit', 'todo', cjson.encode(todo)) else call('HDEL', P .. 'audit', 'todo') end
  return todo[1]
end

local at = cursor == '' and (call('HGET', P .. 'audit', 'cursor') or '0') or cursor
local todo = call('HGET', P .. 'audit', 'todo')
todo = audit_keys(todo and cjson.decode(todo) or {})
if not todo and at ~= 'todo' then
  local answer = call('SCAN', at, 'MATCH', P .. '*', 'COUNT', count)
  todo, at = audit_keys(answer[2]), answer[1]
  if at == '0' then at = 'todo' end
end
if at == 'todo' and not todo then at = 'end' end
if cursor == '' then call('HSET', P .. 'audit', 'cursor', at == 'end' and '0' or at) end
settle()
wake_for_the_rest()
return {now, at, ended, faults}
