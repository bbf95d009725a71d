"""Describes parameters and answers of views for the OpenAPI document. Nothing checks requests against this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

#: Attribute of a view with its description.
TAKES = "pijobs_takes"
JSON = ("application/json",)

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, in the query of a GET or in the body of other methods.

    :ivar schema: a JSON Schema, or the name of its type.
    """

    name: str
    help: str = ""
    schema: Any = "string"
    required: bool = False


#: The reason of a change.
REASON = Parameter("reason", "for the audit log")


@dataclass(frozen=True, slots=True)
class Taken:
    """Parameters and answers of a route.

    :ivar parameters: the parameters, or a function that returns them within the app's context.
    :ivar media: media types of the answer.
    :ivar statuses: statuses that are no errors, beside 200, each with its meaning.
    """

    parameters: Sequence[Parameter] | Callable[[], Sequence[Parameter]] = ()
    media: Sequence[str] = JSON
    statuses: Sequence[tuple[int, str]] = ()


def takes(
    *parameters: Parameter, media: Sequence[str] = JSON, statuses: Sequence[tuple[int, str]] = ()
) -> Callable[[View], View]:
    """Describe the parameters of a view, and its answer if that is not JSON."""
    return takes_what(Taken(parameters, media, statuses))


def takes_what(taken: Taken) -> Callable[[View], View]:
    """Describe a view by a :class:`Taken`."""

    def decorate(view: View) -> View:
        setattr(view, TAKES, taken)
        return view

    return decorate
