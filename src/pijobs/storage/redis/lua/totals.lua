-- Add to totals; a new name is taken only while there is room for it.
local key, room = P .. 'totals', tonumber(ARGV[1]) - call('HLEN', P .. 'totals')
needs_no_memory()
for n = 2, #ARGV, 2 do
  if room > 0 or call('HEXISTS', key, ARGV[n]) == 1 then
    call('HINCRBYFLOAT', key, ARGV[n], ARGV[n + 1])
    room = tonumber(ARGV[1]) - call('HLEN', key)
  end
end
return {now}
