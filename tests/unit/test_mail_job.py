"""What follows from an attempt at a mail: done, another attempt for the rest, waiting for the server, or dead."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pijobs import DestinationDown, FailJob, JobContext, Limits, RetryJob, Settings
from pijobs.context import Permit
from pijobs.errors import AttemptDeferred, DeadlinePassed, UnknownHere
from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.attempt import IfMaybeSent
from pijobs_mail.engine import connection
from pijobs_mail.engine.replies import Reply
from pijobs_mail.engine.transport import Conversation
from pijobs_mail.job import register, send, send_unsaved
from pijobs_mail.servers.definitions import SETTINGS, open_store
from pijobs_mail.sink.server import Fault, Sink

OTP = "739105"
TO = ["alice@example.com", "bob@example.com", "carol@example.com"]
MAIL: dict[str, Any] = {"to": TO, "subject": "Your code", "text": f"Your code is {OTP}\n"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)


def save(settings: Settings, sink: Sink, **values: Any) -> None:
    definition = {"server": sink.host, "port": sink.port, "sender": "pijobs@example.com", "timeout": 5}
    open_store(settings).save("main", {**definition, **values})


Measured = list[tuple[str, float, Mapping[str, object]]]


def context(
    settings: Settings,
    attempt: int = 1,
    deadline: float | None = None,
    measured: Measured | None = None,
    created: float | None = None,
    **more: Any,
) -> JobContext:
    return JobContext(
        id="0af3c1",
        name="mail.send",
        attempt=attempt,
        deadline=deadline,
        settings=settings,
        now=time.time,
        count=lambda *_: None,
        log=logging.LoggerAdapter(logging.getLogger("test"), {}),
        measure=lambda *counted: None if measured is None else measured.append(counted),
        created=created,
        **more,
    )


def attempt(settings: Settings, sink: Sink, **arguments: Any) -> JobContext:
    save(settings, sink)
    ctx = context(settings)
    send(ctx, "main", **{**MAIL, **arguments})
    return ctx


def test_a_mail_that_every_recipient_got_is_done(settings: Settings, smtp_sink: Sink) -> None:
    ctx = attempt(settings, smtp_sink)
    assert smtp_sink.wait_for(1, 5)[0].recipients == tuple(TO)
    assert ctx.notes["queue_id"] == "S000001"
    assert ctx.notes["reply"].startswith("250")


def test_the_definition_is_read_at_the_attempt(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink, server="smtps://nobody.invalid")
    save(settings, smtp_sink)
    send(context(settings), "main", **MAIL)
    assert len(smtp_sink.mails) == 1


def test_a_changed_definition_gets_a_connection_of_its_own(settings: Settings, smtp_sink: Sink) -> None:
    for timeout in (5, 5, 6):
        save(settings, smtp_sink, timeout=timeout)
        send(context(settings), "main", **MAIL)
    assert (smtp_sink.connections, len(smtp_sink.mails)) == (2, 3)


def test_a_deleted_definition_ends_the_mail_and_says_so(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink)
    open_store(settings).delete("main")
    with pytest.raises(FailJob, match="SMTP server 'main' was deleted"):
        send(context(settings), "main", **MAIL)


def test_a_definition_that_this_worker_does_not_find_is_left_to_others(settings: Settings) -> None:
    with pytest.raises(
        UnknownHere, match=r"SMTP server 'main' is not in the database of this worker, /.*pijobs.sqlite"
    ):
        send(context(settings), "main", **MAIL)


def test_the_message_id_is_the_same_over_all_attempts(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink)
    for number in (1, 2):
        send(context(settings, attempt=number), "main", **MAIL)
    first, second = (mail.message["Message-ID"] for mail in smtp_sink.wait_for(2, 5))
    assert first == second == "<0af3c1@example.com>"


def test_deferred_recipients_alone_are_tried_again(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("RCPT", Fault("451 4.7.1 try again in 60 seconds", recipient="bob@"))
    with pytest.raises(RetryJob, match=r"1 of 3 recipients deferred: b\*\*\*@example.com: 451 4.7.1") as again:
        attempt(settings, smtp_sink)
    assert again.value.delay == 60
    assert again.value.kwargs == {"recipients": ["bob@example.com"], "refused": {}}
    assert smtp_sink.wait_for(1, 5)[0].recipients == ("alice@example.com", "carol@example.com")


def test_the_next_attempt_goes_to_the_rest_with_the_same_header(settings: Settings, smtp_sink: Sink) -> None:
    attempt(settings, smtp_sink, recipients=["bob@example.com"])
    mail = smtp_sink.wait_for(1, 5)[0]
    assert mail.recipients == ("bob@example.com",)
    assert [each.addr_spec for each in mail.message["To"].addresses] == TO


def test_a_recipient_refused_for_good_does_not_stop_the_others(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("RCPT", Fault("550 5.1.1 unknown", recipient="alice@"))
    with pytest.raises(FailJob, match=r"1 of 3 recipients refused: a\*\*\*@example.com: 550 5.1.1 unknown"):
        attempt(settings, smtp_sink)
    assert smtp_sink.wait_for(1, 5)[0].recipients == ("bob@example.com", "carol@example.com")


def test_refusals_are_remembered_while_others_are_tried_again(settings: Settings, smtp_sink: Sink) -> None:
    refused, deferred = Fault("550 5.1.1 unknown", recipient="alice@"), Fault("451 later", recipient="bob@", times=1)
    smtp_sink.fail_at("RCPT", [refused, deferred])
    with pytest.raises(RetryJob) as again:
        attempt(settings, smtp_sink)
    assert again.value.kwargs == {"recipients": ["bob@example.com"], "refused": {"alice@example.com": 550}}
    with pytest.raises(FailJob, match=r"1 of 3 recipients refused: a\*\*\*@example.com: 550"):
        attempt(settings, smtp_sink, **again.value.kwargs)
    assert [mail.recipients for mail in smtp_sink.mails] == [("carol@example.com",), ("bob@example.com",)]


@pytest.mark.parametrize("step", ["MAIL", "DATA", "END"])
def test_a_message_refused_for_good_is_dead(settings: Settings, smtp_sink: Sink, step: str) -> None:
    smtp_sink.fail_at(step, "554 5.7.1 looks like spam")
    with pytest.raises(FailJob, match="3 of 3 recipients refused"):
        attempt(settings, smtp_sink)


def test_a_server_in_trouble_costs_the_mail_no_attempt(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("GREETING", "421 4.3.2 try again in 90 seconds")
    with pytest.raises(DestinationDown) as down:
        attempt(settings, smtp_sink)
    assert down.value.retry_after == 90


def test_a_wrong_login_costs_the_mail_no_attempt(settings: Settings) -> None:
    with Sink(logins={"user": "right"}) as sink:
        save(settings, sink, username="user", password="hunter2")
        with pytest.raises(DestinationDown, match="login") as down:
            send(context(settings), "main", **MAIL)
    assert "hunter2" not in str(down.value)


@pytest.mark.parametrize("step", ["MAIL", "END"])
def test_a_lost_connection_is_tried_again(settings: Settings, smtp_sink: Sink, step: str) -> None:
    smtp_sink.fail_at(step, Fault(drop=True))
    with pytest.raises(RetryJob):
        attempt(settings, smtp_sink)


def test_a_mail_whose_deadline_passed_is_not_sent(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink)
    with pytest.raises(DeadlinePassed):
        send(context(settings, deadline=time.time() - 1), "main", **MAIL)
    assert smtp_sink.mails == []


def test_a_server_that_hangs_is_left_at_the_deadline(
    settings: Settings, smtp_sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "QUIT_TIMEOUT", 0.1)
    smtp_sink.fail_at("RCPT", Fault(hang=True))
    save(settings, smtp_sink, timeout=60)
    started = time.monotonic()
    with pytest.raises(DeadlinePassed):
        send(context(settings, deadline=time.time() + 0.4), "main", **MAIL)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "reply",
    [
        f"554 5.7.1 rejected: Your code is {OTP}",
        "554 5.7.1 <alice@example.com> does not want this",
        "451 4.7.1 alice@example.com is greylisted",
        "421 4.7.0 too many mails to alice@example.com",
    ],
)
def test_no_reply_of_a_server_brings_a_secret_to_people(settings: Settings, smtp_sink: Sink, reply: str) -> None:
    smtp_sink.fail_at("END", reply)
    with pytest.raises((FailJob, RetryJob, DestinationDown)) as failure:
        attempt(settings, smtp_sink)
    assert OTP not in str(failure.value)
    assert "alice@" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_the_password_of_the_server_is_kept_out_of_what_is_told(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink, password="hunter2")
    hidden: list[str | None] = []
    send(context(settings, hide=lambda *texts: hidden.extend(texts)), "main", **MAIL)
    assert "hunter2" in hidden


def test_a_mail_that_can_not_be_written_is_dead(settings: Settings, smtp_sink: Sink) -> None:
    with pytest.raises(FailJob, match=r"to\[0\]"):
        attempt(settings, smtp_sink, to=["no body"])


def test_a_bad_address_does_not_keep_the_mail_from_the_others(settings: Settings, smtp_sink: Sink) -> None:
    with pytest.raises(FailJob, match=r"1 of 3 recipients refused: to\[1\] \(n\*\*\*\): expected a mail address"):
        attempt(settings, smtp_sink, to=["alice@example.com", "no body", "", '"Smith, Jane" <jane@example.com>'])
    assert smtp_sink.wait_for(1, 5)[0].recipients == ("alice@example.com", "jane@example.com")


def test_a_mail_from_nobody_has_the_null_reverse_path(settings: Settings, smtp_sink: Sink) -> None:
    attempt(settings, smtp_sink, sender="<>")
    (mail,) = smtp_sink.wait_for(1, 5)
    assert mail.sender == "<>", "that is how the sink writes it"


ABROAD = ["alice@example.com", "J\u00f6rg <j\u00f6rg@example.com>", '"+49 123"@sms.example.com']


def test_an_address_beyond_ascii_is_sent_where_the_server_takes_it(settings: Settings) -> None:
    with Sink(offers=["SMTPUTF8"]) as sink:
        attempt(settings, sink, to=ABROAD)
        (mail,) = sink.wait_for(1, 5)
    assert mail.recipients == ("alice@example.com", "j\u00f6rg@example.com", '"+49 123"@sms.example.com')
    assert "j\u00f6rg@example.com".encode() in mail.content


def test_where_it_does_not_the_others_get_the_mail(settings: Settings, smtp_sink: Sink) -> None:
    with pytest.raises(FailJob, match=r"1 of 3 recipients refused: j\*\*\*@example.com: .*SMTPUTF8 \(RFC 6531\)"):
        attempt(settings, smtp_sink, to=ABROAD)
    (mail,) = smtp_sink.wait_for(1, 5)
    assert mail.recipients == ("alice@example.com", '"+49 123"@sms.example.com')
    assert mail.content.isascii()


@pytest.mark.parametrize("given", [{"to": ABROAD[1:2]}, {"sender": "j\u00f6rg@example.com"}])
def test_a_mail_that_the_server_can_give_to_nobody_is_dead(
    settings: Settings, smtp_sink: Sink, given: dict[str, Any]
) -> None:
    with pytest.raises(FailJob, match="does not offer SMTPUTF8"):
        attempt(settings, smtp_sink, **given)
    assert smtp_sink.mails == []


def test_a_mail_tells_machines_not_to_answer_unless_that_is_switched_off(settings: Settings, smtp_sink: Sink) -> None:
    attempt(settings, smtp_sink)
    values = {"SECRET_KEY": "x" * 32, "PI_JOB_QUEUE_MAIL_AUTO_SUBMITTED": False}
    attempt(validate(values, [*CORE_SETTINGS, *SETTINGS], directory=settings.directory), smtp_sink)
    told, quiet = smtp_sink.wait_for(2, 5)
    assert (told.message["Auto-Submitted"], quiet.message["Auto-Submitted"]) == ("auto-generated", None)


def test_a_mail_that_can_not_be_signed_waits_where_none_may_go_unsigned(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink, smime=True, certificate="/nowhere.pem", private_key="/x", dont_send_on_error=True)
    with pytest.raises(DestinationDown, match=r"can't be signed: /nowhere.pem: No such file"):
        send(context(settings), "main", **MAIL)
    assert smtp_sink.mails == []


def test_a_mail_that_can_not_be_signed_goes_unsigned_otherwise_and_says_so(
    settings: Settings, smtp_sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    save(settings, smtp_sink, smime=True, certificate="/nowhere.pem", private_key="/x")
    ctx = context(settings)
    send(ctx, "main", **MAIL)
    assert smtp_sink.wait_for(1, 30)[0].message.get_content_type() == "text/plain"
    assert "not signed" in ctx.notes["smime"]
    assert "the mail goes unsigned" in caplog.text


def test_a_mail_without_a_date_has_that_of_its_call_at_each_attempt(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink)
    for number in (1, 2):
        send(context(settings, attempt=number, created=1_795_000_000.5), "main", **MAIL)
    first, second = smtp_sink.wait_for(2, 30)
    assert first.content == second.content


def test_attachments_travel_as_arguments_of_the_job(settings: Settings, smtp_sink: Sink) -> None:
    attempt(settings, smtp_sink, attachments=[{"name": "report.pdf", "content": b"%PDF", "type": "application/pdf"}])
    parts = list(smtp_sink.wait_for(1, 30)[0].message.iter_attachments())
    assert [(part.get_filename(), part.get_content()) for part in parts] == [("report.pdf", b"%PDF")]


def test_an_attachment_that_is_none_is_dead(settings: Settings, smtp_sink: Sink) -> None:
    with pytest.raises(FailJob, match="attachments: expected name, content"):
        attempt(settings, smtp_sink, attachments=[{"file": "x"}])


def test_a_definition_that_is_not_saved_can_be_tried(settings: Settings, smtp_sink: Sink) -> None:
    values = {"server": smtp_sink.host, "port": smtp_sink.port, "sender": "pijobs@example.com"}
    send_unsaved(context(settings), open_store(settings).check(values), "alice@example.com", "Test", "hello\n")
    assert smtp_sink.wait_for(1, 5)[0].recipients == ("alice@example.com",)


def test_a_try_ends_at_once_when_the_server_is_in_trouble(settings: Settings) -> None:
    definition = open_store(settings).check({"server": "nobody.invalid", "sender": "pijobs@example.com"})
    with pytest.raises(FailJob, match="no address"):
        send_unsaved(context(settings), definition, "alice@example.com", "Test", "hello\n")


def test_people_see_a_masked_recipient_and_no_subject() -> None:
    job = next(job for job in register() if job.name == "mail.send")
    assert job.label is not None
    assert job.label("main", **MAIL) == "mail to a***@example.com and 2 more"
    assert job.label("main", "alice@example.com", "Code 739105", "text") == "mail to a***@example.com"


def test_mails_are_grouped_by_their_server() -> None:
    job = next(job for job in register() if job.name == "mail.send")
    assert job.group is not None
    assert job.group("main", **MAIL) == job.group(server="main", to="bob@example.com") == "smtp:main"


def test_a_mail_to_one_recipient_can_be_found_by_the_address() -> None:
    job = next(job for job in register() if job.name == "mail.send")
    assert job.subject is not None
    assert job.subject("main", to="Alice <Alice@example.com>") == "alice@example.com"
    assert job.subject("main", to=TO) is None


def test_an_otp_mail_does_not_outlive_the_otp() -> None:
    job = next(job for job in register() if job.name == "mail.send")
    assert 0 < (job.expires or math.inf) <= 120


def test_a_password_that_this_worker_can_not_read_costs_no_attempt(tmp_path: Path, smtp_sink: Sink) -> None:
    save(validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path), smtp_sink, password="pw")
    other = validate({"SECRET_KEY": "y" * 32}, [*CORE_SETTINGS, *SETTINGS], directory=tmp_path)
    with pytest.raises(UnknownHere, match="smtpserver"):
        send(context(other), "main", **MAIL)


def test_the_log_tells_where_the_mail_went_and_no_secret(
    settings: Settings, smtp_sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    smtp_sink.fail_at("RCPT", Fault("550 5.1.1 bob@example.com is unknown", recipient="bob@"))
    with pytest.raises(FailJob):
        attempt(settings, smtp_sink)
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("mail."))
    assert f"2 of 3 recipients taken by {smtp_sink.host}:{smtp_sink.port}: 250 2.0.0 Ok: queued as S000001" in ours
    assert not any(secret in ours for secret in (OTP, "alice@", "bob@"))


@pytest.mark.parametrize(
    ("step", "fault", "codes"),
    [
        ("RCPT", Fault("550 5.1.1 unknown", recipient="alice@"), ["2xx", "2xx", "5xx"]),
        ("RCPT", Fault("451 4.7.1 later"), ["4xx", "4xx", "4xx"]),
        ("GREETING", "421 4.3.2 not now", ["4xx"]),
        ("END", Fault(drop=True), ["none"]),
    ],
)
def test_the_replies_that_decided_are_counted_by_class(
    settings: Settings, smtp_sink: Sink, step: str, fault: Any, codes: list[str]
) -> None:
    smtp_sink.fail_at(step, fault)
    save(settings, smtp_sink)
    measured: Measured = []
    with pytest.raises((FailJob, RetryJob, DestinationDown)):
        send(context(settings, measured=measured), "main", **MAIL)
    assert {(name, value, labels["server"]) for name, value, labels in measured} == {("smtp_replies", 1, "main")}
    assert sorted(str(labels["code"]) for _, _, labels in measured) == codes


# -- what may have been sent -----------------------------------------------------------------------------------------


def test_a_mail_that_may_have_been_sent_goes_again_unless_it_must_not(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("END", Fault(drop=True))
    with pytest.raises(RetryJob, match="may have been sent: no reply from"):
        attempt(settings, smtp_sink)
    with pytest.raises(FailJob, match=r"may have been sent: no reply from .*; it is not sent again"):
        attempt(settings, smtp_sink, if_maybe_sent="not")


def test_a_notice_is_tried_again_as_long_as_it_was_not_sent(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("DATA", [Fault(drop=True, times=1), Fault("451 4.3.0 not now", times=1)])
    for _ in range(2):
        with pytest.raises(RetryJob):
            attempt(settings, smtp_sink, if_maybe_sent="not")
    attempt(settings, smtp_sink, if_maybe_sent="not")
    assert len(smtp_sink.mails) == 1


def test_a_notice_whose_worker_was_lost_is_not_sent_again(settings: Settings, smtp_sink: Sink) -> None:
    save(settings, smtp_sink)
    with pytest.raises(FailJob, match="may have been sent: a worker was lost"):
        send(context(settings, crashes=1), "main", **MAIL, if_maybe_sent="not")
    assert smtp_sink.mails == []
    send(context(settings, crashes=1), "main", **MAIL)
    assert len(smtp_sink.mails) == 1


def test_a_doubt_is_tried_again_at_most_once(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("END", Fault(drop=True))
    with pytest.raises(RetryJob) as again:
        attempt(settings, smtp_sink)
    assert again.value.kwargs == {"in_doubt": True}
    with pytest.raises(FailJob, match=r"may have been sent: .*; its outcome was unknown before"):
        attempt(settings, smtp_sink, **again.value.kwargs)
    assert len(smtp_sink.mails) == 2


@pytest.mark.parametrize(
    ("lease", "waited"), [(None, 30), (math.inf, 600), (900.0, 600), (100.0, 90), (5.0, 5)], ids=str
)
def test_the_final_reply_is_waited_for_as_long_as_the_lease_can_be_kept(
    settings: Settings, smtp_sink: Sink, monkeypatch: pytest.MonkeyPatch, lease: float | None, waited: float
) -> None:
    """RFC 5321 4.5.3.2.6: ten minutes; in a request somebody waits. Never less than the time-out of the definition."""
    seconds = []

    def final_reply(self: Conversation, patience: float) -> Reply:
        seconds.append(patience)
        return really(self, patience)

    really = Conversation._final_reply
    monkeypatch.setattr(Conversation, "_final_reply", final_reply)
    save(settings, smtp_sink)
    until = None if lease is None else time.monotonic() + lease
    send(context(settings, lease_until=until), "main", **MAIL)
    assert seconds == [pytest.approx(waited, abs=1)]


def test_attempts_go_on_ever_slower_for_days_and_the_deadline_ends_them() -> None:
    retry = next(job for job in register() if job.name == "mail.send").retry
    waits = [retry.wait_after(number, spread=lambda *_: 0.0) for number in range(1, retry.max_attempts)]
    assert waits[:4] == [2, 4, 8, 16]
    assert waits == sorted(waits)
    assert waits[-1] <= 3600
    assert sum(waits) > 5 * 24 * 3600


@pytest.mark.parametrize(
    ("reply", "delay"),
    [
        ("452 4.5.3 too many recipients", 0),
        ("421 4.7.0 too many errors", 0),
        ("451 4.2.1 mailbox busy", None),
        ("451 4.7.1 try again in 60 seconds", 60),
    ],
)
def test_a_mail_that_is_taken_in_parts_goes_on_with_the_next_part_at_once(
    settings: Settings, smtp_sink: Sink, reply: str, delay: float | None
) -> None:
    smtp_sink.fail_at("RCPT", [Fault("550 5.1.1 unknown", recipient="alice@"), Fault(reply, recipient="carol@")])
    permit = Permit()
    save(settings, smtp_sink)
    with pytest.raises(RetryJob) as again:
        send(context(settings, permit=permit), "main", **MAIL)
    assert again.value.delay == delay
    assert permit.slowed is None or "4.7.1" in permit.slowed, "it is about this mail"
    smtp_sink.fail_at("RCPT", [])
    with pytest.raises(FailJob, match=r"1 of 3 recipients refused"):
        attempt(settings, smtp_sink, **again.value.kwargs or {})
    assert {who for mail in smtp_sink.mails for who in mail.recipients} == {"bob@example.com", "carol@example.com"}


def test_what_is_only_supposed_to_be_the_servers_trouble_counts_and_goes_by_the_fallback(
    settings: Settings, smtp_sink: Sink
) -> None:
    smtp_sink.fail_at("RCPT", "451 4.7.1 Service unavailable - try again later")
    save(settings, smtp_sink, timeout=7)
    for number in range(3):
        with pytest.raises((RetryJob, DestinationDown)) as failure:
            send(context(settings), "main", to=f"user{number}@example.com", subject="x", text="x")
    assert isinstance(failure.value, DestinationDown)
    assert failure.value.counted
    with Sink() as backup:
        with_backup(settings, smtp_sink, backup)
        save(settings, smtp_sink, timeout=7, fallback="backup")
        send(context(settings), "main", **MAIL)
        assert len(backup.mails) == 1


@pytest.mark.parametrize(("policy", "once"), [("again", False), ("not", True)])
def test_only_a_notice_makes_the_end_of_its_worker_count(
    settings: Settings, smtp_sink: Sink, policy: IfMaybeSent, once: bool
) -> None:
    permit = Permit()
    save(settings, smtp_sink)
    send(context(settings, permit=permit), "main", **MAIL, if_maybe_sent=policy)
    assert permit.once is once


# -- limits, and servers that want less ------------------------------------------------------------------------------


def test_the_limits_of_the_definition_are_asked_before_the_mail_goes(settings: Settings, smtp_sink: Sink) -> None:
    asked: list[tuple[str, Limits]] = []

    def enter(destination: str, limits: Limits) -> None:
        asked.append((destination, limits))
        if len(asked) == 2:
            raise AttemptDeferred("smtp:main is at its rate limit")

    save(settings, smtp_sink, max_connections=3, rate="30/min")
    permit = Permit(enter)
    send(context(settings, permit=permit), "main", **MAIL)
    with pytest.raises(AttemptDeferred):
        send(context(settings, permit=permit), "main", **MAIL)
    assert asked == [("smtp:main", Limits(concurrency=3, rate=30, per=60))] * 2
    assert len(smtp_sink.mails) == 1


@pytest.mark.parametrize(
    ("step", "reply", "slows"),
    [
        ("GREETING", "421 4.7.0 too many connections", True),
        ("MAIL", "421 4.3.2 try again in 30 seconds", True),
        ("MAIL", "450 4.7.1 too much mail from you", True),
        ("RCPT", "451 4.7.500 server busy", True),
        ("END", "452 4.3.1 rate limit reached", True),
        ("RCPT", "451 4.7.1 Greylisted, try again later", False),
        ("RCPT", "450 4.2.0 greylisting in action", False),
        ("RCPT", "450 4.2.1 mailbox busy", False),
        ("RCPT", "550 5.7.1 too many connections", False),
    ],
)
def test_a_server_that_wants_fewer_slows_its_group(
    settings: Settings, smtp_sink: Sink, step: str, reply: str, slows: bool
) -> None:
    permit = Permit()
    smtp_sink.fail_at(step, reply)
    save(settings, smtp_sink)
    with pytest.raises((RetryJob, DestinationDown, FailJob)):
        send(context(settings, permit=permit), "main", **MAIL)
    assert (permit.slowed is not None) is slows
    if slows:
        assert f"the server wants fewer at once: {reply[:3]}" in str(permit.slowed)


# -- failover --------------------------------------------------------------------------------------------------------


def with_backup(settings: Settings, main: Sink, backup: Sink, **values: Any) -> None:
    place = {"server": backup.host, "port": backup.port, "sender": "backup@example.com", "timeout": 5}
    open_store(settings).save("backup", {**place, **values})
    save(settings, main, fallback="backup", timeout=60)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("GREETING", "421 4.3.2 not now"),
        ("GREETING", Fault(drop=True)),
        ("EHLO", "554 5.3.2 never"),
        ("MAIL", "452 4.3.1 disk full"),
        ("RCPT", Fault(drop=True)),
        ("DATA", Fault(drop=True)),
    ],
)
def test_a_fallback_takes_what_a_server_in_trouble_does_not(
    settings: Settings, smtp_sink: Sink, step: str, fault: Any
) -> None:
    smtp_sink.fail_at(step, fault)
    if step == "EHLO":
        smtp_sink.fail_at("HELO", fault)
    with Sink() as backup:
        with_backup(settings, smtp_sink, backup)
        permit, measured = Permit(), Measured()
        ctx = context(settings, permit=permit, measured=measured)
        send(ctx, "main", **MAIL)
        assert (len(smtp_sink.mails), len(backup.mails), backup.mails[0].sender) == (0, 1, "backup@example.com")
        assert ctx.notes["server"] == "backup"
        assert "SMTP server 'backup' takes over for 'main': " in str(permit.warning)
        assert {labels["server"] for _, _, labels in measured} == {"main", "backup"}


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("RCPT", "550 5.1.1 unknown"),
        ("RCPT", "451 4.2.1 mailbox busy"),
        ("END", "554 5.7.1 looks like spam"),
        ("END", Fault(drop=True)),
    ],
)
def test_a_fallback_gets_no_mail_that_its_server_decided_about(
    settings: Settings, smtp_sink: Sink, step: str, fault: Any
) -> None:
    smtp_sink.fail_at(step, fault)
    with Sink() as backup:
        with_backup(settings, smtp_sink, backup)
        with pytest.raises((FailJob, RetryJob)):
            send(context(settings), "main", **MAIL)
        assert backup.mails == []


def test_a_server_that_hangs_leaves_its_fallback_half_of_the_time(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("EHLO", Fault(hang=True))
    with Sink() as backup:
        with_backup(settings, smtp_sink, backup)
        started = time.monotonic()
        send(context(settings, deadline=time.time() + 8), "main", **MAIL)
        assert 3.5 < time.monotonic() - started < 7.9
        assert len(backup.mails) == 1


def test_when_both_are_in_trouble_the_mail_waits_for_its_own_server(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("GREETING", "421 4.3.2 try again in 90 seconds")
    with Sink(faults={"GREETING": "554 5.3.2 no"}) as backup:
        with_backup(settings, smtp_sink, backup)
        with pytest.raises(DestinationDown, match=r"421 4\.3\.2") as down:
            send(context(settings), "main", **MAIL)
        assert down.value.retry_after == 90


def test_a_test_of_a_definition_goes_by_no_other(settings: Settings, smtp_sink: Sink) -> None:
    smtp_sink.fail_at("GREETING", "421 4.3.2 not now")
    with Sink() as backup:
        with_backup(settings, smtp_sink, backup)
        with pytest.raises(DestinationDown):
            send(context(settings), "main", **MAIL, failover=False)
        assert backup.mails == []


def test_a_mail_that_must_be_signed_goes_by_no_server_that_does_not_sign(settings: Settings, smtp_sink: Sink) -> None:
    with Sink() as backup:
        with_backup(settings, smtp_sink, backup)
        save(settings, smtp_sink, smime=True, certificate="/nowhere.pem", private_key="/x", dont_send_on_error=True)
        with pytest.raises(DestinationDown, match="can't be signed"):
            send(context(settings), "main", **MAIL)
        assert backup.mails == []
