"""What a view says of its parameters and answers, for the OpenAPI document; nothing is checked by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

#: Attribute of a view that tells what it takes.
TAKES = "pijobs_takes"
JSON = ("application/json",)

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, of the query of a GET or else of the body.

    :ivar schema: as JSON Schema tells it; a bare word is its type.
    """

    name: str
    help: str = ""
    schema: Any = "string"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What a route takes and gives.

    :ivar parameters: or a function that tells them when it is asked, in the context of the app.
    :ivar media: of its answer.
    :ivar statuses: further ones that are no error: status and meaning.
    """

    parameters: Sequence[Parameter] | Callable[[], Sequence[Parameter]] = ()
    media: Sequence[str] = JSON
    statuses: Sequence[tuple[int, str]] = ()


def takes(
    *parameters: Parameter, media: Sequence[str] = JSON, statuses: Sequence[tuple[int, str]] = ()
) -> Callable[[View], View]:
    """Tell the parameters of a view, and what it answers if that is no JSON."""
    return takes_what(Taken(parameters, media, statuses))


def takes_what(taken: Taken) -> Callable[[View], View]:
    """The same, for parameters that are known later."""

    def decorate(view: View) -> View:
        setattr(view, TAKES, taken)
        return view

    return decorate
