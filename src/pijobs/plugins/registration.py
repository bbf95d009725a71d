"""Checks of a job at its registration, so that mistakes do not appear at its first call."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

from pijobs.context import JobContext
from pijobs.jobs import Job
from pijobs.payload.annotations import Annotations
from pijobs.payload.packing import KINDS

Parameters = list[inspect.Parameter]


@dataclass(frozen=True, slots=True)
class Way:
    """How to call a job's group, label, subject or person function for a call of the job."""

    kind: typing.Literal["as called", "names", "places"]
    #: The names of its parameters; None: any.
    names: frozenset[str] | None
    #: How many positional parameters it has; None: any number.
    places: int | None
    #: Parameters of the job's function, without the context: names and defaults.
    defaults: Mapping[str, Any]

    def taken(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Those arguments of the job that the function takes.

        :param arguments: the arguments of the call, by the names of their parameters.
        """
        if self.kind == "names":
            return [], {n: value for n, value in arguments.items() if self.names is None or n in self.names}
        # Without gaps.
        every = [arguments.get(name, default) for name, default in self.defaults.items()]
        return every[: self.places], {}


def faults(job: Job) -> Iterator[str]:
    """One line for each mistake: what was expected, and what was found."""
    signature = signature_of(job.function)
    if signature is None:
        return
    parameters = list(signature.parameters.values())
    annotations = Annotations(job.function)
    own = parameters[1:] if takes_context(job.function) else parameters
    if own and own[0].name == "ctx" and own[0].annotation is inspect.Parameter.empty:
        yield "expected the context to be annotated, found 'ctx' alone; write ctx: JobContext"
    yield from _parameter_faults(own, annotations)
    if job.schedule is not None and (required := [p.name for p in own if _is_required(p)]):
        yield f"a periodic job is called without arguments, found that it needs {', '.join(required)}"
    for option in ("group", "label", "subject", "person"):
        function = getattr(job, option)
        if function is not None and way_to_call(function, own) is None:
            shown = ", ".join(str(p.replace(annotation=p.empty)) for p in own)
            yield (
                f"{option} is called with the job's own arguments, so expected a function that takes ({shown}), "
                f"found ({', '.join(str(p) for p in _parameters(function))}); '**_' takes what it does not need"
            )


def _parameter_faults(own: Parameters, annotations: Annotations) -> Iterator[str]:
    for parameter in own:
        if _is_context(parameter, annotations):
            yield f"expected the JobContext as first parameter, found it as {parameter.name!r}"
        elif JobContext in typing.get_args(annotations.get(parameter.name)):
            yield f"expected {parameter.name!r} to be annotated JobContext alone: it is given to each attempt"
        elif parameter.name in annotations.unresolved:
            why = annotations.unresolved[parameter.name]
            yield (
                f"the annotation of {parameter.name!r} can't be resolved ({why}); import its names where they exist at "
                "run time, not under TYPE_CHECKING"
            )
        elif _is_required(parameter) and not is_storable(annotations.get(parameter.name, Any)):
            # Only Python 3.13 shows that Path is in a separate module.
            shown = inspect.formatannotation(annotations.get(parameter.name)).replace("pathlib._local.", "pathlib.")
            yield (
                f"parameter {parameter.name!r} is a {shown}, which can't be stored; take text, numbers, bytes, lists, "
                "dictionaries, dates, UUIDs or email messages"
            )


def is_storable(kind: Any) -> bool:
    """Whether any value that fits this annotation can be stored. True if unknown."""
    if kind is None or kind is Any or isinstance(kind, (str, typing.TypeVar)):
        return True
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(map(is_storable, parts))
    if origin is typing.Annotated:
        return is_storable(parts[0])
    if origin is typing.Literal:
        return any(type(value) in KINDS for value in parts)
    if origin is not None and not _fits_a_kind(origin):
        return False
    if origin is not None:
        return all(part is ... or is_storable(part) for part in parts)
    return _fits_a_kind(getattr(kind, "__supertype__", kind))


def _fits_a_kind(kind: Any) -> bool:
    if not isinstance(kind, type) or typing.is_typeddict(kind):
        return True
    try:
        # A subclass of a message is stored as a message; of all other types only the exact type.
        return any(issubclass(one, kind) for one in KINDS) or issubclass(kind, Message)
    except TypeError:  # a protocol that can't be checked
        return True


#: Attribute of an object that represents a job.
STANDS_FOR = "__pijobs_job__"


def jobs_in(module: types.ModuleType | str) -> list[Job]:
    """The functions with ``@job`` that a module or package defines and its name space contains, in their order, without
    those that it imports from elsewhere.

    :param module: the module or its name, such as ``__name__``.
    """
    namespace = vars(importlib.import_module(module) if isinstance(module, str) else module)
    own = namespace["__name__"]
    # Objects that represent a job have it. The look-up does not resolve proxies such as Flask's current_app.
    values = [inspect.getattr_static(one, STANDS_FOR, one) for one in namespace.values()]
    # A plain Job does not know where it was made; its hook does.
    found = {id(one): one for one in values if isinstance(one, Job) and "__module__" in vars(one)}
    return [one for one in found.values() if f"{one.__module__}.".startswith(f"{own}.")]


# -- signatures ------------------------------------------------------------------------------------------------------


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature, or None for some functions written in C."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return None


def _parameters(function: Callable[..., Any]) -> Parameters:
    signature = signature_of(function)
    return list(signature.parameters.values()) if signature else []


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is annotated :class:`JobContext` (also as text, under postponed evaluation)."""
    first = next(iter(_parameters(function)), None)
    return (
        first is not None
        and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
        and _is_context(first, Annotations(function))
    )


def _is_context(parameter: inspect.Parameter, annotations: Annotations) -> bool:
    if parameter.annotation is inspect.Parameter.empty:
        return False
    known = annotations.get(parameter.name)
    if known is None:  # a name that exists only for type checkers
        return str(parameter.annotation).split(".")[-1] == "JobContext"
    return known is JobContext


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def way_to_call(function: Callable[..., Any], own: Parameters) -> Way | None:
    """How a job's group, label, subject or person function can be called for each call; None: it can't.

    :param own: the parameters of the job's function, without the context.
    """
    signature = signature_of(function)
    unknown = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    if signature is None or any(parameter.kind in unknown for parameter in own):
        return Way("as called", None, None, {})
    required = [p.name for p in own if _is_required(p)]
    if not (by_names := _binds(signature, (), dict.fromkeys(required))) and not _binds(signature, required, {}):
        return None
    parameters = list(signature.parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    places = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return Way(
        "names" if by_names else "places",
        None if inspect.Parameter.VAR_KEYWORD in kinds else frozenset(p.name for p in parameters),
        None if inspect.Parameter.VAR_POSITIONAL in kinds else places,
        {p.name: p.default for p in own},
    )


def _binds(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
