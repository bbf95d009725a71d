-- How an instance goes from one state to another. Each arrow is here once.
local ENDED = {done = true, dead = true, expired = true, cancelled = true}
local FIELDS = {'state', 'token', 'name', 'group', 'seq', 'priority', 'attempts', 'crashes', 'deadline', 'subject',
  'key', 'due', 'keep', 'session', 'history', 'held', 'created', 'person'}
local places = 0
local ended = {} -- transitions that the caller is told of, though it did not ask for them
local release = function(key, id) call('SREM', key, id) end

-- The first write of whatever must go on when the memory of Redis is used up, so that workers can still empty a full
-- queue: a script that has written is not stopped, and a removal is allowed to write.
local function needs_no_memory()
  call('ZREM', P .. 'live', '')
end

local function is_whole(text) return string.find(text, '^%-?%d+$') and #text < 17 end
local function is_whole_or_none(text) return text == '' or is_whole(text) end

local function is_text(text)
  if text == '' or #text > 2048 then return false end
  if not string.find(text, '[\128-\255]') then return true end
  for _, letter in ipairs({'[\194-\223][\128-\191]', '[\224-\239][\128-\191][\128-\191]',
    '[\240-\244][\128-\191][\128-\191][\128-\191]'}) do
    text = string.gsub(text, letter, '')
  end
  return not string.find(text, '[\128-\255]')
end

local function is_list(text)
  if text == '' then return true end
  local ok, lines = pcall(cjson.decode, text)
  if not ok or type(lines) ~= 'table' then return false end
  for key, line in pairs(lines) do
    if type(key) ~= 'number' or type(line) ~= 'string' then return false end
  end
  return true
end

local STATES = {queued = true, scheduled = true, running = true, done = true, dead = true, expired = true,
  cancelled = true}
-- What must be true of the fields that decide where an instance goes.
local RULES = {state = function(text) return STATES[text] end, name = is_text, group = is_text, seq = is_whole,
  priority = is_whole, due = is_whole, created = is_whole, attempts = is_whole_or_none, crashes = is_whole_or_none,
  deadline = is_whole_or_none, keep = is_whole_or_none, held = is_whole_or_none, history = is_list}

-- Nearly always all fit, which two matches tell. No number is too long if all together are not.
local ALL_NUMBERS = '^%-?%d+,%-?%d+,%-?%d+,%-?%d+,%d*,%d*,%-?%d*,%d*,%d*$'
local function is_usual(i)
  local numbers = i.seq .. ',' .. i.priority .. ',' .. i.due .. ',' .. i.created .. ',' .. i.attempts .. ',' .. i.crashes
    .. ',' .. i.deadline .. ',' .. i.keep .. ',' .. i.held
  return #numbers < 100 and string.find(numbers, ALL_NUMBERS) and string.find(i.name .. ' ' .. i.group, '^[!-~]+ [!-~]+$')
    and #i.name + #i.group < 2048 and STATES[i.state] and (i.history == '' or is_list(i.history))
end

-- The first field that does not fit, or nil.
local function damage_of(i)
  if is_usual(i) then return nil end
  for field, fits in pairs(RULES) do
    if not fits(i[field]) then return field end
  end
end

-- The fields of an instance as they stand there; nil if there is none.
local function read(id)
  local values = call('HMGET', P .. 'i:' .. id, unpack(FIELDS))
  if not values[1] and call('EXISTS', P .. 'i:' .. id, P .. 'damaged:i:' .. id) == 0 then return nil end
  local i = {id = id}
  for n, field in ipairs(FIELDS) do i[field] = values[n] or '' end
  return i
end

local park -- below

-- An instance, if there is one that can be read. What can't be is parked, before anything else is written for it.
local function load(id)
  local i = read(id)
  if not i then return nil end
  local damaged = damage_of(i)
  if damaged then
    park(i, damaged)
    return nil
  end
  i.seq, i.priority, i.created = tonumber(i.seq), tonumber(i.priority), tonumber(i.created)
  i.attempts, i.crashes = number(i.attempts) or 0, number(i.crashes) or 0
  return i
end

local function leave(i)
  drop(P .. 'x:' .. i.state .. ':' .. i.name, i.id)
  drop(P .. 'y:' .. i.state .. ':' .. i.group, i.id)
  if i.subject ~= '' then drop(P .. 's:' .. i.state .. ':' .. i.subject, i.id) end
  if i.person ~= '' then drop(P .. 's:' .. i.state .. ':' .. i.person, i.id) end
end

-- The moment an instance stops waiting, whatever comes next.
local function stop_waiting(i)
  leave(i)
  if i.deadline ~= '' then drop(P .. 'deadline', i.id) end
  -- The instance remembers its key: it may come to wait again.
  if i.key ~= '' and call('HGET', P .. 'key', i.key) == i.id then call('HDEL', P .. 'key', i.key) end
end

local function stop_running(i)
  leave(i)
  release(P .. 'runs:' .. i.session, i.id)
  touched[i.group] = true
end

local function with_entry(i, entry)
  local lines = i.history ~= '' and cjson.decode(i.history) or {}
  lines[#lines + 1] = entry
  while #lines > MAX_HISTORY do table.remove(lines, 1) end
  return cjson.encode(lines)
end

-- The last arrow; the instance has left its old state already. Further fields of it may follow.
local function finish(i, state, reason, ...)
  places = places + 1
  enter(i, state, micros + places)
  local stays = state == 'dead' and KEEP_DEAD or number(i.keep) or KEEP_FINISHED
  put(P .. 'keep', now + stays, i.id)
  call('HSET', P .. 'i:' .. i.id, 'state', state, 'reason', reason, 'ended', now, ...)
  if state == 'dead' then
    call('HDEL', P .. 'i:' .. i.id, 'token', 'session')
    if i.deadline ~= '' then put(P .. 'deadline', i.deadline, i.id) end
  else
    call('HDEL', P .. 'i:' .. i.id, 'token', 'session', i.has_result and state == 'done' and 'token' or 'body')
  end
end

local function end_waiting(i, state, reason)
  stop_waiting(i)
  drop(P .. 'q:' .. i.group, i.id)
  unschedule(i)
  touched[i.group] = true
  finish(i, state, reason)
end

-- Tell the caller about a transition that it did not ask for.
local function tell(ended, i, reason)
  for _, value in ipairs({i.id, i.name, i.group, i.state, i.attempts, i.crashes, reason}) do
    ended[#ended + 1] = value
  end
end

-- Out of all lists that its fields may name; the audit finds it in others.
local function leave_all(i)
  for state in pairs(STATES) do
    for _, name in ipairs(call('SMEMBERS', P .. 'names')) do
      if call('ZREM', P .. 'x:' .. state .. ':' .. name, i.id) == 1 and not RULES.name(i.name) then i.name = name end
    end
    call('ZREM', P .. 'y:' .. state .. ':' .. i.group, i.id)
    call('ZREM', P .. 's:' .. state .. ':' .. i.subject, i.id)
    call('ZREM', P .. 's:' .. state .. ':' .. i.person, i.id)
  end
  call('ZREM', P .. 'q:' .. i.group, i.id)
  call('ZREM', P .. 'later', 'i:' .. i.id)
  call('ZREM', P .. 'later:' .. i.priority, i.id)
  call('ZREM', P .. 'deadline', i.id)
  call('SREM', P .. 'runs:' .. i.session, i.id)
  if i.key ~= '' and call('HGET', P .. 'key', i.key) == i.id then call('HDEL', P .. 'key', i.key) end
  touched[i.group] = true
end

-- What can't be read becomes a dead letter that can, and takes nothing else with it.
park = function(i, field)
  local found = string.gsub(string.sub(i[field], 1, 40), '[%c\128-\255]', '?')
  local reason = 'damaged: ' .. field .. (i[field] == '' and ' is missing' or ' is "' .. found .. '"')
  flush()
  leave_all(i)
  local gone = {'token', 'session'}
  for name, fits in pairs(RULES) do
    if not fits(i[name]) then
      i[name] = ({name = 'damaged.instance', group = i.name, seq = 0, priority = 0, created = now, due = now})[name] or ''
      if i[name] == '' then gone[#gone + 1] = name end
    end
  end
  if not is_text(i.group) then i.group = i.name end
  if i.subject ~= '' and not is_text(i.subject) then i.subject = '' end
  if i.person ~= '' and not is_text(i.person) then i.person = '' end
  i.attempts, i.crashes = number(i.attempts) or 0, number(i.crashes) or 0
  call('HDEL', P .. 'i:' .. i.id, unpack(gone))
  call('SADD', P .. 'names', i.name)
  finish(i, 'dead', reason, 'name', i.name, 'group', i.group, 'seq', i.seq, 'priority', i.priority, 'created',
    i.created, 'due', i.due, 'error', 'DecodeError')
  flush()
  tell(ended, i, reason)
end

local function is_overdue(i)
  return i.deadline ~= '' and tonumber(i.deadline) <= now
end

local function waits(i)
  return i and (i.state == 'queued' or i.state == 'scheduled')
end

-- Which of two instances is the newer call; of two at about the same time, the one that was stored later. A creation in the
-- future tells of a clock that was wrong.
local function is_newer(a, b)
  local of_a, of_b = a.created <= now + 1000 and a.created or 0, b.created <= now + 1000 and b.created or 0
  if math.abs(of_a - of_b) > SAME_TIME then return of_a > of_b end
  return a.seq > b.seq
end

-- Who waits with a key; what is past its deadline holds none.
local function holder_of(key, ended)
  local id = call('HGET', P .. 'key', key)
  local other = id and load(id)
  if waits(other) and is_overdue(other) then
    end_waiting(other, 'expired', 'the deadline passed while it waited')
    if ended then tell(ended, other, 'the deadline passed while it waited') end
    return nil
  end
  return waits(other) and other or nil
end

-- Of the instances with one key only the newest waits. Answers why this one may not, or nil after it took its key.
local function yield(i, ended)
  if i.key == '' then return nil end
  flush()
  local other = holder_of(i.key, ended)
  if other and other.id ~= i.id then
    if is_newer(other, i) then return 'superseded by ' .. other.id end
    end_waiting(other, 'cancelled', 'superseded by ' .. i.id)
    if ended then tell(ended, other, 'superseded by ' .. i.id) end
  end
  call('HSET', P .. 'key', i.key, i.id)
end

-- Whether a newer call with its key came while it ran, whatever became of that, unless that was cancelled: the later one by
-- the clocks of both servers, and the later one here. Answers the reason.
local function is_outdated(i)
  if i.key == '' then return nil end
  flush()
  local other = load(call('HGET', P .. 'newest', i.key) or '')
  if other and other.id ~= i.id and other.key == i.key and other.state ~= 'cancelled' and is_newer(other, i)
    and other.seq > i.seq then
    return 'superseded by ' .. other.id
  end
end

-- Back to waiting, from whatever state it has left already; cancelled if there is a newer one with its key. Answers the
-- reason that was noted.
local function wait_again(i, state, due, reason, ended)
  -- Without a list to tell it in, somebody wants it to run again, whatever became of a newer one.
  local superseded = (ended and is_outdated(i)) or yield(i, ended)
  if superseded then
    finish(i, 'cancelled', superseded)
    return superseded
  end
  start_waiting(i, state, due)
  call('HSET', P .. 'i:' .. i.id, 'state', state, 'reason', reason, 'due', due)
  call('HDEL', P .. 'i:' .. i.id, 'token', 'session')
  return reason
end

local function requeue(i, due, reason, ended)
  return wait_again(i, 'queued', due, reason, ended)
end

-- Its worker died: back to its old place, unless that happened too often, and nothing ran beside it that may have done it.
local function crash(i, ended, alone)
  local reason = 'its worker died (session ' .. i.session .. ')'
  local entry = '{"at": ' .. string.format('%.0f', now) .. ', "event": "crashed", "session": '
    .. cjson.encode(i.session) .. '}'
  stop_running(i)
  i.crashes = i.crashes + 1
  call('HSET', P .. 'i:' .. i.id, 'crashes', i.crashes, 'history', with_entry(i, entry))
  if is_overdue(i) then
    reason = 'the deadline passed when its worker had died'
    finish(i, 'expired', reason)
  elseif alone and i.crashes >= MAX_CRASHES then
    reason = 'took down its workers ' .. i.crashes .. ' times'
    finish(i, 'dead', reason)
  else
    reason = requeue(i, now, reason, ended)
  end
  tell(ended, i, reason)
end

-- A group is looked at again when its block ends.
local function wait_for_block(group, blocked)
  call('ZADD', P .. 'later', blocked, 'g:' .. group)
  call('ZADD', P .. 'later:groups', blocked, group)
end

-- What a group may do now: the room it has (nil: no limit, 0: nothing may start).
local function room_of(group)
  local g = call('HMGET', P .. 'g:' .. group, 'limit', 'blocked', 'paused')
  local blocked, limit = number(g[2]), number(g[1])
  if g[3] then return 0 end
  if blocked and blocked > now then
    wait_for_block(group, blocked)
    return 0
  end
  if limit then return math.max(0, limit - call('ZCARD', P .. 'y:running:' .. group)) end
end

-- Bring `ready` up to date with the groups that were touched.
local function settle()
  for group in pairs(touched) do
    local head = call('ZRANGE', P .. 'q:' .. group, 0, 0, 'WITHSCORES')
    if head[1] and room_of(group) ~= 0 then
      call('ZADD', P .. 'ready', head[2], group)
    else
      call('ZREM', P .. 'ready', group)
    end
  end
  touched = {}
end

-- The last act of all that may leave work behind.
local function wake_for_the_rest()
  local head = call('ZRANGE', P .. 'ready', 0, 0, 'WITHSCORES')
  if not head[1] then return end
  local meta = call('HMGET', P .. 'meta', 'paused', 'floors')
  if not meta[1] then wake(-math.floor(head[2] / PRIORITY), meta[2]) end
end

local function delete(i)
  leave(i)
  if i.key ~= '' and call('HGET', P .. 'newest', i.key) == i.id then call('HDEL', P .. 'newest', i.key) end
  drop(P .. 'keep', i.id)
  drop(P .. 'deadline', i.id)
  call('DEL', P .. 'i:' .. i.id)
end
