-- Nobody is dead because Redis was away, or because its clock was set. Called by each sign of life and each new session,
-- before anybody is taken for dead.

-- The last enqueue after one time and not after another, of those that still wait.
local function last_enqueue(after, til)
  local last
  for _, name in ipairs(call('SMEMBERS', P .. 'names')) do
    local places = {til * 1000 + 999, '(' .. string.format('%.0f', after * 1000 + 999)}
    -- What was promoted stands there, too; its place is not the time of an enqueue.
    for _, id in ipairs(call('ZREVRANGEBYSCORE', P .. 'x:queued:' .. name, places[1], places[2], 'LIMIT', 0, 10)) do
      local at = number(call('HGET', P .. 'i:' .. id, 'at'))
      if at and at > after and at <= til then last = math.max(last or at, at) end
    end
  end
  return last
end

-- Whether enqueues leave no gap. They have to reach back a gap further than the lease, or an outage that ended within it
-- would not be seen.
local function was_reachable(since, gap)
  while now - since > gap do
    since = last_enqueue(since, since + gap)
    if not since then return false end
  end
  return true
end

local function keep_through_a_gap(lease)
  local seen = number(call('HGET', P .. 'meta', 'seen'))
  if not seen then return end
  local is_ahead, gap = seen > now + lease / 4, math.floor(lease / 2)
  if not is_ahead and (now - seen <= gap or was_reachable(math.max(seen, now - lease - gap), gap)) then return end
  local live = call('ZRANGE', P .. 'live', 0, -1, 'WITHSCORES')
  for n = 1, #live, 2 do
    local til = tonumber(live[n + 1])
    if is_ahead then
      local its = number(call('HGET', P .. 'session:' .. live[n], 'seen')) or 0
      if its > now then call('ZADD', P .. 'live', now + til - its, live[n]) end
    elseif now - seen <= lease then
      call('ZADD', P .. 'live', til + now - seen - gap, live[n])
    elseif til < now + lease then
      call('ZADD', P .. 'live', now + lease, live[n])
    end
  end
end
