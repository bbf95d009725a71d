-- How an instance ended that no worker had leased.
local id, name, envelope, body, group, priority, created, deadline, due, key, subject, _, keep, label,
  person = unpack(ARGV)
local state, counted, _, reason, error, entry = unpack(ARGV, 18)
needs_no_memory()

local i = load(id)
if i and i.state ~= 'queued' and i.state ~= 'scheduled' then return {now, 0} end
if i then
  stop_waiting(i)
  drop(P .. 'q:' .. i.group, id)
  unschedule(i)
  touched[i.group] = true
else
  i = {id = id, name = name, group = group, priority = tonumber(priority), deadline = deadline, subject = subject,
    person = person, keep = keep, attempts = 0, history = ''}
  local more = {}
  for field, value in pairs({deadline = deadline, subject = subject, keep = keep, key = key, label = label,
    person = person}) do
    if value ~= '' then more[#more + 1], more[#more + 2] = field, value end
  end
  local seq = next_number('seq')
  call('HSET', P .. 'i:' .. id, 'name', name, 'envelope', envelope, 'body', body, 'group', group, 'priority', priority,
    'created', created, 'due', number(due) or now, 'seq', seq, unpack(more))
  call('SADD', P .. 'names', name)
end
finish(i, state, reason, 'error', error, 'attempts', i.attempts + tonumber(counted))
if entry ~= '' then call('HSET', P .. 'i:' .. id, 'history', with_entry(i, entry)) end
settle()
return {now, 1}
