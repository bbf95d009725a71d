"""No script holds Redis for long, however much waits and however many groups there are: what each one does is counted.
How long that takes is told by ``benchmarks/groups.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import redis
from contract.workers import LONG, Worker, new_instance

from pijobs.execution.groups import HEALTHY
from pijobs.jobs import State
from pijobs.storage.redis import RedisStorage
from pijobs.storage.redis.scripts import Scripts
from pijobs.storage.values import End, Retention
from pijobs.worker.slots import AHEAD_MOST

JOBS, GROUPS, WAITING = 10, 800, 2_400
#: What one script may do. A command takes Redis a microsecond or two, a word that it is given or answers a fraction.
MOST_COMMANDS, MOST_WORDS = 1_300, 12_000

#: In front of each script: writes down what it does, if no other did more.
COUNTER = """\
local server, commands, words = redis, 0, 0
local function size(answer)
  if type(answer) ~= 'table' then return 1 end
  local n = 0
  for _, one in ipairs(answer) do n = n + size(one) end
  return n
end
local function most(field, found)
  local before = server.call('HGET', KEYS[1] .. 'most', field)
  if not before or tonumber(before) < found then server.call('HSET', KEYS[1] .. 'most', field, found) end
end
local function counted(call)
  return function(...)
    local answer = call(...)
    commands, words = commands + 1, words + select('#', ...) + size(answer)
    most('commands', commands)
    most('words', words)
    return answer
  end
end
local redis = {call = counted(server.call), pcall = counted(server.pcall)}
"""


class Crowd:
    """A queue with many groups in use."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.storage = RedisStorage(url, f"test-{uuid4().hex}")
        for n in range(WAITING):
            due = self.storage.now() + LONG if n % 10 == 9 else None
            self.enqueue(group=f"group-{n % GROUPS}", name=f"test.job{n % JOBS}", due=due)
        self.worker = Worker(self.storage, lambda ms: None)
        self.storage._scripts = Scripts(Retention(), COUNTER)

    def close(self) -> None:
        keys = [*self.client.scan_iter(f"{self.storage._prefix}*", count=1000)]
        self.client.unlink(*keys)
        self.client.close()
        self.storage.close()

    def enqueue(self, **facts: Any) -> None:
        self.storage.enqueue(new_instance(limit=5, **{"group": "another", **facts}), timeout=5)

    def enqueue_twice(self) -> None:
        for _ in range(2):
            self.enqueue(key="key")

    def step(self, state: State) -> None:
        """End as many as a thread holds at most, and take as many."""
        leases = self.worker.take(AHEAD_MOST)
        assert len(leases) == AHEAD_MOST
        due = self.storage.now() + 1 if state is State.SCHEDULED else None
        ends = [End(one.id, one.token, state, due=due, reason="a reason", entry="{}") for one in leases]
        assert not self.worker.step(*ends, want=AHEAD_MOST).lost

    def close_worker(self, *, crashed: bool) -> None:
        """A worker goes that holds much."""
        worker = Worker(self.storage, lambda ms: None)
        held = [one for _ in range(4) for one in worker.take_ids(AHEAD_MOST)]
        assert len(held) == 4 * AHEAD_MOST
        ended = self.storage.close_session(worker.session, crashed=crashed)
        assert {one.id for one in ended} == {*held}

    def operations(self) -> dict[str, Callable[[], Any]]:
        storage = self.storage
        every = [f"group-{n}" for n in range(GROUPS)] + ["another"]
        return {
            "enqueue": self.enqueue,
            "enqueue of what takes another's place": self.enqueue_twice,
            **{f"step, {state}": partial(self.step, state) for state in _ENDS},
            "step, nothing is urgent": lambda: self.worker.take(floor=900),
            "signs of life": lambda: [self.worker.beat() for _ in range(5)],
            "a worker dies": lambda: self.close_worker(crashed=True),
            "a worker stops": lambda: self.close_worker(crashed=False),
            "depths": storage.depths,
            "groups": storage.groups,
            "groups in trouble": lambda: storage.groups(healthy=HEALTHY),
            "a long page": lambda: storage.page(State.QUEUED, limit=500),
            "the oldest of no group": lambda: storage.oldest_due(without=every),
            "sessions": storage.sessions,
            "totals": lambda: storage.add_totals({f"total-{n}": 1.0 for n in range(1000)}),
            "check": lambda: [*storage.check()],
        }

    def work_of(self, operate: Callable[[], Any]) -> tuple[int, int]:
        """Commands and words of the scripts that did most."""
        self.client.delete(key := self.storage._prefix + "most")
        operate()
        commands, words = (int(one or 0) for one in self.client.hmget(key, "commands", "words"))
        return commands, words


_ENDS = (State.DONE, State.DEAD, State.SCHEDULED, State.QUEUED)


@pytest.fixture
def crowd(redis_url: str) -> Iterator[Crowd]:
    crowd = Crowd(redis_url)
    yield crowd
    crowd.close()


def test_no_script_does_more_where_more_waits(crowd: Crowd) -> None:
    work = {name: crowd.work_of(operate) for name, operate in crowd.operations().items()}
    assert all(commands > 0 for commands, _ in work.values())
    too_much = {name: found for name, found in work.items() if found[0] > MOST_COMMANDS or found[1] > MOST_WORDS}
    assert not too_much
