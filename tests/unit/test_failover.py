"""A second destination takes over: in which order they are asked, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pijobs.definitions import FALLBACK, Definitions, DefinitionStore, Failover, chain_of
from pijobs.errors import DefinitionNotFound, DestinationDown
from pijobs.execution.groups import OPEN_AFTER, OPEN_FIRST
from pijobs.settings import Settings
from pijobs.testing.clock import ManualClock

Attempt = Callable[[dict[str, Any]], str]


@pytest.fixture
def store(core_settings: Settings, tmp_path: Path) -> DefinitionStore:
    """``first`` falls back to ``second``, that to ``third``, and that to ``first`` again."""
    store = Definitions("place", [FALLBACK]).open(core_settings)
    for name, fallback in (("first", "second"), ("second", "third"), ("third", "first"), ("lost", "nowhere")):
        store.save(name, {"fallback": fallback})
    return store


@pytest.fixture
def asked() -> list[str]:
    return []


def failing(asked: list[str], *names: str, error: type[Exception] = DestinationDown) -> Attempt:
    def attempt(definition: dict[str, Any]) -> str:
        asked.append(definition["identifier"])
        if definition["identifier"] in names:
            raise error(definition["identifier"])
        return str(definition["identifier"])

    return attempt


def test_the_chain_has_each_once_and_ends_where_one_is_missing(store: DefinitionStore) -> None:
    assert [one["identifier"] for one in chain_of(store, "second")] == ["second", "third", "first"]
    assert [one["identifier"] for one in chain_of(store, "lost")] == ["lost"]
    with pytest.raises(DefinitionNotFound):
        chain_of(store, "nowhere")


def test_the_next_is_asked_only_after_trouble(store: DefinitionStore, asked: list[str]) -> None:
    assert Failover().in_turn(store, "first", failing(asked)) == "first"
    assert Failover().in_turn(store, "first", failing(asked, "first")) == "second"
    assert asked == ["first", "first", "second"]


def test_what_is_no_trouble_ends_the_turn(store: DefinitionStore, asked: list[str]) -> None:
    with pytest.raises(ValueError, match="first"):
        Failover().in_turn(store, "first", failing(asked, "first", error=ValueError))
    assert asked == ["first"]


def test_the_first_ones_trouble_is_told_when_none_succeeds(store: DefinitionStore, asked: list[str]) -> None:
    with pytest.raises(DestinationDown, match="first"):
        Failover().in_turn(store, "first", failing(asked, "first", "second", "third"))
    assert asked == ["first", "second", "third"]


def test_an_open_breaker_is_asked_last_until_its_time_is_over(
    store: DefinitionStore, asked: list[str], clock: ManualClock
) -> None:
    failover = Failover(now=clock.monotonic)
    for _ in range(OPEN_AFTER):
        failover.in_turn(store, "first", failing(asked, "first"))
    asked.clear()
    assert failover.in_turn(store, "first", failing(asked, "first")) == "second"
    clock.advance(OPEN_FIRST / 1000 + 1)
    assert failover.in_turn(store, "first", failing(asked)) == "first"
    assert asked == ["second", "first"]


def test_definitions_of_different_kinds_do_not_share_what_is_remembered(
    store: DefinitionStore, core_settings: Settings, asked: list[str]
) -> None:
    other = Definitions("other_place", [FALLBACK]).open(core_settings)
    other.save("first", {"fallback": "second"})
    other.save("second", {})
    failover = Failover()
    for _ in range(OPEN_AFTER):
        failover.in_turn(store, "first", failing(asked, "first"))
    assert failover.in_turn(other, "first", failing(asked)) == "first"
