"""No line of the log shows an address, a one-time password or a body; not even through somebody else's error."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import re
import shutil
import smtplib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from costs import costs_little

from pijobs.base.known_texts import Known
from pijobs.errors import ConfigurationError
from pijobs.factory import configure
from pijobs.logs.configuration import configure_log, log_warnings
from pijobs.logs.formatting import CLASSIC, MOST_INNER, MOST_OUTER, SIMPLE, JsonFormatter, RedactingFormatter
from pijobs.logs.records import InstanceLogger, guard_loggers, redact_records, write_where
from pijobs.settings import CORE_SETTINGS, Settings, validate

BODY = "Dear Alice, your code is 739105"
ADDRESS = "alice@example.com"


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """What a test does to the root logger goes with it."""
    root, huey = logging.getLogger(), logging.getLogger("huey")
    before, make = (list(root.handlers), root.level, huey.level), logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(make)
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:], _, _ = before
    root.setLevel(before[1])
    huey.setLevel(before[2])


def logged(formatter: logging.Formatter, message: str, *args: Any, error: BaseException | None = None) -> str:
    """What a handler with this formatter writes."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger = logging.Logger("pijobs.job")
    logger.addHandler(handler)
    logger.error(message, *args, exc_info=error)
    return out.getvalue()


def raised(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


# -- errors of libraries ---------------------------------------------------------------------------------------------


def statement_error() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sa.text("INSERT INTO nowhere VALUES (:to, :body)"), {"to": ADDRESS, "body": BODY})


def interface_error() -> None:
    with sa.create_engine("sqlite://").connect() as connection:
        connection.execute(sa.text("SELECT :body"), {"body": [BODY]})


def unreachable() -> None:
    sa.create_engine("mysql+pymysql://pi:s3cr3t@127.0.0.1:1/db").connect()


def redis_unreachable() -> None:
    redis.Redis.from_url("redis://:s3cr3t@127.0.0.1:1/0").set("x", BODY)


def redis_pipeline() -> None:
    error = redis.ResponseError("WRONGTYPE Operation against a key")
    command = ["SET", "mail", BODY, ADDRESS]
    redis.Redis().pipeline().annotate_exception(error, 1, command)  # type: ignore[no-untyped-call]
    raise error


def refused() -> None:
    raise smtplib.SMTPRecipientsRefused({ADDRESS: (550, f"5.1.1 <{ADDRESS}> unknown, code 739105".encode())})


def sender_refused() -> None:
    raise smtplib.SMTPSenderRefused(550, b"denied", ADDRESS)


def nested() -> None:
    try:
        raise ValueError(BODY)
    except ValueError as error:
        raise RuntimeError(f"could not write to {ADDRESS}") from error


def integrity() -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute(f"SELECT * FROM '{ADDRESS}'")


ERRORS = [
    statement_error, interface_error, unreachable, redis_unreachable, redis_pipeline, refused, sender_refused, nested,
    integrity,
]  # fmt: skip


@pytest.mark.parametrize("fails", ERRORS)
@pytest.mark.parametrize("formatter", [RedactingFormatter(CLASSIC), RedactingFormatter(SIMPLE), JsonFormatter()])
def test_the_error_of_a_library_shows_neither_address_nor_body(
    fails: Callable[[], Any], formatter: logging.Formatter
) -> None:
    error = raised(fails)
    for text in (
        logged(formatter, "job %s failed", "0af3c1", error=error),
        logged(formatter, "job 0af3c1 failed: %s", error),
    ):
        assert type(error).__name__ in text or str(error)[:10] in text or "0af3c1" in text
        for secret in ("alice", "Alice", "739105", "your code", "s3cr3t"):
            assert secret not in text, text


def test_a_traceback_shows_where_and_what_but_no_line_of_source() -> None:
    lines = logged(RedactingFormatter(SIMPLE), "failed", error=raised(nested)).splitlines()
    assert lines[0].endswith("failed") and lines[-1] == "RuntimeError: could not write to a***@example.com"
    assert lines[-2].startswith('  File "') and lines[-2].endswith("in nested") and "raise " not in "".join(lines)


def test_of_a_recursion_without_end_both_ends_are_shown() -> None:
    def deeper() -> None:
        deeper()

    lines = logged(RedactingFormatter(SIMPLE), "failed", error=raised(deeper)).splitlines()
    assert len(lines) == 1 + MOST_OUTER + 1 + MOST_INNER + 1
    assert re.fullmatch(r"  \.\.\. \d+ more", lines[1 + MOST_OUTER])


# -- lines -----------------------------------------------------------------------------------------------------------


def test_a_line_is_redacted_and_stays_one_line() -> None:
    text = logged(RedactingFormatter(CLASSIC), "to %s:\n[2026] ERROR forged %s", ADDRESS, 739105)
    assert len(text.splitlines()) == 1 and ADDRESS not in text and "739105" not in text
    assert "ERROR:pijobs.job:" in text


def test_what_huey_writes_stays_readable() -> None:
    text = logged(RedactingFormatter(CLASSIC), "job mail.send %s: queued -> running (waited %.3f s)", "0af3c1d2", 1.25)
    assert text.endswith("job mail.send 0af3c1d2: queued -> running (waited 1.250 s)\n")


def test_json_lines_can_be_parsed() -> None:
    text = logged(JsonFormatter(), 'say "%s"\nto %s', "Grüße", ADDRESS, error=raised(nested))
    (line,) = text.splitlines()
    entry = json.loads(line)
    assert set(entry) == {"time", "level", "logger", "process", "thread", "message", "error"}
    assert entry["message"] == 'say "Grüße" to a***@example.com' and entry["level"] == "ERROR"
    assert entry["error"][-1] == "RuntimeError: could not write to a***@example.com"


def test_the_time_of_json_lines_is_utc() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, None)
    record.created = 1_700_000_000.25
    assert json.loads(JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.250+00:00"


def test_without_an_error_there_is_no_error() -> None:
    assert "error" not in json.loads(logged(JsonFormatter(), "fine"))


# -- where the log goes ----------------------------------------------------------------------------------------------


def settings(**values: Any) -> Settings:
    return validate(values, CORE_SETTINGS)


def test_the_log_goes_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    configure_log(settings(), file)
    logging.getLogger("pijobs.job").info("to %s", ADDRESS)
    logging.getLogger("pijobs.job").debug("not shown")
    text = file.read_text()
    assert "INFO:pijobs.job:MainThread:to a***@example.com" in text and "not shown" not in text


def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log(settings(), None, simple=True)
    logging.getLogger("pijobs").warning("hello")
    assert capsys.readouterr().err.endswith(" hello\n")


def test_json_is_chosen_by_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    configure_log(settings(PI_JOB_QUEUE_LOG_FORMAT="json"), file, simple=True)
    logging.getLogger("pijobs").info("hello")
    assert [json.loads(line)["message"] for line in file.read_text().splitlines()] == ["hello"]


def test_children_write_their_process(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    configure_log(settings(), file, processes=True)
    logging.getLogger("pijobs").info("hello")
    assert ":MainThread:" not in file.read_text()


@pytest.mark.parametrize(
    ("configured", "option", "level"),
    [
        (logging.INFO, None, logging.INFO),
        (10, None, logging.DEBUG),
        ("debug", None, logging.DEBUG),
        ("Warning", None, logging.WARNING),
        ("debug", logging.ERROR, logging.ERROR),
    ],
)
def test_the_level_comes_from_setting_or_option(configured: Any, option: int | None, level: int) -> None:
    configure_log(settings(PI_LOGLEVEL=configured), None, level=option)
    assert logging.getLogger().level == level


def test_huey_s_own_lines_are_details(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    configure_log(settings(), file)
    logging.getLogger("huey.consumer").info("repeats what ours say")
    assert file.read_text() == ""


def test_a_file_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a log file .*, found .*; name another"):
        configure_log(settings(), tmp_path / "nowhere" / "worker.log")


def test_pi_logconfig_decides_alone(tmp_path: Path) -> None:
    file, log = tmp_path / "log.json", tmp_path / "theirs.log"
    handler = {"class": "logging.FileHandler", "filename": str(log)}
    file.write_text(json.dumps({"version": 1, "handlers": {"h": handler}, "root": {"handlers": ["h"], "level": 10}}))
    configure_log(settings(PI_LOGCONFIG=str(file)), tmp_path / "ours.log")
    logging.getLogger("pijobs").debug("hello")
    assert log.read_text() == "hello\n" and not (tmp_path / "ours.log").exists()


def test_pi_logconfig_that_is_not_there_is_as_good_as_none(tmp_path: Path) -> None:
    configure_log(settings(PI_LOGCONFIG=str(tmp_path / "nowhere.json")), tmp_path / "ours.log")
    assert (tmp_path / "ours.log").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.json", "{not json"),
        ("log.json", "[]"),
        ("log.json", '{"version": 9}'),
        ("log.json", '{"version": 1, "handlers": {"h": {"class": "no.such.Handler"}}}'),
        ("log.cfg", "not an ini file"),
        ("log.cfg", "[loggers]\nkeys=root\n"),
        ("log.yaml", "a: [b"),
        ("log.yaml", "\ttabs"),
        ("log.yaml", "just a text"),
    ],
)
def test_a_faulty_pi_logconfig_is_told(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="PI_LOGCONFIG: "):
        configure_log(settings(PI_LOGCONFIG=str(file)), None)


# -- a log that is taken away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [True, False])
def test_a_file_that_was_moved_or_deleted_is_begun_anew(tmp_path: Path, moved: bool) -> None:
    file = tmp_path / "worker.log"
    configure_log(settings(), file)
    logging.getLogger("pijobs.job").warning("first")
    file.rename(tmp_path / "old.log") if moved else file.unlink()
    logging.getLogger("pijobs.job").warning("second")
    assert "second" in file.read_text() and "first" not in file.read_text()


def test_a_folder_that_is_gone_disturbs_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    configure_log(settings(), folder / "worker.log")
    shutil.rmtree(folder)
    logging.getLogger("elsewhere").warning("to %s", ADDRESS)
    assert ADDRESS not in capsys.readouterr().err


def test_no_locale_makes_lines_vanish_or_shows_their_arguments(tmp_path: Path) -> None:
    code = (
        "import logging, pathlib, sys; from pijobs.logs.configuration import configure_log; "
        "from pijobs.logs.records import guard_loggers; "
        "from pijobs.settings import CORE_SETTINGS, validate; "
        "configure_log(validate({}, CORE_SETTINGS), pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None); "
        "logging.getLogger('pijobs.job').warning('f\\u00fcr %s \\udcff', 'alice@example.com')"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    file = tmp_path / "worker.log"
    for more in ([str(file)], []):
        ran = subprocess.run([sys.executable, "-c", code, *more], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0 and "alice@" not in ran.stderr
    assert "für a***@example.com ?" in file.read_text("utf-8")
    assert "f\\xfcr a***@example.com" in ran.stderr


def test_what_a_command_warns_of_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    root.handlers[:] = []
    log_warnings()
    logging.getLogger("pijobs.somewhere").warning("for %s", ADDRESS)
    assert capsys.readouterr().err == "WARNING: for a***@example.com\n"
    log_warnings()
    assert len(root.handlers) == 1


def test_a_handler_or_filter_that_fails_reaches_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("alice@example.com")

    logger, handler = logging.getLogger("pijobs.guarded"), Loud()

    def spoil(record: logging.LogRecord) -> bool:
        return bool(record.tenant)  # type: ignore[attr-defined]

    guard_loggers()
    guard_loggers()
    logger.addHandler(handler)
    logger.error("one")
    logger.removeHandler(handler)
    logger.addFilter(spoil)
    logger.error("two")
    logger.removeFilter(spoil)
    assert "alice@" not in capsys.readouterr().err


# -- what is told of instances ---------------------------------------------------------------------------------------


class Call:
    """What a job logs is compared with."""

    def __init__(self, texts: list[str]) -> None:
        self.known = Known(texts)


def test_lines_about_an_instance_have_fields_of_their_own() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("pijobs.job")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        InstanceLogger("a.b", "hf.cron@1700000000000", 2, Call([])).info("works", extra={"mine": 1})
        logger.info("job", extra={"instance": {"id": "1", "job": "a.b", "state": "done", "attempt": 3}})
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    one, two = map(json.loads, out.getvalue().splitlines())
    assert (one["id"], one["job"], one["attempt"]) == ("hf.cron@1700000000000", "a.b", 2)
    assert one["message"] == "hf.cron@1700000000000 attempt 2: works"
    assert (two["id"], two["job"], two["state"], two["attempt"]) == ("1", "a.b", "done", 3)


def test_the_lines_of_a_job_do_not_cost_by_the_number_of_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pijobs.job")
    log = InstanceLogger("a.b", "1", 1, Call([f"text number {number} of many" for number in range(20_000)]))
    assert costs_little(lambda: log.info("line %d with text number 4711 of many", 0))
    assert caplog.messages[0] == "1 attempt 1: line 0 with ***"


# -- where a record is made ------------------------------------------------------------------------------------------


def written_by_others(name: str = "pijobs.server", *, json_lines: bool = False) -> str:
    """What handlers that know nothing of us write about an error with a secret in it, and a path with a line break."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s:%(name)s:%(message)s"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        error = raised(nested)
        logger.error("%s %s failed", "GET", f"/z/a\r\n[2026-11-28] INFO:forged:{ADDRESS}\u2028x", exc_info=error)
    finally:
        logger.removeHandler(handler)
    return out.getvalue()


def test_a_record_of_ours_is_redacted_whoever_writes_it() -> None:
    redact_records()
    text = written_by_others()
    assert ADDRESS not in text and "739105" not in text and BODY not in text
    assert "a***@example.com" in text and "RuntimeError" in text and "in nested" in text
    assert not any(line.startswith("[2026-11-28]") for line in text.splitlines())
    assert "raise " not in text  # a source line


def test_who_builds_an_installation_has_its_records_redacted(tmp_path: Path) -> None:
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    try:
        configure({"SECRET_KEY": "k" * 40, "PI_JOB_QUEUE_PLUGINS": ()}, directory=tmp_path)
        assert ADDRESS not in written_by_others()
    finally:
        logging.setLogRecordFactory(before)


def test_the_records_of_an_application_are_its_own() -> None:
    redact_records()
    assert ADDRESS in written_by_others("application")


def test_in_a_process_of_ours_all_records_are_redacted() -> None:
    redact_records(all_of_them=True)
    assert ADDRESS not in written_by_others("application")


def test_redacting_twice_changes_nothing_and_keeps_the_factory_of_a_host() -> None:
    made: list[str] = []

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made.append(args[0])
        return logging.LogRecord(*args, **kwargs)

    logging.setLogRecordFactory(make)
    redact_records()
    ours = logging.getLogRecordFactory()
    redact_records()
    assert logging.getLogRecordFactory() is ours
    assert ADDRESS not in written_by_others() and made == ["pijobs.server"]


def test_a_line_whose_arguments_do_not_fit_does_not_show_them() -> None:
    redact_records()
    out = io.StringIO()
    logger, handler = logging.getLogger("pijobs.misfit"), logging.StreamHandler(out)
    logger.addHandler(handler)
    try:
        logger.error("%d of %d", ADDRESS)
    finally:
        logger.removeHandler(handler)
    assert out.getvalue() == "%d of %d\n"


def test_lines_go_where_those_of_the_host_go_though_it_configured_its_log_afterwards(tmp_path: Path) -> None:
    """As privacyIDEA does it: a handler at its own logger alone, and all other loggers disabled."""
    ours = logging.getLogger("pijobs.some.module")
    host, top = logging.getLogger("some_host"), logging.getLogger("pijobs")
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "host.log")}
    # A name without a logger of its own has the attribute, too, if logging was configured before.
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    known = [(one, one.disabled) for one in loggers]
    try:
        logging.config.dictConfig(
            {"version": 1, "handlers": {"file": handler}, "loggers": {"some_host": {"handlers": ["file"], "level": 20}}}
        )
        ours.error("lost")
        write_where(host)
        write_where(host)
        ours.error("once")
        ours.debug("too quiet")
        assert (tmp_path / "host.log").read_text() == "once\n"
    finally:
        top.parent = logging.root
        for logger, disabled in known:
            logger.disabled = disabled
        for one in host.handlers[:]:
            host.removeHandler(one)
            one.close()


def test_a_host_without_handlers_of_its_own_leaves_our_lines_to_the_root() -> None:
    write_where(logging.getLogger("some_host_without_handlers"))
    assert logging.getLogger("pijobs").parent is logging.root
