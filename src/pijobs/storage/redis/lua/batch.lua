-- The instances of a batch share most sorted sets, and a command costs about the same for one entry as for many: so the
-- entries are collected, and written down before anything reads them.
local collected = {ZREM = {}, SREM = {}, ZADD = {}}

local function collect(command, key, ...)
  local entries = collected[command][key]
  if not entries then
    entries = {}
    collected[command][key] = entries
  end
  for _, value in ipairs({...}) do entries[#entries + 1] = value end
end

put = function(key, score, id) collect('ZADD', key, score, id) end
drop = function(key, id) collect('ZREM', key, id) end
release = function(key, id) collect('SREM', key, id) end

local function write_down()
  for _, command in ipairs({'ZREM', 'SREM', 'ZADD'}) do
    for key, entries in pairs(collected[command]) do call(command, key, unpack(entries)) end
    collected[command] = {}
  end
end

flush = write_down
