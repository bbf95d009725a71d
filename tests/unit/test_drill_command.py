"""Which drill ``pijobs drill`` takes, and how a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apps import app_in_memory
from click.testing import CliRunner

import pijobs.observe.drill
from pijobs.cli.drill import drill
from pijobs.observe.drill import Exercise
from pijobs_mail.servers.definitions import open_store


def run(*arguments: str, given: tuple[str, ...]) -> str:
    """The error of the command where plugins give drills of these names."""

    def call(hook: str) -> list[Any]:
        assert hook == "register_drills"
        return [(name, [SimpleNamespace(name=name)]) for name in given]

    queue = SimpleNamespace(plugins=SimpleNamespace(call=call))
    done = CliRunner().invoke(drill, arguments, obj=SimpleNamespace(queue=lambda: queue))
    assert done.exit_code == 2
    return done.output


@pytest.mark.parametrize(
    ("given", "told"),
    [((), "no loaded plugin has a drill; install pijobs-mail"), (("mail", "sms"), "expected mail or sms, found 'fax'")],
)
def test_one_that_is_not_there_is_a_usage_error(given: tuple[str, ...], told: str) -> None:
    assert told in run("fax", given=given)


class Dropped:
    """Its end is when the signal strikes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_ends_it_even_where_python_drops_what_its_handler_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, sent = app_in_memory(tmp_path, "mail"), []

    @contextmanager
    def destination(host: str) -> Iterator[Any]:
        yield SimpleNamespace(values={"server": host, "sender": "a@example.com"})

    def send(queue: object, identifier: str, number: int, expires: float) -> tuple[str, Any]:
        sent.append(number)
        Dropped()
        return str(number), SimpleNamespace(id=str(number), via="storage")

    exercise = Exercise("letter", "letters", open_store, "smtp:{}", destination, send)
    queue = app.extensions["pijobs"].queue
    monkeypatch.setattr(queue.plugins, "call", lambda hook: [("test", [exercise])])
    monkeypatch.setattr(pijobs.observe.drill, "overview", lambda queue: {"workers": [{"workers": 1}]})
    done = CliRunner().invoke(drill, ["--rate", "1000"], obj=SimpleNamespace(queue=lambda: queue))
    assert (done.exit_code, sent) == (1, [0]), done.output
    assert not open_store(queue.settings).list()
