"""The queue as a caller sees it: it stores jobs, or runs them in the request.

* *off* (no ``PI_JOB_QUEUE_CLASS``): the arguments are checked as the codec does. The job runs once, in the caller's
  process and context, and its exception reaches the caller.
* *immediate*: the same, but through the complete codec, and the outcome is in the handle. For tests.
* *queued*: the instance is stored within ``PI_JOB_QUEUE_ENQUEUE_TIMEOUT``. If the storage does not answer, the queue
  tries each ``PI_JOB_QUEUE_FALLBACK`` in order.
"""

from __future__ import annotations

import datetime as dt
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NoReturn

from pijobs.base import guard, traces
from pijobs.errors import QueueUnavailable
from pijobs.execution.runner import Runner
from pijobs.jobs import Job, State
from pijobs.metrics.counting import Metrics
from pijobs.payload.codec import Call, Codec, check_arguments
from pijobs.payload.keys import KeyRing
from pijobs.plugins.hookspecs import InstanceEvent
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request import direct
from pijobs.request.calls import Handle as Handle
from pijobs.request.calls import JobCall, Made, Pending, checked, group_of, new_instance, periodic_id
from pijobs.request.enqueuer import Enqueuer
from pijobs.request.options import check_options, refuse_others
from pijobs.request.outage import Outage
from pijobs.request.places import Places
from pijobs.request.told import log_stored, span_of
from pijobs.request.transactions import Transactions
from pijobs.settings import PREFIX, Settings
from pijobs.storage import protocol
from pijobs.storage.contract import Storage
from pijobs.storage.trial import Fitness
from pijobs.storage.values import NewInstance, OnConflict, Stored

log = logging.getLogger(__name__)

Mode = Literal["off", "immediate", "queued"]


class Queue:
    """Accepts job calls. :mod:`pijobs.factory` creates it. It connects and starts threads only at first use.

    :param storage: None if the queue is off.
    :param spool: a second storage on this machine, used if the first one does not answer.
    """

    #: Whether the exception of a job that ran as a fallback reaches the caller; a setting can override it.
    direct_raises = False
    #: Whether a foreign queue class handles the jobs.
    foreign = False

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        plugins: Plugins,
        *,
        storage: Storage | None = None,
        spool: Storage | None = None,
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.storage = storage
        self.spool = spool
        self.outage = Outage()
        self.fitness = Fitness(storage)
        self.metrics = Metrics()
        if storage is not None:
            self.enqueuer = Enqueuer(self, storage, spool, self.outage)
        self._replace_registry(registry)

    def _replace_registry(self, registry: Registry) -> None:
        self.registry = registry
        self.runner = Runner(registry, self.codec, self.settings, direct.fresh_context, self.metrics)

    @cached_property
    def transactions(self) -> Transactions:
        """Calls that are part of a transaction of the caller."""
        return Transactions(self)

    @property
    def mode(self) -> Mode:
        if self.storage is None:
            return "off"
        return "immediate" if self.settings.immediate else "queued"

    def codec(self) -> Codec:
        """The codec with this installation's keys."""
        return self.settings.resource(
            Codec,
            lambda: Codec(
                KeyRing.of(self.settings), self.settings.name, self._protocol, max_size=self.settings.max_size
            ),
        )

    def _protocol(self) -> int:
        return protocol.FIRST if self.storage is None else self.storage.protocol

    def enqueue(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        delay: float | None = None,
        eta: dt.datetime | float | None = None,
        expires: float | None = None,
        priority: int | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "replace",
        connection: Any = None,
        **others: NoReturn,
    ) -> Handle:
        """Enqueue a job.

        :param delay: seconds to wait before the first attempt.
        :param eta: time of the first attempt: an aware datetime, or seconds since the epoch.
        :param expires: seconds from now after which the effect must not happen.
        :param priority: -1000 to 1000, higher first.
        :param key: of the instances with this key, only the newest waits, also after a retry or recovery.
        :param on_conflict: what to do if one already waits: ``"replace"`` it, ``"keep"`` it, or raise (``"error"``).
        :param connection: a connection of SQLAlchemy to the queue's database: store the instance in its transaction. If
            that fails, no fallback is used.
        :raises UnknownJob: no plugin registers this name.
        :raises EncodeError: the arguments can't be stored, are too large, or don't fit the function.
        :raises ValueError: an option is invalid.
        :raises KeyConflict: with ``on_conflict="error"``.
        :raises InstanceRefused: the storage can't store this instance, and ``"direct"`` is not a fallback.
        :raises QueueFull: too many instances of the job wait.
        :raises QueueUnavailable: neither the storage nor a fallback accepted it.
        """
        refuse_others(name, others)
        call = JobCall(
            name, args, kwargs, delay=delay, eta=eta, expires=expires, priority=priority, key=key,
            on_conflict=on_conflict,
        )  # fmt: skip
        return self.enqueue_many([call], connection=connection)[0]

    def enqueue_many(self, calls: Iterable[JobCall], *, connection: Any = None) -> list[Handle]:
        """Enqueue many jobs: like :meth:`enqueue` for each, but with one request to the storage for 100 of them.

        All calls are checked before the first one is stored. Then they are stored in batches of up to 100, and up to
        1 MB: all calls of a batch, or none. Each batch may wait for the storage as long as one :meth:`enqueue`. If a
        batch gets no answer, later batches do not wait and use the fallbacks.

        :param calls: made by ``call`` of a function with ``@job``, or as ``JobCall("mail.send", kwargs={…})``.
        :param connection: as in :meth:`enqueue`.
        :returns: a handle for each call, in the same order.
        :raises PijobsError: as :meth:`enqueue` does. Stored calls stay; the error's ``stored`` has their handles.
        """
        made = [self.checked(one) for one in calls]
        with span_of(made, self.settings.name) if traces.on() else traces.NOTHING:
            return self._enqueue(made, connection)

    def _enqueue(self, made: Sequence[Made], connection: Any) -> list[Handle]:
        if connection is not None:
            return self.transactions.within(connection, made)
        if self.storage is None:
            return [self._direct(job, secrets.token_hex(16), call, one.expires) for one, job, call in made]
        guard.before_storing(self)
        pending = [self.pending(*one) for one in made]
        if self.mode == "immediate":
            return [self._immediately(one.new) for one in pending]
        return self.enqueuer.store(pending)

    def enqueue_on_commit(self, session: Any, call: JobCall) -> Handle:
        """Enqueue a job when the present transaction of a session is committed, and not if the transaction, or its
        savepoint, is rolled back.

        If the queue is in the database of the session, or ``PI_JOB_QUEUE_OUTBOX`` is set, the call is part of the
        transaction. Otherwise it is enqueued right after the commit, like :meth:`enqueue`. If the process dies in
        between, the call is lost. If the queue does not accept it then, this is logged.

        :param session: a session of SQLAlchemy, or ``db.session`` of Flask-SQLAlchemy.
        :param call: made by ``call`` of a function with ``@job``, or ``JobCall("mail.send", kwargs={…})``.
        :returns: a handle with the id, which you may store in the same transaction. The instance exists after it.
        :raises UnknownJob: like ``EncodeError`` and ``ValueError``, as in :meth:`enqueue`, at once.
        :raises QueueUnavailable: the transaction can't continue.
        """
        return self.transactions.on_commit(session, call)

    def checked(self, call: JobCall) -> Made:
        job, made = checked(self.registry, call.name, call.args, call.kwargs)
        check_options(call)
        return call, job, made

    def pending(self, options: JobCall, job: Job, call: Call) -> Pending:
        return Pending(call, self._instance(job, secrets.token_hex(16), call, options), options.on_conflict)

    def _immediately(self, new: NewInstance) -> Handle:
        attempts = self.registry[new.name].retry.max_attempts
        state, reason = direct.immediately(self.runner, self.present_storage(), self.codec(), attempts, new)
        return Handle(new.id, state, via="direct", reason=reason)

    def run(self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Handle:
        """Run a job once in this process, in any mode. Its exception reaches the caller."""
        job, call = checked(self.registry, name, args, kwargs)
        return self._direct(job, secrets.token_hex(16), call, None)

    def enqueue_periodic(self, job: Job, due: int) -> bool:
        """Store the instance of a periodic job for one due time (ms); False if it is stored already.

        :raises StorageUnavailable: no fallback is used; the due time is tried again.
        """
        return self.present_storage().enqueue_periodic(self.periodic(job, due), due=due)

    def periodic(self, job: Job, due: int) -> NewInstance:
        """The instance of a periodic job for one due time (ms)."""
        return self._instance(job, periodic_id(job.name, due), Call((), {}), JobCall(job.name, eta=due / 1000))

    def record_refusal(self, name: str, kwargs: Mapping[str, Any], error: Exception) -> None:
        """Record a dead letter for a call that a host refused before it enqueued, because its user sees no exception.

        :param kwargs: arguments for the job's group, label and subject; they are not stored.
        """
        if self.mode != "queued":
            return
        job, call = self.registry[name], Call((), dict(kwargs))
        new, end = direct.refusal(self._instance(job, secrets.token_hex(16), call, JobCall(name)), error)
        log.error("job %s %s: -> dead: %s", new.name, new.id, end.reason)
        self.metrics.failed(new.name, new.group, end.state.value)
        self.enqueuer.ends.record(new, end, away=self.outage.since is not None)

    def handle(self, instance_id: str) -> Handle:
        """The handle of an earlier call by its id, with the present state.

        :raises InstanceNotFound: the id is unknown, or its record was removed.
        :raises StorageUnavailable:
        """
        return Handle(instance_id, State.QUEUED, places=lambda: self.places, reads=self.result).refresh()

    def result(self, instance_id: str) -> Any:
        """See :meth:`pijobs.Handle.result`."""
        return self.places.result(instance_id, self.codec())

    def retry(self, instance_id: str) -> None:
        """Queue a dead letter again; see :meth:`Storage.retry`."""
        self.places.find(instance_id)[0].retry(instance_id)

    def cancel(self, instance_id: str, reason: str = "cancelled by an operator") -> None:
        """Cancel a waiting instance; see :meth:`Storage.cancel`."""
        self.places.find(instance_id)[0].cancel(instance_id, reason=reason)

    def remove(self, instance_id: str) -> None:
        """Delete the record of an ended instance; see :meth:`Storage.remove`."""
        self.places.find(instance_id)[0].remove(instance_id)

    @property
    def places(self) -> Places:
        """The storages that contain the instances.

        :raises QueueUnavailable: the queue is off.
        """
        return Places(self.present_storage(), self.spool, self.settings.spool, self.transactions.outbox)

    def present_storage(self) -> Storage:
        if self.storage is None:
            raise QueueUnavailable(f"no queue is configured; set {PREFIX}CLASS")
        return self.storage

    def _direct(self, job: Job, instance_id: str, call: Call, expires: float | None) -> Handle:
        check_arguments(call.args, call.kwargs)
        lifetime = job.expires if expires is None else expires
        self.runner.direct(job, instance_id, call, lifetime, group_of(self.registry, job, call))
        return Handle(instance_id, State.DONE, via="direct")

    def stored(self, new: NewInstance, stored: Stored, via: str = "storage") -> Handle:
        log_stored(new, stored, via)
        if self.plugins.listen("job_enqueued"):
            event = InstanceEvent(id=stored.id, name=new.name, group=new.group, state=stored.state.value)
            self.plugins.call("job_enqueued", event=event)
        return Handle(stored.id, stored.state, via=via, places=lambda: self.places, reads=self.result)

    def move_from_spool(self) -> None:
        """For a worker of this machine, when the storage answers: move the instances in the spool there. Checks at most
        once a second."""
        if self.storage is not None and self.enqueuer.mover is not None:
            self.enqueuer.mover.after_step()

    def move_from_outbox(self) -> None:
        """For a worker, when the storage answers: move the outbox there. Checks at most once a second."""
        if self.transactions.mover is not None:
            self.transactions.mover.after_step()

    def _instance(self, job: Job, instance_id: str, call: Call, options: JobCall) -> NewInstance:
        # A call that times out here does not wait a second time, because the storage object then knows the outage.
        created = self.present_storage().now(timeout=self.settings.enqueue_timeout)
        return new_instance(
            job, instance_id, call, options, registry=self.registry, codec=self.codec(), keys=KeyRing.of(self.settings),
            created=created, max_age=self.settings.max_age,
        )  # fmt: skip
