"""The job ``mail.send`` and its engine under bad worlds: the server hangs up or stays silent at each step."""

from __future__ import annotations

from typing import Any

import pytest

from pijobs.testing.simulation.bad_worlds import BadWorld, BadWorlds
from pijobs_mail.servers.definitions import open_store

from .smtp import Server

pytestmark = pytest.mark.slow

#: Mails of one world.
MAILS = 4


@pytest.fixture
def job_settings() -> dict[str, Any]:
    return {"PI_JOB_QUEUE_PLUGINS": ["mail"], "PI_JOB_QUEUE_MAIL_LOGIN_WITHOUT_TLS": ["mail.example"]}


@pytest.fixture
def server(bad_worlds: BadWorlds) -> Server:
    values = {"server": "mail.example", "port": 25, "sender": "pijobs@example.com", "timeout": 1}
    open_store(bad_worlds.settings).save("main", values)
    return Server()


def send(world: BadWorld, *, expires: float | None, **more: Any) -> None:
    for number in range(MAILS):
        mail = {"server": "main", "to": f"{number}@example.com", "text": f"this is mail {number}.", **more}
        world.call("mail.send", mail, at=1.0 + 2 * number, expires=expires)


def arrivals(server: Server, number: int) -> list[Any]:
    return [mail for mail in server.mails if f"this is mail {number}.".encode() in mail.content]


def test_what_is_done_has_arrived_and_no_otp_comes_late(bad_worlds: BadWorlds, server: Server) -> None:
    def each_arrives(world: BadWorld) -> None:
        send(world, expires=4.0)
        with server.reached():
            instances = world.run()
        for number, instance in enumerate(instances):
            found = arrivals(server, number)
            assert found or instance.state != "done", instance
            # From the call, with a moment for the enqueue, and one between the last look and the mail's last byte.
            assert all(mail.at <= 1.0 + 2 * number + 4.0 + 0.5 for mail in found), instance
            doubts = sum(not mail.told for mail in found)
            assert len(found) <= instance.may_have_run + doubts, instance

    bad_worlds(each_arrives, worlds=40)


def test_a_notice_arrives_twice_only_if_nobody_knows_whether_it_was_enqueued(
    bad_worlds: BadWorlds, server: Server
) -> None:
    def once_at_most(world: BadWorld) -> None:
        send(world, expires=None, if_maybe_sent="not")
        with server.reached():
            instances = world.run()
        for number, instance in enumerate(instances):
            found = arrivals(server, number)
            assert len(found) <= 1 + instance.in_doubt, instance
            assert found or instance.state != "done", instance

    bad_worlds(once_at_most, worlds=40)


def test_neither_login_nor_mail_leaves_unencrypted_where_tls_is_asked_for(bad_worlds: BadWorlds) -> None:
    values = {"server": "mail.example", "port": 587, "sender": "pijobs@example.com", "timeout": 1, "tls": True,
              "username": "otp", "password": "correct horse"}  # fmt: skip
    open_store(bad_worlds.settings).save("main", values)
    server = Server("correct horse")
    arrived = 0

    def each_arrives_by_a_login_under_tls(world: BadWorld) -> None:
        nonlocal arrived
        send(world, expires=None)
        with server.reached():
            instances = world.run()
        assert server.in_clear == []
        for number, instance in enumerate(instances):
            found = arrivals(server, number)
            assert found or instance.state != "done", instance
            doubts = sum(not mail.told for mail in found)
            assert len(found) <= instance.may_have_run + doubts, instance
            arrived += bool(found)

    bad_worlds(each_arrives_by_a_login_under_tls, worlds=20)
    assert server.logins > 20
    assert arrived > 3 * 20
