-- What people look at. Nothing here writes, but for entries of instances that an eviction took away.
local what = ARGV[1]
local RECORD = {'state', 'name', 'group', 'priority', 'created', 'deadline', 'due', 'attempts', 'crashes', 'started',
  'ended', 'reason', 'error', 'session', 'history', 'envelope', 'subject', 'label', 'person'}
local STATES = {'queued', 'running', 'scheduled', 'done', 'dead', 'expired', 'cancelled'}

local function record(id)
  local values = call('HMGET', P .. 'i:' .. id, unpack(RECORD))
  if not values[1] then return nil end
  for n = 1, #RECORD do values[n] = values[n] or '' end
  values[#values + 1] = call('HEXISTS', P .. 'i:' .. id, 'body')
  values[#values + 1] = id
  return values
end

local function group(name)
  local g = call('HMGET', P .. 'g:' .. name, 'limit', 'blocked', 'paused', 'policy', 'version')
  local waiting = call('ZCARD', P .. 'y:queued:' .. name) + call('ZCARD', P .. 'y:scheduled:' .. name)
  return {name, call('ZCARD', P .. 'y:running:' .. name), waiting, g[1] or '', g[2] or '', g[3] or '', g[4] or '',
    g[5] or '0'}
end

local function in_trouble(name, healthy)
  local g = call('HMGET', P .. 'g:' .. name, 'paused', 'policy')
  return g[1] or (g[2] and g[2] ~= '' and string.sub(g[2], -#healthy) ~= healthy)
end

local function newer(a, b) return a.place > b.place or (a.place == b.place and a.id > b.id) end

-- The entries of one place are in the order of their ids. Answers where the first of them stands, and where the first one
-- stands that is not below an id.
local function span_below(list, place, id)
  local first = call('ZCOUNT', list, '-inf', '(' .. place)
  local low, high = first, first + call('ZCOUNT', list, place, place)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if call('ZRANGE', list, middle, middle)[1] < id then low = middle + 1 else high = middle end
  end
  return first, low
end

-- Adds a list to the n newest entries that were found in others, below a place.
local function merge(found, list, place, id, n)
  local oldest = found[n] and string.format('%.0f', found[n].place) or '-inf'
  if place ~= '+inf' then
    local first, past = span_below(list, place, id)
    local same = past > first and call('ZRANGE', list, math.max(first, past - n), past - 1) or {}
    for _, one in ipairs(same) do found[#found + 1] = {place = tonumber(place), id = one, list = list} end
    place = '(' .. place
  end
  local flat = call('ZREVRANGEBYSCORE', list, place, oldest, 'WITHSCORES', 'LIMIT', 0, n)
  for k = 1, #flat, 2 do found[#found + 1] = {place = tonumber(flat[k + 1]), id = flat[k], list = list} end
  table.sort(found, newer)
  for k = #found, n + 1, -1 do found[k] = nil end
end

local function page(state, name, of_group, subject, place, id, limit)
  local lists, found, records = {}, {}, {}
  if subject ~= '' then
    lists[1] = 's:' .. state .. ':' .. subject
  elseif of_group ~= '' then
    lists[1] = 'y:' .. state .. ':' .. of_group
  elseif name ~= '' then
    lists[1] = 'x:' .. state .. ':' .. name
  else
    for _, one in ipairs(call('SMEMBERS', P .. 'names')) do lists[#lists + 1] = 'x:' .. state .. ':' .. one end
  end
  for _, list in ipairs(lists) do merge(found, P .. list, place, id, limit + 1) end
  for n = 1, math.min(limit, #found) do
    local values = record(found[n].id)
    if not values then
      call('ZREM', found[n].list, found[n].id)
    elseif (name == '' or values[2] == name) and (of_group == '' or values[3] == of_group)
      and (subject == '' or values[17] == subject or values[19] == subject) then
      records[#records + 1] = values
    end
  end
  local last = #found > limit and found[limit]
  return records, last and string.format('%.0f.%s', last.place, last.id) or ''
end

if what == 'get' then
  return {now, record(ARGV[2]) or {}}
elseif what == 'page' then
  local records, cursor = page(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]))
  return {now, records, cursor}
elseif what == 'waiting' then
  local list = P .. 'x:queued:' .. ARGV[2]
  local first = call('ZRANGE', list, 0, 0, 'WITHSCORES')[2]
  local due = first and string.format('%.0f', math.floor(first / 1000)) or ''
  return {now, call('ZCARD', list) + call('ZCARD', P .. 'x:scheduled:' .. ARGV[2]), due}
elseif what == 'depths' then
  local meta, counts = call('HMGET', P .. 'meta', 'paused', 'seen', 'lost', 'lost_at'), {}
  local backlog = call('ZCOUNT', P .. 'deadline', '-inf', now) + call('ZCOUNT', P .. 'keep', '-inf', now)
  for _, name in ipairs(call('SMEMBERS', P .. 'names')) do
    local first = call('ZRANGE', P .. 'x:queued:' .. name, 0, 0, 'WITHSCORES')[2]
    local row = {name, first and string.format('%.0f', math.floor(first / 1000)) or ''}
    for _, state in ipairs(STATES) do row[#row + 1] = call('ZCARD', P .. 'x:' .. state .. ':' .. name) end
    -- Done, expired and cancelled: the fourth, sixth and seventh.
    backlog = backlog + math.max(0, row[6] + row[8] + row[9] - FINISHED_MAX)
    counts[#counts + 1] = row
  end
  return {now, meta[1] or '', meta[2] or '', counts, backlog, call('HLEN', P .. 'totals'), meta[3] or '',
    meta[4] or '', call('HGETALL', P .. 'bypass')}
elseif what == 'oldest' then
  -- A part of what is queued of a job, the first in front: when each became due, and its group.
  local first, rows = call('ZRANGE', P .. 'x:queued:' .. ARGV[2], ARGV[3], ARGV[4], 'WITHSCORES'), {}
  for n = 1, #first, 2 do
    rows[n] = string.format('%.0f', math.floor(first[n + 1] / 1000))
    rows[n + 1] = call('HGET', P .. 'i:' .. first[n], 'group') or ''
  end
  return {now, rows}
elseif what == 'group' then
  return {now, call('ZSCORE', P .. 'groups', ARGV[2]) and group(ARGV[2]) or {}}
elseif what == 'groups' then
  local all, limit, healthy, looked_at = {}, tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5] or ARGV[3])
  local names = call('ZRANGEBYLEX', P .. 'groups', ARGV[2], '+', 'LIMIT', 0, looked_at)
  for n, name in ipairs(names) do
    if not healthy or in_trouble(name, healthy) then all[#all + 1] = group(name) end
    if #all == limit then return {now, all, name} end
  end
  return {now, all, #names == looked_at and names[#names] or ''}
elseif what == 'sessions' then
  local all = {}
  local live = call('ZRANGEBYSCORE', P .. 'live', now, '+inf', 'WITHSCORES')
  for n = 1, #live, 2 do
    local values = call('HMGET', P .. 'session:' .. live[n], 'told', 'seen')
    if values[1] then all[#all + 1] = {values[1], values[2], live[n + 1], call('SMEMBERS', P .. 'runs:' .. live[n])} end
  end
  return {now, all}
end
return {now}
