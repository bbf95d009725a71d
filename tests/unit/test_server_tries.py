"""Guessing passwords is slow: tries are counted by account and by address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pijobs.server.api import ApiError
from pijobs.server.lockout import MOST_OF_ACCOUNT, MOST_OF_ADDRESS, MOST_OF_BOTH, WINDOW, Tries
from pijobs.testing.clock import ManualClock


@pytest.fixture
def tries(clock: ManualClock) -> Tries:
    return Tries(clock.monotonic)


def fail(tries: Tries, number: int, name: str = "alice", address: str = "192.0.2.1") -> None:
    for _ in range(number):
        tries.begin(name, address)


def refused(tries: Tries, name: str = "alice", address: str = "192.0.2.1") -> None:
    with pytest.raises(ApiError) as caught:
        tries.begin(name, address)
    assert caught.value.status == 429


def test_one_try_too_many_is_refused(tries: Tries) -> None:
    fail(tries, MOST_OF_BOTH)
    refused(tries)


def test_what_is_refused_does_not_make_it_longer(tries: Tries, clock: ManualClock) -> None:
    fail(tries, MOST_OF_BOTH)
    clock.advance(WINDOW - 1)
    refused(tries)
    clock.advance(2)
    fail(tries, 1)


def test_others_are_not_concerned(tries: Tries) -> None:
    fail(tries, MOST_OF_BOTH)
    fail(tries, 1, address="192.0.2.2")
    fail(tries, 1, name="bob")


def test_a_success_does_not_count(tries: Tries) -> None:
    for _ in range(3 * MOST_OF_BOTH):
        tries.begin("alice", "192.0.2.1")
        tries.succeed("alice", "192.0.2.1")
    fail(tries, 1)


def test_one_address_with_many_names_is_refused(tries: Tries) -> None:
    for number in range(MOST_OF_ADDRESS):
        fail(tries, 1, name=f"user{number}")
    refused(tries, name="another")


def test_one_account_from_many_addresses_is_refused(tries: Tries) -> None:
    for number in range(MOST_OF_ACCOUNT):
        fail(tries, 1, address=f"192.0.2.{number}")
    refused(tries, address="198.51.100.1")


def test_what_is_old_takes_no_memory(tries: Tries, clock: ManualClock) -> None:
    fail(tries, 5, name="x" * 100_000)
    clock.advance(WINDOW + 1)
    fail(tries, 1)
    assert len(tries._times) == 3


def test_a_guesser_with_many_addresses_does_not_make_the_tries_of_others_slow() -> None:
    looks = 0

    class Watched(dict[Any, Any]):
        def __iter__(self) -> Iterator[Any]:
            nonlocal looks
            looks += 1
            return super().__iter__()

        def items(self) -> Any:
            return [(one, self[one]) for one in self]

    now = 0.0
    tries = Tries(lambda: now)
    tries._times = Watched()
    for number in range(500):
        now += 0.001
        tries.begin("root", f"192.0.2.{number}", f"device {number}")
    assert looks <= 2  # it looked at all of them once a second, and not at each try
