-- A sign of life, and what dead sessions held. The rest of housekeeping is in tidy.lua.
local session, lease, unknowns = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
needs_no_memory()

keep_through_a_gap(lease)
local alive = call('ZSCORE', P .. 'live', session)
local before = alive and call('HGET', P .. 'session:' .. session, 'seen') or call('HGET', P .. 'meta', 'seen') or ''
if alive then
  call('ZADD', P .. 'live', now + lease, session)
  call('HSET', P .. 'session:' .. session, 'seen', now)
  call('HSET', P .. 'meta', 'seen', now)
end

-- First what the process does not run, then what it abandoned.
for n = 4, #ARGV, 2 do
  local i = load(ARGV[n])
  if i and i.state == 'running' and i.token == ARGV[n + 1] and i.session == session then
    if n < 4 + 2 * unknowns then
      stop_running(i)
      requeue(i, now, 'its worker was not told of the lease, or its end got lost', ended)
    else
      crash(i, ended, true)
    end
  end
end

local left, more = RECOVERED, false
for _, dead in ipairs(call('ZRANGEBYSCORE', P .. 'live', '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, left)) do
  local number, all = empty(dead, left, function(i, alone) crash(i, ended, alone) end)
  left = left - math.max(number, 1)
  more = not all or left < 2
  if more then break end
end

flush()
settle()
wake_for_the_rest()
local held = {}
for _, id in ipairs(call('SMEMBERS', P .. 'runs:' .. session)) do
  held[#held + 1], held[#held + 2] = id, call('HGET', P .. 'i:' .. id, 'token') or ''
end
return {now, alive and 1 or 0, ended, held, before, call('HGET', P .. 'meta', 'epoch') or '', more and 1 or 0}
