-- In front of every script: where everything lies, and how an instance begins to wait. Short, since Redis makes these
-- functions anew for each script that runs, and a request waits for that of an enqueue; all else is in arrows.lua.
--
-- P is the prefix of all keys. It is the one key that is declared: all others begin with it, so they share its hash
-- slot, and which they are shows only while a script runs (the head of a group, the ids of a dead session).
--
--   i:<id>               hash   one instance
--   x:<state>:<name>     zset   id -> place; y:<state>:<group>, s:<state>:<subject> and s:<state>:<person> likewise
--   q:<group>            zset   id -> rank, what may be leased
--   ready                zset   group -> rank of its head, groups that may run
--   later                zset   "i:<id>" or "g:<group>" -> due: all that waits for its time
--   later:<priority>     zset   id -> due, the instances of one priority; later:groups likewise for groups
--   lanes                zset   priority -> due of the first in later:<priority>, or earlier
--   deadline             zset   id -> deadline, waiting ones and dead letters with a body
--   keep                 zset   id -> when an ended record goes
--   key, cron, meta      hash   key -> id that waits; job -> last due time; counters and switches of the queue
--   newest               hash   key -> id of the last that was stored with it, as long as its record is kept
--   g:<group>, groups, names    groups, and the names of all groups and jobs
--   live, session:<id>, runs:<id>   sessions: end of the lease, what they told, the ids they run
--   wake, wake:<floor>   list   what idle workers block on
--   totals               hash   name -> sum of what was added
--   bypass               hash   group, or '' for all -> who bypasses it, when and why
--   totals:<period>      hash   likewise, of a minute or an hour; goes after a while
--   damaged:<key>        any    what lay at a key and was not ours; goes after a while
--   audit                hash   how far the audit came
--
-- A place is the time it became due in microseconds while an instance is queued, the sequence number of the enqueue while
-- it is scheduled or runs, and the time of its end in microseconds afterwards: all are exact in a double, and newest
-- first is one direction for all of them. The first one that is queued is the oldest that is due.
local P = KEYS[1]
-- A key that holds another type than ours was written by somebody else: it is put aside, and an empty one takes its
-- place; the audit finds what it led to. Whatever else goes wrong ends the script.
local function call(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then
    redis.call('RENAME', key, P .. 'damaged:' .. string.sub(key, #P + 1))
    redis.call('PEXPIRE', P .. 'damaged:' .. string.sub(key, #P + 1), KEEP_DEAD)
  end
  return redis.call(command, key, ...)
end
local time = ask_time()
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local PRIORITY = 1099511627776 -- 2^40 sequence numbers per priority
local touched = {} -- groups whose head or room may have changed

-- An entry of a sorted set comes or goes; a script that moves many at once may put its own way here.
local put = function(key, score, id) call('ZADD', key, score, id) end
local drop = function(key, id) call('ZREM', key, id) end
local flush = function() end -- before something reads, or takes back, what was put

local function number(text)
  if text and text ~= '' then return tonumber(text) end
end

-- A counter of meta; one that was damaged begins anew above whatever it may have been.
local function next_number(field)
  local answer = redis.pcall('HINCRBY', P .. 'meta', field, 1)
  if type(answer) ~= 'table' then return answer end
  call('HSET', P .. 'meta', field, math.floor(now / 1000))
  return call('HINCRBY', P .. 'meta', field, 1)
end

local function rank_of(i)
  return i.seq - i.priority * PRIORITY
end

local function enter(i, state, place)
  i.state = state
  put(P .. 'x:' .. state .. ':' .. i.name, place, i.id)
  put(P .. 'y:' .. state .. ':' .. i.group, place, i.id)
  if i.subject ~= '' then put(P .. 's:' .. state .. ':' .. i.subject, place, i.id) end
  if i.person ~= '' then put(P .. 's:' .. state .. ':' .. i.person, place, i.id) end
end

-- An instance waits for its time; what becomes due together is promoted by priority.
local function schedule(i, due)
  put(P .. 'later', due, 'i:' .. i.id)
  put(P .. 'later:' .. i.priority, due, i.id)
  local first = call('ZSCORE', P .. 'lanes', i.priority)
  if not first or tonumber(first) > due then call('ZADD', P .. 'lanes', due, i.priority) end
end

local function unschedule(i)
  drop(P .. 'later', 'i:' .. i.id)
  drop(P .. 'later:' .. i.priority, i.id)
end

-- Where an instance waits: with its group, or for its time.
local function line_up(i, due)
  if due > now then
    schedule(i, due)
  else
    put(P .. 'q:' .. i.group, rank_of(i), i.id)
    touched[i.group] = true
  end
end

-- The place of what is queued. What is due at once keeps the order in which it came.
local function place_of(due)
  return due == now and micros or due * 1000
end

local function start_waiting(i, state, due)
  enter(i, state, state == 'queued' and place_of(due) or i.seq)
  if i.deadline ~= '' then put(P .. 'deadline', i.deadline, i.id) end
  -- What is scheduled goes through the promotion, even if its time has come already.
  if state == 'scheduled' then schedule(i, due) else line_up(i, due) end
end

-- One token at most lies in each list: whoever takes it and leaves work behind puts in the next one.
local function wake(priority, floors)
  if call('LLEN', P .. 'wake') == 0 then call('LPUSH', P .. 'wake', 1) end
  for floor in string.gmatch(floors or '', '[^ ]+') do
    local list = P .. 'wake:' .. floor
    if tonumber(floor) and priority >= tonumber(floor) and call('LLEN', list) == 0 then call('LPUSH', list, 1) end
  end
end

