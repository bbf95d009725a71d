-- One slice of housekeeping: expire, remove, forget; up to so many of each kind, so that nobody waits for long. Answers
-- what ended, and whether there may be more to do.
local most = tonumber(ARGV[1])
local more = false
needs_no_memory()

-- Up to so many ids of a sorted set whose time has come.
local function come(list)
  local ids = call('ZRANGEBYSCORE', list, '-inf', now, 'LIMIT', 0, most)
  more = more or #ids == most
  return ids
end

for _, id in ipairs(come(P .. 'deadline')) do
  local i = load(id)
  if waits(i) then
    end_waiting(i, 'expired', 'the deadline passed while it waited')
    tell(ended, i, 'the deadline passed while it waited')
  else
    drop(P .. 'deadline', id)
    if i then call('HDEL', P .. 'i:' .. id, 'body') end
  end
end
flush()

for _, id in ipairs(come(P .. 'keep')) do
  local i = load(id)
  if i and ENDED[i.state] then delete(i) else drop(P .. 'keep', id) end
end
flush()

-- At most so many finished ones of a job are kept, the latest.
local function shorten(name, left)
  local lists, total = {}, 0
  for _, state in ipairs({'done', 'expired', 'cancelled'}) do
    local list = P .. 'x:' .. state .. ':' .. name
    lists[#lists + 1] = list
    total = total + call('ZCARD', list)
  end
  local excess = math.min(total - FINISHED_MAX, left)
  if excess <= 0 then return 0 end
  local oldest = {}
  for _, list in ipairs(lists) do
    local flat = call('ZRANGE', list, 0, excess - 1, 'WITHSCORES')
    for n = 1, #flat, 2 do oldest[#oldest + 1] = {place = tonumber(flat[n + 1]), id = flat[n], list = list} end
  end
  table.sort(oldest, function(a, b) return a.place < b.place end)
  for n = 1, excess do
    local i = load(oldest[n].id)
    if i then delete(i) else drop(oldest[n].list, oldest[n].id) end
  end
  flush()
  return excess
end

local left = most
for _, name in ipairs(call('SMEMBERS', P .. 'names')) do left = left - shorten(name, left) end
more = more or left == 0

-- Groups that nothing uses, nothing blocks, and that need not be remembered; a different part of them each time.
local function forget_unused_groups()
  local from, gone = call('HGET', P .. 'meta', 'swept') or '-', 0
  local groups = call('ZRANGEBYLEX', P .. 'groups', from, '+', 'LIMIT', 0, most)
  for _, group in ipairs(groups) do
    local g = call('HMGET', P .. 'g:' .. group, 'blocked', 'paused', 'keep')
    if not g[2] and (number(g[1]) or 0) <= now and (number(g[3]) or 0) <= now
      and call('EXISTS', P .. 'y:queued:' .. group, P .. 'y:scheduled:' .. group, P .. 'y:running:' .. group) == 0 then
      call('DEL', P .. 'g:' .. group)
      drop(P .. 'groups', group)
      gone = gone + 1
    end
  end
  if #groups == most then
    call('HSET', P .. 'meta', 'swept', '(' .. groups[#groups])
    more = more or gone * 2 > most
  elseif from ~= '-' then
    call('HDEL', P .. 'meta', 'swept')
  end
end
forget_unused_groups()
flush()

settle()
wake_for_the_rest()
return {now, ended, more and 1 or 0}
