-- What an enqueue does when it is not the usual one; enqueue.lua comes before the arrows, and this behind them.
if cron ~= '' then
  local last = call('HGET', P .. 'cron', name)
  if last and tonumber(last) >= tonumber(cron) then return {now, 'taken'} end
  call('HSET', P .. 'cron', name, cron)
end
if present then return {now, 'there', present, id} end

local holder = key ~= '' and call('HGET', P .. 'key', key)
local replaced = ''
if holder then
  local other = load(holder)
  if other and on_conflict == 'keep' then return {now, 'there', other.state, holder} end
  if other and on_conflict == 'error' then return {now, 'conflict', holder} end
  if other then
    end_waiting(other, 'cancelled', 'superseded by ' .. id)
    replaced = holder
  end
end
if not stored then store() end
if key ~= '' then
  call('HSET', P .. 'i:' .. id, 'key', key)
  call('HSET', P .. 'key', key, id)
end
settle()
if state == 'queued' or call('ZRANGE', P .. 'later', 0, 0)[1] == 'i:' .. id then
  wake(i.priority, call('HGET', P .. 'meta', 'floors'))
end
if replaced == '' then return {now, state == 'queued' and 1 or 2} end
return {now, 'new', state, id, replaced}
