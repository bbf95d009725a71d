"""How a worker ends."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from huey import consumer as huey_consumer

from pijobs.errors import PijobsError
from pijobs.worker.consumer import Consumer


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One whose workers have ended."""
    monkeypatch.setattr(huey_consumer.Consumer, "run", lambda self: None)
    made: Any = object.__new__(Consumer)
    made.huey, made.environment = Mock(), SimpleNamespace(forks=True)
    made._signum, made._again, made._ended_early = None, False, False
    return made


def test_a_worker_that_ends_before_it_was_told_to_is_an_error(consumer: Any) -> None:
    with pytest.raises(PijobsError, match="ended without a signal"):
        consumer.run()
    consumer.huey.close.assert_called_once_with()


def test_a_worker_that_was_told_to_end_is_none(consumer: Any) -> None:
    consumer._signum = signal.SIGTERM
    consumer.run()
    consumer.huey.close.assert_called_once_with()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (None, 1)])
def test_jobs_that_still_run_end_with_the_process(
    consumer: Any, signum: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exited = Mock(side_effect=SystemExit)
    monkeypatch.setattr("os._exit", exited)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    consumer._signum, consumer._ended_early = signum, True
    with pytest.raises(SystemExit):
        consumer.run()
    exited.assert_called_once_with(code)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_workers_start_ends_what_they_run_first(signum: int) -> None:
    consumer: Any = Consumer(MagicMock(immediate=False), floors=[None], shutdown_timeout=1.0, worker_type="thread")
    before = {number: signal.signal(number, lambda *_: None) for number in consumer._signal_actions}
    consumer.worker_threads = [(Mock(), Mock(start=lambda: signal.raise_signal(signum)))]
    consumer.scheduler = Mock()
    try:
        consumer.start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (consumer._signum, consumer._graceful) == (signum, True)
