"""What huey's hooks and receivers are told of attempts."""

from __future__ import annotations

import logging

from huey import signals
from huey.api import Task
from huey.exceptions import CancelExecution

from pijobs.errors import FailJob, RetryJob
from pijobs.execution.runner import Outcome
from pijobs.jobs import State
from pijobs.request.tasks import JobHuey
from pijobs.storage.values import Ended
from pijobs.worker.report import undisturbed

log = logging.getLogger("pijobs.job")


class HookedHuey(JobHuey):
    """huey's ``pre_execute``, ``post_execute`` and signals, as its own worker calls them."""

    def before_task(self, task: Task) -> None:
        """Do what huey does before a task runs. :raises FailJob: (or RetryJob) when a hook cancels it."""
        self._emit(signals.SIGNAL_EXECUTING, task)
        if not self._pre_execute:
            return
        try:
            self._run_pre_execute(task)
        except CancelExecution as error:
            self._emit(signals.SIGNAL_CANCELED, task)
            raise (RetryJob if error.retry else FailJob)("a pre_execute hook of huey cancelled it") from None

    @undisturbed
    def tell_end(self, task: Task, outcome: Outcome) -> None:
        """Call huey's hooks and receivers when an attempt has ended."""
        self._run_post_execute(task, outcome.value, outcome.error)
        if outcome.end.state is State.DONE:
            self._emit(signals.SIGNAL_COMPLETE, task)
        elif outcome.end.state is State.EXPIRED:
            self._emit(signals.SIGNAL_EXPIRED, task)
        elif not isinstance(outcome.error, RetryJob) or outcome.end.state is State.DEAD:
            self._emit(signals.SIGNAL_ERROR, task, outcome.error)
        if outcome.end.state is State.SCHEDULED:
            self._emit(signals.SIGNAL_RETRYING, task)

    @undisturbed
    def tell_storage_end(self, ended: Ended) -> None:
        if ended.name not in self.queue.registry:
            return
        task = self.task_of(ended.name, id=ended.id)
        if ended.state is State.EXPIRED:
            self._emit(signals.SIGNAL_EXPIRED, task)
        elif ended.state is State.DEAD:
            self._emit(signals.SIGNAL_ERROR, task, FailJob(ended.reason))
