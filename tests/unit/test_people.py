"""What became of one person's messages, in one sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pijobs.execution.groups import Policy, after_failure
from pijobs.jobs import Job, State
from pijobs.observe import people
from pijobs.payload.subjects import spelled
from pijobs.plugins.hookspecs import Page
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End
from pijobs.testing import ManualClock


class OnePlugin(Plugins):
    """Whose mails are spoken of as such."""

    def call(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        return [("mail", [Page("", "", "mails", "mail.", "the mail server")])] if hook == "register_pages" else []


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage(clock: ManualClock) -> MemoryStorage:
    storage = MemoryStorage("main", clock=clock)
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1"), lease=10_000_000)
    return storage


def queue_on(storage: MemoryStorage, directory: Path, *keys: str) -> Queue:
    def send(to: str, user: str = "") -> None: ...

    job = Job(
        "mail.send", send, group=lambda **_: "smtp:main", label=lambda to, **_: f"mail to {to[0]}***@example.com",
        subject=lambda to, **_: to, person=lambda user="", **_: user or None,
    )  # fmt: skip
    values = {PREFIX + "KEYS": list(keys), PREFIX + "FALLBACK": ("direct",)}
    settings = validate(values, CORE_SETTINGS, directory=directory)
    return Queue(settings, Registry.of([job, Job("report.build", send, subject=lambda to, **_: to)]), OnePlugin([]),
                 storage=storage)  # fmt: skip


@pytest.fixture
def queue(storage: MemoryStorage, tmp_path: Path) -> Queue:
    return queue_on(storage, tmp_path, "key")


def sentences(queue: Queue, who: str) -> list[str]:
    return [row["told"] for row in people.messages(queue, who)]


def end(storage: MemoryStorage, state: State, **how: Any) -> None:
    (lease,) = storage.step("w", [], want=1).leases
    storage.step("w", [End(lease.id, lease.token, state, **how)], want=0)


def test_what_was_sent_is_told_with_its_time_and_its_tries(queue: Queue, storage: MemoryStorage) -> None:
    queue.enqueue("mail.send", kwargs={"to": "alice@example.com"})
    end(storage, State.SCHEDULED, due=storage.now())
    end(storage, State.DONE)
    assert sentences(queue, "alice@example.com") == ["Sent at 2023-11-14 22:13 UTC after 2 tries."]


def test_what_is_no_message_is_told_as_the_job_it_is(queue: Queue, storage: MemoryStorage) -> None:
    queue.enqueue("report.build", kwargs={"to": "acme"})
    end(storage, State.DEAD, reason="no such customer")
    assert sentences(queue, "ACME") == ["Failed: no such customer; given up at 2023-11-14 22:13 UTC."]


def test_what_came_too_late_tells_the_last_fault(queue: Queue, storage: MemoryStorage, clock: ManualClock) -> None:
    queue.enqueue("mail.send", kwargs={"to": "a@example.com"}, expires=60)
    end(storage, State.SCHEDULED, due=storage.now() + 30_000, entry='{"event": "attempt", "reason": "421 busy"}')
    queue.enqueue("mail.send", kwargs={"to": "b@example.com"}, expires=60)
    clock.advance(61)
    storage.beat("w", lease=10_000_000)
    assert sentences(queue, "a@example.com") == [
        "Not sent: its deadline passed at 2023-11-14 22:14 UTC; the last try failed: 421 busy."
    ]
    assert "no worker had begun it" in sentences(queue, "b@example.com")[0]


def test_one_that_a_newer_one_replaced_says_so(queue: Queue, clock: ManualClock) -> None:
    for _ in range(2):
        queue.enqueue("mail.send", kwargs={"to": "a@example.com"}, key="otp")
        clock.advance(1)
    assert sentences(queue, "a@example.com") == [
        "Waiting: a worker takes it next.",
        "Not sent: a newer one replaced it at 2023-11-14 22:13 UTC.",
    ]


def test_what_waits_tells_what_it_waits_for(queue: Queue, storage: MemoryStorage, clock: ManualClock) -> None:
    queue.enqueue("mail.send", kwargs={"to": "a@example.com"})
    policy, blocked = Policy(), None
    for _ in range(3):
        policy, blocked = after_failure(policy, now=storage.now(), began=0, workers=8, reason="connection refused")
        clock.advance(60)
    group = storage.group("smtp:main")
    assert group is not None
    storage.set_group("smtp:main", version=group.version, limit=1, blocked_until=blocked, policy=policy.dumps())
    down = "Waiting: the mail server (smtp:main) is down: connection refused; since 2023-11-14 22:13 UTC."
    assert sentences(queue, "a@example.com") == [down]
    storage.pause("smtp:main", reason="upgrade")
    paused = "Waiting: the mail server (smtp:main) is paused (upgrade) since 2023-11-14 22:16 UTC."
    assert sentences(queue, "a@example.com") == [paused]
    storage.close_session("w")
    assert sentences(queue, "a@example.com") == ["Waiting: no worker is running."]
    storage.pause(reason="the move")
    assert sentences(queue, "a@example.com") == ["Waiting: the queue is paused (the move) since 2023-11-14 22:16 UTC."]


def test_a_person_is_found_by_name_address_and_number_the_newest_first(queue: Queue, clock: ManualClock) -> None:
    ids = []
    for to in ("alice@example.com", "+49 170 1234567"):
        ids.append(queue.enqueue("mail.send", kwargs={"to": to, "user": "Alice"}).id)
        clock.advance(1)
    queue.enqueue("mail.send", kwargs={"to": "bob@example.com", "user": "bob"})
    assert [row["id"] for row in people.messages(queue, " alice ")] == ids[::-1]
    assert [row["id"] for row in people.messages(queue, "Alice@Example.com")] == ids[:1]
    assert [row["id"] for row in people.messages(queue, "(0170) 123-4567")] == ids[1:]
    assert people.messages(queue, "carol") == []


def test_what_has_moved_to_the_storage_is_told_as_that_has_it(queue: Queue, storage: MemoryStorage) -> None:
    queue.enqueue("mail.send", kwargs={"to": "alice@example.com"})
    spool = MemoryStorage("spool", clock=ManualClock())
    spool.enqueue(storage.take_out(1, hold=0)[0], timeout=1)
    end(storage, State.DONE)
    (row,) = people.messages(queue, "alice@example.com", places=[storage, spool])
    assert row["state"] == "done"


def test_half_a_letter_is_looked_for_and_enqueued_like_any_other(queue: Queue) -> None:
    assert people.messages(queue, "al\ud800ice") == [] and spelled("al\ud800ice") == "al?ice"


def test_nothing_in_the_storage_tells_the_person(queue: Queue, storage: MemoryStorage) -> None:
    queue.enqueue("mail.send", kwargs={"to": "alice@example.com", "user": "alice"})
    (new,) = storage.take_out(1, hold=1)
    assert "alice" not in repr(new).lower() and new.subject != new.person


def test_who_was_retired_with_a_key_is_found_no_more_and_that_is_said(storage: MemoryStorage, tmp_path: Path) -> None:
    queue_on(storage, tmp_path, "old").enqueue("mail.send", kwargs={"to": "a@example.com"})
    assert len(people.messages(queue_on(storage, tmp_path, "new", "old"), "a@example.com")) == 1
    later = queue_on(storage, tmp_path, "new")
    assert people.messages(later, "a@example.com") == []
    assert people.what_is_kept(later) == (
        "Sent messages are kept for 1 day, failed ones for 7 days. "
        "Messages that were queued under a retired key can't be found."
    )


@pytest.mark.parametrize(
    ("text", "as_stored"),
    [
        (" Alice ", "alice"),
        ("A@Example.COM", "a@example.com"),
        ("+49 (170) 123-4567", "number 01234567"),
        ("0170/1234567", "number 01234567"),
        ("123456", "123456"),  # an employee's number
        ("...", "..."),
        ("", ""),
    ],
)
def test_one_spelling_stands_for_all(text: str, as_stored: str) -> None:
    assert spelled(text) == as_stored
