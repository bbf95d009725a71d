-- What an enqueue does when it is not the usual one; enqueue.lua comes before the arrows, and this behind them.
if cron ~= '' then
  local name = batch[1].name
  local last = call('HGET', P .. 'cron', name)
  if number(last) and tonumber(last) >= tonumber(cron) and tonumber(last) <= now + TAKEN_AHEAD then return {now, 'taken'} end
  call('HSET', P .. 'cron', name, cron)
end

-- A conflict refuses all of them, so it is looked for before anything is stored.
local claimed = {}
for _, i in ipairs(batch) do
  if i.key ~= '' and not i.present then
    local other = i.on_conflict == 'error' and (claimed[i.key] or holder_of(i.key))
    if other then
      settle()
      return {now, {'conflict', other.id}}
    end
    claimed[i.key] = i
  end
end

-- An instance that has just been stored takes its key; answers what became of it.
local function claim(i, other)
  if i.key ~= '' then
    call('HSET', P .. 'i:' .. i.id, 'key', i.key)
    local superseded = yield(i)
    if superseded then
      end_waiting(i, 'cancelled', superseded)
      return {'new', i.state, i.id, ''}
    end
    call('HSET', P .. 'newest', i.key, i.id)
  end
  if i.state == 'queued' or call('ZRANGE', P .. 'later', 0, 0)[1] == 'i:' .. i.id then must_wake(i) end
  if other then return {'new', i.state, i.id, other.id} end
  return i.state == 'queued' and 1 or 2
end

local answer = {now}
for n, i in ipairs(batch) do
  local other = i.key ~= '' and not i.present and holder_of(i.key)
  if i.present then
    answer[n + 1] = {'there', i.present, i.id}
  elseif other and i.on_conflict == 'keep' then
    answer[n + 1] = {'there', other.state, other.id}
  else
    if not i.stored then store(i) end
    if failure then return failure end
    answer[n + 1] = claim(i, other)
  end
end
settle()
if urgent then wake(urgent, call('HGET', P .. 'meta', 'floors')) end
return answer
