"""The jobs of an installation: filled once, then frozen."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from pijobs.base import functions
from pijobs.base.redact import class_name
from pijobs.errors import EncodeError, UnknownJob
from pijobs.jobs import Job, job_options
from pijobs.payload.annotations import Annotations
from pijobs.payload.codec import Call
from pijobs.plugins.registration import signature_of, takes_context, way_to_call


class Registry(Mapping[str, Job]):
    """Jobs by name. Read-only: to change it, build a new one (:meth:`of`)."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = dict(jobs)
        self._wants_context = {name: takes_context(job.function) for name, job in self._jobs.items()}
        self._is_coroutine = {name: functions.is_coroutine(job.function) for name, job in self._jobs.items()}
        self._signatures = {name: self._names(name) for name in self._jobs}
        self._ways = {
            (name, what): way_to_call(function, self._own_parameters(name))
            for name, job in self._jobs.items()
            for what in ("group", "label", "subject", "person")
            if (function := getattr(job, what)) is not None
        }
        self._annotations = {name: Annotations(job.function) for name, job in self._jobs.items()}

    @classmethod
    def of(cls, jobs: Iterable[Job], overrides: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Registry:
        """These jobs, with ``PI_JOB_QUEUE_JOBS`` applied. Their names differ (:mod:`pijobs.plugins.loading`)."""
        return cls({job.name: override(job, overrides.get(job.name, {})) for job in jobs})

    def __getitem__(self, name: str) -> Job:
        try:
            return self._jobs[name]
        except (KeyError, TypeError):
            given: Any = name
            if callable(given):
                known = isinstance(given, Job)
                advice = f"call {given.function.__name__}.enqueue(…)" if known else 'write @job("…") above it'
                found = f"found a function ({functions.place_of(given)})"
                raise UnknownJob(f"expected the name of a job, {found}; {advice}") from None
            close = difflib.get_close_matches(str(name), self._jobs, n=1)
            advice = f"did you mean {close[0]!r}?" if close else "'pijobs plugins' lists the jobs that are"
            raise UnknownJob(f"expected the name of a registered job, found {name!r}; {advice}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, name: object) -> bool:
        return name in self._jobs

    def wants_context(self, name: str) -> bool:
        """Whether the job's function takes a :class:`JobContext` first."""
        return self._wants_context[name]

    def is_coroutine(self, name: str) -> bool:
        """Whether the job's function is an ``async def``."""
        return self._is_coroutine[name]

    def _names(self, name: str) -> tuple[inspect.Signature | None, frozenset[str], frozenset[str]]:
        """The signature of a job's function, and the required and allowed names of a call with keywords only."""
        signature = signature_of(self._jobs[name].function)
        parameters = self._own_parameters(name)
        by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in parameters):
            return signature, frozenset({""}), frozenset()  # no call with keywords only fits
        return signature, frozenset(p.name for p in by_name if p.default is p.empty), frozenset(p.name for p in by_name)

    def _own_parameters(self, name: str) -> list[inspect.Parameter]:
        """The parameters of the job's function, without the context."""
        signature = signature_of(self._jobs[name].function)
        parameters = list(signature.parameters.values()) if signature else []
        return parameters[1 if self._wants_context[name] else 0 :]

    def check_call(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """:raises EncodeError: the job's function can't be called with these arguments, or an argument does not match
        its annotation."""
        signature, required, possible = self._signatures[name]
        if signature is None:
            return
        arguments: Mapping[str, Any] = kwargs
        if args or not required <= kwargs.keys() <= possible:
            arguments = self.bound(name, args, kwargs)
        self._annotations[name].check(arguments, f"job {name!r}")

    def check_argument(self, name: str, key: str, value: Any) -> None:
        """:raises EncodeError: the value does not match the annotation.
        :raises UnknownJob:
        """
        self._annotations[self[name].name].check({key: value}, f"job {name!r}")

    def fitting(self, name: str, call: Call) -> Call:
        """A stored call, converted for the present function. It may come from a release with another signature.

        :raises UnknownJob:
        :raises EncodeError: it does not fit, even after the job's ``upgrade``.
        """
        job = self[name]
        # A message may be restored as another class of message, so types are checked only if ``upgrade`` can help.
        check = self._check_names if job.upgrade is None else self.check_call
        try:
            check(name, call.args, call.kwargs)
        except EncodeError as error:
            if job.upgrade is None:
                raise EncodeError(f"{error}; Job(upgrade=…) turns old arguments into new ones") from None
            args, kwargs = _upgraded(job, job.upgrade, call)
            self._check_names(name, args, kwargs)
            return msgspec.structs.replace(call, args=args, kwargs=kwargs)
        return call

    def _check_names(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        signature, required, possible = self._signatures[name]
        if signature is not None and (args or not required <= kwargs.keys() <= possible):
            self.bound(name, args, kwargs)

    def bound(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by the names of their parameters, without those for ``*args`` and ``**kwargs``, or of a
        function without a signature.

        :raises EncodeError: the job's function can't be called with these arguments.
        """
        signature = self._signatures[name][0]
        if signature is None:
            return dict(kwargs)
        leading: tuple[Any, ...] = (None,) if self._wants_context[name] else ()
        try:
            bound = dict(signature.bind(*leading, *args, **kwargs).arguments)
        except TypeError as error:
            own = ", ".join(str(parameter) for parameter in self._own_parameters(name))
            place = functions.place_of(self._jobs[name].function)
            raise EncodeError(f"job {name!r}: expected a call that fits ({own}), {error} ({place})") from None
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                bound.pop(parameter.name, None)
        if leading:
            del bound[next(iter(signature.parameters))]
        return bound

    def named(self, job: Job, what: str, call: Call) -> str | None:
        """The result of the job's group, label, subject or person function for a call; None without such a function."""
        function: Callable[..., str | None] | None = getattr(job, what)
        if function is None:
            return None
        way = self._ways[job.name, what]
        if way is None or way.kind == "as called":
            return function(*call.args, **call.kwargs)
        args, kwargs = way.taken(self.bound(job.name, call.args, call.kwargs) if call.args else call.kwargs)
        return function(*args, **kwargs)

    def changed(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call with other values for some parameters, however the caller passed them.

        :raises EncodeError: the job's function has no such parameter.
        """
        signature = self._signatures[name][0]
        parameters = signature.parameters.values() if signature else ()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        given = names[1 if self._wants_context[name] else 0 :][: len(args)]
        places = {parameter: place for place, parameter in enumerate(given)}
        by_place = {places[parameter]: value for parameter, value in changes.items() if parameter in places}
        positional = tuple(by_place.get(place, value) for place, value in enumerate(args))
        by_name = {parameter: value for parameter, value in changes.items() if parameter not in places}
        self.check_call(name, positional, {**kwargs, **by_name})
        return positional, {**kwargs, **by_name}


def _upgraded(job: Job, upgrade: Callable[..., Any], call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        args, kwargs = upgrade(call.args, dict(call.kwargs))
        return tuple(args), dict(kwargs)
    except Exception as error:
        raise EncodeError(f"job {job.name!r}: its upgrade function failed ({class_name(error)})") from error


def override(job: Job, options: Mapping[str, Any]) -> Job:
    """The job with other options, including those of its retry policy."""
    retry_names = {field.name for field in dataclasses.fields(job.retry)}
    retry = {name: value for name, value in options.items() if name in retry_names}
    rest = {name: value for name, value in options.items() if name in job_options(job) and name not in retry}
    return dataclasses.replace(job, retry=dataclasses.replace(job.retry, **retry), **rest)
