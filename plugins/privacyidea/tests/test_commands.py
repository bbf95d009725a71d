"""``pijobs privacyidea``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from challenges import pijobs
from redis_on_disk import Redis

from pijobs.settings import CONFIG_VARIABLE
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
    assert "0 SMTP servers" not in done.stdout and "pijobs.sqlite" not in done.stdout
    assert re.fullmatch(r"ready, with \d warnings? above", done.stdout.splitlines()[-1])


def test_worker_and_doctor_take_the_key_from_the_environment_as_the_server_does(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = instance.config.read_text()
    key = re.search(r"SECRET_KEY = '(\w+)'", written)
    assert key is not None
    config = instance.here / "without.cfg"
    config.write_text(written.replace(key[0], ""))
    config.chmod(0o640)
    monkeypatch.setattr(instance, "config", config)
    without = pijobs(instance, "privacyidea", "doctor")
    assert without.returncode == 2 and "SECRET_KEY: expected a text" in without.stderr
    with_key = pijobs(instance, "privacyidea", "doctor", PRIVACYIDEA_SECRET_KEY=key[1])
    assert "SECRET_KEY: set in the environment, not in pi.cfg" in with_key.stdout, with_key.stdout + with_key.stderr
    assert key[1] not in with_key.stdout + with_key.stderr
    environment = instance.environment()
    monkeypatch.setattr(
        instance, "environment", lambda: {**environment, CONFIG_VARIABLE: str(config), "SECRET_KEY": key[1]}
    )
    with instance.working():  # it is ready for the server, whose pi.cfg has the key
        pass


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
        assert done.stdout.splitlines()[-1].startswith("not ready; next: " if queued else "not in use; next: tick")


def test_without_a_worker_the_doctor_is_not_content_while_a_mail_waits(
    instance: Instance, send_mail: Callable[..., None]
) -> None:
    instance.set_smtp_server("plain", 9, queued=True)
    send_mail("plain", "bob@example.com")
    for name in ("otp", "plain"):
        instance.set_smtp_server(name, 9, queued=False)
    try:
        done = pijobs(instance, "privacyidea", "doctor")
    finally:
        instance.set_smtp_server("otp", 9, queued=True)
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1].startswith("not ready; next: start one with 'pijobs worker'")


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
        instance.ask("/system/setConfig", **{"sms.identifier": "nowhere"})
        told = pijobs(instance, "privacyidea", "doctor").stdout
        assert "OTPs are sent by the settings email.mailserver …, which never use the queue" in told
        assert "OTPs are sent by the SMS gateway 'nowhere' (sms.identifier), which does not exist" in told
        instance.ask("/system/email.mailserver", "DELETE")
        assert "no SMTP server is named for the OTPs" in pijobs(instance, "privacyidea", "doctor").stdout
        instance.ask("/system/setConfig", **{"email.mailserver": "localhost"})
    finally:
        instance.ask("/system/sms.identifier", "DELETE")
        instance.ask("/system/email.mailserver", "DELETE")
        instance.ask("/system/setConfig", **{"email.identifier": "otp"})


def test_the_doctor_finds_what_is_named_and_is_not_there_a_box_that_is_off_and_a_redis_that_evicts(
    instance: Instance, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, queued in (("otp", False), ("plain", True)):
        instance.set_smtp_server(name, 9, queued=queued)
    module = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"
    instance.ask("/smsgateway", name="sends", module=module, **{"option.URL": "http://127.0.0.1:9"})
    assert pijobs(instance, "privacyidea", "sms-gateway", "queued", "--wraps", "sends").returncode == 0
    instance.ask("/smsgateway/sends", "DELETE")
    config = instance.here / "named.cfg"
    config.write_text(f"{instance.config.read_text()}PI_JOB_QUEUE_PRIVACYIDEA_OTP_SERVERS = ['nowhere']\n")
    monkeypatch.setattr(instance, "config", config)
    client = redis.Redis.from_url(redis_server.url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        done = pijobs(instance, "privacyidea", "doctor")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        instance.ask("/smsgateway/queued", "DELETE")
        instance.set_smtp_server("otp", 9, queued=True)
    told = [
        "PI_JOB_QUEUE_PRIVACYIDEA_OTP_SERVERS names 'nowhere', which is no SMTP server",
        "OTPs are sent by the SMTP server 'otp' (email.identifier) in the request: its box is off",
        "SMS gateway 'queued': WRAPS: expected the name of a gateway, found 'sends', which is none",
        "Redis evicts keys once somebody sets maxmemory (maxmemory-policy allkeys-lru), and jobs with them",
    ]
    assert done.returncode == 1 and [line for line in told if line not in done.stdout] == [], done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("not ready; next: correct it in pi.cfg; there are: 'otp', 'plain' (")


def test_the_doctor_finds_a_login_that_would_go_in_clear(instance: Instance) -> None:
    instance.set_smtp_server("clear", 25, queued=True, server="mail.example.com", username="pi", password="s3cret")
    try:
        done = pijobs(instance, "privacyidea", "doctor")
    finally:
        instance.ask("/smtpserver/clear", "DELETE")
    assert done.returncode == 1
    assert "SMTP server 'clear': wants its login sent in clear" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
