"""Three in the morning: the queue is bypassed for a destination, is paused and forgotten, and the commands for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pijobs.decorator import job
from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs.observe import switches
from pijobs.observe.sentences import told_age
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.calls import JobCall
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, validate
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import End, NewInstance

from .conftest import Pijobs

sent: list[str] = []


@job("mail.send", group=lambda server, **_: f"smtp:{server}")
def send(server: str) -> None:
    if server == "broken":
        raise ValueError("550")
    sent.append(server)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    sent.clear()
    settings = validate({"SECRET_KEY": "s"}, CORE_SETTINGS, directory=tmp_path)
    return Queue(settings, Registry.of([send]), Plugins([]), storage=MemoryStorage())


def call(server: str, **options: float) -> JobCall:
    return JobCall("mail.send", kwargs={"server": server}, delay=options.get("delay"))


def test_a_bypassed_destination_is_reached_in_the_request_and_back_and_no_other(queue: Queue) -> None:
    storage = queue.present_storage()
    storage.bypass("smtp:main", reason="r")
    main_, other, later = queue.enqueue_many([call("main"), call("other"), call("main", delay=60)])
    assert (main_.state, main_.via) == (State.DONE, "direct") and sent == ["main"]
    assert (other.state, other.via, later.state, later.via) == (State.QUEUED, "storage", State.SCHEDULED, "storage")
    assert storage.get(main_.id).state is State.DONE  # its record is there all the same
    storage.end_bypass("smtp:main")
    assert queue.enqueue_many([call("main")])[0].state is State.QUEUED


def test_what_fails_in_the_request_is_a_dead_letter_and_no_outage(queue: Queue) -> None:
    queue.present_storage().bypass(reason="r")
    (handle,) = queue.enqueue_many([call("broken")])
    assert handle.state is State.DEAD and queue.outage.since is None
    assert queue.present_storage().get(handle.id).reason == (
        "it ran in the request, where there is one attempt: ValueError: 550"
    )


def test_what_fails_in_the_request_keeps_none_behind_it_from_being_sent(queue: Queue) -> None:
    queue.present_storage().bypass(reason="r")
    queue.direct_raises = True
    with pytest.raises(ValueError, match="550"):
        queue.enqueue_many([call("broken"), call("main")])
    assert sent == ["main"]


def test_the_command_switches_it_on_in_red_and_off(pijobs: Pijobs) -> None:
    assert "is bypassed" in pijobs("bypass", "smtp:main", "--yes", "--reason", "relay of a***@example.com hangs")[1]
    status = pijobs("status")[1]
    told = r"the queue is bypassed for \d+ seconds?, and what goes to smtp:main runs in the request, by "
    assert re.search(told, status) and "CRITICAL: bypassed: the queue is bypassed" in status
    answer = json.loads(pijobs("status", "--json")[1])
    assert answer["bypasses"][0]["group"] == "smtp:main" and not answer["checks"]["bypassed"]["ok"]
    assert pijobs("bypass", "smtp:main", "--end")[0] == 0
    assert "bypassed" not in pijobs("status")[1]


def test_a_destination_that_is_down_is_tried_now_with_what_waits_for_its_next_attempt(
    pijobs: Pijobs, tmp_path: Path
) -> None:
    code, _, said = pijobs("flush", "smtp:main")
    assert code == 1 and "there is no group 'smtp:main'" in said
    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "privacyidea")
    storage.enqueue(NewInstance("one", "mail.send", b"e", b"b", "smtp:main"), timeout=5)
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1"), lease=60_000)
    (lease,) = storage.step("w", [], want=1).leases
    later = storage.now() + 3_600_000
    storage.step("w", [End("one", lease.token, State.SCHEDULED, due=later)], want=0)
    assert "group smtp:main: 1 that waited for their next attempt are due now" in pijobs("flush", "smtp:main")[1]
    policy = Policy(failures=3, opened=1, reason="refused").dumps()
    group = storage.group("smtp:main")
    assert group is not None
    storage.set_group("smtp:main", version=group.version, limit=1, blocked_until=later, policy=policy)
    assert "its destination is down: one instance tries it now" in pijobs("flush", "smtp:main")[1]
    assert len(storage.step("w", [], want=2).leases) == 1
    storage.close()


def test_what_was_paused_long_ago_is_red_and_what_was_paused_just_now_is_not() -> None:
    def pause(age: float | None) -> dict[str, object]:
        return {"at": "2026-11-30T03:00:00.000Z", "age": age, "by": "root", "reason": "upgrade"}

    def answer(of_all: float | None, of_one: float | None) -> dict[str, object]:
        return {"pause": of_all and pause(of_all), "groups": [{"name": "smtp:main", "pause": of_one and pause(of_one)}]}

    assert switches.forgotten(answer(None, 3600.0)).ok and switches.forgotten(answer(None, None)).ok
    found = switches.forgotten(answer(86400.0 * 3, 4 * 3600.0))
    assert not found.ok and "destination smtp:main for 4 hours" in found.message
    assert "the whole queue for 3 days, by root at 2026-11-30T03:00:00.000Z: upgrade" in found.message


def test_an_age_is_told_in_words() -> None:
    assert [told_age(seconds) for seconds in (5, 119, 120, 7199, 7200, 200_000)] == [
        "5 seconds", "119 seconds", "2 minutes", "120 minutes", "2 hours", "2 days",
    ]  # fmt: skip
