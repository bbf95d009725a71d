"""What people are shown of the storage's numbers."""

from __future__ import annotations

from pijobs.observe.facts import moment


def test_a_moment_is_shown_in_utc_with_milliseconds() -> None:
    assert moment(1_795_477_778_644) == "2026-11-23T23:49:38.644Z"
    assert moment(None) is None


def test_a_moment_after_the_last_year_of_the_calendar_is_shown_as_its_end() -> None:
    # An instance that waits for good must not stop the list of all.
    assert moment(253_402_300_800_000) == moment(10**15) == "9999-12-31T23:59:59.999Z"
