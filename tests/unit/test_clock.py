"""The time of a server, as its answers tell it."""

from __future__ import annotations

import pytest

from pijobs.base.clock import server_offset


@pytest.mark.parametrize(
    ("known", "answer", "offset"),
    [
        (None, (4.0, 5.0), 4.5),
        (4.9, (4.0, 5.0), 4.9),  # a slow answer says nothing new
        (4.9, (4.4, 4.6), 4.5),  # a quick one is more exact
        (4.9, (90.0, 95.0), 92.5),  # somebody has set the server's clock
    ],
)
def test_a_quick_answer_tells_more_than_a_slow_one(
    known: float | None, answer: tuple[float, float], offset: float
) -> None:
    assert server_offset(known, *answer) == offset
