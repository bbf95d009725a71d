-- What an enqueue does when it is not the usual one; enqueue.lua comes before the arrows, and this behind them.
if failure then return failure end
if cron ~= '' then
  local last = call('HGET', P .. 'cron', name)
  if number(last) and tonumber(last) >= tonumber(cron) and tonumber(last) <= now + TAKEN_AHEAD then return {now, 'taken'} end
  call('HSET', P .. 'cron', name, cron)
end
if present then return {now, 'there', present, id} end

local other = key ~= '' and holder_of(key)
if other and on_conflict == 'keep' then return {now, 'there', other.state, other.id} end
if other and on_conflict == 'error' then return {now, 'conflict', other.id} end
if not stored then store() end
if failure then return failure end
if key ~= '' then
  call('HSET', P .. 'i:' .. id, 'key', key)
  local superseded = yield(i)
  if superseded then
    end_waiting(i, 'cancelled', superseded)
  else
    call('HSET', P .. 'newest', key, id)
  end
end
settle()
if i.state == 'cancelled' then return {now, 'new', i.state, id, ''} end
if state == 'queued' or call('ZRANGE', P .. 'later', 0, 0)[1] == 'i:' .. id then
  wake(i.priority, call('HGET', P .. 'meta', 'floors'))
end
if not other then return {now, state == 'queued' and 1 or 2} end
return {now, 'new', state, id, other.id}
