-- In front of every script: how an instance goes from one state to another. Each arrow is here once.
--
-- P is the prefix of all keys. It is the one key that is declared: all others begin with it, so they share its hash
-- slot, and which they are shows only while a script runs (the head of a group, the ids of a dead session).
--
--   i:<id>               hash   one instance
--   x:<state>:<name>     zset   id -> place; y:<state>:<group> and s:<state>:<subject> likewise
--   q:<group>            zset   id -> rank, what may be leased
--   due:<name>           zset   id -> due, the queued ones
--   ready                zset   group -> rank of its head, groups that may run
--   later                zset   "i:<id>" or "g:<group>" -> due
--   deadline             zset   id -> deadline, waiting ones and dead letters with a body
--   keep                 zset   id -> when an ended record goes
--   key, cron, meta      hash   key -> id; job -> last due time; counters and switches of the queue
--   g:<group>, groups, names    groups, and the names of all groups and jobs
--   live, session:<id>, runs:<id>   sessions: end of the lease, what they told, the ids they run
--   wake, wake:<floor>   list   what idle workers block on
--   totals               hash   name -> sum of what was added
--
-- A place is the sequence number of the enqueue while an instance waits or runs, and the time of its end in
-- microseconds afterwards: both are exact in a double, and newest first is one direction for all of them.
local P = KEYS[1]
local call = redis.call
local time = call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local ENDED = {done = true, dead = true, expired = true, cancelled = true}
local PRIORITY = 1099511627776 -- 2^40 sequence numbers per priority
local FIELDS = {'state', 'token', 'name', 'group', 'seq', 'priority', 'attempts', 'crashes', 'deadline', 'subject',
  'key', 'due', 'keep', 'session', 'history'}
local touched = {} -- groups whose head or room may have changed
local places = 0

-- The first write of whatever must go on when the memory of Redis is used up, so that workers can still empty a full
-- queue: a script that has written is not stopped, and a removal is allowed to write.
local function needs_no_memory()
  call('ZREM', P .. 'live', '')
end

local function number(text)
  if text and text ~= '' then return tonumber(text) end
end

local function rank_of(i)
  return i.seq - i.priority * PRIORITY
end

local function load(id)
  local values = call('HMGET', P .. 'i:' .. id, unpack(FIELDS))
  if not values[1] then return nil end
  local i = {id = id}
  for n, field in ipairs(FIELDS) do i[field] = values[n] or '' end
  i.seq, i.priority = tonumber(i.seq), tonumber(i.priority)
  i.attempts, i.crashes = number(i.attempts) or 0, number(i.crashes) or 0
  return i
end

local function enter(i, state, place)
  i.state = state
  call('ZADD', P .. 'x:' .. state .. ':' .. i.name, place, i.id)
  call('ZADD', P .. 'y:' .. state .. ':' .. i.group, place, i.id)
  if i.subject ~= '' then call('ZADD', P .. 's:' .. state .. ':' .. i.subject, place, i.id) end
end

local function leave(i)
  call('ZREM', P .. 'x:' .. i.state .. ':' .. i.name, i.id)
  call('ZREM', P .. 'y:' .. i.state .. ':' .. i.group, i.id)
  if i.subject ~= '' then call('ZREM', P .. 's:' .. i.state .. ':' .. i.subject, i.id) end
end

-- The moment an instance stops waiting, whatever comes next.
local function stop_waiting(i)
  leave(i)
  if i.state == 'queued' then call('ZREM', P .. 'due:' .. i.name, i.id) end
  if i.deadline ~= '' then call('ZREM', P .. 'deadline', i.id) end
  if i.key ~= '' then
    call('HDEL', P .. 'key', i.key)
    call('HDEL', P .. 'i:' .. i.id, 'key')
  end
end

-- Where an instance waits: with its group, or for its time.
local function line_up(i, due)
  if due > now then
    call('ZADD', P .. 'later', due, 'i:' .. i.id)
  else
    call('ZADD', P .. 'q:' .. i.group, rank_of(i), i.id)
    touched[i.group] = true
  end
end

local function start_waiting(i, state, due)
  enter(i, state, i.seq)
  if state == 'queued' then call('ZADD', P .. 'due:' .. i.name, due, i.id) end
  if i.deadline ~= '' then call('ZADD', P .. 'deadline', i.deadline, i.id) end
  -- What is scheduled goes through the promotion, even if its time has come already.
  if state == 'scheduled' then call('ZADD', P .. 'later', due, 'i:' .. i.id) else line_up(i, due) end
end

local function stop_running(i)
  leave(i)
  call('SREM', P .. 'runs:' .. i.session, i.id)
  touched[i.group] = true
end

local function with_entry(i, entry)
  local lines = i.history ~= '' and cjson.decode(i.history) or {}
  lines[#lines + 1] = entry
  while #lines > MAX_HISTORY do table.remove(lines, 1) end
  return cjson.encode(lines)
end

-- The last arrow; the instance has left its old state already.
local function finish(i, state, reason)
  places = places + 1
  enter(i, state, micros + places)
  local stays = state == 'dead' and KEEP_DEAD or number(i.keep) or KEEP_FINISHED
  call('ZADD', P .. 'keep', now + stays, i.id)
  call('HSET', P .. 'i:' .. i.id, 'state', state, 'reason', reason, 'ended', now)
  if state == 'dead' then
    call('HDEL', P .. 'i:' .. i.id, 'token', 'session')
    if i.deadline ~= '' then call('ZADD', P .. 'deadline', i.deadline, i.id) end
  else
    call('HDEL', P .. 'i:' .. i.id, 'token', 'session', 'body')
  end
end

local function end_waiting(i, state, reason)
  stop_waiting(i)
  call('ZREM', P .. 'q:' .. i.group, i.id)
  call('ZREM', P .. 'later', 'i:' .. i.id)
  touched[i.group] = true
  finish(i, state, reason)
end

local function requeue(i, due, reason)
  start_waiting(i, 'queued', due)
  call('HSET', P .. 'i:' .. i.id, 'state', 'queued', 'reason', reason, 'due', due)
  call('HDEL', P .. 'i:' .. i.id, 'token', 'session')
end

-- Tell the caller about a transition that it did not ask for.
local function tell(ended, i, reason)
  for _, value in ipairs({i.id, i.name, i.group, i.state, i.attempts, i.crashes, reason}) do
    ended[#ended + 1] = value
  end
end

-- Its worker died: back to its old place, unless that happened too often.
local function crash(i, ended)
  local reason = 'worker ' .. i.session .. ' died'
  local entry = '{"at": ' .. string.format('%.0f', now) .. ', "event": "crashed", "session": '
    .. cjson.encode(i.session) .. '}'
  stop_running(i)
  i.crashes = i.crashes + 1
  call('HSET', P .. 'i:' .. i.id, 'crashes', i.crashes, 'history', with_entry(i, entry))
  if i.crashes >= MAX_CRASHES then
    reason = 'took down its workers ' .. i.crashes .. ' times'
    finish(i, 'dead', reason)
  elseif i.deadline ~= '' and tonumber(i.deadline) <= now then
    reason = 'deadline passed'
    finish(i, 'expired', reason)
  else
    requeue(i, tonumber(i.due), reason)
  end
  tell(ended, i, reason)
end

-- What a group may do now: the room it has (nil: no limit, 0: nothing may start).
local function room_of(group)
  local g = call('HMGET', P .. 'g:' .. group, 'limit', 'blocked', 'paused')
  local blocked, limit = number(g[2]), number(g[1])
  if g[3] then return 0 end
  if blocked and blocked > now then
    call('ZADD', P .. 'later', blocked, 'g:' .. group)
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

-- One token at most lies in each list: whoever takes it and leaves work behind puts in the next one.
local function wake(priority, floors)
  if call('LLEN', P .. 'wake') == 0 then call('LPUSH', P .. 'wake', 1) end
  for floor in string.gmatch(floors or '', '[^ ]+') do
    local list = P .. 'wake:' .. floor
    if priority >= tonumber(floor) and call('LLEN', list) == 0 then call('LPUSH', list, 1) end
  end
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
  call('ZREM', P .. 'keep', i.id)
  call('ZREM', P .. 'deadline', i.id)
  call('DEL', P .. 'i:' .. i.id)
end
