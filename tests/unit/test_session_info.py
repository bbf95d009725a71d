"""What stands in a storage in place of a worker's facts ends no page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pijobs.storage.sessions import SessionInfo

INFO = SessionInfo("w", "host", 1, 1_700_000_000_000, "0.2.0", keys=("ab",), jobs=("mail.send",), other_keys={"cd": 5})
JUNK: list[Any] = [
    "x", "", -1, 10**25, 1.5, 1e300, True, None, [], {}, [1], {"a": 1}, [None], "v" * 100_000, ["v" * 100_000],
    {"v" * 100_000: 1}, {"a": 10**30}, {"a": "x"}, "@", ["@"], ['@{"protocol": "x"}'],
    ['@{"id": 5, "place": {}}'], ["@["],
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
def test_facts_that_no_worker_tells_are_none(junk: Any) -> None:
    facts = json.loads(INFO.dump())
    for name in facts:
        info = SessionInfo.read(json.dumps({**facts, name: junk}))
        if info is not None:
            assert all(
                type(getattr(info, one)) is type(getattr(INFO, one))
                for one in SessionInfo.__slots__
                if one != "definitions"
            )
            assert len(info.dump()) < 2000


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "[" * 100_000, '{"jobs": 5}', b"\xff", "{"])
def test_what_is_no_object_is_none(text: str | bytes) -> None:
    assert SessionInfo.read(text) is None


def test_a_worker_is_read_as_it_told() -> None:
    assert SessionInfo.read(INFO.dump()) == INFO
