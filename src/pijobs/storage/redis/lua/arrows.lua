-- How an instance goes from one state to another. Each arrow is here once.
local ENDED = {done = true, dead = true, expired = true, cancelled = true}
local FIELDS = {'state', 'token', 'name', 'group', 'seq', 'priority', 'attempts', 'crashes', 'deadline', 'subject',
  'key', 'due', 'keep', 'session', 'history', 'held', 'created'}
local places = 0
local release = function(key, id) call('SREM', key, id) end

-- The first write of whatever must go on when the memory of Redis is used up, so that workers can still empty a full
-- queue: a script that has written is not stopped, and a removal is allowed to write.
local function needs_no_memory()
  call('ZREM', P .. 'live', '')
end

local function load(id)
  local values = call('HMGET', P .. 'i:' .. id, unpack(FIELDS))
  if not values[1] then return nil end
  local i = {id = id}
  for n, field in ipairs(FIELDS) do i[field] = values[n] or '' end
  i.seq, i.priority, i.created = tonumber(i.seq), tonumber(i.priority), number(i.created) or 0
  i.attempts, i.crashes = number(i.attempts) or 0, number(i.crashes) or 0
  return i
end

local function leave(i)
  drop(P .. 'x:' .. i.state .. ':' .. i.name, i.id)
  drop(P .. 'y:' .. i.state .. ':' .. i.group, i.id)
  if i.subject ~= '' then drop(P .. 's:' .. i.state .. ':' .. i.subject, i.id) end
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
    call('HDEL', P .. 'i:' .. i.id, 'token', 'session', 'body')
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

local function is_overdue(i)
  return i.deadline ~= '' and tonumber(i.deadline) <= now
end

local function waits(i)
  return i and (i.state == 'queued' or i.state == 'scheduled')
end

-- Which of two instances is the newer call. A creation in the future tells of a clock that was wrong.
local function is_newer(a, b)
  local of_a, of_b = a.created <= now + 1000 and a.created or 0, b.created <= now + 1000 and b.created or 0
  return of_a > of_b or (of_a == of_b and a.seq > b.seq)
end

-- Who waits with a key; what is past its deadline holds none.
local function holder_of(key, ended)
  local other = load(call('HGET', P .. 'key', key) or '')
  if waits(other) and is_overdue(other) then
    end_waiting(other, 'expired', 'deadline passed')
    if ended then tell(ended, other, 'deadline passed') end
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

-- Back to waiting, from whatever state it has left already; cancelled if a newer one with its key waits. Answers the
-- reason that was noted.
local function wait_again(i, state, due, reason, ended)
  local superseded = yield(i, ended)
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
  local reason = 'worker ' .. i.session .. ' died'
  local entry = '{"at": ' .. string.format('%.0f', now) .. ', "event": "crashed", "session": '
    .. cjson.encode(i.session) .. '}'
  stop_running(i)
  i.crashes = i.crashes + 1
  call('HSET', P .. 'i:' .. i.id, 'crashes', i.crashes, 'history', with_entry(i, entry))
  if alone and i.crashes >= MAX_CRASHES then
    reason = 'took down its workers ' .. i.crashes .. ' times'
    finish(i, 'dead', reason)
  elseif i.deadline ~= '' and tonumber(i.deadline) <= now then
    reason = 'deadline passed'
    finish(i, 'expired', reason)
  else
    reason = requeue(i, tonumber(i.due), reason, ended)
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
  drop(P .. 'keep', i.id)
  drop(P .. 'deadline', i.id)
  call('DEL', P .. 'i:' .. i.id)
end
