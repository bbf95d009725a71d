"""How jobs ended that ran in a request is told to the storage, in requests that have little time."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from pijobs import State
from pijobs.base import clock
from pijobs.request.direct import TELLING, Ends
from pijobs.storage.values import End, NewInstance


def test_a_request_tells_no_more_ends_of_others_than_it_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])

    def takes_its_time(*_: object, **__: object) -> None:
        now[0] += TELLING * 0.6

    storage = Mock()
    storage.record_end.side_effect = takes_its_time
    ends = Ends(None, storage, Mock(), timeout=0.25)
    for number in range(5):
        new = NewInstance(id=str(number), name="a.b", envelope=b"", body=b"", group="a.b", created=1)
        ends.record(new, End(new.id, "", State.DONE), away=True)
    told = []
    for _ in range(4):
        before = storage.record_end.call_count
        ends.tell()
        told.append(storage.record_end.call_count - before)
    assert told == [2, 2, 1, 0]
