"""``pijobs privacyidea``."""

from __future__ import annotations

import pytest
from challenges import pijobs

from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


def test_the_doctor_finds_a_sound_installation_sound(instance: Instance) -> None:
    instance.set_smtp_server("otp", 9, queued=True)
    done = pijobs(instance, "privacyidea", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SMTP server 'otp': queued, to 127.0.0.1:9" in done.stdout
    assert "mails of otp expire after 120 s (email.validtime)" in done.stdout
    assert "privacyidea-queue-huey is the one of pijobs" in done.stdout


def test_the_doctor_finds_a_login_that_would_go_in_clear(instance: Instance) -> None:
    instance.set_smtp_server("clear", 25, queued=True, server="mail.example.com", username="pi", password="s3cret")
    try:
        done = pijobs(instance, "privacyidea", "doctor")
    finally:
        instance.ask("/smtpserver/clear", "DELETE")
    assert done.returncode == 1
    assert "SMTP server 'clear': wants its login sent in clear" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
