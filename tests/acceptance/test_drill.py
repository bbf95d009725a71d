"""``pijobs drill`` proves an installation, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from services import wait_until

from pijobs_mail.servers.definitions import open_store
from pijobs_sms.gateways import open_store as open_gateways

from .conftest import MakeSite
from .site import Site


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(PLUGINS=("mail",), LEASE=5)


def drill(site: Site, *options: str) -> tuple[int, dict[str, Any]]:
    done = site.run("drill", "--json", "--within", "30", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def nothing_stays(site: Site) -> bool:
    return not open_store(site.queue.settings).list() and not any(site.storage.depths().counts.values())


def test_an_installation_that_works_is_told_its_times(site: Site) -> None:
    site.start_worker("-w", "4")
    code, verdict = drill(site, "--mails", "20", "--rate", "20")
    assert (code, verdict["ok"], verdict["accepted"], verdict["workers"]) == (0, True, 20, 4), verdict
    assert 0 < verdict["seconds"]["p50"] <= verdict["seconds"]["p95"] <= verdict["seconds"]["p99"] < 30
    assert nothing_stays(site)
    wait_until(lambda: site.storage.groups() == [], what="the end of the drill's group")


def test_sms_are_drilled_too(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("sms", "mail"))
    site.start_worker("-w", "4")
    done = site.run("drill", "sms", "--json", "--within", "30", "--number", "20", "--rate", "20")
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["ok"], verdict["SMS"], verdict["accepted"]) == (0, True, 20, 20), verdict
    assert not open_gateways(site.queue.settings).list() and not any(site.storage.depths().counts.values())


def test_without_a_worker_it_is_not_ok_and_says_so(site: Site) -> None:
    code, verdict = drill(site)
    assert (code, verdict["accepted"]) == (1, 0)
    assert "no live worker" in verdict["faults"][0]
    assert nothing_stays(site)


def test_a_worker_that_can_not_read_the_mails_is_told(site: Site) -> None:
    other = site.folder / "other.cfg"
    other.touch(0o600)
    other.write_text(site.config.read_text().replace("acceptance test", "other installation"))
    site.start_worker("--config", str(other))
    code, verdict = drill(site, "--mails", "2", "--within", "3")
    assert code == 1 and "2 of 2 mails did not arrive" in verdict["faults"][0], verdict
    assert "unknown key" in verdict["faults"][0]
    assert nothing_stays(site)


@pytest.mark.parametrize("storage_url", ["redis://127.0.0.1:1/0"])
def test_a_storage_that_is_away_is_exit_code_3(site: Site) -> None:
    done = site.run("drill")
    assert done.returncode == 3 and "Redis is not available" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_interrupted_tidies_up(site: Site, number: signal.Signals) -> None:
    site.start_worker()
    running = site.start("drill", "--mails", "1000", "--rate", "5")
    wait_until(lambda: bool(site.counts("mail.send")), what="the first mail")
    running.send_signal(number)
    assert running.wait(120) == 1
    assert nothing_stays(site)
