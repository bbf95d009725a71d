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
