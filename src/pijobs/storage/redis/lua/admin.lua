-- What people do to one instance, and what its job tells of it. Answers with the state that was found, and whether that was the right one.
local action, id = ARGV[1], ARGV[2]
needs_no_memory()
local i = load(id)
if not i then return {now, ''} end
local found = i.state
local waits = found == 'queued' or found == 'scheduled'
if action == 'cancel' then
  if not waits then return {now, found, 'state'} end
  end_waiting(i, 'cancelled', ARGV[3])
elseif action == 'remove' then
  if not ENDED[found] then return {now, found, 'state'} end
  delete(i)
elseif action == 'progress' then
  if found ~= 'running' or i.token ~= ARGV[3] then return {now, found, 'lost'} end
  local lines = i.history ~= '' and cjson.decode(i.history) or {}
  if string.sub(lines[#lines] or '', 1, #ARGV[5]) == ARGV[5] then table.remove(lines) end
  i.history = #lines > 0 and cjson.encode(lines) or ''
  call('HSET', P .. 'i:' .. id, 'history', with_entry(i, ARGV[4]))
elseif action == 'reseal' then
  local old = call('HMGET', P .. 'i:' .. id, 'envelope', 'body')
  if found == 'running' or old[1] ~= ARGV[3] or old[2] ~= ARGV[4] then return {now, found, 'state'} end
  call('HSET', P .. 'i:' .. id, 'envelope', ARGV[5], 'body', ARGV[6])
else
  if found ~= 'dead' then return {now, found, 'state'} end
  if i.deadline ~= '' and tonumber(i.deadline) <= now then return {now, found, 'deadline'} end
  if call('HEXISTS', P .. 'i:' .. id, 'body') == 0 then return {now, found, 'body'} end
  leave(i)
  call('ZREM', P .. 'keep', id)
  drop(P .. 'deadline', id)
  i.attempts, i.crashes = 0, 0
  -- It may have been forgotten since.
  call('ZADD', P .. 'groups', 0, i.group)
  call('HSET', P .. 'i:' .. id, 'attempts', 0, 'crashes', 0)
  call('HDEL', P .. 'i:' .. id, 'error', 'ended', 'held')
  requeue(i, now, '')
end
settle()
wake_for_the_rest()
return {now, found, 'ok'}
