-- One event in a sliding window.
local key, limit, per = P .. 'count:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
call('ZREMRANGEBYSCORE', key, '-inf', micros - per * 1000)
local used = call('ZCARD', key)
if used < limit then
  call('ZADD', key, micros, string.format('%.0f-%d', micros, used))
  call('PEXPIRE', key, per)
  return {now, ''}
end
local first = call('ZRANGE', key, used - limit, used - limit, 'WITHSCORES')[2]
return {now, math.ceil((tonumber(first or micros) / 1000) + per)}
