-- What a session holds goes back when it has ended: a part with each script, so that nobody waits for long. No part leaves
-- one behind, which would seem to have run alone.

-- Up to so many of what it holds, each by an arrow, which is told whether nothing ran beside it. The session goes with the
-- last. Answers how many were looked at, and whether that was all.
local function empty(session, most, arrow)
  local runs = P .. 'runs:' .. session
  local number = call('SCARD', runs)
  if number == most + 1 then most = most - 1 end
  for _, id in ipairs(call('SRANDMEMBER', runs, most)) do
    local i = load(id)
    if i and i.state == 'running' and i.session == session then
      arrow(i, number == 1)
    else
      call('SREM', runs, id)
    end
  end
  if number > most then return most, false end
  call('ZREM', P .. 'live', session)
  call('DEL', P .. 'session:' .. session, runs)
  return number, true
end
