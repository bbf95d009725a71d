"""A real privacyIDEA, its worker, Redis and an SMTP server; what must arrive arrives, and what must not does not."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import pytest
from challenges import PATIENCE, PIN, arrives_and_signs_in, becomes, challenge, jobs, pijobs, the_job
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from quick_instance import RELEASE
from services import free_port, wait_until

from pijobs_mail.sink.server import Fault, Sink
from pijobs_privacyidea.demo import compare
from pijobs_privacyidea.instance import REALM, Instance, InstanceFailed

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

SendMail = Callable[..., None]


def opened_by(pid: int) -> set[str]:
    return {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()}


def test_the_mail_arrives_when_the_smtp_server_first_says_451(instance: Instance, sink: Sink) -> None:
    sink.fail_at("RCPT", Fault("451 4.7.1 try again", times=1))
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        arrives_and_signs_in(instance, sink, challenge(instance))


def test_a_server_that_hangs_does_not_hold_up_the_mails_of_another(
    instance: Instance, sink: Sink, send_mail: SendMail
) -> None:
    with Sink(delay=120) as hanging:
        instance.set_smtp_server("hanging", hanging.port, queued=True, timeout=60)
        instance.set_smtp_server("otp", sink.port, queued=True)
        with instance.working():
            send_mail("hanging", "bob@example.com")
            wait_until(lambda: hanging.connections > 0, PATIENCE)
            began = time.monotonic()
            challenge(instance)
            sink.wait_for(1, PATIENCE)
            assert time.monotonic() - began < 5


@pytest.mark.parametrize("step", ["GREETING", "DATA"])
def test_a_connection_that_hangs_does_not_hold_up_the_next_mail_of_the_same_server(
    instance: Instance, sink: Sink, send_mail: SendMail, step: str
) -> None:
    sink.fail_at(step, Fault(hang=True, times=1))
    instance.set_smtp_server("otp", sink.port, queued=True, timeout=60)
    with instance.working():
        send_mail("otp", "bob@example.com")
        wait_until(lambda: sink.steps[step] > 0, PATIENCE)
        began = time.monotonic()
        challenge(instance)
        mails = sink.wait_for(1, PATIENCE)
        assert time.monotonic() - began < 5
    assert mails[0].recipients == ("alice@example.com",)


def test_an_otp_that_is_too_late_is_not_sent(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    instance.ask("/system/setConfig", **{"email.validtime": 1})
    try:
        challenge(instance)
        due = time.monotonic() + 1.1
        wait_until(lambda: time.monotonic() > due, PATIENCE)
        with instance.working():
            becomes(instance, "expired")
    finally:
        instance.ask("/system/setConfig", **{"email.validtime": 120})
    assert (sink.connections, sink.mails) == (0, [])


def test_a_newer_otp_of_the_same_token_takes_the_place_of_one_that_waits(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    challenge(instance)
    newest = challenge(instance)
    assert sorted(job["state"] for job in jobs(instance)) == ["cancelled", "queued"]
    with instance.working():
        arrives_and_signs_in(instance, sink, newest)
    assert len(sink.mails) == 1


def test_a_mail_that_is_no_otp_has_no_deadline(instance: Instance, sink: Sink, send_mail: SendMail) -> None:
    instance.set_smtp_server("plain", sink.port, queued=True)
    instance.ask("/system/setConfig", **{"email.validtime": 1})
    try:
        send_mail("plain", "bob@example.com")
        due = time.monotonic() + 1.1
        wait_until(lambda: time.monotonic() > due, PATIENCE)
        with instance.working():
            becomes(instance, "done")
    finally:
        instance.ask("/system/setConfig", **{"email.validtime": 120})
    assert len(sink.mails) == 1


def test_a_refusal_for_good_is_seen_in_status_metrics_and_readiness_and_found_by_the_address(
    instance: Instance, sink: Sink
) -> None:
    sink.fail_at("RCPT", "550 5.1.1 no such user")
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        challenge(instance)
        record = becomes(instance, "dead")
        metrics = urllib.request.urlopen(f"{instance.url}/jobqueue/metrics", timeout=PATIENCE).read().decode()
        checks = instance.ask("/jobqueue/healthz", "GET")["result"]["value"]["checks"]
    assert "550 5.1.1 no such user" in record["reason"]
    assert re.search(r'pijobs_instances\{job="smtpserver.send_email",state="dead"\} 1', metrics)
    assert checks["failures"]["warning"]
    assert "1 dead" in checks["failures"]["message"]
    status = pijobs(instance, "status")
    assert "550 5.1.1 no such user" in status.stdout
    found = pijobs(instance, "jobs", "find", "alice")
    assert record["id"] in found.stdout and "Not sent: " in found.stdout
    assert record["id"] in pijobs(instance, "jobs", "find", "Alice@example.com").stdout
    assert "alice@" not in str(record) + metrics + str(checks) + status.stdout + found.stdout


def test_a_definition_that_changes_while_the_mail_waits_counts_as_it_is_now(instance: Instance) -> None:
    instance.set_smtp_server("otp", free_port(), queued=True)
    transaction = challenge(instance)
    with Sink(logins={"pi": "s3cret"}) as with_login:
        instance.set_smtp_server("otp", with_login.port, queued=True, username="pi", password="s3cret")
        with instance.working():
            arrives_and_signs_in(instance, with_login, transaction)


def test_a_mail_whose_server_was_deleted_waits_with_that_reason_until_the_server_is_made_again(
    instance: Instance, sink: Sink, send_mail: SendMail
) -> None:
    """privacyIDEA keeps no record of deletions, so it may as well be that this worker has another database."""
    instance.set_smtp_server("gone", sink.port, queued=True)
    send_mail("gone", "bob@example.com")
    instance.ask("/smtpserver/gone", "DELETE")
    with instance.working():
        wait_until(lambda: bool(the_job(instance)["reason"]), PATIENCE, what="the reason")
        record = the_job(instance)
        assert (record["state"], record["attempts"]) == ("scheduled", 0)
        shown = pijobs(instance, "jobs", "show", record["id"]).stdout
        for told in (record["reason"], shown):
            assert "SMTP server 'gone' is not in the privacyIDEA database of this worker: it was deleted, or" in told
        instance.set_smtp_server("gone", sink.port, queued=True)
        becomes(instance, "done")
    assert len(sink.mails) == 1


def test_after_a_partial_refusal_nobody_gets_the_mail_twice(
    instance: Instance, sink: Sink, send_mail: SendMail
) -> None:
    sink.fail_at("RCPT", Fault("451 4.2.2 later", times=1, recipient="bob"))
    instance.set_smtp_server("plain", sink.port, queued=True)
    send_mail("plain", ["alice@example.com", "bob@example.com"])
    with instance.working():
        becomes(instance, "done")
    assert [list(mail.recipients) for mail in sink.mails] == [["alice@example.com"], ["bob@example.com"]]
    first, second = sink.mails
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert second.message.get_all("Subject") == ["subject"]


def test_a_mail_whose_connection_was_lost_after_its_end_goes_again_once(
    instance: Instance, sink: Sink, send_mail: SendMail
) -> None:
    sink.fail_at("END", Fault(drop=True))
    instance.set_smtp_server("plain", sink.port, queued=True)
    send_mail("plain", "bob@example.com")
    with instance.working():
        assert "may have been sent" in becomes(instance, "dead")["reason"]
    assert len(sink.mails) == 2


def test_a_body_with_parts_arrives_whole_and_with_each_header_once(
    instance: Instance, sink: Sink, send_mail: SendMail
) -> None:
    sink.fail_at("RCPT", Fault("451 4.2.2 later", times=1))
    instance.set_smtp_server("plain", sink.port, queued=True)
    body = MIMEMultipart("related")
    body.attach(MIMEText("<img src='cid:token_image'>", "html"))
    body.attach(MIMEImage(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "png"))
    send_mail("plain", "bob@example.com", body, sender="pi@example.com", reply_to="help@example.com")
    with instance.working():
        becomes(instance, "done")
    message = sink.mails[0].message
    for header, value in {"From": "pi@example.com", "Reply-To": "help@example.com", "To": "bob@example.com"}.items():
        assert message.get_all(header) == [value]
    html, image = message.iter_parts()
    assert (html.get_content_type(), image.get_content()[-256:]) == ("text/html", bytes(range(256)))


def test_a_url_in_the_definition_and_a_type_of_text_are_understood(
    instance: Instance, sink: Sink, send_mail: SendMail
) -> None:
    instance.set_smtp_server("plain", 25, queued=True, server=f"smtp://127.0.0.1:{sink.port}")
    send_mail("plain", "bob@example.com", "<b>hello</b>", mimetype="html")
    with instance.working():
        becomes(instance, "done")
    message = sink.mails[0].message
    assert (message.get_content_type(), message.get_content().strip()) == ("text/html", "<b>hello</b>")


@pytest.mark.skipif(RELEASE < (3, 13), reason="privacyIDEA signs mails from 3.13 on")
def test_a_mail_is_signed_with_the_key_whose_password_privacyidea_encrypted(
    instance: Instance, sink: Sink, send_mail: SendMail, tmp_path: Path
) -> None:
    make_signer(tmp_path, "k3y-password")
    instance.set_smtp_server(
        "signed", sink.port, queued=True, smime=True, dont_send_on_error=True, private_key_password="k3y-password",
        private_key=str(tmp_path / "key.pem"), certificate=str(tmp_path / "certificate.pem"),
    )  # fmt: skip
    send_mail("signed", "bob@example.com")
    with instance.working():
        becomes(instance, "done")
    assert sink.mails[0].message.get_content_type() == "multipart/signed"


def make_signer(place: Path, password: str) -> None:
    key, now = rsa.generate_private_key(65537, 2048), dt.datetime.now(dt.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pi")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(days=1))
    certificate = builder.not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    (place / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encryption = serialization.BestAvailableEncryption(password.encode())
    pkcs8 = serialization.PrivateFormat.PKCS8
    (place / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, encryption))


def test_the_worker_does_not_open_the_log_that_the_server_rotates(instance: Instance) -> None:
    with instance.working() as worker:
        wait_until(lambda: str(instance.here / "queue.log") in opened_by(worker.pid), PATIENCE)
        opened = opened_by(worker.pid)
    assert str(instance.here / "privacyidea.log") not in opened


def test_the_routes_are_for_administrators_of_privacyidea(instance: Instance) -> None:
    assert jobs(instance) == []
    for token in ("", "eyJ.x.y", *_token_of_a_user(instance)):
        request = urllib.request.Request(f"{instance.url}/jobqueue/jobs", headers={"Authorization": token})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=PATIENCE)
        assert caught.value.code == 401


def _token_of_a_user(instance: Instance) -> list[str]:
    """A sign-in of a user of a realm, who is no administrator; by her email token's challenge."""
    import jwt

    secret = re.search(r"SECRET_KEY = '(\w+)'", instance.config.read_text())
    assert secret is not None
    claims = {"username": "alice", "realm": "demo", "nonce": "x", "role": "user", "rights": []}
    return [jwt.encode({**claims, "exp": time.time() + 60}, secret[1], "HS256")]


def test_asking_for_readiness_leaves_nothing_of_ours_in_privacyideas_database(instance: Instance) -> None:
    import sqlite3

    def ours() -> set[str]:
        with sqlite3.connect(instance.here / "privacyidea.sqlite") as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            assert names and database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        return {name for name in names if name.startswith("pijobs")}

    before = ours()  # of those who signed in, in another test
    with instance.working():
        pass
    assert ours() == before


def test_with_the_box_on_a_slow_smtp_server_costs_a_request_nothing(instance: Instance, sink: Sink) -> None:
    with instance.working():
        comparison = compare(instance, sink, "otp", "alice", PIN, delay=0.5)
    took = {(queued, delay): seconds for queued, delay, seconds in comparison.rows}
    # A request that waited for a single reply of the slow server would take half a second longer.
    assert took[True, 0.5] - took[True, 0.0] < 0.25, comparison.rows


def test_a_test_mail_to_what_is_no_address_is_an_error_at_once(instance: Instance) -> None:
    with pytest.raises(InstanceFailed, match=r"400.*to\[0\] .*expected a mail address"):
        send_test(instance, 1, recipient="no body")


def test_a_mail_that_is_refused_leaves_a_dead_letter_with_its_reason(instance: Instance, sink: Sink) -> None:
    """privacyIDEA answers HTTP 200 to the login then."""
    instance.set_smtp_server("otp", sink.port, queued=True)
    instance.ask("/token/init", type="email", user="carol", realm=REALM, pin=PIN, email="no body")
    instance.challenge("carol", PIN)
    record = becomes(instance, "dead")
    assert "refused at enqueue" in record["reason"] and "expected a mail address" in record["reason"]


def send_test(instance: Instance, port: int, recipient: str = "bob@example.com") -> None:
    instance.ask("/smtpserver/send_test_email", identifier="x", server="127.0.0.1", port=port, sender="a@example.com",
                 recipient=recipient, enqueue_job=True)  # fmt: skip


def test_a_test_mail_says_what_became_of_it(instance: Instance, sink: Sink) -> None:
    with pytest.raises(InstanceFailed, match=r"400.*queued, not sent within 5 s: is a worker running"):
        send_test(instance, sink.port)
    with instance.working():
        send_test(instance, sink.port, recipient="carol@example.com")
        assert ("carol@example.com",) in [mail.recipients for mail in sink.mails]
        with pytest.raises(InstanceFailed, match=r"400.*the test mail was not sent: .*refused"):
            send_test(instance, free_port())
        sink.fail_at("RCPT", "550 5.1.1 no such user")
        with pytest.raises(InstanceFailed, match=r"400.*the test mail was not sent: .*550 5\.1\.1 no such user"):
            send_test(instance, sink.port)
