-- Give up one of what waits of a job and is less urgent than what comes: of the lowest priority, the newest.
local name, lowest, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
needs_no_memory()
local chosen, newest
for _, state in ipairs({'queued', 'scheduled'}) do
  for _, id in ipairs(call('ZREVRANGEBYSCORE', P .. 'x:' .. state .. ':' .. name, '+inf', '-inf', 'LIMIT', 0, LOOKED_AT)) do
    local found = call('HMGET', P .. 'i:' .. id, 'priority', 'seq')
    local priority, seq = number(found[1]), number(found[2])
    if priority and seq and (priority < lowest or (chosen and priority == lowest and seq > newest)) then
      chosen, lowest, newest = id, priority, seq
    end
  end
end
local i = chosen and load(chosen)
if i and (i.state == 'queued' or i.state == 'scheduled') then
  end_waiting(i, 'cancelled', reason)
else
  chosen = nil
end
settle()
wake_for_the_rest()
return {now, chosen or ''}
