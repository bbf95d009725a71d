-- A new instance; for a periodic job (cron) only if its due time was not taken yet.
local id, name, envelope, body, group, priority, created, deadline, due, key, subject, limit, keep, label,
  on_conflict, within, cron = unpack(ARGV)
local i = {id = id, name = name, group = group, priority = tonumber(priority), created = tonumber(created),
  deadline = deadline, subject = subject, key = key, keep = keep}
due = math.max(number(due) or now, now)
local state = due > now and 'scheduled' or 'queued'

local function put_down()
  i.seq = next_number('seq')
  local more = {}
  if deadline ~= '' then more = {'deadline', deadline} end
  if subject ~= '' then more[#more + 1], more[#more + 2] = 'subject', subject end
  if keep ~= '' then more[#more + 1], more[#more + 2] = 'keep', keep end
  if label ~= '' then more[#more + 1], more[#more + 2] = 'label', label end
  call('HSET', P .. 'i:' .. id, 'state', state, 'name', name, 'envelope', envelope, 'body', body, 'group', group,
    'priority', priority, 'created', created, 'at', now, 'due', due, 'seq', i.seq, unpack(more))
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
  return g[1] == '' and (g[2] or '') == '' and not g[3]
end

-- Store it. Answers whether nothing is known that keeps its group from running. What fails half-way (a right that is
-- missing) leaves nothing that an audit would take for work: whoever enqueued it makes the fallback do it.
local failure
local function store()
  local fine, answer = pcall(put_down)
  if fine then return answer end
  redis.pcall('DEL', P .. 'i:' .. id)
  failure = type(answer) == 'table' and answer or {err = answer}
end

local present = call('HGET', P .. 'i:' .. id, 'state')
if within ~= '' and not present then
  local seen = number(call('HGET', P .. 'meta', 'seen'))
  if not seen or seen < now - tonumber(within) then return {now, 'no worker'} end
end
local stored = not present and cron == '' and key == ''
if stored and store() and state == 'queued' then
  -- The usual case: the group may run, and at most its head is new. Behind another head nobody has to be woken: a
  -- worker was for that one, and wakes the next if it leaves work behind.
  local head, rank = call('ZSCORE', P .. 'ready', group), rank_of(i)
  if not head or tonumber(head) > rank then
    call('ZADD', P .. 'ready', rank, group)
    wake(i.priority, call('HGET', P .. 'meta', 'floors'))
  end
  -- A client takes its time to read a long answer.
  return {now, 1}
end
