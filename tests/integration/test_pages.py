"""The pages over HTTP: what they show, and what operators and admins do with them."""

from __future__ import annotations

import re
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import flask
import jinja2
import pytest
from integration import served
from integration.served import PASSWORD, add_instance, add_worker, make_app, queue_of, settings_of, storage_of
from integration.visits import Visit
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from pijobs.definitions import CENSORED
from pijobs.errors import ConfigurationError, InstanceNotFound
from pijobs.execution.groups import Policy
from pijobs.flask import JobQueue
from pijobs.jobs import State
from pijobs.observe.schedule import scheduled
from pijobs.server.accounts import Accounts
from pijobs.server.app import create_app
from pijobs.server.host import HostSignIn
from pijobs.server.pages import bulk
from pijobs.server.pages.workers import MOST_GROUPS
from pijobs.settings.pages import contrast
from pijobs.storage.values import End, NewInstance
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Fault, Sink
from pijobs_sms import gateways

SERVER = {"identifier": "main", "new": "1", "server": "smtps://mail.example.com", "sender": "otp@example.com"}


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=str(tmp_path / "journal"))


@pytest.fixture
def visit(app: flask.Flask) -> Visit:
    return Visit(app)


def test_the_root_leads_to_the_pages(app: flask.Flask) -> None:
    assert app.test_client().get("/").headers["Location"] == "/pages/"


@pytest.mark.parametrize("state", list(State))
def test_an_instance_of_each_state_is_told_and_listed(app: flask.Flask, visit: Visit, state: State) -> None:
    id = add_instance(app, state)
    assert f'<span class="state {state}">' in visit.text(f"/jobs/{id}")
    assert id in visit.text(f"/jobs?state={state}")
    others = [other for other in State if other is not state]
    assert all(f"r-{id}" not in visit.text(f"/jobs?state={other}") for other in others)


def test_the_list_is_filtered_by_name_group_and_time(app: flask.Flask, visit: Visit) -> None:
    one = add_instance(app, State.DONE, name="first.job", group="here")
    two = add_instance(app, State.DONE, name="second.job", group="there")
    for query in ("name=first.job", "group=here", "name=first.job&group=here&state=done&time=300"):
        page = visit.text(f"/jobs?{query}")
        assert (f"r-{one}" in page, f"r-{two}" in page) == (True, False)
    assert "No instance matches." in visit.text("/jobs?name=first.job&group=there")


def test_a_long_list_goes_on_behind_its_cursor(app: flask.Flask, visit: Visit) -> None:
    ids = {add_instance(app) for _ in range(60)}
    first = visit.text("/jobs")
    start = first.index('href="/pages/jobs?cursor=') + len('href="/pages')
    older = visit.text(first[start : first.index('"', start)].replace("&amp;", "&"))
    assert {id for id in ids if f"r-{id}" in first} ^ {id for id in ids if f"r-{id}" in older} == ids


def test_all_states_are_in_one_list_the_newest_first(app: flask.Flask, visit: Visit) -> None:
    ids = []
    for place in range(30):
        ids += [add_instance(app, State.DEAD if place % 2 else State.DONE) for _ in range(4)]
        time.sleep(0.002)
    ids += [add_instance(app) for _ in range(4)]
    seen, path = list[str](), "/jobs"
    for _ in range(4):
        page = visit.text(path)
        seen += re.findall(r'<tr id="r-(\w+)"', page)
        if 'rel="next"' not in page:
            break
        (path,) = re.findall(r'<a href="/pages([^"]+)" rel="next"', page)
        path = path.replace("&amp;", "&")
    assert sorted(seen) == sorted(ids) and 'rel="next"' not in page
    # Those of one millisecond may come in either order.
    assert [ids.index(id) // 4 for id in seen] == sorted((ids.index(id) // 4 for id in ids), reverse=True)


@pytest.mark.parametrize("query", ["state=nowhere", "cursor=99.99", "cursor=0.nonsense", "state=done&cursor=99.99"])
def test_a_list_that_can_not_be_is_refused(visit: Visit, query: str) -> None:
    assert visit.get(f"/jobs?{query}").status_code == 400


def test_an_unknown_instance_is_not_found(visit: Visit) -> None:
    assert visit.get("/jobs/nothing").status_code == 404


def test_the_overview_tells_failures_by_reason(app: flask.Flask, visit: Visit) -> None:
    for _ in range(3):
        add_instance(app, State.DEAD, name="mail.send")
    page = visit.text("/")
    assert "550 no such user" in page and "there is no live worker" in page
    add_worker(app)
    assert "Mails are failing." in visit.text("/")


def test_the_schedule_tells_when_a_job_comes_and_what_became_of_its_last_run(app: flask.Flask, visit: Visit) -> None:
    queue, storage = queue_of(app), storage_of(app)
    job = queue.registry["statistics.hourly"]
    page = visit.text("/schedule")
    assert "statistics.hourly" in page and "never" in page
    due = storage.now() // 60_000 * 60_000
    assert queue.enqueue_periodic(job, due)
    page = visit.text("/schedule")
    assert f'<a href="/pages/jobs/statistics.hourly@{due}">' in page.replace("%40", "@") and "queued" in page


def test_a_periodic_job_is_run_now_or_skipped_once(app: flask.Flask, visit: Visit) -> None:
    storage = storage_of(app)
    ran = visit.follow(visit.post("/schedule/statistics.hourly", act="run"))
    assert "statistics.hourly" in ran and "queued" in ran
    (before,) = (row for row in scheduled(queue_of(app)) if row.name == "statistics.hourly")
    assert "The next time of statistics.hourly is skipped." in visit.follow(
        visit.post("/schedule/statistics.hourly", act="skip")
    )
    skipped = storage.get(f"statistics.hourly@{before.next}")
    assert (skipped.state, skipped.reason) == (State.CANCELLED, "skipped by admin")
    (row,) = (row for row in scheduled(queue_of(app)) if row.name == "statistics.hourly")
    assert before.next is not None and row.next == before.next + 3_600_000 and row.skipped == (before.next,)
    assert '<span class="tag warn">skips ' in visit.text("/schedule")
    storage.remove(skipped.id)
    assert "skips " not in visit.text("/schedule"), "who deletes its record takes it back"
    assert visit.post("/schedule/mail.send", act="run").status_code == 404


def test_times_are_skipped_however_far_ahead_they_are(app: flask.Flask) -> None:
    client, asked = served.Client(app, "operator"), "/schedule/statistics.daily/skip"
    times = [client.get("/schedule") and served.value_of(client.ask("POST", asked)) for _ in range(3)]
    assert [time[11:16] for time in times] == ["00:20"] * 3 and times == sorted(set(times))
    (row,) = (row for row in client.get("/schedule") if row["name"] == "statistics.daily")
    assert row["next"] > times[-1] and not row["last"]


def test_no_more_times_are_skipped_than_records_are_kept(tmp_path: Path) -> None:
    """Housekeeping removes the oldest first, and that job would run."""
    app = make_app(tmp_path, PLUGINS=("statistics",), KEEP_FINISHED=(3600, 2))
    client, asked = served.Client(app, "operator"), "/schedule/statistics.daily/skip"
    times = [served.value_of(client.ask("POST", asked)) for _ in range(2)]
    assert served.error_of(client.ask("POST", asked)) == (409, 409)
    session = add_worker(app)
    storage_of(app).beat(session, lease=60_000)
    assert [row["skipped"] for row in client.get("/schedule") if row["name"] == "statistics.daily"] == [times]


def test_what_is_refused_for_its_body_is_not_done(app: flask.Flask) -> None:
    client, dead = served.Client(app, "operator"), add_instance(app, State.DEAD)
    asked = ("POST", "/schedule/statistics.daily/skip"), ("POST", "/schedule/statistics.daily/run")
    for method, path in (*asked, ("POST", f"/jobs/{dead}/retry"), ("DELETE", f"/jobs/{dead}")):
        assert served.error_of(client.send(method, path, ["no object"])) == (400, 905)
    assert [row["skipped"] for row in client.get("/schedule") if row["name"] == "statistics.daily"] == [[]]
    assert [row["id"] for row in client.get("/jobs")["jobs"]] == [dead]


def test_the_last_events_are_told_by_job_and_by_worker(app: flask.Flask, visit: Visit) -> None:
    dead, running = add_instance(app, State.DEAD, name="first.job"), add_instance(app, State.RUNNING, name="other.job")
    page = visit.text("/events")
    assert page.index(">Runs<") < page.rindex(">Enqueued<") and "550 no such user" in page
    assert f"/jobs/{dead}" in page and f"/jobs/{running}" in page
    assert "other.job" not in visit.text("/events?job=first.job").partition("<main")[2]
    worker = visit.text("/events?worker=worker.example.com%20pid%204711")
    assert f"/jobs/{running}" in worker and f"/jobs/{dead}" not in worker


def test_without_a_queue_the_pages_say_so(tmp_path: Path) -> None:
    visit = Visit(make_app(tmp_path, CLASS="", PLUGINS=("mail",)))
    assert "The queue is off; mails go out in the request." in visit.text("/")
    assert visit.get("/jobs").status_code == 409
    assert visit.get("/smtp/").status_code == 200


def test_a_storage_that_is_away_is_told_in_large_type(tmp_path: Path) -> None:
    away = "redis://127.0.0.1:1/0"
    visit = Visit(make_app(tmp_path, URL=away, PLUGINS=()))
    assert "Jobs go out in the request: the storage does not answer." in visit.text("/")
    visit = Visit(make_app(tmp_path, URL=away, PLUGINS=(), FALLBACK=()))
    assert "No jobs are going out: the storage does not answer." in visit.text("/")
    assert visit.get("/jobs").status_code == 503


def test_what_lies_in_the_spool_is_told_with_its_age(tmp_path: Path) -> None:
    app = make_app(tmp_path, PLUGINS=(), SPOOL=f"{tmp_path}/spool.sqlite")
    visit, spool = Visit(app), queue_of(app).spool
    assert spool is not None and "In the spool" not in visit.text("/")
    spool.enqueue(NewInstance("one", "test.job", b"e", b"b", "test.job", created=spool.now()), timeout=5)
    assert re.search(r"In the spool of this machine: 1 waiting of test.job, the oldest for [\d.]+ m?s", visit.text("/"))


def test_while_the_storage_is_away_the_pages_show_the_spool(tmp_path: Path) -> None:
    app = make_app(tmp_path, URL="redis://127.0.0.1:1/0", PLUGINS=(), SPOOL=f"{tmp_path}/spool.sqlite")
    visit, spool, id = Visit(app), queue_of(app).spool, uuid.uuid4().hex
    assert spool is not None
    new = NewInstance(id, "test.job", b"the envelope", b"the body", "test.job", created=spool.now())
    spool.record_end(new, End(id, "", State.DEAD, reason="550 no such user"))
    told = "only the spool of this machine is shown."
    overview, listed = visit.text("/"), visit.text("/jobs")
    assert "correct PI_JOB_QUEUE_URL" in overview
    assert told in overview and '<b>1</b> <span class="state dead">' in overview
    assert told in listed and f"r-{id}" in listed
    assert "in the spool of this machine" in visit.text(f"/jobs/{id}")
    workers = visit.text("/workers")
    assert told in workers and "Pause" not in workers
    assert "1 instance queued again." in visit.follow(visit.post("/jobs/act", reason="a test", action="retry", id=[id]))
    assert spool.get(id).state is State.QUEUED


# -- operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [("retry", State.DEAD, State.QUEUED), ("cancel", State.SCHEDULED, State.CANCELLED), ("delete", State.DONE, None)],
)
def test_what_is_confirmed_is_done(
    app: flask.Flask, visit: Visit, action: str, before: State, after: State | None
) -> None:
    ids = [add_instance(app, before) for _ in range(2)]
    page = visit.post("/jobs/confirm", action=action, id=ids).text
    assert f"{action.capitalize()} 2 instances?" in page
    assert all(storage_of(app).get(id).state is before for id in ids)
    assert "2 instances" in visit.follow(visit.post("/jobs/act", reason="a test", action=action, id=ids))
    for id in ids:
        if after is None:
            with pytest.raises(InstanceNotFound):
                storage_of(app).get(id)
        else:
            assert storage_of(app).get(id).state is after


def test_all_that_fit_are_chosen_and_no_others(app: flask.Flask, visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 600.0)  # a busy machine would make two batches of it
    ours = [add_instance(app, State.DEAD, group="smtp:main") for _ in range(60)]
    other, waiting = add_instance(app, State.DEAD, group="smtp:other"), add_instance(app, group="smtp:main")
    page = visit.post("/jobs/confirm", action="retry", all="1", group="smtp:main").text
    assert "Retry 60 instances?" in page
    assert other not in page and waiting not in page
    form = {"all": "1", "of": "60", "group": "smtp:main", "reason": "the relay is back"}
    assert "60 instances queued again." in visit.follow(visit.post("/jobs/act", action="retry", **form))
    storage = storage_of(app)
    assert {storage.get(id).state for id in ours} == {State.QUEUED}
    assert storage.get(other).state is State.DEAD
    for id in ours:
        storage.cancel(id, reason="the test goes on")
    assert "Delete 61 instances?" in visit.post("/jobs/confirm", action="delete", all="1").text
    assert visit.post("/jobs/confirm", action="retry", all="1", state="done").status_code == 400


def test_many_are_done_in_batches_that_the_browser_asks_for_and_may_stop_to(
    app: flask.Flask, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 0.0)
    ids = [add_instance(app, State.DEAD) for _ in range(bulk.AT_ONCE + 1)]
    form: dict[str, Any] = {"action": "retry", "all": "1", "of": len(ids), "because": "550 no such", "reason": "a test"}
    page = visit.post("/jobs/act", **form).text
    assert "50 of 51" in page and 'hx-trigger="load"' in page and 'max="51" value="50"' in page
    new = NewInstance("late", "test.job", b"the envelope", b"the body", "g", created=storage_of(app).now())
    storage_of(app).record_end(new, End("late", "", State.DEAD, reason="550 no such user"))
    carried = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    carried.pop("csrf_token")
    last = visit.client.post(
        "/pages/jobs/act",
        data={**carried, "action": "retry", "csrf_token": visit.token()},
        headers={"HX-Request": "true"},
    )
    assert last.headers["HX-Redirect"] == "/pages/jobs?because=550+no+such"
    assert "51 instances queued again." in visit.text("/jobs")
    # What failed meanwhile is not among those that were confirmed.
    assert storage_of(app).get("late").state is State.DEAD


def test_dead_letters_are_told_by_reason_and_retried_together(app: flask.Flask, visit: Visit) -> None:
    assert "nothing failed for good" in visit.text("/failures")
    for _ in range(3):
        add_instance(app, State.DEAD, name="mail.send")
    other = add_instance(app, State.DEAD, name="other.job")
    page = visit.text("/failures")
    assert "Retry all of these" in page and ">3</a>" in page
    form = {"all": "1", "state": "dead", "name": "mail.send", "because": "550 no such user"}
    assert "Retry 3 instances?" in visit.post("/jobs/confirm", action="retry", **form).text
    visit.follow(visit.post("/jobs/act", action="retry", of="3", reason="a test", **form))
    assert ">3</a>" not in visit.text("/failures")
    assert storage_of(app).get(other).state is State.DEAD


def test_what_can_not_be_done_is_said_before_and_after(app: flask.Flask, visit: Visit) -> None:
    dead, queued = add_instance(app, State.DEAD), add_instance(app)
    assert "1 more can&#39;t" in visit.post("/jobs/confirm", action="retry", id=[dead, queued]).text.replace(
        "can't", "can&#39;t"
    )
    assert "There is nothing to retry" in visit.post("/jobs/confirm", action="retry", id=[queued]).text
    answer = visit.post("/jobs/act", reason="a test", action="retry", id=[dead, queued])
    assert "1 not: instance" in visit.follow(answer)


@pytest.mark.parametrize("fields", [{"action": "retry"}, {"action": "run", "id": "x"}, {"id": "x"}])
def test_an_action_that_can_not_be_is_refused(visit: Visit, fields: dict[str, str]) -> None:
    assert visit.post("/jobs/confirm", **fields).status_code == 400
    assert visit.post("/jobs/act", **fields).status_code == 400


def test_what_was_done_is_told_once(app: flask.Flask, visit: Visit) -> None:
    id = add_instance(app)
    assert "1 instance cancelled." in visit.follow(visit.post("/jobs/act", reason="a test", action="cancel", id=[id]))
    assert "1 instance cancelled." not in visit.text("/jobs")
    assert storage_of(app).get(id).reason == "cancelled by admin"


def test_of_many_groups_those_in_trouble_are_shown_first(app: flask.Flask, visit: Visit) -> None:
    storage = storage_of(app)
    works = Policy(proven=True).dumps()
    for number in range(MOST_GROUPS + 10):
        storage.set_group(f"smtp:{number:03}", version=0, limit=2, blocked_until=None, policy=works, keep=3_600_000)
    last = f"smtp:{MOST_GROUPS + 9:03}"
    storage.pause(last, by="admin", reason="moving house")
    shown = re.findall(r'<tr id="g-([^"]+)"', page := visit.text("/workers"))
    assert shown == [last, *(f"smtp:{number:03}" for number in range(MOST_GROUPS - 1))]
    assert "and more; pijobs groups lists all of them" in page


def test_queue_and_groups_are_paused_and_resumed(
    app: flask.Flask, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    add_instance(app, group="smtp:main")
    storage = storage_of(app)
    asked = visit.post("/workers/pause", group="smtp:main")
    assert asked.status_code == 200 and "Pause group smtp:main?" in asked.text and "expire meanwhile" in asked.text
    group = storage.group("smtp:main")
    assert group is not None and not group.paused, "it asks first, and wants a reason"
    visit.post("/workers/pause", reason="moving house")
    visit.post("/workers/pause", group="smtp:main", reason="bob@example.com\ncomplains")
    assert "The queue is paused by admin: moving house" in caplog.text
    assert "Group smtp:main is paused by admin: b***@example.com complains" in caplog.text
    group = storage.group("smtp:main")
    assert storage.depths().paused and group is not None and group.paused
    for page in ("/", "/workers"):
        shown = visit.text(page)
        assert 'aused by admin at <time datetime="20' in shown and ": moving house" in shown, page
        assert ": b***@example.com complains" in shown, page
    assert ": moving house" in app.test_client().get("/healthz").text
    visit.post("/workers/resume")
    visit.post("/workers/resume", group="smtp:main")
    group = storage.group("smtp:main")
    assert not storage.depths().paused and group is not None and not group.paused
    assert visit.post("/workers/pause", group="nobody's").status_code == 404


def test_workers_are_told_with_what_they_run(app: flask.Flask, visit: Visit) -> None:
    id = add_instance(app, State.RUNNING)
    page = visit.text("/workers")
    assert all(text in page for text in ("worker.example.com", "4711", metadata.version("pijobs"), f"/pages/jobs/{id}"))


# -- languages and looks ---------------------------------------------------------------------------------------------


def test_a_browser_gets_the_pages_in_its_language_and_further_ones_by_file(tmp_path: Path) -> None:
    (tmp_path / "fr.json").write_text('{"Jobs": "Travaux", "No instance matches.": "{oops", "All": 7}')
    visit = Visit(make_app(tmp_path, PAGES_TRANSLATIONS=str(tmp_path), PLUGINS=("mail",)))
    for asked, language, words in (
        ("de-AT,de;q=0.9", "de", "Kein Auftrag passt."), ("fr, en;q=0.5", "fr", "<h1>Travaux</h1>"),
        ("ja", "en", "No instance matches."),
    ):  # fmt: skip
        page = visit.get("/jobs?name=none", **{"Accept-Language": asked}).text
        assert f'<html lang="{language}">' in page and words in page


def test_no_english_stands_between_german_but_reasons(tmp_path: Path) -> None:
    app = make_app(tmp_path, PLUGINS=("mail", "statistics"))
    visit = Visit(app)
    asked = {"Accept-Language": "de"}
    assert "Noch gibt es kein Ereignis." in visit.get("/events", **asked).text
    assert "Jeder Auftrag, der endet, wird" in visit.get("/statistics/", **asked).text
    assert "Diesen Auftrag gibt es nicht" in visit.get("/jobs/nothing", **asked).text
    storage_of(app).bypass("smtp:main", by="", reason="")
    storage_of(app).pause(by="root on db1", reason="moving <house>")
    page = visit.get("/workers", **asked).text
    assert "Was an smtp:main geht, läuft in der Anfrage: umgangen von einem Programm um <time" in page
    assert "angehalten von root on db1 um <time" in page and ": moving &lt;house&gt;" in page
    assert "<h1>Die Warteschlange anhalten?</h1>" in visit.client.post(
        "/pages/workers/pause", data={"csrf_token": visit.token()}, headers=asked
    ).text  # fmt: skip


def test_the_navigation_says_where_one_is(visit: Visit) -> None:
    for path, page in (("/events", "Jobs"), ("/failures", "Jobs"), ("/jobs", "Jobs"), ("/messages", "Overview")):
        assert f'aria-current="page">{page}</a>' in visit.text(path), path


def test_a_cell_of_the_audit_log_that_says_nothing_is_empty(visit: Visit) -> None:
    assert '<td data-label="On what" class="wrap"></td>' in visit.text("/audit"), "a phone hides it with its label"


def test_what_checks_say_is_in_the_language_of_the_reader_and_for_machines_in_english(tmp_path: Path) -> None:
    app = make_app(tmp_path, PLUGINS=("mail",))
    add_instance(app, State.DEAD)
    storage_of(app).pause(None, by="root", reason="Wartung")
    storage_of(app).bypass("smtp:main", by="root", reason="Umzug")
    visit, german = Visit(app), {"Accept-Language": "de"}
    page = visit.get("/", **german).text
    told = page[page.index('<ul class="checks">') :].partition("</ul>")[0]
    assert "Während der Speicher fehlt, laufen Aufträge in der Anfrage" in told
    assert "setzen Sie es auf eine lokale Datei" in told
    assert "angehalten: die ganze Warteschlange (0 wartend), von root um " in told
    assert "und was an smtp:main geht, läuft in der Anfrage, von root um " in told
    assert "endgültig gescheitert: 1 fehlgeschlagen" in told
    assert not re.search(r"\b(the|is|are|no|of|by|job|jobs|to|set|and)\b", re.sub("<[^>]*>", " ", told))
    waiting = add_instance(app)
    assert "die Warteschlange ist angehalten von root um " in visit.get(f"/jobs/{waiting}", **german).text
    answer = app.test_client().get("/healthz", headers=german)
    checks = answer.get_json()["result"]["value"]["checks"]
    assert checks["fallback"]["advice"].startswith("set it to a local file, such as ")
    assert checks["paused"]["message"].startswith("paused: the whole queue (1 waiting), by root at ")
    assert checks["failures"]["message"] == "failed for good: 1 dead"


def test_name_colour_and_logo_are_settings(tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    logo = str(tmp_path / "logo.svg")
    visit = Visit(make_app(tmp_path, PAGES_NAME="Example <Ltd>", PAGES_COLOUR="#7a2048", PAGES_LOGO=logo, PLUGINS=()))
    page = visit.text("/jobs")
    assert "Example &lt;Ltd&gt;</a>" in page and 'src="/pages/logo"' in page and "/pages/colours.css" in page
    assert visit.get("/logo").mimetype == "image/svg+xml"
    style = visit.get("/colours.css")
    assert "--accent: #7a2048" in style.text and "public" in style.headers["Cache-Control"]
    (night,) = re.findall(r"--accent: (#\w+); --on-accent", style.text)
    assert contrast(night, "#1b1e22") >= 6


def test_a_server_in_a_host_bears_its_name_and_leads_back(tmp_path: Path) -> None:
    sign_in = HostSignIn(lambda t: None, lambda n, p: None, lambda n: None, name="privacyIDEA", mount="/jobqueue")
    settings = {
        "SECRET_KEY": "x" * 32, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_PLUGINS": (),
        "PI_JOB_QUEUE_URL": "memory://", "PI_JOB_QUEUE_DATABASE": f"sqlite:///{tmp_path}/pijobs.sqlite",
    }  # fmt: skip
    client = create_app(settings=settings, host_sign_in=sign_in).test_client()
    page = client.get("/pages/sign-in", base_url="http://localhost/deep/jobqueue").text
    assert "privacyIDEA · Job queue" in page and '<a href="/deep/">Back to privacyIDEA</a>' in page


def test_there_is_no_sentence_about_what_never_happens_here(app: flask.Flask, visit: Visit) -> None:
    assert "SMS to send" not in visit.text("/")
    add_worker(app)
    add_instance(app, State.DONE, name="sms.send")
    assert "SMS are going out." in visit.text("/")


# -- SMTP servers ----------------------------------------------------------------------------------------------------


def test_an_smtp_server_is_created_with_the_box_changed_and_deleted(app: flask.Flask, visit: Visit) -> None:
    store = open_store(settings_of(app))
    visit.follow(visit.post("/smtp/save", **SERVER, enqueue_job="1", password="hunter22", username="otp"))
    assert store.get("main")["enqueue_job"] is True
    assert "via job queue" in visit.text("/smtp/")

    kept = {**SERVER, "new": "0", "enqueue_job": "0", "password": CENSORED, "username": "otp"}
    visit.follow(visit.post("/smtp/save", **kept))
    assert (store.get("main")["enqueue_job"], store.get("main")["password"]) == (False, "hunter22")

    assert "Delete SMTP server main?" in visit.text("/smtp/delete/main")
    visit.follow(visit.post("/smtp/delete/main", reason="a test"))
    assert store.list() == {}


def test_a_password_is_never_sent_back(visit: Visit) -> None:
    visit.post("/smtp/save", **SERVER, password="hunter22")
    assert "hunter22" not in visit.text("/smtp/edit/main")
    refused = visit.post("/smtp/save", **{**SERVER, "new": "0", "port": "x", "password": "hunter23"})
    assert refused.status_code == 400 and "hunter23" not in refused.text


def test_all_faults_of_a_form_are_told_and_what_was_typed_stays(visit: Visit) -> None:
    response = visit.post("/smtp/save", **{**SERVER, "port": "none", "timeout": "never", "server": "typed.example.com"})
    assert response.status_code == 400
    assert all(text in response.text for text in ("port: expected", "timeout: expected", "typed.example.com"))


def test_what_few_need_is_folded_away_until_it_is_set(visit: Visit) -> None:
    visit.post("/smtp/save", **SERVER)
    page = visit.text("/smtp/edit/main")
    assert "<details><summary>S/MIME</summary>" in page
    assert all(f"<details open><summary>{name}</summary>" in page for name in ("Connection", "Login", "Security"))
    visit.post("/smtp/save", **{**SERVER, "new": "0", "certificate": "/etc/ssl/mail.pem"})
    page = visit.text("/smtp/edit/main")
    assert "<details open><summary>S/MIME</summary>" in page and "<details><summary>Login by XOAUTH2" in page


def test_a_server_that_is_not_verified_is_told_in_red(visit: Visit) -> None:
    visit.post("/smtp/save", **SERVER, verify="1")
    assert "not verified" not in visit.text("/smtp/") + visit.text("/smtp/edit/main") + visit.text("/")
    visit.post("/smtp/save", **{**SERVER, "new": "0", "verify": "0"})
    assert '<span class="tag bad">certificate not verified</span>' in visit.text("/smtp/")
    assert '<p class="note bad" role="alert">certificate not verified</p>' in visit.text("/smtp/edit/main")
    assert '<li class="bad"><b>mail.smtp_servers</b> SMTP server &#39;main&#39; is not verified' in visit.text("/")


def test_a_form_that_was_opened_before_an_upgrade_turns_off_nothing_that_it_does_not_know(
    app: flask.Flask, visit: Visit
) -> None:
    store = open_store(settings_of(app))
    visit.follow(visit.post("/smtp/save", **SERVER, tls="1"))
    assert (store.get("main")["verify"], store.get("main")["enqueue_job"]) == (True, False)
    visit.follow(visit.post("/smtp/save", **{**SERVER, "new": "0"}, verify="0", enqueue_job=["0", "1"]))
    visit.follow(visit.post("/smtp/save", **{**SERVER, "new": "0"}))
    stored = store.get("main")
    assert (stored["verify"], stored["enqueue_job"], stored["tls"]) == (False, True, True)


def test_each_box_of_a_form_says_that_it_is_there(visit: Visit) -> None:
    for path in ("/smtp/new", "/sms/new", "/sms/new?provider=smtp"):
        page = visit.text(path)
        boxes = re.findall(r'<input type="checkbox" id="d-\w+" name="(\w+)"', page)
        assert boxes
        assert re.findall(r'<input type="hidden" name="(\w+)" value="0"><input type="checkbox"', page) == boxes


def test_a_new_server_can_start_from_what_is_known_of_a_provider(visit: Visit) -> None:
    page = visit.text("/smtp/new")
    for name in ("microsoft365", "google", "ses", "mailgun", "postmark"):
        assert f'/smtp/new?preset={name}"' in page
    page = visit.text("/smtp/new?preset=microsoft365")
    assert 'name="server" value="smtp.office365.com"' in page
    assert 'name="rate" value="30/min"' in page
    assert "SMTP.SendAsApp" in page
    assert 'name="server" value=""' in visit.text("/smtp/new?preset=nobody")


def test_a_new_gateway_can_start_from_what_is_known_of_a_provider(visit: Visit) -> None:
    page = visit.text("/sms/new?preset=vonage")
    assert 'name="url" value="https://api.nexmo.com/v1/messages"' in page
    assert re.search(r'<textarea id="d-body"[^>]*>[^<]*client_ref', page)
    assert "The Messages API" in page


def test_a_new_server_does_not_take_the_name_of_another(visit: Visit) -> None:
    visit.post("/smtp/save", **SERVER)
    assert visit.post("/smtp/save", **SERVER).status_code == 400


def test_a_test_mail_in_the_request_tells_how_it_went(visit: Visit) -> None:
    with Sink(faults={"RCPT": Fault("550 5.1.1 nobody here", times=1)}) as sink:
        visit.post("/smtp/save", **{**SERVER, "server": sink.host, "port": str(sink.port)})
        refused = visit.post("/smtp/test/main", recipient="alice@example.com")
        assert refused.status_code == 502 and "nobody here" in refused.text
        taken = visit.post("/smtp/test/main", recipient="alice@example.com")
        assert taken.status_code == 200 and "It was sent" in taken.text


def test_a_queued_test_mail_is_shown_with_its_life(app: flask.Flask, visit: Visit) -> None:
    visit.post("/smtp/save", **SERVER, enqueue_job="1")
    page = visit.post("/smtp/test/main", recipient="alice@example.com").text
    assert "mail to a***@example.com" in page and "alice@example.com" not in page
    (record,) = storage_of(app).page(State.QUEUED).records
    assert f'hx-get="/pages/jobs/{record.id}"' in page and "Waits for a worker" in page


def test_a_test_mail_tells_each_step_with_its_time_and_what_to_do(visit: Visit) -> None:
    with Sink(logins={"otp": "right"}) as sink:
        login = {"username": "otp", "password": "a wrong password", "enqueue_job": "1"}
        visit.post("/smtp/save", **{**SERVER, "server": sink.host, "port": str(sink.port)}, **login)
        page = visit.post("/smtp/test/main", recipient="alice@example.com").text
    for step in ("Name", "Connection", "Greeting", "Features", "Login"):
        assert f"<b>{step}</b>" in page
    assert "535" in page and "check username and password" in page
    assert re.search(r'<p class="at">[0-9.]+ m?s</p>', page)
    assert "a wrong password" not in page


def test_the_steps_of_a_probe_come_one_by_one_and_nothing_is_sent(visit: Visit) -> None:
    with Sink() as sink:
        visit.post("/smtp/save", **{**SERVER, "server": sink.host, "port": str(sink.port)})
        whole = visit.post("/smtp/probe/main").text
        form = {"csrf_token": visit.token()}
        parts = list(visit.client.post("/pages/smtp/probe/main", data=form, headers={"HX-Request": "true"}).response)
    assert "<b>Greeting</b>" in whole and "It was sent" not in whole and sink.mails == []
    assert len(parts) == 4 and all(b"<li class=" in part and b"<html" not in part for part in parts)


def test_what_a_change_does_to_what_waits_is_said_before(app: flask.Flask, visit: Visit) -> None:
    visit.post("/smtp/save", **SERVER)
    assert "for this destination" not in visit.text("/smtp/edit/main")
    for _ in range(2):
        add_instance(app, group="smtp:main")
    add_instance(app, group="smtp:other")
    assert "2 instances wait for this destination." in visit.text("/smtp/edit/main")
    assert "2 instances wait for it. They end as dead letters" in visit.text("/smtp/delete/main")


def test_names_and_texts_are_given_in_rows(app: flask.Flask, visit: Visit) -> None:
    store = gateways.open_store(settings_of(app))
    form = {"identifier": "main", "provider": "http", "url": "https://sms.example.com", "method": "POST"}
    names, words = ["to", "key", "", ""], ["{phone}", "hunter22", "", ""]
    rows: dict[str, Any] = {
        "parameters.name": names,
        "parameters.text": words,
        "headers.name": [""],
        "headers.text": [""],
    }
    visit.follow(visit.post("/sms/save", **form, new="1", **rows))
    assert (store.get("main")["parameters"], store.get("main")["headers"]) == ({"to": "{phone}", "key": "hunter22"}, {})
    page = visit.text("/sms/edit/main")
    assert 'name="parameters.name" value="key"' in page and f'name="parameters.text" value="{CENSORED}"' in page
    assert "hunter22" not in page
    rows = {"parameters.name": ["key"], "parameters.text": [CENSORED], "headers.name": [""], "headers.text": [""]}
    visit.follow(visit.post("/sms/save", **form, new="0", **rows))
    assert store.get("main")["parameters"] == {"key": "hunter22"}


def test_a_secret_of_a_row_is_typed_again_when_the_form_was_refused(app: flask.Flask, visit: Visit) -> None:
    """Masked, it would be saved as the one that is kept already."""
    form = {"identifier": "main", "provider": "http", "url": "not an address", "method": "POST", "new": "0"}
    rows: dict[str, Any] = {"parameters.name": ["key", "old"], "parameters.text": ["hunter33", CENSORED]}
    page = visit.post("/sms/save", **form, **rows).text
    assert 'name="parameters.name" value="key"' in page and "hunter33" not in page
    shown = re.findall(r'name="parameters.text" value="([^"]*)"', page)
    assert shown[:2] == ["", CENSORED]


def test_a_server_that_is_not_there_is_told_by_the_step_that_failed(visit: Visit) -> None:
    visit.post("/smtp/save", **{**SERVER, "server": "127.0.0.1", "port": "1"})
    page = visit.post("/smtp/test/main", recipient="alice@example.com")
    assert page.status_code == 502
    assert "<b>Connection</b> failed" in page.text and "check the port" in page.text


def test_a_server_that_is_not_there_is_not_found(visit: Visit) -> None:
    for path in ("/smtp/edit/nobody", "/smtp/delete/nobody"):
        assert visit.get(path).status_code == 404
    assert visit.post("/smtp/delete/nobody", reason="a test").status_code == 404


# -- in another app --------------------------------------------------------------------------------------------------


def mounted(folder: Path, role: Any, **options: object) -> flask.Flask:
    """:param role: what its ``authorize`` gives, or that itself."""
    host = flask.Flask("host")
    host.config.update(
        SECRET_KEY="the host's own", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_PLUGINS=("mail",),
        PI_JOB_QUEUE_URL=f"sqlite:///{folder}/queue.sqlite",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder}/pijobs.sqlite", **options,
    )  # fmt: skip
    JobQueue(host, pages="/jobqueue", authorize=role if callable(role) else lambda: role)
    return host


def test_the_pages_mount_in_any_app_behind_its_own_sign_in(tmp_path: Path) -> None:
    host = mounted(tmp_path, "admin")
    visit = Visit(host, None, base="/jobqueue")
    for path in ("/", "/jobs", "/workers", "/smtp/", "/smtp/new"):
        page = visit.text(path)
        assert "Sign out" not in page and "/pages/" not in page
    visit.follow(visit.post("/smtp/save", form_of="/smtp/new", **SERVER, enqueue_job="1"))
    assert [rule.rule for rule in host.url_map.iter_rules() if not rule.rule.startswith(("/jobqueue", "/static"))] == []


@pytest.mark.parametrize(("role", "statuses"), [(None, [403, 403]), ("viewer", [200, 403]), ("nobody", [403, 403])])
def test_the_host_decides_who_may_look(tmp_path: Path, role: str | None, statuses: list[int]) -> None:
    visit = Visit(mounted(tmp_path, role), None, base="/jobqueue")
    assert [visit.get("/").status_code, visit.get("/smtp/new").status_code] == statuses


@pytest.mark.parametrize("answer", [False, True, "Admin", ["admin"], 7])
def test_an_authorize_that_gives_no_role_lets_nobody_in(tmp_path: Path, answer: Any) -> None:
    visit = Visit(mounted(tmp_path, answer), None, base="/jobqueue")
    for path in ("/", "/jobs", "/jobs/x", "/workers", "/smtp/", "/smtp/new"):
        assert visit.get(path).status_code == 403
    assert visit.client.post("/jobqueue/workers/pause").status_code == 400


def test_an_authorize_that_fails_lets_nobody_in_and_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> str:
        raise RuntimeError("the directory is away")

    response = Visit(mounted(tmp_path, fail), None, base="/jobqueue").get("/")
    assert response.status_code == 500
    assert "directory" not in response.text
    assert "the directory is away" in caplog.text


def test_an_authorize_can_lead_to_the_sign_in_of_the_app(tmp_path: Path) -> None:
    visit = Visit(mounted(tmp_path, lambda: flask.abort(flask.redirect("/login?next=x"))), None, base="/jobqueue")
    response = visit.get("/jobs")
    assert (response.status_code, response.headers["Location"]) == (302, "/login?next=x")
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("role", [None, lambda: flask.abort(flask.redirect("/login"))])
def test_a_page_that_renews_itself_is_loaded_anew_when_the_app_lets_nobody_in_any_more(
    tmp_path: Path, role: Any
) -> None:
    response = Visit(mounted(tmp_path, role), None, base="/jobqueue").get("/jobs", **{"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Refresh"], response.text) == (401, "true", "")


@pytest.mark.parametrize("autoescape", [False, lambda name: not name.startswith("pijobs/")])
def test_an_app_whose_templates_do_not_escape_gets_no_pages(autoescape: Any) -> None:
    host = flask.Flask("host")
    host.jinja_options = {"autoescape": autoescape}
    host.config.update(SECRET_KEY="x", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="redis://localhost")
    with pytest.raises(ConfigurationError, match=r"jinja_env\.autoescape"):
        JobQueue(host, pages="/jobqueue", authorize=lambda: "admin")


def test_behind_a_prefix_of_the_server_all_links_lead_to_the_pages(tmp_path: Path) -> None:
    host = mounted(tmp_path, "admin")
    client = Client(DispatcherMiddleware(flask.Flask("outer"), {"/deep/down": host}))
    for path in ("/", "/jobs", "/workers", "/smtp/", "/smtp/new"):
        page = client.get(f"/deep/down/jobqueue{path}")
        assert page.status_code == 200
        links = set(re.findall(r'(?:href|src|action)="([^"#]+)"', page.text))
        assert links and all(link.startswith("/deep/down/jobqueue/") for link in links)


@pytest.mark.parametrize(
    "target", ["//deep/down/jobqueue/", "///x", "/\\x", "https:x", "/jobqueue/", "%2f%2fx", "/deep"]
)
def test_behind_a_prefix_of_the_server_people_sign_in_and_are_led_nowhere_else(tmp_path: Path, target: str) -> None:
    host = flask.Flask("host")
    place = f"sqlite:///{tmp_path}/pijobs.sqlite"
    host.config.update(SECRET_KEY="s", PI_JOB_QUEUE_PLUGINS=(), SQLALCHEMY_DATABASE_URI=place)
    JobQueue(host, pages="/jobqueue")
    Accounts.of(settings_of(host)).add("root", PASSWORD, "admin")
    client = Client(DispatcherMiddleware(flask.Flask("outer"), {"/deep/down": host}))
    asked = client.get("/deep/down/jobqueue/jobs?state=dead").headers["Location"]
    assert asked.startswith("/deep/down/jobqueue/sign-in?next=/deep/down/jobqueue/jobs?state")
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', client.get(asked).text))
    assert fields["next"] == "/deep/down/jobqueue/jobs?state=dead"
    signed = client.post(
        "/deep/down/jobqueue/sign-in", data={**fields, "username": "root", "password": PASSWORD, "next": target}
    )
    assert (signed.status_code, signed.headers["Location"]) == (303, "/deep/down/jobqueue/")


@pytest.mark.parametrize("undefined", [jinja2.StrictUndefined, jinja2.ChainableUndefined])
def test_an_app_with_other_habits_of_templates_shows_the_pages(tmp_path: Path, undefined: type) -> None:
    host = mounted(tmp_path, "admin")
    host.jinja_env.undefined = undefined
    host.jinja_env.trim_blocks = host.jinja_env.lstrip_blocks = True
    host.url_map.strict_slashes = False
    visit = Visit(host, None, base="/jobqueue")
    for path in ("/", "/jobs", "/workers", "/smtp/", "/smtp/new"):
        visit.text(path)


def test_an_authorize_without_pages_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="found no pages"):
        JobQueue(authorize=lambda: "admin")


def test_an_app_without_its_own_sign_in_gets_ours(tmp_path: Path) -> None:
    host = flask.Flask("host")
    host.config.update(
        SECRET_KEY="s", PI_JOB_QUEUE_PLUGINS=(), SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/pijobs.sqlite"
    )
    JobQueue(host, pages="/jobqueue")
    assert Visit(host, "viewer", base="/jobqueue").get("/").status_code == 200


@pytest.mark.parametrize("prefix", ["jobqueue", "/jobqueue/", "/", "//jobqueue", "/<path:all>", "/job queue", ""])
def test_a_prefix_that_can_not_be_is_refused(prefix: str) -> None:
    host = flask.Flask("host")
    host.config.update(SECRET_KEY="s", PI_JOB_QUEUE_PLUGINS=())
    with pytest.raises(ConfigurationError, match="path such as"):
        JobQueue(host, pages=prefix)


def test_an_app_without_a_secret_key_gets_no_pages() -> None:
    host = flask.Flask("host")
    host.config.update(PI_JOB_QUEUE_PLUGINS=())
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        JobQueue(host, pages="/jobqueue")


# -- plugins ---------------------------------------------------------------------------------------------------------

REPORTS = """
from flask import render_template_string
from pijobs import Page, hookimpl
from pijobs.server.pages import PageBlueprint, requires

@requires("viewer")
def index():
    return render_template_string(
        "{{% extends 'pijobs/page.html' %}}{{% block content %}}<h1>All reports</h1>{{% endblock %}}"
    )

@hookimpl
def register_blueprints():
    blueprint = PageBlueprint("reports", __name__, url_prefix="/reports")
    blueprint.get("/", endpoint="index")(index)
    return [blueprint, {blueprint}]

@hookimpl
def register_pages():
    return [Page("Reports", "reports.index", things="reports", jobs="reports."), {page}]
"""


@pytest.mark.parametrize("fault", [{}, {"page": "Page('Lost', 'nowhere')"}, {"page": "7"}, {"blueprint": "7"}])
def test_a_plugin_brings_pages_and_a_fault_of_it_spoils_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, str]
) -> None:
    name = f"reports_under_test_{uuid.uuid4().hex}"
    again = "Page('Again', 'reports.index')"
    other = "PageBlueprint('other', __name__)"
    (tmp_path / f"{name}.py").write_text(REPORTS.format(**{"page": again, "blueprint": other, **fault}))
    monkeypatch.syspath_prepend(tmp_path)
    visit = Visit(make_app(tmp_path, PLUGINS=(name,)))
    assert '<a href="/pages/reports/" aria-current="page">Reports</a>' in visit.text("/reports/")
    assert "No reports are going out" in visit.text("/")
