-- A new instance; for a periodic job (cron) only if its due time was not taken yet.
local id, name, envelope, body, group, priority, created, deadline, due, key, subject, limit, keep, on_conflict,
  within, cron = unpack(ARGV)
if cron ~= '' then
  local last = call('HGET', P .. 'cron', name)
  if last and tonumber(last) >= tonumber(cron) then return {now, 'taken'} end
end
local state = call('HGET', P .. 'i:' .. id, 'state')
if state then
  if cron ~= '' then call('HSET', P .. 'cron', name, cron) end
  return {now, 'there', state, id}
end
local meta = call('HMGET', P .. 'meta', 'seen', 'floors')
if within ~= '' and (not meta[1] or tonumber(meta[1]) < now - tonumber(within)) then return {now, 'no worker'} end
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

local i = {id = id, name = name, group = group, priority = tonumber(priority), deadline = deadline, subject = subject,
  key = key}
i.seq = call('HINCRBY', P .. 'meta', 'seq', 1)
due = math.max(number(due) or now, now)
state = due > now and 'scheduled' or 'queued'
call('HSET', P .. 'i:' .. id, 'state', state, 'name', name, 'envelope', envelope, 'body', body, 'group', group,
  'priority', priority, 'created', created, 'due', due, 'seq', i.seq, 'deadline', deadline, 'subject', subject,
  'keep', keep)
if key ~= '' then
  call('HSET', P .. 'i:' .. id, 'key', key)
  call('HSET', P .. 'key', key, id)
end
if cron ~= '' then call('HSET', P .. 'cron', name, cron) end

local g = call('HMGET', P .. 'g:' .. group, 'limit', 'blocked', 'paused', 'name:' .. name)
if not g[1] then
  call('HSET', P .. 'g:' .. group, 'limit', limit)
  call('ZADD', P .. 'groups', 0, group)
  g[1] = limit
end
if not g[4] then
  call('HSET', P .. 'g:' .. group, 'name:' .. name, 1)
  call('SADD', P .. 'names', name)
end

start_waiting(i, state, due)
if replaced == '' and state == 'queued' and g[1] == '' and (g[2] or '') == '' and not g[3] then
  -- The usual case, without asking again: the group may run, and at most its head is new.
  call('ZADD', P .. 'ready', 'LT', rank_of(i), group)
else
  settle()
end
if state == 'queued' or call('ZRANGE', P .. 'later', 0, 0)[1] == 'i:' .. id then wake(i.priority, meta[2]) end
-- The usual answer is short: a client takes its time to read a long one.
if replaced == '' then return {now, state == 'queued' and 1 or 2} end
return {now, 'new', state, id, replaced}
