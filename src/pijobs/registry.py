"""The jobs of an installation: filled once, then frozen."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pijobs.annotations import Annotations
from pijobs.errors import EncodeError, UnknownJob
from pijobs.jobs import Job, JobContext, job_options


class Registry(Mapping[str, Job]):
    """Jobs by name. Read-only: build a new one instead (:meth:`of`)."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = dict(jobs)
        self._wants_context = {name: takes_context(job.function) for name, job in self._jobs.items()}
        self._signatures = {name: self._names(name) for name in self._jobs}
        self._annotations = {name: Annotations(job.function) for name, job in self._jobs.items()}

    @classmethod
    def of(cls, jobs: Iterable[Job], overrides: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Registry:
        """These jobs, with ``PI_JOB_QUEUE_JOBS`` applied. Their names differ: :mod:`pijobs.plugins` sees to that."""
        return cls({job.name: override(job, overrides.get(job.name, {})) for job in jobs})

    def __getitem__(self, name: str) -> Job:
        try:
            return self._jobs[name]
        except KeyError:
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

    def _names(self, name: str) -> tuple[inspect.Signature | None, frozenset[str], frozenset[str]]:
        """The signature of a job's function, and the names that a call by keywords alone must have and may have."""
        signature = _signature(self._jobs[name].function)
        parameters = list(signature.parameters.values()) if signature else []
        if self._wants_context[name]:
            del parameters[0]
        by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in parameters):
            return signature, frozenset({""}), frozenset()  # no call by keywords alone fits
        return signature, frozenset(p.name for p in by_name if p.default is p.empty), frozenset(p.name for p in by_name)

    def check_call(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """:raises EncodeError: when the job's function can't be called like that, or an argument is of another type
        than its annotation says."""
        signature, required, possible = self._signatures[name]
        if signature is None:
            return
        arguments: Mapping[str, Any] = kwargs
        if args or not required <= kwargs.keys() <= possible:
            arguments = self.bound(name, args, kwargs)
        self._annotations[name].check(arguments, f"job {name!r}")

    def bound(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by the names of their parameters, without those that go to ``*args``, ``**kwargs`` or a
        function that does not tell its parameters.

        :raises EncodeError: when the job's function can't be called like that.
        """
        signature = self._signatures[name][0]
        if signature is None:
            return dict(kwargs)
        leading: tuple[Any, ...] = (None,) if self._wants_context[name] else ()
        try:
            bound = dict(signature.bind(*leading, *args, **kwargs).arguments)
        except TypeError as error:
            told = f"job {name!r}: expected the arguments of its function, found another call: {error}"
            raise EncodeError(told) from None
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                bound.pop(parameter.name, None)
        if leading:
            del bound[next(iter(signature.parameters))]
        return bound

    def changed(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call with other values for some parameters, however the caller passed them.

        :raises EncodeError: when the job's function has no such parameter.
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


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return None


def override(job: Job, options: Mapping[str, Any]) -> Job:
    """The job with other options; those of its retry policy are told by their names."""
    retry_names = {field.name for field in dataclasses.fields(job.retry)}
    retry = {name: value for name, value in options.items() if name in retry_names}
    rest = {name: value for name, value in options.items() if name in job_options(job) and name not in retry}
    return dataclasses.replace(job, retry=dataclasses.replace(job.retry, **retry), **rest)


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is annotated :class:`JobContext` (also as text, under postponed evaluation)."""
    signature = _signature(function)
    first = next(iter(signature.parameters.values()), None) if signature else None
    if first is None or first.annotation is inspect.Parameter.empty:
        return False
    known = Annotations(function).get(first.name)
    if known is None:  # a name that exists for type checkers only
        return str(first.annotation).split(".")[-1] == "JobContext"
    return known is JobContext
