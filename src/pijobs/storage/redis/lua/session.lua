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
-- Its lease is over, whoever gives back the rest of what it holds.
if call('ZSCORE', P .. 'live', session) then call('ZADD', P .. 'live', 0, session) end
local _, all = empty(session, RECOVERED, function(i, alone)
  if action == 'crashed' then
    crash(i, ended, alone)
  else
    stop_running(i)
    tell(ended, i, requeue(i, now, 'given back at shutdown', ended))
  end
end)
settle()
wake_for_the_rest()
return {now, ended, all and 0 or 1}
