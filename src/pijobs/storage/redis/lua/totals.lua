-- Add to totals; a new name is taken only while there is room for it, and those left out are counted.
-- Those of a period go when nobody looks at them any more.
local key, most, left_out = P .. 'totals' .. ARGV[3], tonumber(ARGV[1]), 0
local room = most - call('HLEN', key)
needs_no_memory()
for n = 5, #ARGV, 2 do
  if room > 0 or call('HEXISTS', key, ARGV[n]) == 1 then
    local answer = redis.pcall('HINCRBYFLOAT', key, ARGV[n], ARGV[n + 1])
    -- What is no number any more begins anew.
    if type(answer) == 'table' and answer.err then call('HSET', key, ARGV[n], ARGV[n + 1]) end
    room = most - call('HLEN', key)
  else
    left_out = left_out + 1
  end
end
if left_out > 0 then call('HINCRBYFLOAT', key, ARGV[2], left_out) end
if ARGV[4] ~= '' then call('PEXPIRE', key, ARGV[4]) end
return {now}
