-- New instances, all or none; one of a periodic job (cron) only if its due time was not taken yet.
local within, cron, bypassable = ARGV[1], ARGV[2], ARGV[3]
local batch, usual = {}, cron == ''
for n = 4, #ARGV, 16 do
  local id, name, envelope, body, group, priority, created, deadline, due, key, subject, limit, keep, label,
    person, on_conflict = unpack(ARGV, n, n + 15)
  due = math.max(number(due) or now, now)
  local present = call('HGET', P .. 'i:' .. id, 'state')
  batch[#batch + 1] = {id = id, name = name, envelope = envelope, body = body, group = group,
    priority = tonumber(priority), created = tonumber(created), deadline = deadline, due = due, key = key,
    subject = subject, limit = limit, keep = keep, label = label, person = person, on_conflict = on_conflict,
    present = present, state = due > now and 'scheduled' or 'queued'}
  usual = usual and not present and key == ''
end

-- Answers whether nothing is known that keeps its group from running.
local function put_down(i)
  i.seq, micros = next_number('seq'), micros + 1 -- of a batch each has its place
  local more = {}
  if i.deadline ~= '' then more = {'deadline', i.deadline} end
  if i.subject ~= '' then more[#more + 1], more[#more + 2] = 'subject', i.subject end
  if i.keep ~= '' then more[#more + 1], more[#more + 2] = 'keep', i.keep end
  if i.label ~= '' then more[#more + 1], more[#more + 2] = 'label', i.label end
  if i.person ~= '' then more[#more + 1], more[#more + 2] = 'person', i.person end
  call('HSET', P .. 'i:' .. i.id, 'state', i.state, 'name', i.name, 'envelope', i.envelope, 'body', i.body, 'group',
    i.group, 'priority', i.priority, 'created', i.created, 'at', now, 'due', i.due, 'seq', i.seq, unpack(more))
  local g = call('HMGET', P .. 'g:' .. i.group, 'limit', 'blocked', 'paused', 'name:' .. i.name)
  if not g[1] then
    call('HSET', P .. 'g:' .. i.group, 'limit', i.limit)
    call('ZADD', P .. 'groups', 0, i.group)
    g[1] = i.limit
  end
  if not g[4] then
    call('HSET', P .. 'g:' .. i.group, 'name:' .. i.name, 1)
    call('SADD', P .. 'names', i.name)
  end
  start_waiting(i, i.state, i.due)
  i.stored = true
  return g[1] == '' and (g[2] or '') == '' and not g[3]
end

-- Store it. What fails half-way (a right that is missing) leaves nothing that an audit would take for work: whoever
-- enqueued it makes the fallback do it.
local failure
local function store(i)
  local fine, answer = pcall(put_down, i)
  if fine then return answer end
  for _, one in ipairs(batch) do
    if not one.present then redis.pcall('DEL', P .. 'i:' .. one.id) end
  end
  failure = type(answer) == 'table' and answer or {err = answer}
end

if within ~= '' then
  local seen = number(call('HGET', P .. 'meta', 'seen'))
  local alive = seen and seen >= now - tonumber(within)
  for _, i in ipairs(batch) do
    if not alive and not i.present then return {now, 'no worker'} end
  end
end
-- Whether another instance with the key waits: then what becomes of both is the queue's to say.
local function is_taken(key)
  local id = key ~= '' and call('HGET', P .. 'key', key)
  local other = id and call('HMGET', P .. 'i:' .. id, 'state', 'deadline') or {}
  return (other[1] == 'queued' or other[1] == 'scheduled') and (number(other[2]) or now + 1) > now
end
if bypassable == '1' and call('EXISTS', P .. 'bypass') == 1 then
  local ids, all = {now, 'bypassed'}, call('HEXISTS', P .. 'bypass', '') == 1
  for _, i in ipairs(batch) do
    local new = not i.present and i.state == 'queued' and not is_taken(i.key)
    if new and (all or call('HEXISTS', P .. 'bypass', i.group) == 1) then ids[#ids + 1] = i.id end
  end
  if ids[3] then return ids end
end
local urgent -- the highest priority of those that somebody has to be woken for
local function must_wake(i) urgent = math.max(urgent or i.priority, i.priority) end

if usual then
  -- A client takes its time to read a long answer.
  local answer = {now}
  for n, i in ipairs(batch) do
    -- The usual case: the group may run, and at most its head is new. Behind another head nobody has to be woken: a
    -- worker was for that one, and wakes the next if it leaves work behind.
    usual = store(i) and i.state == 'queued' and usual
    if failure then return failure end
    if usual then
      local head, rank = call('ZSCORE', P .. 'ready', i.group), rank_of(i)
      if not head or tonumber(head) > rank then
        call('ZADD', P .. 'ready', rank, i.group)
        must_wake(i)
      end
      answer[n + 1] = 1
    end
  end
  if urgent then wake(urgent, call('HGET', P .. 'meta', 'floors')) end
  if usual then return answer end
end
