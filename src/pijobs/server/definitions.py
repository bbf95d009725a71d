"""HTTP routes for one kind of definition: SMTP servers, SMS gateways, or the destinations of another plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flask
from flask import Blueprint, Response

from pijobs.definitions import CENSORED, DefinitionError, DefinitionNotFound, DefinitionStore, submit
from pijobs.definitions.fields import Field
from pijobs.errors import AttemptEnd
from pijobs.flask import current_queue
from pijobs.jobs import State
from pijobs.request.queue import Handle
from pijobs.server.api import ApiError, answer, in_the_address, parameters
from pijobs.server.audited import delete_definition, given_reason, save_definition
from pijobs.server.described import REASON, Parameter, Taken, takes, takes_what
from pijobs.server.rights import requires
from pijobs.settings import Settings

#: privacyIDEA's error codes: not found, error of a server that we called, wrong parameter.
NOT_FOUND, SERVER, PARAMETER = 601, 903, 905

Prepare = Callable[[Mapping[str, Any]], dict[str, Any]]


class DefinitionRoutes:
    """Lists, saves and deletes the definitions of one kind.

    :param open_store: opens the definitions of an installation.
    :param prepare: completes the posted values before they are checked.
    """

    def __init__(self, open_store: Callable[[Settings], DefinitionStore], prepare: Prepare = dict) -> None:
        self._open_store = open_store
        self._prepare = prepare

    def add_to(self, blueprint: Blueprint) -> None:
        """``GET /``, ``POST /<identifier>`` and ``DELETE /<identifier>``."""
        blueprint.get("/", endpoint="list")(requires("viewer")(self.list))
        save, delete = (requires("admin", recent=True)(view) for view in (self.save, self.delete))
        blueprint.post("/<identifier>", endpoint="save")(takes_what(Taken(self.parameters))(save))
        blueprint.delete("/<identifier>", endpoint="delete")(takes(REASON)(delete))

    def parameters(self) -> list[Parameter]:
        """The fields of a definition."""
        fields = self._store().declaration.fields_of({}).values()
        return [Parameter(one.name, one.help, _schema(one), one.required) for one in fields]

    def list(self) -> Response:
        """All definitions by identifier, secrets censored."""
        store = self._store()
        return answer({identifier: store.censored(definition) for identifier, definition in store.list().items()})

    def save(self, identifier: str) -> Response:
        """Create or change a definition."""
        self.refuse_secrets_in_the_address()
        try:
            save_definition(self._store(), identifier, self._prepare(without_identifier(parameters())))
        except DefinitionError as error:
            raise ApiError(400, PARAMETER, str(error)) from None
        return answer(True)

    def delete(self, identifier: str) -> Response:
        """Delete a definition. Jobs that wait for it become dead letters."""
        try:
            delete_definition(self._store(), identifier, given_reason(parameters()))
        except DefinitionNotFound as error:
            raise ApiError(404, NOT_FOUND, str(error)) from None
        return answer(True)

    def merged(self, identifier: str, posted: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """The posted values merged into the saved definition, and whether nothing changed.

        :raises ApiError: if the result is invalid, or if it is not saved and others on the network could read it.
        """
        store = self._store()
        stored = without_identifier(store.list().get(identifier, {}))
        lost = stored.pop("unreadable", {})
        if any(posted.get(name) in (None, CENSORED) for name in lost):
            raise ApiError(400, PARAMETER, f"{', '.join(lost)}: expected it anew, since the stored one can't be read")
        try:
            definition = store.check(self._prepare(without_identifier(posted)), stored)
            saved = definition == stored
            if not saved and (clear := store.in_clear(identifier, definition)):
                raise DefinitionError(clear)
        except DefinitionError as error:
            raise ApiError(400, PARAMETER, str(error)) from None
        return definition, saved

    def refuse_secrets_in_the_address(self) -> None:
        """:raises ApiError: if the URL contains a secret field of the definition."""
        for name in flask.request.args:
            if name in self._store().declaration.secrets:
                raise in_the_address(name)

    def _store(self) -> DefinitionStore:
        return self._open_store(current_queue().settings)


def _schema(field: Field) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", float: "number", dict: "object"}
    found: dict[str, Any] = {"type": [kinds.get(field.kind, "string"), "null"]}
    return {**found, "enum": [*field.choices, None]} if field.choices else found


def submit_test(what: str, definition: Mapping[str, Any], job: str, arguments: Mapping[str, Any]) -> Handle:
    """Enqueue a test job, or run it in this request, as the definition says.

    :param what: the thing to send, such as "the mail".
    :raises ApiError: if the job ran in this request and failed.
    """
    try:
        handle = submit(current_queue(), definition, job, arguments)
    except AttemptEnd as error:
        raise ApiError(502, SERVER, f"{what} could not be sent: {error}") from None
    if handle.state in (State.DEAD, State.EXPIRED):
        raise ApiError(502, SERVER, f"{what} could not be sent: {handle.reason or handle.state}")
    return handle


def without_identifier(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without the identifier."""
    return {name: value for name, value in values.items() if name not in ("identifier", "id")}
