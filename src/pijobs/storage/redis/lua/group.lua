-- Pause and resume the queue or a group; write what the policy of a group decided.
local action, group = ARGV[1], ARGV[2]
local key = P .. 'g:' .. group
local function touch()
  call('ZADD', P .. 'groups', 0, group)
  touched[group] = true
end

local done = 1
needs_no_memory()
if action == 'pause all' then
  call('HSET', P .. 'meta', 'paused', ARGV[3])
elseif action == 'resume all' then
  call('HDEL', P .. 'meta', 'paused')
elseif action == 'pause' then
  call('HSET', key, 'paused', ARGV[3])
  touch()
elseif action == 'resume' then
  call('HDEL', key, 'paused')
  if call('EXISTS', key) == 1 then touch() end
elseif action == 'hurry' then
  -- Those behind a place; answers how many were hurried, and the last place that was looked at ('' behind the last one).
  local list, last = P .. 'y:scheduled:' .. group, ''
  local flat = call('ZRANGEBYSCORE', list, '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, HOUSEKEEPING)
  done = 0
  for n = 1, #flat, 2 do
    local i = load(flat[n])
    if i and i.state == 'scheduled' and tonumber(i.due) > now and call('HEXISTS', P .. 'i:' .. i.id, 'started') == 1 then
      unschedule(i)
      schedule(i, now)
      call('HSET', P .. 'i:' .. i.id, 'due', now)
      wake(i.priority, call('HGET', P .. 'meta', 'floors'))
      done = done + 1
    end
    last = flat[n + 1]
  end
  settle()
  return {now, done, #flat == 2 * HOUSEKEEPING and last or ''}
elseif (number(call('HGET', key, 'version')) or 0) == tonumber(ARGV[3]) then
  call('HSET', key, 'version', tonumber(ARGV[3]) + 1, 'limit', ARGV[4], 'blocked', ARGV[5], 'policy', ARGV[6],
    'keep', now + tonumber(ARGV[7]))
  call('ZREM', P .. 'later', 'g:' .. group)
  call('ZREM', P .. 'later:groups', group)
  if ARGV[5] ~= '' and tonumber(ARGV[5]) > now then wait_for_block(group, ARGV[5]) end
  touch()
else
  done = 0
end
settle()
wake_for_the_rest()
return {now, done}
