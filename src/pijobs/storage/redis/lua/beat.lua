-- A sign of life, then housekeeping.
local session, lease, doubtful = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ended = {}
needs_no_memory()

local alive = call('ZSCORE', P .. 'live', session)
if alive then
  call('ZADD', P .. 'live', now + lease, session)
  call('HSET', P .. 'session:' .. session, 'seen', now)
  call('HSET', P .. 'meta', 'seen', now)
end

-- Leases that the session was never told of, by the stamp of the step that took them.
if doubtful ~= '' then
  for _, id in ipairs(call('SMEMBERS', P .. 'runs:' .. session)) do
    local i = load(id)
    if i and i.state == 'running' and i.session == session
      and string.find(doubtful, string.match(i.token, '^%x+'), 1, true) then
      stop_running(i)
      requeue(i, tonumber(i.due), 'its lease got lost on the way', ended)
    end
  end
end

for n = 4, #ARGV, 2 do
  local i = load(ARGV[n])
  if i and i.state == 'running' and i.token == ARGV[n + 1] and i.session == session then crash(i, ended) end
end

local left = HOUSEKEEPING
for _, dead in ipairs(call('ZRANGEBYSCORE', P .. 'live', '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, left)) do
  for _, id in ipairs(call('SRANDMEMBER', P .. 'runs:' .. dead, left)) do
    left = left - 1
    local i = load(id)
    if i and i.state == 'running' and i.session == dead then
      crash(i, ended)
    else
      call('SREM', P .. 'runs:' .. dead, id)
    end
  end
  if left == 0 then break end
  call('ZREM', P .. 'live', dead)
  call('DEL', P .. 'session:' .. dead, P .. 'runs:' .. dead)
end

for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'deadline', '-inf', now, 'LIMIT', 0, HOUSEKEEPING)) do
  local i = load(id)
  if i and (i.state == 'queued' or i.state == 'scheduled') then
    end_waiting(i, 'expired', 'deadline passed')
    tell(ended, i, 'deadline passed')
  else
    call('ZREM', P .. 'deadline', id)
    if i then call('HDEL', P .. 'i:' .. id, 'body') end
  end
end

for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'keep', '-inf', now, 'LIMIT', 0, HOUSEKEEPING)) do
  local i = load(id)
  if i then delete(i) else call('ZREM', P .. 'keep', id) end
end

-- At most so many finished ones of a job; of the three lists always the one with the oldest head is shortened.
local function shorten(name)
  local heads, total = {}, 0
  for _, state in ipairs({'done', 'expired', 'cancelled'}) do
    local list = P .. 'x:' .. state .. ':' .. name
    total = total + call('ZCARD', list)
    heads[list] = call('ZRANGE', list, 0, 0, 'WITHSCORES')
  end
  for _ = 1, math.min(total - FINISHED_MAX, HOUSEKEEPING) do
    local oldest
    for list, head in pairs(heads) do
      if head[1] and (not oldest or tonumber(head[2]) < tonumber(heads[oldest][2])) then oldest = list end
    end
    local i = load(heads[oldest][1])
    if i then delete(i) else call('ZREM', oldest, heads[oldest][1]) end
    heads[oldest] = call('ZRANGE', oldest, 0, 0, 'WITHSCORES')
  end
end
for _, name in ipairs(call('SMEMBERS', P .. 'names')) do shorten(name) end

-- A different part of the groups each time.
local function forget_unused_groups()
  local from = call('HGET', P .. 'meta', 'swept') or '-'
  local groups = call('ZRANGEBYLEX', P .. 'groups', from, '+', 'LIMIT', 0, HOUSEKEEPING)
  for _, group in ipairs(groups) do
    local g = call('HMGET', P .. 'g:' .. group, 'blocked', 'paused', 'policy')
    if not g[2] and (number(g[1]) or 0) <= now and (not g[3] or g[3] == '')
      and call('EXISTS', P .. 'y:queued:' .. group, P .. 'y:scheduled:' .. group, P .. 'y:running:' .. group) == 0 then
      call('DEL', P .. 'g:' .. group)
      call('ZREM', P .. 'groups', group)
    end
  end
  if #groups == HOUSEKEEPING then
    call('HSET', P .. 'meta', 'swept', '(' .. groups[#groups])
  elseif from ~= '-' then
    call('HDEL', P .. 'meta', 'swept')
  end
end
forget_unused_groups()

settle()
wake_for_the_rest()
return {now, alive and 1 or 0, ended}
