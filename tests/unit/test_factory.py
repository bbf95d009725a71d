"""From settings to a queue: which class, which storage, and what is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pijobs import HueyQueue, State
from pijobs.errors import ConfigurationError, PluginError, SettingsError
from pijobs.factory import HISTORIC_CLASS, OWN_CLASS, Installation, build, configure, queue_class
from pijobs.request.foreign import ForeignQueue
from pijobs.request.queue import Queue
from pijobs.settings import PREFIX
from pijobs.storage.memory import MemoryStorage

from .conftest import AddModule

FOREIGN = """
class Elsewhere:
    def __init__(self, options):
        self.options, self.registered, self.calls = options, {}, []

    def register_job(self, name, func):
        self.registered[name] = func

    def enqueue(self, name, args, kwargs):
        self.calls.append((name, args, kwargs))
        return type("Answer", (), {"id": 42})()

not_a_class = 5
"""


def built(strict: bool = False, /, *, plugins: list[str] | None = None, **options: Any) -> Installation:
    values: Mapping[str, Any] = {PREFIX + name: value for name, value in options.items()}
    return build({"SECRET_KEY": "s", PREFIX + "PLUGINS": plugins or [], **values}, strict=strict)


@pytest.fixture
def foreign(add_module: AddModule) -> str:
    return add_module("an_own_queue", FOREIGN)


@pytest.fixture
def privacyidea(add_module: AddModule) -> None:
    """privacyIDEA is installed."""
    add_module("privacyidea", "")


# -- the class -------------------------------------------------------------------------------------------------------


def test_without_a_class_there_is_no_queue() -> None:
    queue = built().queue
    assert type(queue) is Queue and queue.mode == "off" and queue.storage is None


def test_the_own_class_turns_the_queue_on() -> None:
    queue = built(CLASS=OWN_CLASS).queue
    assert type(queue) is HueyQueue and queue.mode == "queued" and queue.spool is None


@pytest.mark.parametrize("strict", [False, True])
def test_the_two_lines_of_privacyidea_s_documentation_work_unchanged(strict: bool) -> None:
    queue = built(strict, CLASS=HISTORIC_CLASS, URL="redis://localhost:6379/0").queue
    assert type(queue) is HueyQueue and queue.mode == "queued"


def test_beside_privacyidea_the_worker_says_which_line_to_change(privacyidea: None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        built(True, CLASS=HISTORIC_CLASS)
    assert HISTORIC_CLASS in str(caught.value)
    assert "change the line to PI_JOB_QUEUE_CLASS = 'pijobs_privacyidea.HueyQueue'" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["no_such_package.Queue", "pijobs.NoSuchQueue", "an_own_queue.not_a_class", "a_broken_queue.Queue"]
)
def test_a_class_that_can_not_be_used_is_logged_by_the_server_and_refused_by_the_worker(
    foreign: str, add_module: AddModule, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_module("a_broken_queue", "raise RuntimeError('s3cr3t')")
    queue = built(CLASS=path).queue
    assert type(queue) is Queue and queue.mode == "off"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert path in line and line.endswith("the server runs without a queue") and "s3cr3t" not in line
    with pytest.raises(ConfigurationError, match=f"{PREFIX}CLASS: expected a class.*{path}"):
        built(True, CLASS=path)


@pytest.mark.parametrize("body", ["def __init__(self, options): raise RuntimeError('s3cr3t')", "pass"])
def test_a_foreign_class_that_makes_no_queue_is_logged_and_there_is_none(
    add_module: AddModule, broken_plugins: None, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_module("a_bad_queue", f"class Bad:\n    {body}\n")
    queue = built(CLASS="a_bad_queue.Bad", plugins=["broken.good"]).queue
    assert type(queue) is Queue and queue.mode == "off"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "a_bad_queue.Bad" in line and line.endswith("the server runs without a queue") and "s3cr3t" not in line


def test_a_subclass_of_ours_is_used_by_server_and_worker(add_module: AddModule) -> None:
    add_module("a_sub_queue", "from pijobs import HueyQueue\n\nclass Mine(HueyQueue):\n    pass\n")
    for strict in (False, True):
        queue = built(strict, CLASS="a_sub_queue.Mine").queue
        assert type(queue).__name__ == "Mine" and isinstance(queue, HueyQueue) and queue.mode == "queued"


def test_a_foreign_class_gets_what_is_written_the_jobs_and_the_calls(foreign: str, broken_plugins: None) -> None:
    queue = built(CLASS="an_own_queue.Elsewhere", URL="redis://x/1", plugins=["broken.good"]).queue
    assert isinstance(queue, ForeignQueue)
    theirs = queue._foreign
    assert theirs.options == {"url": "redis://x/1", "plugins": ["broken.good"]}
    assert list(theirs.registered) == ["good.shout"]
    handle = queue.enqueue("good.shout", ["hello"])
    assert theirs.calls == [("good.shout", ("hello",), {})] and (handle.id, handle.via) == ("42", "foreign")


def test_a_foreign_class_takes_no_options_and_wrong_calls_are_refused(foreign: str, broken_plugins: None) -> None:
    queue = built(CLASS="an_own_queue.Elsewhere", plugins=["broken.good"]).queue
    assert isinstance(queue, ForeignQueue)
    with pytest.raises(ValueError, match="takes no options, found delay"):
        queue.enqueue("good.shout", ["x"], delay=5)
    with pytest.raises(Exception, match="did you mean"):
        queue.enqueue("good.shot", ["x"])
    assert queue._foreign.calls == []


def test_the_worker_refuses_a_foreign_class(foreign: str) -> None:
    with pytest.raises(ConfigurationError, match="this worker can't run its jobs"):
        built(True, CLASS="an_own_queue.Elsewhere")
    assert queue_class("an_own_queue.Elsewhere", strict=False).__name__ == "Elsewhere"


# -- settings and plugins --------------------------------------------------------------------------------------------


def test_faults_of_core_and_plugin_settings_are_told_together(broken_plugins: None) -> None:
    with pytest.raises(SettingsError) as caught:
        built(
            plugins=["broken.good"], LEASE=0, GOOD_VOLUME="loud", GOOD_VOLUMES=1, CLASS="x", HOST="h", URL="redis://h"
        )
    assert [fault.split(":")[0].removeprefix(PREFIX) for fault in sorted(caught.value.faults)] == [
        "CLASS", "GOOD_VOLUME", "GOOD_VOLUMES", "LEASE", "URL",
    ]  # fmt: skip
    assert "did you mean PI_JOB_QUEUE_GOOD_VOLUME?" in str(caught.value)


def test_settings_of_a_plugin_that_failed_or_is_not_allowed_warn(broken_plugins: None) -> None:
    installation = built(plugins=["broken.good", "broken.import_error"], IMPORT_ERROR_X=1, BROKEN_IMPORT_ERROR_Y=2)
    assert len(installation.settings.warnings) == 2
    assert all("not loaded" in warning for warning in installation.settings.warnings)


def test_the_server_starts_without_a_broken_plugin_and_the_worker_refuses(broken_plugins: None) -> None:
    plugins = ["broken.good", "broken.import_error", "broken.duplicate_job"]
    installation = built(plugins=plugins)
    assert list(installation.registry) == ["good.shout"]
    assert [plugin.name for plugin in installation.plugins.failed] == plugins[1:]
    with pytest.raises(PluginError) as caught:
        built(True, plugins=plugins)
    assert all(name in str(caught.value) for name in plugins[1:])


def test_a_plugin_sees_the_validated_settings(add_module: AddModule) -> None:
    source = "from pijobs import Job, Setting, hookimpl\n\n@hookimpl\ndef register_settings():\n"
    source += "    return [Setting(name='PI_JOB_QUEUE_SEES_X', default=1, expected='', help='', accepts=lambda v: 1)]\n"
    source += "\n@hookimpl\ndef register_jobs(settings):\n"
    source += "    return [Job('sees.x', print, priority=settings['PI_JOB_QUEUE_SEES_X'])]\n"
    add_module("sees", source)
    assert built(plugins=["sees"]).registry["sees.x"].priority == 1
    assert built(plugins=["sees"], SEES_X=7).registry["sees.x"].priority == 7


def test_jobs_of_the_settings_win_over_the_job(broken_plugins: None) -> None:
    jobs = {"good.shout": {"max_attempts": 8, "expires": 300, "priority": 10, "backoff": 1, "jitter": 0}}
    job = built(plugins=["broken.good"], JOBS=jobs).registry["good.shout"]
    assert (job.retry.max_attempts, job.expires, job.priority, job.retry.jitter) == (8, 300, 10, 0)


def test_an_override_for_an_unknown_job_is_refused_with_a_close_match(broken_plugins: None, monkeypatch: Any) -> None:
    monkeypatch.setattr("pijobs.plugins.discovery.metadata.entry_points", lambda: metadata.EntryPoints(()))
    with pytest.raises(SettingsError, match=r"found 'good\.shot'; did you mean 'good\.shout'\?"):
        built(plugins=["broken.good"], JOBS={"good.shot": {"priority": 1}})


def test_an_override_for_a_job_of_a_broken_plugin_warns(broken_plugins: None, caplog: pytest.LogCaptureFixture) -> None:
    built(plugins=["broken.good", "broken.import_error"], JOBS={"error.job": {"priority": 1}})
    assert "found 'error.job'" in caplog.text and "some plugins are not loaded" in caplog.text


# -- storages --------------------------------------------------------------------------------------------------------


def test_nothing_connects_and_no_thread_starts(tmp_path: Path) -> None:
    before = threading.active_count()
    url = "redis://nobody.invalid:1/0"
    queue = built(CLASS=OWN_CLASS, URL=url, SPOOL=str(tmp_path / "spool.sqlite")).queue
    assert queue.storage is not None and queue.spool is not None
    assert threading.active_count() <= before and not (tmp_path / "spool.sqlite").exists()


def test_the_displayed_url_has_no_password() -> None:
    for url in ("redis://:s3cr3t@localhost/0", "redis://localhost/0?password=s3cr3t", "mysql+pymysql://u:s3cr3t@h/d",
                "unix://u:s3cr3t@/run/redis.sock?db=1"):  # fmt: skip
        storage = built(CLASS=OWN_CLASS, URL=url).queue.storage
        assert storage is not None and "s3cr3t" not in storage.display_url


@pytest.mark.parametrize("password", ["s3c#r3t", "s3c/r3t", "s3c?r3t", "s3c@r3t", "s3c:r3t"])
def test_a_password_that_is_not_quoted_is_not_shown_in_part(password: str) -> None:
    try:
        storage = built(CLASS=OWN_CLASS, URL=f"redis://user:{password}@localhost:6379/0").queue.storage
        told = storage.display_url if storage else ""
    except ConfigurationError as error:
        told = str(error)
    assert "redis://user@localhost:6379/0" in told and "s3c" not in told and "r3t" not in told


def test_a_storage_of_one_process_is_refused_by_the_worker() -> None:
    with pytest.raises(ConfigurationError, match="expected a storage that server and worker share"):
        built(True, CLASS=OWN_CLASS, URL="memory://")


def test_an_unknown_option_in_the_url_of_redis_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"options and values that redis-py knows.*redis://localhost/0\?retries=3"
    ):
        built(CLASS=OWN_CLASS, URL="redis://localhost/0?retries=3")
    built(CLASS=OWN_CLASS, URL="redis://localhost/0?socket_timeout=3&socket_keepalive=true&client_name=pijobs")


def test_immediate_needs_no_storage() -> None:
    queue = built(CLASS=OWN_CLASS, IMMEDIATE=True, URL="redis://nobody.invalid:1/0").queue
    assert queue.mode == "immediate" and isinstance(queue.storage, MemoryStorage)


def test_retention_comes_from_the_settings() -> None:
    queue = built(CLASS=OWN_CLASS, URL="memory://", KEEP_FINISHED=(60, 5), KEEP_DEAD=7).queue
    assert isinstance(queue.storage, MemoryStorage)
    retention = queue.storage._retention
    assert (retention.finished, retention.finished_max, retention.dead) == (60_000, 5, 7_000)


# -- the class as privacyIDEA makes it -------------------------------------------------------------------------------


def test_the_class_is_made_from_options_without_prefix(broken_plugins: None) -> None:
    options = {"url": "memory://", "name": "x", "plugins": ["broken.good"]}
    queue = HueyQueue(options, host={"SECRET_KEY": "s"})
    assert queue.mode == "queued" and queue.settings.name == "x" and list(queue.jobs) == ["good.shout"]
    assert queue.enqueue("good.shout", ["x"]).state is State.QUEUED


def test_functions_become_jobs_until_a_name_is_taken() -> None:
    queue = HueyQueue({"immediate": True, "plugins": []}, host={"SECRET_KEY": "s"})
    got: list[str] = []
    queue.register_job("smtpserver.send_email", got.append)
    assert queue.enqueue("smtpserver.send_email", ["mail"]).state is State.DONE and got == ["mail"]
    with pytest.raises(ConfigurationError, match="registered already"):
        queue.register_job("smtpserver.send_email", print)


def test_wrong_options_are_refused_together() -> None:
    with pytest.raises(SettingsError) as caught:
        HueyQueue({"lease": 0, "urll": "x", "plugins": []}, host={"SECRET_KEY": "s"})
    assert len(caught.value.faults) == 2 and "did you mean PI_JOB_QUEUE_URL?" in caught.value.faults[1]


def test_configuring_again_gives_parts_of_their_own() -> None:
    one, two = configure({PREFIX + "PLUGINS": []}), configure({PREFIX + "PLUGINS": []})
    assert one.settings is not two.settings and one.plugins is not two.plugins


def test_the_path_of_a_spool_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c#d?mode=memory&é"
    folder.mkdir()
    spool = folder / "spool ?#%.sqlite"
    queue = built(CLASS=OWN_CLASS, URL=f"sqlite:///{tmp_path}/queue.sqlite", SPOOL=str(spool)).queue
    assert queue.spool is not None
    queue.spool.ping()
    queue.spool.depths()
    queue.spool.close()
    assert spool.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]
