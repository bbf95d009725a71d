"""Limits and habits of real mail servers: each costs no mail, no attempt and no second delivery.

Those that take long, or whose server is had in a roundabout way, run with ``make chaos``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from mail_relays import OPEN, Milter, dovecot, greylisting_postfix, haraka, opensmtpd, sendmail
from mail_servers import MailServer, running_postfix

from pijobs_mail.engine import delivery as deliveries
from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.pool import Pool
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.errors import MaybeSent, ServerTrouble

SENDER = "otp@example.com"


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


def plain(server: MailServer, **values: object) -> Endpoint:
    return Endpoint(host="127.0.0.1", port=server.port, timeout=30, **values)  # type: ignore[arg-type]


def mail(number: int, *to: str) -> Mail:
    content = f"From: {SENDER}\r\nSubject: code {number}\r\nMessage-ID: <{number}@example.com>\r\n\r\n{number}\r\n"
    return Mail(SENDER, to or ("alice@example.com",), content.encode())


def subjects(mails: list[bytes]) -> list[bytes]:
    return sorted(next(line for line in mail.splitlines() if line.startswith(b"Subject: ")) for mail in mails)


def test_exim_delivers_all_mails_at_once_and_not_the_first_ten(exim: MailServer, pool: Pool) -> None:
    """It leaves what comes after ten mails of a connection to its queue run, in Debian every 30 minutes."""
    user, password = exim.login
    place = plain(exim, security="starttls", ca_file=exim.ca_file, username=user, password=password)
    for number in range(12):
        assert pool.deliver(place, mail(number)).having(Verdict.ACCEPTED)
    assert len(set(subjects(exim.wait_for(12)))) == 12


def test_postfix_gives_up_after_many_unknown_recipients_and_the_good_one_gets_the_mail(pool: Pool) -> None:
    unknown = tuple(f"nobody{number}@example.com" for number in range(25))
    with running_postfix(f"{OPEN}\nsmtpd_error_sleep_time = 0") as server:
        rest: tuple[str, ...] = (*unknown, "alice@example.com")
        refused: list[str] = []
        for _ in range(2):
            delivery = pool.deliver(plain(server), mail(1, *rest))
            refused += delivery.having(Verdict.REFUSED)
            rest = tuple(delivery.having(Verdict.DEFERRED))
        assert (sorted(refused), rest) == (sorted(unknown), ())
        assert len(server.wait_for(1)) == 1


def test_opensmtpd_takes_so_many_mails_over_a_connection_and_the_others_over_the_next(pool: Pool) -> None:
    with opensmtpd("smtp limit max-mails 3") as server:
        for number in range(8):
            assert pool.deliver(plain(server), mail(number)).having(Verdict.ACCEPTED)
        assert len(set(subjects(server.wait_for(8)))) == 8


@contextmanager
def away() -> Iterator[MailServer]:
    """A Postfix whose filter does not answer."""
    with running_postfix(
        f"{OPEN}\nsmtpd_milters = inet:127.0.0.1:9\nmilter_default_action = tempfail\nmilter_connect_timeout = 1s"
    ) as server:
        yield server


def test_a_milter_that_is_away_is_the_servers_trouble(pool: Pool) -> None:
    with away() as server:
        for number in range(2):
            delivery = pool.deliver(plain(server), mail(number))
            assert delivery.having(Verdict.DEFERRED)["alice@example.com"].enhanced == "4.7.1"
        with pytest.raises(ServerTrouble, match=r"451 4\.7\.1"):
            pool.deliver(plain(server), mail(2))


@pytest.mark.chaos
def test_what_a_milter_says_of_one_mail_is_about_that_mail(pool: Pool) -> None:
    with Milter() as milter, running_postfix(f"{OPEN}\nsmtpd_milters = inet:127.0.0.1:{milter.port}") as server:
        for says, verdict in (("t", Verdict.DEFERRED), ("r", Verdict.REFUSED), ("a", Verdict.ACCEPTED)):
            for _ in range(2):
                milter.says = says
                delivery = pool.deliver(plain(server), mail(1))
                assert set(delivery.having(verdict)) == {"alice@example.com"}, delivery.reply
        assert len(server.wait_for(2)) == 2


def test_a_lookup_that_fails_for_one_recipient_stops_no_other(pool: Pool) -> None:
    """For bad@example.com Postfix asks a policy server that is not there."""
    settings = """\
smtpd_recipient_restrictions = check_recipient_access inline:{ {bad@example.com = broken} }, reject_unlisted_recipient
smtpd_restriction_classes = broken
broken = check_policy_service inet:127.0.0.1:9
smtpd_policy_service_retry_delay = 1s
smtpd_policy_service_try_limit = 1
"""
    with running_postfix(f"{OPEN}\n{settings}") as server:
        both = mail(0, "bad@example.com", "alice@example.com")
        delivery = pool.deliver(plain(server), both)
        assert list(delivery.having(Verdict.ACCEPTED)) == ["alice@example.com"]
        assert delivery.having(Verdict.DEFERRED)["bad@example.com"].enhanced == "4.3.5"
        for number in range(4):
            assert pool.deliver(plain(server), mail(number, "bad@example.com")).having(Verdict.DEFERRED)
        assert pool.deliver(plain(server), mail(9)).having(Verdict.ACCEPTED)


@pytest.mark.chaos
def test_a_filter_that_takes_longer_than_the_time_out_gets_the_mail_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_postfix(f"{OPEN}\nsmtpd_end_of_data_restrictions = sleep 35") as server:
        assert pool.deliver(plain(server, mails=1), mail(1)).having(Verdict.ACCEPTED)
        monkeypatch.setattr(deliveries, "FINAL_TIMEOUT", 1.0)
        hasty = Endpoint(host="127.0.0.1", port=server.port, timeout=1)
        with pytest.raises(MaybeSent):
            pool.deliver(hasty, mail(2))
        assert len(server.wait_for(1)) >= 1


@pytest.mark.chaos
def test_postscreen_takes_a_stranger_at_the_next_connection(pool: Pool) -> None:
    """It says 450 4.3.2 to a client that it does not know yet, and lets it through when it comes again."""
    settings = f"""\
{OPEN}
postscreen_greet_wait = 1s
postscreen_greet_banner =
postscreen_non_smtp_command_enable = yes
"""
    with running_postfix(settings, postscreen=True) as server:
        for _ in range(2):
            with suppress(ServerTrouble):
                pool.deliver(plain(server), mail(1))
        assert pool.deliver(plain(server), mail(2)).having(Verdict.ACCEPTED)


@pytest.mark.chaos
def test_greylisting_defers_a_mail_and_its_server_is_in_no_trouble(pool: Pool) -> None:
    with greylisting_postfix(3) as server:
        for number in range(5):
            to = ("alice@example.com", "bob@example.com")[number % 2]
            delivery = pool.deliver(plain(server), mail(number, to))
            if delivery.having(Verdict.ACCEPTED):
                break
            assert "Greylisted" in delivery.having(Verdict.DEFERRED)[to].text
        time.sleep(4)
        assert pool.deliver(plain(server), mail(9)).having(Verdict.ACCEPTED)


@pytest.mark.chaos
@pytest.mark.parametrize("relay", [sendmail, haraka, opensmtpd])
def test_mails_of_each_kind_of_server_arrive_once(relay: object, pool: Pool) -> None:
    with relay() as server:  # type: ignore[operator]
        ids = set()
        for number in range(25):
            delivery = pool.deliver(plain(server), mail(number))
            assert delivery.having(Verdict.ACCEPTED)
            ids.add(delivery.queue_id)
        assert None not in ids and len(ids) == 25
        assert len(set(subjects(server.wait_for(25)))) == 25
        unknown = "stranger@example.com" if relay is sendmail else "stranger@example.net"  # it relays for this machine
        delivery = pool.deliver(plain(server), mail(99, unknown))
        assert delivery.having(Verdict.REFUSED)


@pytest.mark.chaos
def test_sendmail_closes_over_its_limit_of_recipients_and_the_rest_follows(pool: Pool) -> None:
    with sendmail("define(`confMAX_RCPTS_PER_MESSAGE',`1')dnl") as server:
        delivery = pool.deliver(plain(server), mail(1, "alice@example.com", "bob@example.com"))
        assert list(delivery.having(Verdict.DEFERRED)) == ["bob@example.com"]
        assert pool.deliver(plain(server), mail(1, "bob@example.com")).having(Verdict.ACCEPTED)
        assert len(server.wait_for(2)) == 2


@pytest.mark.chaos
@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256", "cram-md5"])
def test_dovecot_submission_takes_mails_with_a_login(pool: Pool, mechanism: str) -> None:
    with dovecot(mechanism) as server:
        user, password = server.login
        place = plain(server, username=user, password=password)
        for number in range(12):
            assert pool.deliver(place, mail(number)).having(Verdict.ACCEPTED)
        assert len(set(subjects(server.wait_for(12)))) == 12
