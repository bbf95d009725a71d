"""``pijobs privacyidea``."""

from __future__ import annotations

from pathlib import Path

import pytest
from challenges import pijobs

from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


def test_the_doctor_finds_a_sound_installation_sound(instance: Instance) -> None:
    instance.set_smtp_server("otp", 9, queued=True)
    with instance.working():
        done = pijobs(instance, "privacyidea", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SMTP server 'otp': queued, to 127.0.0.1:9" in done.stdout
    assert "OTPs go by SMTP server 'otp' and expire after 120 s (email.validtime)" in done.stdout
    assert "privacyidea-queue-huey is the one of pijobs" in done.stdout


def test_the_doctor_finds_settings_that_the_worker_does_not_see(instance: Instance) -> None:
    url = "redis://:s3cret@redis.example.com"
    done = pijobs(instance, "privacyidea", "doctor", PRIVACYIDEA_PI_JOB_QUEUE_URL=url)
    assert done.returncode == 1
    assert "the environment has PRIVACYIDEA_PI_JOB_QUEUE_URL" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_the_doctor_finds_the_command_of_privacyidea_in_the_place_of_ours(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "privacyidea-queue-huey"
    script.write_text("#!/usr/bin/python3\nfrom privacyidea.app import create_app\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    done = pijobs(instance, "privacyidea", "doctor")
    assert done.returncode == 1
    assert f"{script} is privacyIDEA's own script" in done.stdout


def test_without_a_worker_the_doctor_is_content_only_while_no_box_is_ticked(instance: Instance) -> None:
    for queued in (True, False):
        for name in ("otp", "plain"):
            instance.set_smtp_server(name, 9, queued=queued)
        done = pijobs(instance, "privacyidea", "doctor")
        assert (done.returncode == 0) is not queued, done.stdout
        assert "worker: no" in done.stdout


def test_the_doctor_finds_a_server_for_otps_that_is_not_there_and_settings_that_never_use_the_queue(
    instance: Instance,
) -> None:
    instance.ask("/system/setConfig", **{"email.identifier": "notices"})
    try:
        done = pijobs(instance, "privacyidea", "doctor")
        assert done.returncode == 1
        assert "OTPs are sent by the SMTP server 'notices' (email.identifier), which does not exist" in done.stdout
        instance.ask("/system/email.identifier", "DELETE")
        instance.ask("/system/setConfig", **{"email.mailserver": "localhost"})
        told = pijobs(instance, "privacyidea", "doctor").stdout
        assert "OTPs are sent by the settings email.mailserver …, which never use the queue" in told
    finally:
        instance.ask("/system/email.mailserver", "DELETE")
        instance.ask("/system/setConfig", **{"email.identifier": "otp"})


def test_the_doctor_finds_a_login_that_would_go_in_clear(instance: Instance) -> None:
    instance.set_smtp_server("clear", 25, queued=True, server="mail.example.com", username="pi", password="s3cret")
    try:
        done = pijobs(instance, "privacyidea", "doctor")
    finally:
        instance.ask("/smtpserver/clear", "DELETE")
    assert done.returncode == 1
    assert "SMTP server 'clear': wants its login sent in clear" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
