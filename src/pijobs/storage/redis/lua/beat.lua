-- A sign of life, and what dead sessions held. The rest of housekeeping is in tidy.lua.
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

settle()
wake_for_the_rest()
return {now, alive and 1 or 0, ended}
