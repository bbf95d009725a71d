-- What leaves for another storage: taken out and held, and forgotten once it is there.
local FIELDS_OF_NEW = {'name', 'envelope', 'body', 'group', 'priority', 'created', 'deadline', 'due', 'key', 'subject',
  'group', 'keep', 'label', 'person', 'started', 'seq', 'state'}
needs_no_memory()

if ARGV[1] == 'forget' then
  for n = 2, #ARGV do
    local i = load(ARGV[n])
    if i and (i.state == 'queued' or i.state == 'scheduled') then
      stop_waiting(i)
      call('ZREM', P .. 'q:' .. i.group, i.id)
      unschedule(i)
      touched[i.group] = true
      delete(i)
    end
  end
  settle()
  return {now}
end

local wanted, hold = tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {}

-- Up to so many of a state and a name that were never leased, oldest first.
local function gather(state, name)
  local from, left = 0, wanted
  while left > 0 do
    local flat = call('ZRANGE', P .. 'x:' .. state .. ':' .. name, from, from + HOUSEKEEPING - 1, 'WITHSCORES')
    if not flat[1] then return end
    for k = 1, #flat, 2 do
      load(flat[k]) -- parks what can't be read
      local v = call('HMGET', P .. 'i:' .. flat[k], unpack(FIELDS_OF_NEW))
      local is_held = state == 'queued' and tonumber(v[8] or now) > now
      local waiting = v[17] == 'queued' or v[17] == 'scheduled'
      if waiting and not v[15] and not is_held and left > 0 then
        found[#found + 1] = {id = flat[k], seq = tonumber(v[16]), state = state, values = v}
        left = left - 1
      end
    end
    from = from + HOUSEKEEPING
  end
end

for _, name in ipairs(call('SMEMBERS', P .. 'names')) do
  gather('queued', name)
  gather('scheduled', name)
end
table.sort(found, function(a, b) return a.seq < b.seq end)
local taken = {}
for n = 1, math.min(wanted, #found) do
  local id, v = found[n].id, found[n].values
  local due = math.max(tonumber(v[8]), now + hold)
  local row = {id}
  for k = 1, 14 do row[k + 1] = v[k] or '' end
  row[12] = call('HGET', P .. 'g:' .. v[4], 'limit') or ''
  taken[n] = row
  call('HSET', P .. 'i:' .. id, 'due', due)
  unschedule({id = id, priority = tonumber(v[5])})
  schedule({id = id, priority = tonumber(v[5])}, due)
  if found[n].state == 'queued' then
    call('ZREM', P .. 'q:' .. v[4], id)
    enter({id = id, name = v[1], group = v[4], subject = v[10] or '', person = v[14] or ''}, 'queued', place_of(due))
    touched[v[4]] = true
  end
end
settle()
return {now, taken}
