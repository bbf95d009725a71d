"""The only wiring: settings → plugins → registry → storage → queue. Server and worker call the same function.

Nothing here connects or starts a thread; a fork in between is harmless.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pijobs.base import threads
from pijobs.errors import ConfigurationError, SettingsError
from pijobs.jobs import Job
from pijobs.logs.records import guard_loggers, redact_records
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.foreign import ForeignQueue
from pijobs.request.queue import Handle, Queue
from pijobs.request.storages import storages
from pijobs.settings import CORE_SETTINGS, PREFIX, AppPlaces, Settings, validate
from pijobs.settings.stand_ins import stand_in_settings
from pijobs.settings.table import cross_faults
from pijobs.storage.values import NewInstance, Stored

log = logging.getLogger(__name__)

#: The class that privacyIDEA's documentation names. Without privacyIDEA it means ours.
HISTORIC_CLASS = "privacyidea.lib.queues.huey_queue.HueyQueue"
OWN_CLASS = "pijobs.HueyQueue"
_PRIVACYIDEA_LINE = f"change the line to {PREFIX}CLASS = 'pijobs_privacyidea.HueyQueue'"


@dataclass(frozen=True)
class Installation:
    """What one ``pi.cfg`` leads to."""

    settings: Settings
    plugins: Plugins
    registry: Registry
    queue: Queue


class HueyQueue(Queue):
    """The queue for ``PI_JOB_QUEUE_CLASS``, with the interface that privacyIDEA gives such classes.

    :param options: the settings without their prefix, in lower case: ``{"url": "redis://…", "name": …}``.
    :param host: settings outside the prefix, such as ``SECRET_KEY``, which may be a function here: it is asked at
        first use, for hosts whose settings are not known before.
    :raises ConfigurationError: for privacyIDEA, whose mails this class does not know.
    """

    def __init__(self, options: Mapping[str, Any], *, host: Mapping[str, Any] | None = None) -> None:
        if type(self) is HueyQueue and _made_by_privacyidea() and not options.get("immediate"):
            raise ConfigurationError(
                f"{PREFIX}CLASS: {OWN_CLASS!r} does not know the mails of privacyIDEA; {_PRIVACYIDEA_LINE}"
            )
        values = {PREFIX + name.upper(): value for name, value in options.items()}
        values.setdefault(PREFIX + "CLASS", OWN_CLASS)
        parts = configure({**(host or {}), **values})
        for plugin in parts.plugins.failed:
            log.error("plugin %s is not loaded: %s", plugin.name, plugin.error)
        self._adopt(parts)

    @classmethod
    def of(cls, parts: Parts) -> HueyQueue:
        """The queue of an installation that is configured already."""
        queue = cls.__new__(cls)
        queue._adopt(parts)
        return queue

    def _adopt(self, parts: Parts) -> None:
        if threads.are_stopped_between_requests():
            log.warning("%s; %s", threads.STOPPED, threads.ADVICE)
        self._huey: Any = None
        storage, spool = storages(parts.settings)
        super().__init__(parts.settings, parts.registry, parts.plugins, storage=storage, spool=spool)

    @property
    def huey(self) -> Any:
        """The :class:`huey.Huey` whose registry holds the jobs, in server and worker (:mod:`pijobs.request.tasks`)."""
        if self._huey is None:
            # huey imports the drivers of every database that it knows, so it comes with its first use.
            from pijobs.request.tasks import JobHuey

            self._huey = JobHuey(self)
        return self._huey

    def use_huey(self, huey: Any) -> None:
        """In a worker: the one that runs the jobs. Hooks and receivers that were given before stay."""
        if self._huey is not None:
            huey.take_over(self._huey)
        self._huey = huey

    def stored(self, new: NewInstance, stored: Stored, via: str = "storage") -> Handle:
        if self._huey is not None and stored.fresh:
            self._huey.enqueued(new.name, stored.id)
        return super().stored(new, stored, via)

    @property
    def jobs(self) -> Mapping[str, Job]:
        """The jobs by name, as privacyIDEA's queues show them."""
        return self.registry

    def register_job(self, name: str, func: Callable[..., Any]) -> None:
        """Add a function as a job with default options; before the first use, as privacyIDEA's server does.

        :raises ConfigurationError: for a name that is registered already.
        """
        if name in self.registry:
            raise ConfigurationError(f"job {name!r} is registered already")
        job = Job(name, func)
        self._replace_registry(Registry({**self.registry, name: job}))
        if self._huey is not None:
            self._huey.add(job)


@dataclass(frozen=True)
class Parts:
    """What stands before a queue is made."""

    settings: Settings
    plugins: Plugins
    registry: Registry


def build(
    values: Mapping[str, Any],
    *,
    directory: Path | None = None,
    file: Path | None = None,
    strict: bool = False,
    app: AppPlaces | None = None,
) -> Installation:
    """The installation that these settings describe.

    :param values: upper-case names, as in ``pi.cfg`` or ``app.config``.
    :param directory: folder of the ``pi.cfg``.
    :param file: the ``pi.cfg`` itself, if the values come from one.
    :param app: of the Flask app whose configuration they are.
    :param strict: for processes that run jobs: refuse what a server would go on without.
    :raises SettingsError: with all faults.
    :raises PluginError: when strict, if a plugin failed.
    :raises ConfigurationError: when strict, for a ``PI_JOB_QUEUE_CLASS`` that can't be used.
    """
    parts = configure(values, directory=directory, file=file, strict=strict, app=app)
    return Installation(parts.settings, parts.plugins, parts.registry, _queue(parts, values, strict=strict))


def configure(
    values: Mapping[str, Any],
    *,
    directory: Path | None = None,
    file: Path | None = None,
    strict: bool = False,
    app: AppPlaces | None = None,
) -> Parts:
    """Settings, plugins and registry. See :func:`build`."""
    values = {**values, **stand_in_settings()}
    plugins = Plugins(_allowed(values))
    table = [*CORE_SETTINGS, *plugins.settings()]
    settings = validate(
        values, table, absent_prefixes=plugins.absent_prefixes, directory=directory, file=file,
        extra_faults=cross_faults(values), app=app,
    )  # fmt: skip
    settings.resource(Plugins, lambda: plugins)
    jobs = plugins.register_jobs(settings)
    if strict:
        plugins.refuse_failed()
    guard_loggers()
    redact_records()
    overrides = settings.jobs
    _check_overrides(overrides, {job.name for job in jobs}, certain=len(plugins.loaded) == len(plugins.found))
    return Parts(settings, plugins, Registry.of(jobs, overrides))


def _allowed(values: Mapping[str, Any]) -> Sequence[str] | None:
    """The allow-list, before the settings are validated: which plugins there are decides which settings exist."""
    allowed = values.get(PREFIX + "PLUGINS")
    row = next(row for row in CORE_SETTINGS if row.name == PREFIX + "PLUGINS")
    return None if row.fault(allowed) else allowed


def _check_overrides(overrides: Mapping[str, Any], names: set[str], *, certain: bool) -> None:
    unknown = [name for name in overrides if name not in names]
    if not unknown:
        return
    faults = []
    for name in unknown:
        close = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {close[0]!r}?" if close else "'pijobs plugins' lists the jobs"
        faults.append(f"{PREFIX}JOBS: expected the names of jobs, found {name!r}; {advice}")
    if certain:
        raise SettingsError(faults)
    for fault in faults:
        log.warning("%s (some plugins are not loaded)", fault)


def _queue(parts: Parts, values: Mapping[str, Any], *, strict: bool) -> Queue:
    path = parts.settings.queue_class
    if not path:
        return Queue(parts.settings, parts.registry, parts.plugins)
    try:
        chosen = queue_class(path, strict=strict)
    except ConfigurationError as error:
        if strict:
            raise
        log.error("%s; the server runs without a queue", error)
        return Queue(parts.settings, parts.registry, parts.plugins)
    if issubclass(chosen, HueyQueue):
        if strict and parts.settings.storage_url.startswith("memory:"):
            raise ConfigurationError(
                f"{PREFIX}URL: expected a storage that server and worker share, found memory://, which is for tests"
            )
        return chosen.of(parts)
    # As privacyIDEA does it: what is written, and nothing else.
    options = {name[len(PREFIX) :].lower(): value for name, value in values.items() if name.startswith(PREFIX)}
    options.pop("class", None)
    try:
        return ForeignQueue(parts.settings, parts.registry, parts.plugins, foreign=chosen(options))
    except Exception as error:
        found = f"found {path!r} ({type(error).__name__})"
        log.error("%sCLASS: expected a class of queues, %s; the server runs without a queue", PREFIX, found)
        return Queue(parts.settings, parts.registry, parts.plugins)


def queue_class(path: str, *, strict: bool) -> type[Any]:
    """The class of ``PI_JOB_QUEUE_CLASS``.

    :raises ConfigurationError: when it can't be imported, or (strict) can't be worked from.
    """
    if path == OWN_CLASS or (path == HISTORIC_CLASS and not _privacyidea_installed()):
        return HueyQueue
    if path == HISTORIC_CLASS and strict:
        raise ConfigurationError(
            f"{PREFIX}CLASS: {path!r} is privacyIDEA's own class here, since privacyIDEA is installed; "
            f"{_PRIVACYIDEA_LINE}"
        )
    module, _, name = path.rpartition(".")
    try:
        chosen = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ConfigurationError(
            f"{PREFIX}CLASS: expected a class that can be imported, found {path!r} ({type(error).__name__})"
        ) from error
    if not inspect.isclass(chosen):
        raise ConfigurationError(f"{PREFIX}CLASS: expected a class, found {path!r} ({type(chosen).__name__})")
    if strict and not issubclass(chosen, HueyQueue):
        raise ConfigurationError(
            f"{PREFIX}CLASS: expected {OWN_CLASS} or a subclass of it, found {path!r}; this worker can't run its jobs"
        )
    return chosen


def _privacyidea_installed() -> bool:
    return importlib.util.find_spec("privacyidea") is not None


def _made_by_privacyidea() -> bool:
    """Whether the one who makes a queue is privacyIDEA's ``create_app``."""
    return str(sys._getframe(2).f_globals.get("__name__")) == "privacyidea.lib.queue"
