-- End leases, promote what has become due, lease.
local session, stamp, want, floor = ARGV[1], ARGV[2], tonumber(ARGV[3]), number(ARGV[4])
local lost, leases = {}, {}

local function carry_out(n)
  local id, token, state, counted, due, reason, error, entry, envelope, body = unpack(ARGV, n, n + 9)
  local i = load(id)
  if not i or i.state ~= 'running' or i.token ~= token then
    lost[#lost + 1] = id
    return
  end
  stop_running(i)
  local fields = {'error', error}
  if counted == '1' then
    fields[#fields + 1], fields[#fields + 2] = 'attempts', i.attempts + 1
  end
  if entry ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'history', with_entry(i, entry)
  end
  if body ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'body', body
    i.has_result = true
    if envelope ~= '' then fields[#fields + 1], fields[#fields + 2] = 'envelope', envelope end
  end
  due = number(due)
  if counted ~= '1' and due and not ENDED[state] then
    -- Remember since when it makes no progress.
    call('HSETNX', P .. 'i:' .. id, 'held', now)
  elseif i.held ~= '' then
    call('HDEL', P .. 'i:' .. id, 'held')
  end
  if ENDED[state] then
    finish(i, state, reason, unpack(fields))
    return
  end
  call('HSET', P .. 'i:' .. id, unpack(fields))
  if state == 'queued' then
    reason = requeue(i, due or tonumber(i.due), reason, ended)
  else
    reason = wait_again(i, 'scheduled', due or now, reason, ended)
  end
  if i.state == 'cancelled' then
    tell(ended, i, reason)
  elseif i.state == 'scheduled' then
    write_down()
    if call('ZRANGE', P .. 'later', 0, 0)[1] == 'i:' .. id then
      wake(i.priority, call('HGET', P .. 'meta', 'floors') or '')
    end
  end
end

-- The time of an entry of later has come.
local function promote_entry(entry)
  local kind, name = string.match(entry, '^(.):(.*)$')
  if kind == 'g' then
    touched[name] = true
    return
  end
  local i = load(name)
  if not waits(i) then return end
  if i.state == 'scheduled' then
    leave(i)
    enter(i, 'queued', place_of(i.due))
    call('HSET', P .. 'i:' .. i.id, 'state', 'queued')
  end
  line_up(i, now)
end

local function promote_from(list, kind, most)
  local names = call('ZRANGEBYSCORE', list, '-inf', now, 'LIMIT', 0, most)
  if not names[1] then return 0 end
  local entries = {}
  for n, name in ipairs(names) do entries[n] = kind .. name end
  call('ZREM', list, unpack(names))
  call('ZREM', P .. 'later', unpack(entries))
  for _, entry in ipairs(entries) do promote_entry(entry) end
  return #names
end

-- Up to so many groups, and instances by priority: what is urgent does not wait behind many that became due before it.
local function promote()
  if not call('ZRANGEBYSCORE', P .. 'later', '-inf', now, 'LIMIT', 0, 1)[1] then return end
  promote_from(P .. 'later:groups', 'g:', PROMOTE)
  local lanes, left = call('ZRANGEBYSCORE', P .. 'lanes', '-inf', now), PROMOTE
  table.sort(lanes, function(a, b) return tonumber(a) > tonumber(b) end)
  for _, lane in ipairs(lanes) do
    if left == 0 then break end
    local list = P .. 'later:' .. lane
    left = left - promote_from(list, 'i:', left)
    local first = call('ZRANGE', list, 0, 0, 'WITHSCORES')[2]
    if first then call('ZADD', P .. 'lanes', first, lane) else call('ZREM', P .. 'lanes', lane) end
  end
  -- What a worker of release 0.1.0 scheduled is in no lane.
  promote_from(P .. 'later', '', math.max(left, 1))
end

local LEASE = {'state', 'name', 'envelope', 'body', 'group', 'priority', 'attempts', 'crashes', 'held', 'due',
  'deadline', 'subject', 'key', 'seq', 'created', 'keep', 'history', 'person'}

-- Lease what stands in the list of a group.
local function lease(id, group)
  local v = call('HMGET', P .. 'i:' .. id, unpack(LEASE))
  local i = {id = id, state = v[1] or '', name = v[2] or '', group = v[5] or '', priority = v[6] or '',
    attempts = v[7] or '', crashes = v[8] or '', held = v[9] or '', due = v[10] or '', deadline = v[11] or '',
    subject = v[12] or '', key = v[13] or '', seq = v[14] or '', created = v[15] or '', keep = v[16] or '',
    history = v[17] or '', person = v[18] or ''}
  local damaged = damage_of(i)
  if damaged then
    i = read(id)
    if i and not is_text(i.group) then i.group = group end
    if i then park(i, damaged) end
    return false
  end
  if i.state ~= 'queued' then return false end
  i.seq = tonumber(i.seq)
  if i.group ~= group then
    i.priority = tonumber(i.priority)
    line_up(i, now)
    return false
  end
  if is_overdue(i) then
    i = load(id)
    end_waiting(i, 'expired', 'the deadline passed while it waited')
    tell(ended, i, 'the deadline passed while it waited')
    return false
  end
  stop_waiting(i)
  enter(i, 'running', i.seq)
  local token = stamp .. '-' .. (#leases / 11)
  call('HSET', P .. 'i:' .. id, 'state', 'running', 'token', token, 'session', session, 'started', now)
  for _, value in ipairs({id, token, v[2], v[3] or '', v[4] or '', v[5], v[6], v[7] or 0, v[8] or 0, v[9] or '', v[10]}) do
    leases[#leases + 1] = value
  end
  return true
end

-- The next ids of the best group that may run, no further than the head of the second best.
local function best()
  local heads = call('ZRANGE', P .. 'ready', 0, 1, 'WITHSCORES')
  if not heads[1] then return nil end
  local last = heads[4] or '+inf'
  if floor then
    local lowest = (1 - floor) * PRIORITY - 1
    if tonumber(heads[2]) > lowest then return nil end
    if not heads[4] or tonumber(heads[4]) > lowest then last = lowest end
  end
  local most = math.min(want, room_of(heads[1]) or want, HOUSEKEEPING)
  return heads[1], call('ZRANGEBYSCORE', P .. 'q:' .. heads[1], '-inf', last, 'LIMIT', 0, most)
end

needs_no_memory()
for n = 5, #ARGV, 10 do carry_out(n) end
if want > 0 then promote() end
write_down()
settle()

local meta = call('HMGET', P .. 'meta', 'paused', 'floors')
local is_live = false
if want > 0 then
  local til = call('ZSCORE', P .. 'live', session)
  is_live = til and tonumber(til) >= now
  if floor and not string.find(' ' .. (meta[2] or '') .. ' ', ' ' .. ARGV[4] .. ' ', 1, true) then
    call('HSET', P .. 'meta', 'floors', (meta[2] or '') .. ' ' .. ARGV[4])
  end
end
local taken, looked = {}, 0
while is_live and not meta[1] and want > 0 and looked < HOUSEKEEPING do
  local group, ids = best()
  if not group then break end
  if ids[1] then call('ZREM', P .. 'q:' .. group, unpack(ids)) end
  for _, id in ipairs(ids) do
    looked = looked + 1
    if lease(id, group) then
      taken[#taken + 1] = id
      want = want - 1
    end
  end
  touched[group] = true
  write_down()
  settle()
end
if taken[1] then call('SADD', P .. 'runs:' .. session, unpack(taken)) end
if want == 0 or is_live then wake_for_the_rest() end
local next_due = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
return {now, next_due or '', leases, lost, ended}
