-- Open or close a session, or change what it told.
local action, session = ARGV[1], ARGV[2]
needs_no_memory()
if action == 'lost' then
  call('HSET', P .. 'meta', 'lost', session, 'lost_at', now)
  return {now, ended}
elseif action == 'open' then
  keep_through_a_gap(tonumber(ARGV[3]))
  call('HSETNX', P .. 'meta', 'epoch', micros)
  call('ZADD', P .. 'live', now + tonumber(ARGV[3]), session)
  call('HSET', P .. 'session:' .. session, 'told', ARGV[4], 'seen', now)
  call('HSET', P .. 'meta', 'seen', now)
  return {now, ended}
end
if action == 'retell' then
  if call('EXISTS', P .. 'session:' .. session) == 1 then call('HSET', P .. 'session:' .. session, 'told', ARGV[3]) end
  return {now, ended}
end
call('ZREM', P .. 'live', session)
local alone = call('SCARD', P .. 'runs:' .. session) == 1
for _, id in ipairs(call('SMEMBERS', P .. 'runs:' .. session)) do
  local i = load(id)
  if i and i.state == 'running' and i.session == session then
    if action == 'crashed' then
      crash(i, ended, alone)
    else
      stop_running(i)
      tell(ended, i, requeue(i, tonumber(i.due), 'given back', ended))
    end
  end
end
call('DEL', P .. 'session:' .. session, P .. 'runs:' .. session)
settle()
wake_for_the_rest()
return {now, ended}
